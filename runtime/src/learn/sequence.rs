//! One step of learning of a recurrent layer: the sequence is run through again, and at every step in time the layer learns
//! from the error of that step, the state before taken as a constant. Nothing is unrolled, nothing is kept but the state.
//!
//! float32, or int8 weights that are stepped with stochastic rounding (no second copy): their step is computed in float32, as
//! the gates of an int8 layer are.

use super::grid::Grid;
use super::layers::recurrent::{
    Cell, learn_gru, learn_gru_reset_after, learn_lstm, learn_rectified, learn_simple,
};
use super::rules::{LocalError, Rule};
use super::weights::Float;
use super::{Codes, Random, Weights, step};
use crate::format::record::{Recurrent, RecurrentKind, Returns};
use crate::kernels::portable::{CodeSums, FloatSums, State, recurrent_step};

/// What a layer is to learn.
#[derive(Clone, Copy, Debug)]
pub struct Lesson<'a> {
    /// Which error.
    pub rule: Rule,
    /// The label's way to the features.
    pub codes: Codes<'a>,
    /// Features of the output: means over stretches of steps.
    pub grid: Grid,
    /// The class.
    pub label: usize,
    /// Learning rate, before it is normalised.
    pub rate: f32,
    /// Divide the rate by one plus the energy of a step's input and state.
    pub normalised: bool,
}

/// Numbers of a layer's input and state as real ones.
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
        /// Scale of the input times that of the row's weights.
        scale_input: &'a [f32],
        /// Scale of the state times that of the row's weights.
        scale_state: &'a [f32],
        /// `[gates · units, inputs]`
        input: &'a mut [i8],
        /// `[gates · units, units]`
        state: &'a mut [i8],
        /// Of input and state.
        real: Real,
    },
}

/// Words of room that a step needs.
pub fn room_words(r: &Recurrent) -> usize {
    let (units, inputs) = (usize::from(r.units), usize::from(r.inputs));
    // Carried, held, reset, sums; before, memory before, pulled, next, errors; gates; the input.
    9 * units + r.kind.biases() * units + inputs
}

/// The room, in pieces of `[units]` but for gates and input.
struct Room<'a> {
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

impl<'a> Room<'a> {
    fn new(r: &Recurrent, room: &'a mut [f32]) -> Option<Self> {
        let mut rest = room;
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

/// Learns of a float32 layer: `x` its input, `h` its output, `initial` the state before. `residual` is room for a number a class
/// and holds afterwards what a head that learns descends; `room` has [`room_words`]. `None`, and nothing is done, if a slice
/// is too short.
pub fn learn_float(
    r: &Recurrent,
    parts: Parts<'_>,
    lesson: &Lesson<'_>,
    (x, h, initial): (&[f32], &[f32], Option<&[f32]>),
    residual: &mut [f32],
    room: &mut [f32],
) -> Option<()> {
    let Parts::Float { bias, input, state } = parts else { return None };
    let room = Room::new(r, room)?;
    let (units, inputs) = (usize::from(r.units), usize::from(r.inputs));
    let error = error(lesson, |at| h.get(at).copied().unwrap_or(0.0), residual);
    room.held.fill(0.0);
    room.carried.fill(0.0);
    if let Some(initial) = initial {
        room.held.copy_from_slice(initial.get(..units)?);
        let carried =
            if r.kind == RecurrentKind::Lstm { initial.get(units..)? } else { initial.get(..units)? };
        room.carried.copy_from_slice(carried);
    }
    for step in 0..usize::from(r.steps) {
        let at = if r.reverse { usize::from(r.steps) - 1 - step } else { step };
        let x = x.get(at * inputs..)?.get(..inputs)?;
        room.before.copy_from_slice(room.held);
        room.memory.copy_from_slice(room.carried);
        let reset_len = if r.kind == RecurrentKind::Gru { units } else { 0 };
        let mut sums = FloatSums { units, bias, input, state };
        let own = State {
            carried: room.carried,
            held: room.held,
            reset: room.reset.get_mut(..reset_len)?,
            gates: room.gates,
        };
        recurrent_step(r.kind, &mut sums, x, own);
        if !errors_of(r, step, at, lesson, &error, |at| h.get(at).copied().unwrap_or(0.0), room.errors) {
            continue;
        }
        let rate = rate(lesson, x, room.before);
        let (mut input, mut state) = (Float::new(input, inputs), Float::new(state, units));
        let mut cell = Cell { input: &mut input, state: &mut state, bias: &mut *bias };
        let seen = Seen {
            before: room.before,
            memory: room.memory,
            carried: room.carried,
            next: room.held,
            gates: room.gates,
            reset: room.reset,
            errors: room.errors,
        };
        descend(r.kind, &mut cell, x, &seen, room.pulled, rate);
    }
    Some(())
}

/// Learns of an int8 layer; as [`learn_float`].
pub fn learn_codes(
    r: &Recurrent,
    parts: Parts<'_>,
    lesson: &Lesson<'_>,
    (x, h, initial): (&[i8], &[i8], Option<&[i8]>),
    residual: &mut [f32],
    room: &mut [f32],
    random: &mut Random,
) -> Option<()> {
    let Parts::Codes { bias, scale_input, scale_state, input, state, real } = parts else { return None };
    let room = Room::new(r, room)?;
    let (units, inputs) = (usize::from(r.units), usize::from(r.inputs));
    let [in_zp, out_zp] = real.zeros;
    let [in_scale, out_scale] = real.scales;
    let value = |code: i8| (i32::from(code) - i32::from(out_zp)) as f32 * out_scale;
    let output = |at: usize| value(h.get(at).copied().unwrap_or(out_zp));
    let error = error(lesson, output, residual);
    // The codes of the states lie in the words that the float form has for them.
    bytemuck::cast_slice_mut::<_, i8>(room.held).fill(out_zp);
    room.carried.fill(0.0);
    if let Some(initial) = initial {
        let held: &mut [i8] = bytemuck::cast_slice_mut(room.held);
        held.get_mut(..units)?.copy_from_slice(initial.get(..units)?);
        room.carried.iter_mut().zip(initial).for_each(|(to, code)| *to = value(*code));
    }
    for step in 0..usize::from(r.steps) {
        let at = if r.reverse { usize::from(r.steps) - 1 - step } else { step };
        let x = x.get(at * inputs..)?.get(..inputs)?;
        {
            let held: &[i8] = bytemuck::cast_slice(room.held);
            room.before.iter_mut().zip(held).for_each(|(to, code)| *to = value(*code));
        }
        room.memory.copy_from_slice(room.carried);
        let reset_len = if r.kind == RecurrentKind::Gru { units } else { 0 };
        let zeros = real.zeros;
        let sums: &mut [i32] = bytemuck::cast_slice_mut(room.sums);
        let mut own =
            CodeSums { units, bias, scale_input, scale_state, input, state, zeros, scale: out_scale, sums };
        let held: &mut [i8] = bytemuck::cast_slice_mut(room.held);
        let reset: &mut [i8] = bytemuck::cast_slice_mut(room.reset);
        let now = State {
            carried: room.carried,
            held: held.get_mut(..units)?,
            reset: reset.get_mut(..reset_len)?,
            gates: room.gates,
        };
        recurrent_step(r.kind, &mut own, x, now);
        if !errors_of(r, step, at, lesson, &error, output, room.errors) {
            continue;
        }
        // Real numbers, for steps in the weights' own units: the reset state's over its codes, from the last.
        for (to, code) in room.input.iter_mut().zip(x) {
            *to = (i32::from(*code) - i32::from(in_zp)) as f32 * in_scale;
        }
        if r.kind == RecurrentKind::Gru {
            let (r, before) = (room.gates.get(units..2 * units)?, &room.memory);
            for ((to, r), h) in room.reset.iter_mut().zip(r).zip(before.iter()) {
                *to = r * h;
            }
        }
        {
            let held: &[i8] = bytemuck::cast_slice(room.held);
            room.next.iter_mut().zip(held).for_each(|(to, code)| *to = value(*code));
        }
        let rate = rate(lesson, room.input, room.before);
        let drawn = core::cell::Cell::new(*random);
        let mut cell = Cell {
            input: &mut Scaled { codes: &mut *input, products: scale_input, unit: in_scale, random: &drawn },
            state: &mut Scaled { codes: &mut *state, products: scale_state, unit: out_scale, random: &drawn },
            bias: &mut *bias,
        };
        let seen = Seen {
            before: room.before,
            memory: room.memory,
            carried: room.carried,
            next: room.next,
            gates: room.gates,
            reset: room.reset,
            errors: room.errors,
        };
        descend(r.kind, &mut cell, room.input, &seen, room.pulled, rate);
        *random = drawn.get();
    }
    Some(())
}

/// The error of the layer's output, by its features.
fn error<'a>(lesson: &Lesson<'a>, output: impl Fn(usize) -> f32, residual: &'a mut [f32]) -> LocalError<'a> {
    let features = lesson.grid.features();
    let feature = |j: usize| feature(&lesson.grid, j, &output);
    LocalError::new(lesson.rule, lesson.codes, features, (0..features).map(feature), lesson.label, residual)
}

/// A feature: the mean of a state over a stretch of steps.
fn feature(grid: &Grid, j: usize, output: impl Fn(usize) -> f32) -> f32 {
    let (pixels, cells) = grid.cell_pixels();
    let mut sum = 0.0;
    grid.pixels(j, |at| sum += output(at));
    sum * (cells as f32 / pixels.max(1) as f32)
}

/// Writes the error of the state of one step, the `step`th that is computed, at place `at`; `false` if it has none.
fn errors_of(
    r: &Recurrent,
    step: usize,
    at: usize,
    lesson: &Lesson<'_>,
    error: &LocalError<'_>,
    output: impl Fn(usize) -> f32,
    errors: &mut [f32],
) -> bool {
    let grid = &lesson.grid;
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
        let own = match lesson.rule {
            Rule::Squared { .. } | Rule::Absolute { .. } => feature(grid, j, &output),
            _ => 0.0,
        };
        *e = error.at(j, own) * mean;
    }
    true
}

fn rate(lesson: &Lesson<'_>, x: &[f32], h: &[f32]) -> f32 {
    if lesson.normalised {
        step::normalised(lesson.rate, step::energy(x) + step::energy(h))
    } else {
        lesson.rate
    }
}

/// What a step in time has left.
struct Seen<'a> {
    before: &'a [f32],
    memory: &'a [f32],
    carried: &'a [f32],
    next: &'a [f32],
    gates: &'a [f32],
    reset: &'a [f32],
    errors: &'a [f32],
}

/// The step of the weights.
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

/// int8 weights of which the products of scales are known: `weight = products[row] / unit · code`.
#[derive(Debug)]
struct Scaled<'a> {
    codes: &'a mut [i8],
    products: &'a [f32],
    /// Scale of what the weights are multiplied with.
    unit: f32,
    random: &'a core::cell::Cell<Random>,
}

impl Scaled<'_> {
    fn length(&self) -> usize {
        self.codes.len() / self.products.len().max(1)
    }

    fn scale(&self, row: usize) -> f32 {
        self.products[row] / self.unit
    }
}

impl Weights for Scaled<'_> {
    fn at(&self, channel: usize, index: usize) -> f32 {
        self.scale(channel) * f32::from(self.codes[channel * self.length() + index])
    }

    fn product(&self, x: &[f32], bias: &[f32], out: &mut [f32]) {
        for (o, (out, bias)) in out.iter_mut().zip(bias).enumerate() {
            *out = x.iter().enumerate().fold(*bias, |sum, (i, x)| sum + self.at(o, i) * x);
        }
    }

    fn descend(&mut self, channel: usize, rate: f32, gradient: &[f32]) {
        // A row of zeros may have a scale of 0: it stays.
        let scale = self.scale(channel);
        if scale <= 0.0 {
            return;
        }
        let (length, rate) = (self.length(), rate / scale);
        let mut random = self.random.get();
        for (q, g) in self.codes[channel * length..][..length].iter_mut().zip(gradient) {
            *q = super::weights::stepped(*q, rate * g, &mut random);
        }
        self.random.set(random);
    }

    fn nudge(&mut self, channel: usize, index: usize, step: f32) {
        let (length, scale, mut random) = (self.length(), self.scale(channel), self.random.get());
        let q = &mut self.codes[channel * length + index];
        *q = super::weights::stepped(*q, step / scale, &mut random);
        self.random.set(random);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::record::RecurrentArith;
    use std::vec::Vec;

    const STEPS: usize = 4;
    const INPUTS: usize = 3;
    const UNITS: usize = 4;

    fn record(kind: RecurrentKind, returns: Returns, reverse: bool, arith: RecurrentArith) -> Recurrent {
        Recurrent {
            src: 0,
            dst: 0,
            initial: None,
            kept: None,
            scratch: 0,
            steps: STEPS as u16,
            inputs: INPUTS as u16,
            units: UNITS as u16,
            kind,
            returns,
            reverse,
            arith,
            blob: 0,
        }
    }

    /// With one step in time the learning step is that of the gradient of the rule's loss, by differences.
    #[test]
    fn one_step_in_time_descends_the_loss() {
        use RecurrentKind::{Gru, GruResetAfter, Lstm, Relu, Tanh};
        for kind in [Tanh, Relu, Gru, GruResetAfter, Lstm] {
            let r = Recurrent { steps: 1, ..record(kind, Returns::Last, false, RecurrentArith::F32) };
            let mut random = Random::new(9);
            let mut draw = |n: usize| -> Vec<f32> { (0..n).map(|_| 0.6 * random.normal()).collect() };
            let rows = kind.gates() * UNITS;
            let parts = [draw(kind.biases() * UNITS), draw(rows * INPUTS), draw(rows * UNITS)];
            let (x, initial) = (draw(INPUTS), draw(kind.states() * UNITS));
            let lesson = Lesson {
                rule: Rule::Squared { scale: 0.5 },
                codes: Codes::Signs { seed: 3 },
                grid: Grid::new(1, [1, 1], UNITS),
                label: 1,
                rate: 1.0,
                normalised: false,
            };
            let forward = |parts: &[Vec<f32>; 3]| -> Vec<f32> {
                let mut own = FloatSums { units: UNITS, bias: &parts[0], input: &parts[1], state: &parts[2] };
                let mut held = initial[..UNITS].to_vec();
                let mut carried = initial[initial.len() - UNITS..].to_vec();
                let (mut reset, mut gates) = (vec![0.0; UNITS], vec![0.0; kind.biases() * UNITS]);
                let state =
                    State { carried: &mut carried, held: &mut held, reset: &mut reset, gates: &mut gates };
                recurrent_step(kind, &mut own, &x, state);
                held
            };
            let loss = |parts: &[Vec<f32>; 3]| -> f32 {
                let target = |j| 0.5 * lesson.codes.at(2, UNITS, 1, j);
                forward(parts).iter().enumerate().map(|(j, h)| 0.5 * (h - target(j)).powi(2)).sum()
            };
            let mut learned = parts.clone();
            {
                let [bias, input, state] = &mut learned;
                let own = Parts::Float { bias, input, state };
                let h = forward(&parts);
                let mut room = vec![0.0; room_words(&r)];
                let seen = (&x[..], &h[..], Some(&initial[..]));
                learn_float(&r, own, &lesson, seen, &mut [0.0; 2], &mut room).unwrap();
            }
            // The squared rule's error is h less its target, times a factor that all share.
            let mut factor = 0.0f32;
            for part in 0..3 {
                for i in 0..parts[part].len() {
                    let moved = |by: f32| {
                        let mut moved = parts.clone();
                        moved[part][i] += by;
                        loss(&moved)
                    };
                    let slope = (moved(1e-2) - moved(-1e-2)) / 2e-2;
                    let step = parts[part][i] - learned[part][i];
                    if slope.abs() > 0.05 && factor == 0.0 {
                        factor = step / slope;
                    }
                    let wanted = slope * if factor == 0.0 { 1.0 } else { factor };
                    assert!((wanted - step).abs() < 6e-3, "{kind:?} part {part} {i}: {wanted} {step}");
                }
            }
            assert!(factor > 0.0, "{kind:?}");
        }
    }

    /// Repeated lessons bring a sequence's states to their target, in both formats.
    #[test]
    fn lessons_bring_states_to_their_codes() {
        use RecurrentKind::{Gru, GruResetAfter, Lstm, Tanh};
        for (kind, returns) in [
            (Tanh, Returns::Sequence),
            (Gru, Returns::Sequence),
            (GruResetAfter, Returns::Last),
            (Lstm, Returns::Sequence),
        ] {
            let rows = kind.gates() * UNITS;
            let mut random = Random::new(2);
            let mut codes = |n: usize| -> Vec<i8> { (0..n).map(|_| (random.next_u32() as i8) / 2).collect() };
            let (mut input, mut state) = (codes(rows * INPUTS), codes(rows * UNITS));
            let x = codes(STEPS * INPUTS);
            let mut bias = vec![0.0; kind.biases() * UNITS];
            let (scale_input, scale_state) = (vec![0.01 / 128.0; rows], vec![0.01 / 128.0; rows]);
            let arith = RecurrentArith::I8 { in_zp: 0, out_zp: 0, out_scale: 1.0 / 128.0 };
            let r = record(kind, returns, true, arith);
            let outputs = if returns == Returns::Sequence { STEPS } else { 1 };
            let lesson = Lesson {
                rule: Rule::CrossEntropy { scale: 1.0 },
                codes: Codes::Signs { seed: 3 },
                grid: Grid::new(2, [outputs, 1], UNITS),
                label: 1,
                rate: 0.1,
                normalised: true,
            };
            let mut first = None;
            let mut residual = [0.0f32; 3];
            for _ in 0..300 {
                let h = {
                    let (mut sums, mut gates) = (vec![0; UNITS], vec![0.0; kind.biases() * UNITS]);
                    let mut own = CodeSums {
                        units: UNITS,
                        bias: &bias,
                        scale_input: &scale_input,
                        scale_state: &scale_state,
                        input: &input,
                        state: &state,
                        zeros: [0; 2],
                        scale: 1.0 / 128.0,
                        sums: &mut sums,
                    };
                    let (mut carried, mut held, mut reset) = ([0.0; UNITS], [0i8; UNITS], [0i8; UNITS]);
                    let mut out = vec![0; outputs * UNITS];
                    for t in (0..STEPS).rev() {
                        let own_state = State {
                            carried: &mut carried,
                            held: &mut held,
                            reset: &mut reset,
                            gates: &mut gates,
                        };
                        recurrent_step(kind, &mut own, &x[t * INPUTS..][..INPUTS], own_state);
                        let row = if outputs == 1 { 0 } else { t };
                        out[row * UNITS..][..UNITS].copy_from_slice(&held);
                    }
                    out
                };
                let parts = Parts::Codes {
                    bias: &mut bias,
                    scale_input: &scale_input,
                    scale_state: &scale_state,
                    input: &mut input,
                    state: &mut state,
                    real: Real { zeros: [0; 2], scales: [1.0 / 128.0; 2] },
                };
                let mut room = vec![0.0; room_words(&r)];
                let seen = (&x[..], &h[..], None);
                learn_codes(&r, parts, &lesson, seen, &mut residual, &mut room, &mut random).unwrap();
                // The residual of the label: minus what the softmax lacks.
                first.get_or_insert(-residual[1]);
            }
            assert!(-residual[1] < 0.5 * first.unwrap(), "{kind:?}: {first:?} {residual:?}");
        }
    }
}
