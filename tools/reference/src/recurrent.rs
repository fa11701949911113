//! Recurrent layers, with the intermediate results of each step that backpropagation through time needs.

use ndarray::{Array2, Array3, ArrayD, ArrayView2, Axis, Ix2, Ix3, IxDyn, concatenate, s};
use offshoot::kernels::recurrent::sigmoid;
use offshoot_ir::{RecurrentKind, Returns, UnaryKind};

/// A recurrent layer with its weights, in the layout of [`offshoot_ir::Op::Recurrent`].
#[derive(Clone, Copy, Debug)]
pub struct RecurrentLayer<'a> {
    /// The kind of layer.
    pub kind: RecurrentKind,
    /// Whether it runs from the last step to the first.
    pub reverse: bool,
    /// `[gates · units, inputs]`
    pub input: ArrayView2<'a, f32>,
    /// `[gates · units, units]`
    pub state: ArrayView2<'a, f32>,
    /// `[biases · units]`
    pub bias: &'a [f32],
}

/// One time step; rows are samples.
#[derive(Clone, Debug)]
pub struct Moment {
    /// Index in the sequence.
    pub at: usize,
    /// State before the step, as the matrix products read it.
    pub before: Array2<f32>,
    /// Carried value before the step: the GRU's state or the LSTM's memory; otherwise empty.
    pub carried_before: Array2<f32>,
    /// Gates after their activation functions, `[samples, gates · units]`.
    pub gates: Array2<f32>,
    /// GRU: the state after its reset or, if the reset comes after the product, the product of the state; otherwise
    /// empty.
    pub pulled: Array2<f32>,
    /// State after the step.
    pub next: Array2<f32>,
    /// Carried value after the step.
    pub carried: Array2<f32>,
}

fn tanh(x: f32) -> f32 {
    UnaryKind::Tanh.apply(x)
}

/// Computes all steps, in the order of execution, over `x` `[samples, steps, inputs]`. `initial` is `[samples or 1,
/// states · units]`. `hold` maps a state to the form in which it is returned and read by the products of the next
/// step.
///
/// # Errors
/// The arrays do not fit each other.
pub fn moments(
    layer: &RecurrentLayer<'_>,
    x: &ArrayD<f32>,
    initial: Option<&ArrayD<f32>>,
    hold: &dyn Fn(f32) -> f32,
) -> Result<Vec<Moment>, String> {
    let misfit = |what: &str| format!("{what} of a recurrent layer does not fit");
    let x = x.view().into_dimensionality::<Ix3>().map_err(|_| misfit("the input"))?;
    let (samples, steps, _) = x.dim();
    let units = layer.state.ncols();
    let rows = layer.kind.gates() * units;
    if layer.input.dim() != (rows, x.dim().2) || layer.state.nrows() != rows {
        return Err(misfit("a matrix"));
    }
    if layer.bias.len() != layer.kind.biases() * units {
        return Err(misfit("the bias"));
    }
    let (mut held, mut carried) = begin(layer.kind, units, samples, initial)?;
    held.mapv_inplace(hold);
    let mut out: Vec<Moment> = Vec::with_capacity(steps);
    for step in 0..steps {
        let at = if layer.reverse { steps - 1 - step } else { step };
        let mut gates = x.index_axis(Axis(1), at).dot(&layer.input.t());
        for mut row in gates.rows_mut() {
            row.iter_mut().zip(layer.bias).for_each(|(g, b)| *g += b);
        }
        let (before, carried_before) = (held.clone(), carried.clone());
        let pulled = advance(layer, &mut gates, &mut held, &mut carried, hold);
        let (next, carried) = (held.clone(), carried.clone());
        out.push(Moment { at, before, carried_before, gates, pulled, next, carried });
    }
    Ok(out)
}

/// State and carried value before the first step.
fn begin(
    kind: RecurrentKind,
    units: usize,
    samples: usize,
    initial: Option<&ArrayD<f32>>,
) -> Result<(Array2<f32>, Array2<f32>), String> {
    let carries = if kind.carries() { units } else { 0 };
    let Some(initial) = initial else {
        return Ok((Array2::zeros((samples, units)), Array2::zeros((samples, carries))));
    };
    let misfit = |_| "the initial state of a recurrent layer does not fit".to_owned();
    let given = initial.view().into_dimensionality::<Ix2>().map_err(misfit)?;
    let wide = given.broadcast((samples, kind.states() * units));
    let wide = wide.ok_or("the initial state of a recurrent layer does not fit")?;
    let held = wide.slice(s![.., ..units]).to_owned();
    let carried = match kind {
        RecurrentKind::Lstm => wide.slice(s![.., units..]).to_owned(),
        _ if carries > 0 => held.clone(),
        _ => Array2::zeros((samples, 0)),
    };
    Ok((held, carried))
}

/// Gates from their sums over the input, and the state after the step.
fn advance(
    layer: &RecurrentLayer<'_>,
    gates: &mut Array2<f32>,
    held: &mut Array2<f32>,
    carried: &mut Array2<f32>,
    hold: &dyn Fn(f32) -> f32,
) -> Array2<f32> {
    let units = held.ncols();
    let samples = held.nrows();
    let state = &layer.state;
    match layer.kind {
        RecurrentKind::Tanh | RecurrentKind::Relu => {
            *gates += &held.dot(&state.t());
            let relu = layer.kind == RecurrentKind::Relu;
            gates.mapv_inplace(|g| if relu { g.max(0.0) } else { tanh(g) });
            *held = gates.mapv(hold);
            Array2::zeros((samples, 0))
        }
        RecurrentKind::Gru | RecurrentKind::GruResetAfter => {
            let both = state.slice(s![..2 * units, ..]);
            let mut first = gates.slice_mut(s![.., ..2 * units]);
            first += &held.dot(&both.t());
            first.mapv_inplace(sigmoid);
            let reset = gates.slice(s![.., units..2 * units]).to_owned();
            let last = state.slice(s![2 * units.., ..]);
            let pulled = if layer.kind == RecurrentKind::Gru {
                let pulled = (&reset * &*carried).mapv(hold);
                let mut candidate = gates.slice_mut(s![.., 2 * units..]);
                candidate += &pulled.dot(&last.t());
                pulled
            } else {
                let mut pulled = held.dot(&last.t());
                for mut row in pulled.rows_mut() {
                    row.iter_mut().zip(&layer.bias[3 * units..]).for_each(|(p, b)| *p += b);
                }
                let mut candidate = gates.slice_mut(s![.., 2 * units..]);
                candidate += &(&reset * &pulled);
                pulled
            };
            gates.slice_mut(s![.., 2 * units..]).mapv_inplace(tanh);
            let (u, c) = (gates.slice(s![.., ..units]), gates.slice(s![.., 2 * units..]));
            ndarray::Zip::from(&mut *carried).and(u).and(c).for_each(|h, u, c| *h = u * *h + (1.0 - u) * c);
            *held = carried.mapv(hold);
            pulled
        }
        RecurrentKind::Lstm => {
            *gates += &held.dot(&state.t());
            gates.slice_mut(s![.., ..3 * units]).mapv_inplace(sigmoid);
            gates.slice_mut(s![.., 3 * units..]).mapv_inplace(tanh);
            let gate = |k: usize| gates.slice(s![.., k * units..(k + 1) * units]);
            ndarray::Zip::from(&mut *carried)
                .and(gate(0))
                .and(gate(1))
                .and(gate(3))
                .for_each(|c, i, f, g| *c = f * *c + i * g);
            *held = (&gate(2) * &carried.mapv(tanh)).mapv(hold);
            Array2::zeros((samples, 0))
        }
    }
}

/// The output of a layer from its steps.
pub fn output(moments: &[Moment], returns: Returns) -> ArrayD<f32> {
    let Some(last) = moments.last() else { return ArrayD::zeros(IxDyn(&[0])) };
    match returns {
        Returns::Last => last.next.clone().into_dyn(),
        Returns::State => {
            // Both have the same number of rows.
            concatenate(Axis(1), &[last.next.view(), last.carried.view()])
                .unwrap_or_else(|_| last.next.clone())
                .into_dyn()
        }
        Returns::Sequence => {
            let (samples, units) = last.next.dim();
            let mut all = Array3::zeros((samples, moments.len(), units));
            for m in moments {
                all.index_axis_mut(Axis(1), m.at).assign(&m.next);
            }
            all.into_dyn()
        }
    }
}

/// The operands of an [`offshoot_ir::Op::Recurrent`], in its order, as a layer.
///
/// # Errors
/// Weights are missing or are not matrices.
pub fn layer<'a>(
    kind: RecurrentKind,
    reverse: bool,
    operands: &'a [impl std::ops::Deref<Target = ArrayD<f32>>],
) -> Result<RecurrentLayer<'a>, String> {
    let missing = || "weights of a recurrent layer are missing".to_owned();
    let matrix = |i: usize| {
        let array: &'a ArrayD<f32> = operands.get(i).ok_or_else(missing)?;
        array.view().into_dimensionality::<Ix2>().map_err(|_| missing())
    };
    let bias: &'a ArrayD<f32> = operands.get(3).ok_or_else(missing)?;
    let bias = bias.as_slice().ok_or_else(missing)?;
    Ok(RecurrentLayer { kind, reverse, input: matrix(1)?, state: matrix(2)?, bias })
}
