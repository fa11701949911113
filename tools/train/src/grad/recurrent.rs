//! Recurrent layers: backpropagation through time (Werbos 1990) over all steps.

use ndarray::{Array2, Array3, ArrayD, ArrayView2, Axis, s};
use offshoot_ir::{RecurrentKind, Returns};
use offshoot_reference::recurrent::{Moment, RecurrentLayer, layer, moments};

use super::{Tensor, array, like};
use crate::error::Result;

/// Gradients of x, w, r, b and the initial state from `dy`.
pub(super) fn recurrent(
    operands: &[Tensor],
    dy: &ArrayD<f32>,
    kind: RecurrentKind,
    returns: Returns,
    reverse: bool,
    wanted: &[bool],
) -> Result<Vec<Option<ArrayD<f32>>>> {
    let failed = |reason: String| {
        crate::error::Error::from(offshoot_reference::Error::Operator { node: String::new(), reason })
    };
    let own = layer(kind, reverse, operands).map_err(failed)?;
    let initial = operands.get(4).map(AsRef::as_ref);
    let all = moments(&own, &operands[0], initial, &|h| h).map_err(failed)?;
    let samples = operands[0].shape()[0];
    let mut through = Through::new(&own, samples, all.len());
    through.begin(dy, returns);
    for m in all.iter().rev() {
        if returns == Returns::Sequence {
            let rows = dy.view().into_dimensionality::<ndarray::Ix3>();
            let rows = rows.map_err(|e| failed(e.to_string()))?;
            through.of_state += &rows.index_axis(Axis(1), m.at);
        }
        through.step(&own, m);
    }
    Ok(through.finish(&own, operands, wanted))
}

/// Gradients propagated backwards through the steps.
struct Through {
    /// Gradient of the state, as read by the products of the following step and by the output.
    of_state: Array2<f32>,
    /// Gradient of the carried value: the LSTM's memory. (The GRU's state is its output.)
    of_carried: Array2<f32>,
    /// Gradient of the gates' sums with respect to the input's weights, `[samples, steps, rows]`.
    of_input: Array3<f32>,
    /// Gradient of the gates' sums with respect to the state's weights.
    of_product: Array3<f32>,
    /// The operands of the state's weights, `[samples, steps, units]`: for all gates except a GRU's candidate, and
    /// for that.
    before: [Array3<f32>; 2],
}

impl Through {
    fn new(layer: &RecurrentLayer<'_>, samples: usize, steps: usize) -> Self {
        let units = layer.state.ncols();
        let rows = layer.kind.gates() * units;
        let zeros = |width: usize| Array3::zeros((samples, steps, width));
        let flat = || Array2::zeros((samples, units));
        Self {
            of_state: flat(),
            of_carried: flat(),
            of_input: zeros(rows),
            of_product: zeros(rows),
            before: [zeros(units), zeros(units)],
        }
    }

    /// The error at the end of the sequence.
    fn begin(&mut self, dy: &ArrayD<f32>, returns: Returns) {
        let (samples, units) = self.of_state.dim();
        let width = if returns == Returns::State { 2 * units } else { units };
        if returns == Returns::Sequence {
            return;
        }
        let rows = like(dy.clone(), &[samples, width]);
        for (s, row) in rows.outer_iter().enumerate() {
            for (i, v) in row.iter().enumerate() {
                if i < units {
                    self.of_state[[s, i]] = *v;
                } else {
                    self.of_carried[[s, i - units]] = *v;
                }
            }
        }
    }

    /// Propagates past one step.
    fn step(&mut self, layer: &RecurrentLayer<'_>, m: &Moment) {
        let units = layer.state.ncols();
        let gate = |k: usize| m.gates.slice(s![.., k * units..(k + 1) * units]);
        let rows_of = |k: usize| layer.state.slice(s![k * units..(k + 1) * units, ..]);
        let mut sums = Array2::<f32>::zeros(m.gates.dim());
        let mut products = None;
        self.before[0].index_axis_mut(Axis(1), m.at).assign(&m.before);
        let dh = self.of_state.clone();
        match layer.kind {
            RecurrentKind::Tanh | RecurrentKind::Relu => {
                let relu = layer.kind == RecurrentKind::Relu;
                let slope = |h: f32| if relu { f32::from(h > 0.0) } else { 1.0 - h * h };
                ndarray::Zip::from(&mut sums).and(&dh).and(&m.gates).for_each(|z, d, h| *z = d * slope(*h));
                self.of_state = sums.dot(&layer.state);
            }
            RecurrentKind::Gru | RecurrentKind::GruResetAfter => {
                let (u, r, c) = (gate(0), gate(1), gate(2));
                let h = &m.before;
                let of_candidate = &dh * &u.mapv(|u| 1.0 - u) * &c.mapv(|c| 1.0 - c * c);
                let of_update = &dh * &(h - &c) * &u.mapv(|u| u * (1.0 - u));
                let mut back = &dh * &u;
                let slope = r.mapv(|r| r * (1.0 - r));
                let (of_reset, of_product);
                if layer.kind == RecurrentKind::Gru {
                    self.before[1].index_axis_mut(Axis(1), m.at).assign(&m.pulled);
                    let pulled = of_candidate.dot(&rows_of(2));
                    of_reset = &pulled * h * &slope;
                    back += &(&pulled * &r);
                    of_product = of_candidate.clone();
                } else {
                    self.before[1].index_axis_mut(Axis(1), m.at).assign(h);
                    of_reset = &of_candidate * &m.pulled * &slope;
                    of_product = &of_candidate * &r;
                    back += &of_product.dot(&rows_of(2));
                }
                back += &of_update.dot(&rows_of(0));
                back += &of_reset.dot(&rows_of(1));
                for (k, part) in [&of_update, &of_reset, &of_candidate].into_iter().enumerate() {
                    sums.slice_mut(s![.., k * units..(k + 1) * units]).assign(part);
                }
                let mut own = sums.clone();
                own.slice_mut(s![.., 2 * units..]).assign(&of_product);
                products = Some(own);
                self.of_state = back;
            }
            RecurrentKind::Lstm => {
                let (i, f, o, g) = (gate(0), gate(1), gate(2), gate(3));
                let out = m.carried.mapv(f32::tanh);
                let dc = &self.of_carried + &(&dh * &o * &out.mapv(|v| 1.0 - v * v));
                let slope = |gate: ArrayView2<'_, f32>| gate.mapv(|v| v * (1.0 - v));
                let parts = [
                    &dc * &g * &slope(i),
                    &dc * &m.carried_before * &slope(f),
                    &dh * &out * &slope(o),
                    &dc * &i * &g.mapv(|v| 1.0 - v * v),
                ];
                for (k, part) in parts.iter().enumerate() {
                    sums.slice_mut(s![.., k * units..(k + 1) * units]).assign(part);
                }
                self.of_carried = &dc * &f;
                self.of_state = sums.dot(&layer.state);
            }
        }
        self.of_product.index_axis_mut(Axis(1), m.at).assign(products.as_ref().unwrap_or(&sums));
        self.of_input.index_axis_mut(Axis(1), m.at).assign(&sums);
    }

    fn finish(
        self,
        layer: &RecurrentLayer<'_>,
        operands: &[Tensor],
        wanted: &[bool],
    ) -> Vec<Option<ArrayD<f32>>> {
        let (samples, steps, rows) = self.of_input.dim();
        let (units, inputs) = (layer.state.ncols(), layer.input.ncols());
        let all = samples * steps;
        let matrix = |a: &ArrayD<f32>, width: usize| -> Array2<f32> {
            let flat = like(a.clone(), &[all, width]);
            flat.into_dimensionality().unwrap_or_else(|_| Array2::zeros((all, width)))
        };
        let wants = |i: usize| wanted.get(i).copied().unwrap_or(false);
        let of_input = matrix(&self.of_input.into_dyn(), rows);
        let of_product = matrix(&self.of_product.into_dyn(), rows);
        let [before, of_candidate] = self.before.map(|b| matrix(&b.into_dyn(), units));
        let dx = wants(0).then(|| like(of_input.dot(&layer.input).into_dyn(), operands[0].shape()));
        let dw = wants(1).then(|| of_input.t().dot(&matrix(&operands[0], inputs)).into_dyn());
        let dr = wants(2).then(|| {
            let mut dr = of_product.t().dot(&before);
            if matches!(layer.kind, RecurrentKind::Gru | RecurrentKind::GruResetAfter) {
                let candidate = of_product.slice(s![.., 2 * units..]);
                dr.slice_mut(s![2 * units.., ..]).assign(&candidate.t().dot(&of_candidate));
            }
            dr.into_dyn()
        });
        let db = wants(3).then(|| {
            let mut db = of_input.sum_axis(Axis(0)).to_vec();
            let after = of_product.sum_axis(Axis(0)).to_vec();
            db.extend(&after[rows - (layer.bias.len() - rows)..]);
            array(&[layer.bias.len()], db)
        });
        let dinitial = operands.get(4).filter(|_| wants(4)).map(|given| {
            let mut whole = self.of_state.clone();
            if layer.kind == RecurrentKind::Lstm {
                whole = ndarray::concatenate(Axis(1), &[whole.view(), self.of_carried.view()])
                    .unwrap_or_else(|_| whole.clone());
            }
            super::elementwise::sum_to(whole.into_dyn(), given.shape())
        });
        let standard = |a: Option<ArrayD<f32>>| a.map(|a| a.as_standard_layout().into_owned());
        [dx, dw, dr, db].into_iter().map(standard).chain(operands.get(4).map(|_| dinitial)).collect()
    }
}
