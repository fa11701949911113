//! One train step of a recurrent layer: runs through the sequence again, and at every time step learns from that step's
//! error, with the previous state taken as a constant. Nothing is unrolled; only the state is kept.
//!
//! Weights are float32, or int8 stepped with stochastic rounding (no second copy). Steps of int8 weights are computed
//! in float32, as the gates of an int8 layer are.

mod codes;

pub use codes::Stored;

use codes::Scaled;

use super::layers::recurrent::{
    Cell, learn_gru, learn_gru_reset_after, learn_lstm, learn_rectified, learn_simple,
};
use super::rules::{LocalError, LocalRule};
use super::step;
use super::weights::Float;
use crate::target_projection::TargetProjection;
use crate::weights::Weights;
use offshoot_format::record::{Recurrent, RecurrentKind, Returns};
use offshoot_kernels::Random;
use offshoot_kernels::gradient::grid::PoolingGrid;
use offshoot_kernels::recurrent::{CodeSums, FloatSums, State, recurrent_step};

/// The target of a train step.
#[derive(Clone, Copy, Debug)]
pub struct StepTarget<'a> {
    /// Local rule.
    pub rule: LocalRule,
    /// Projection from the label to the features.
    pub projection: TargetProjection<'a>,
    /// Pooling grid whose cells are the features of the output: means over ranges of time steps.
    pub grid: PoolingGrid,
    /// Class of the sample.
    pub label: usize,
    /// Learning rate before normalisation.
    pub rate: f32,
    /// Divide the rate by one plus the energy of a time step's input and state.
    pub normalised: bool,
}

/// Quantisation of a layer's input and state.
#[derive(Clone, Copy, Debug)]
pub struct Real {
    /// Zero points of input and state.
    pub zeros: [i8; 2],
    /// Scales of input and state.
    pub scales: [f32; 2],
}

/// Weights of a layer, in the order of its blob.
#[derive(Debug)]
pub enum Parts<'a> {
    /// float32.
    Float {
        /// `[biases · units]`
        bias: &'a mut [f32],
        /// `[gates · units, inputs]`
        input: &'a mut [f32],
        /// `[gates · units, units]`
        state: &'a mut [f32],
    },
    /// int8.
    Codes {
        /// `[biases · units]`
        bias: &'a mut [f32],
        /// Input scale times each row's weight scale.
        scale_input: &'a [f32],
        /// State scale times each row's weight scale.
        scale_state: &'a [f32],
        /// `[gates · units, inputs]`
        input: Stored<'a>,
        /// `[gates · units, units]`
        state: Stored<'a>,
        /// Quantisation of input and state.
        real: Real,
    },
}

/// Words of workspace for a train step.
pub fn workspace_words(r: &Recurrent) -> usize {
    let (units, inputs) = (usize::from(r.units), usize::from(r.inputs));
    // Carried, held, reset, sums, before, memory before, pulled, next, errors; gates; the input.
    9 * units + r.kind.biases() * units + inputs
}

/// The workspace, in pieces of `[units]` except gates and input.
struct Workspace<'a> {
    carried: &'a mut [f32],
    held: &'a mut [f32],
    reset: &'a mut [f32],
    sums: &'a mut [f32],
    before: &'a mut [f32],
    memory: &'a mut [f32],
    pulled: &'a mut [f32],
    next: &'a mut [f32],
    errors: &'a mut [f32],
    gates: &'a mut [f32],
    input: &'a mut [f32],
}

impl<'a> Workspace<'a> {
    fn new(r: &Recurrent, workspace: &'a mut [f32]) -> Option<Self> {
        let mut rest = workspace;
        let mut next = |len: usize| {
            let (piece, after) = core::mem::take(&mut rest).split_at_mut_checked(len)?;
            rest = after;
            Some(piece)
        };
        let units = usize::from(r.units);
        Some(Self {
            carried: next(units)?,
            held: next(units)?,
            reset: next(units)?,
            sums: next(units)?,
            before: next(units)?,
            memory: next(units)?,
            pulled: next(units)?,
            next: next(units)?,
            errors: next(units)?,
            gates: next(r.kind.biases() * units)?,
            input: next(r.inputs.into())?,
        })
    }
}

/// Trains a float32 layer: `x` is its input, `h` its output, `initial` the initial state. `residual` is workspace for
/// one number per class and afterwards holds what a local head descends; `workspace` has [`workspace_words`] words.
/// Returns `None` if a slice is too short.
pub fn learn_float(
    r: &Recurrent,
    parts: Parts<'_>,
    target: &StepTarget<'_>,
    (x, h, initial): (&[f32], &[f32], Option<&[f32]>),
    residual: &mut [f32],
    workspace: &mut [f32],
) -> Option<()> {
    let Parts::Float { bias, input, state } = parts else { return None };
    let workspace = Workspace::new(r, workspace)?;
    let (units, inputs) = (usize::from(r.units), usize::from(r.inputs));
    let error = error(target, |at| h.get(at).copied().unwrap_or(0.0), residual);
    workspace.held.fill(0.0);
    workspace.carried.fill(0.0);
    if let Some(initial) = initial {
        workspace.held.copy_from_slice(initial.get(..units)?);
        let carried =
            if r.kind == RecurrentKind::Lstm { initial.get(units..)? } else { initial.get(..units)? };
        workspace.carried.copy_from_slice(carried);
    }
    for step in 0..usize::from(r.steps) {
        let at = if r.reverse { usize::from(r.steps) - 1 - step } else { step };
        let x = x.get(at * inputs..)?.get(..inputs)?;
        workspace.before.copy_from_slice(workspace.held);
        workspace.memory.copy_from_slice(workspace.carried);
        let reset_len = if r.kind == RecurrentKind::Gru { units } else { 0 };
        let mut sums = FloatSums { units, bias, input, state };
        let own = State {
            carried: workspace.carried,
            held: workspace.held,
            reset: workspace.reset.get_mut(..reset_len)?,
            gates: workspace.gates,
        };
        recurrent_step(r.kind, &mut sums, x, own);
        if !errors_of(r, step, at, target, &error, |at| h.get(at).copied().unwrap_or(0.0), workspace.errors) {
            continue;
        }
        let rate = rate(target, x, workspace.before);
        let (mut input, mut state) = (Float::new(input, inputs), Float::new(state, units));
        let mut cell = Cell { input: &mut input, state: &mut state, bias: &mut *bias };
        let seen = Seen {
            before: workspace.before,
            memory: workspace.memory,
            carried: workspace.carried,
            next: workspace.held,
            gates: workspace.gates,
            reset: workspace.reset,
            errors: workspace.errors,
        };
        descend(r.kind, &mut cell, x, &seen, workspace.pulled, rate);
    }
    Some(())
}

/// Trains an int8 layer; otherwise as [`learn_float`].
pub fn learn_codes(
    r: &Recurrent,
    parts: Parts<'_>,
    target: &StepTarget<'_>,
    (x, h, initial): (&[i8], &[i8], Option<&[i8]>),
    residual: &mut [f32],
    workspace: &mut [f32],
    random: &mut Random,
) -> Option<()> {
    let Parts::Codes { bias, scale_input, scale_state, mut input, mut state, real } = parts else {
        return None;
    };
    let workspace = Workspace::new(r, workspace)?;
    let (units, inputs) = (usize::from(r.units), usize::from(r.inputs));
    let rows = r.kind.gates() * units;
    let [in_zp, out_zp] = real.zeros;
    let [in_scale, out_scale] = real.scales;
    let value = |code: i8| (i32::from(code) - i32::from(out_zp)) as f32 * out_scale;
    let output = |at: usize| value(h.get(at).copied().unwrap_or(out_zp));
    let error = error(target, output, residual);
    // The int8 states use the words that a float32 layer has for them.
    bytemuck::cast_slice_mut::<_, i8>(workspace.held).fill(out_zp);
    workspace.carried.fill(0.0);
    if let Some(initial) = initial {
        let held: &mut [i8] = bytemuck::cast_slice_mut(workspace.held);
        held.get_mut(..units)?.copy_from_slice(initial.get(..units)?);
        workspace.carried.iter_mut().zip(initial).for_each(|(to, code)| *to = value(*code));
    }
    for step in 0..usize::from(r.steps) {
        let at = if r.reverse { usize::from(r.steps) - 1 - step } else { step };
        let x = x.get(at * inputs..)?.get(..inputs)?;
        {
            let held: &[i8] = bytemuck::cast_slice(workspace.held);
            workspace.before.iter_mut().zip(held).for_each(|(to, code)| *to = value(*code));
        }
        workspace.memory.copy_from_slice(workspace.carried);
        let reset_len = if r.kind == RecurrentKind::Gru { units } else { 0 };
        let zeros = real.zeros;
        let sums: &mut [i32] = bytemuck::cast_slice_mut(workspace.sums);
        let mut own = CodeSums {
            units,
            bias,
            scale_input,
            scale_state,
            input: input.matrix(rows)?,
            state: state.matrix(rows)?,
            zeros,
            scale: out_scale,
            sums,
        };
        let held: &mut [i8] = bytemuck::cast_slice_mut(workspace.held);
        let reset: &mut [i8] = bytemuck::cast_slice_mut(workspace.reset);
        let now = State {
            carried: workspace.carried,
            held: held.get_mut(..units)?,
            reset: reset.get_mut(..reset_len)?,
            gates: workspace.gates,
        };
        recurrent_step(r.kind, &mut own, x, now);
        if !errors_of(r, step, at, target, &error, output, workspace.errors) {
            continue;
        }
        // Real values, for steps in the weights' units; the reset state is recomputed without rounding to int8.
        for (to, code) in workspace.input.iter_mut().zip(x) {
            *to = (i32::from(*code) - i32::from(in_zp)) as f32 * in_scale;
        }
        if r.kind == RecurrentKind::Gru {
            let (r, before) = (workspace.gates.get(units..2 * units)?, &workspace.memory);
            for ((to, r), h) in workspace.reset.iter_mut().zip(r).zip(before.iter()) {
                *to = r * h;
            }
        }
        {
            let held: &[i8] = bytemuck::cast_slice(workspace.held);
            workspace.next.iter_mut().zip(held).for_each(|(to, code)| *to = value(*code));
        }
        let rate = rate(target, workspace.input, workspace.before);
        let drawn = core::cell::Cell::new(*random);
        let mut cell = Cell {
            input: &mut Scaled::new(&mut input, scale_input, units, (in_scale, in_zp), &drawn),
            state: &mut Scaled::new(&mut state, scale_state, units, (out_scale, out_zp), &drawn),
            bias: &mut *bias,
        };
        let seen = Seen {
            before: workspace.before,
            memory: workspace.memory,
            carried: workspace.carried,
            next: workspace.next,
            gates: workspace.gates,
            reset: workspace.reset,
            errors: workspace.errors,
        };
        descend(r.kind, &mut cell, workspace.input, &seen, workspace.pulled, rate);
        *random = drawn.get();
    }
    Some(())
}

/// The error of the layer's output features.
fn error<'a>(
    target: &StepTarget<'a>,
    output: impl Fn(usize) -> f32,
    residual: &'a mut [f32],
) -> LocalError<'a> {
    let features = target.grid.features();
    let feature = |j: usize| feature(&target.grid, j, &output);
    LocalError::new(
        target.rule,
        target.projection,
        features,
        (0..features).map(feature),
        target.label,
        residual,
    )
}

/// A feature: the mean of a state over a range of time steps.
fn feature(grid: &PoolingGrid, j: usize, output: impl Fn(usize) -> f32) -> f32 {
    let (pixels, cells) = grid.cell_pixels();
    let mut sum = 0.0;
    grid.pixels(j, |at| sum += output(at));
    sum * (cells as f32 / pixels.max(1) as f32)
}

/// Writes the error of the state at position `at`, the `step`th to be computed; `false` if it has none.
fn errors_of(
    r: &Recurrent,
    step: usize,
    at: usize,
    target: &StepTarget<'_>,
    error: &LocalError<'_>,
    output: impl Fn(usize) -> f32,
    errors: &mut [f32],
) -> bool {
    let grid = &target.grid;
    let row = match r.returns {
        Returns::Sequence => at,
        _ if step + 1 == usize::from(r.steps) => 0,
        _ => return false,
    };
    let (pixels, cells) = grid.cell_pixels();
    let mean = cells as f32 / pixels.max(1) as f32;
    let cell = (0..cells).find(|&cell| grid.cell(cell).0.contains(&row)).unwrap_or(0);
    for (j, e) in errors.iter_mut().enumerate() {
        let j = cell * grid.channels + j;
        let own = if target.rule.reads_activation() { feature(grid, j, &output) } else { 0.0 };
        *e = error.at(j, own) * mean;
    }
    true
}

fn rate(target: &StepTarget<'_>, x: &[f32], h: &[f32]) -> f32 {
    if target.normalised {
        step::normalised(target.rate, step::energy(x) + step::energy(h))
    } else {
        target.rate
    }
}

/// Values that a time step has left.
struct Seen<'a> {
    before: &'a [f32],
    memory: &'a [f32],
    carried: &'a [f32],
    next: &'a [f32],
    gates: &'a [f32],
    reset: &'a [f32],
    errors: &'a [f32],
}

/// Steps the weights.
fn descend<W: Weights>(
    kind: RecurrentKind,
    cell: &mut Cell<'_, W>,
    x: &[f32],
    seen: &Seen<'_>,
    pulled: &mut [f32],
    rate: f32,
) {
    let error = |j: usize| seen.errors[j];
    let h = seen.before;
    match kind {
        RecurrentKind::Tanh => learn_simple(cell, x, h, seen.next, rate, error),
        RecurrentKind::Relu => learn_rectified(cell, x, h, seen.next, rate, error),
        RecurrentKind::Gru => learn_gru(cell, x, h, seen.gates, seen.reset, pulled, rate, error),
        RecurrentKind::GruResetAfter => learn_gru_reset_after(cell, x, h, seen.gates, rate, error),
        RecurrentKind::Lstm => learn_lstm(cell, x, h, seen.gates, seen.memory, seen.carried, rate, error),
    }
}

#[cfg(test)]
mod tests;
