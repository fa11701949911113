//! Recurrent layers without unrolling: the previous state is taken as a constant, so each time step learns from its own
//! input, state and error, and only the state is kept. Stacked layers each learn on their own.
//!
//! Weights hold the rows of the gates one gate after another: `input: [gates · units, inputs]`, `state: [gates · units,
//! units]`, `bias: [gates · units]`. Gate order: GRU update, reset, candidate; LSTM input, forget, output, candidate.

use crate::weights::Weights;

/// Weights of a recurrent layer.
#[derive(Debug)]
pub struct Cell<'a, W> {
    /// Applied to the input.
    pub input: &'a mut W,
    /// Applied to the previous state.
    pub state: &'a mut W,
    /// Biases of the sums of both.
    pub bias: &'a mut [f32],
}

impl<W: Weights> Cell<'_, W> {
    /// `gates = bias + input · x + state · h` for the rows from `first` on, each sum in order. Computes [`ROWS`] rows
    /// at a time, so that no addition waits for the one before.
    fn sums(&self, first: usize, x: &[f32], h: &[f32], gates: &mut [f32]) {
        let mut row = first;
        for gates in gates.chunks_mut(ROWS) {
            gates.copy_from_slice(&self.bias[row..row + gates.len()]);
            if let Ok(gates) = <&mut [f32; ROWS]>::try_from(&mut *gates) {
                for (i, x) in x.iter().enumerate() {
                    for (r, gate) in gates.iter_mut().enumerate() {
                        *gate += self.input.at(row + r, i) * x;
                    }
                }
                for (i, h) in h.iter().enumerate() {
                    for (r, gate) in gates.iter_mut().enumerate() {
                        *gate += self.state.at(row + r, i) * h;
                    }
                }
            } else {
                for (r, gate) in gates.iter_mut().enumerate() {
                    let sum = x.iter().enumerate().fold(*gate, |s, (i, x)| s + self.input.at(row + r, i) * x);
                    *gate = h.iter().enumerate().fold(sum, |s, (i, h)| s + self.state.at(row + r, i) * h);
                }
            }
            row += gates.len();
        }
    }

    /// Steps one row of a gate; `step` is the rate times the gradient of its sum.
    fn descend(&mut self, row: usize, step: f32, x: &[f32], h: &[f32]) {
        self.bias[row] -= step;
        self.input.descend(row, step, x);
        self.state.descend(row, step, h);
    }
}

/// Rows that are summed at once.
const ROWS: usize = 4;

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + libm::expf(-x))
}

/// A simple recurrent layer: `next = tanh(sum)`, a single gate. [`learn_simple`] needs nothing else.
pub fn simple<W: Weights>(cell: &Cell<'_, W>, x: &[f32], h: &[f32], next: &mut [f32]) {
    cell.sums(0, x, h, next);
    next.iter_mut().for_each(|n| *n = libm::tanhf(*n));
}

/// Runs one step of a simple recurrent layer; `error(j)` is `∂J/∂next_j`.
pub fn learn_simple<W: Weights>(
    cell: &mut Cell<'_, W>,
    x: &[f32],
    h: &[f32],
    next: &[f32],
    rate: f32,
    error: impl Fn(usize) -> f32,
) {
    for (j, n) in next.iter().enumerate() {
        cell.descend(j, rate * error(j) * (1.0 - n * n), x, h);
    }
}

/// Gated recurrent unit (Cho et al., arXiv:1406.1078) with the reset gate before the state's weights: with update `u`,
/// reset `r` and candidate `c`, `next = u ∘ h + (1 - u) ∘ c`. Leaves `gates: [3 · units]` and `reset: [units]` (`r ∘
/// h`) for [`learn_gru`].
pub fn gru<W: Weights>(
    cell: &Cell<'_, W>,
    x: &[f32],
    h: &[f32],
    gates: &mut [f32],
    reset: &mut [f32],
    next: &mut [f32],
) {
    let units = h.len();
    let (of_state, of_candidate) = gates.split_at_mut(2 * units);
    cell.sums(0, x, h, of_state);
    of_state.iter_mut().for_each(|gate| *gate = sigmoid(*gate));
    for j in 0..units {
        reset[j] = of_state[units + j] * h[j];
    }
    cell.sums(2 * units, x, reset, of_candidate);
    for j in 0..units {
        gates[2 * units + j] = libm::tanhf(gates[2 * units + j]);
        next[j] = gates[j] * h[j] + (1.0 - gates[j]) * gates[2 * units + j];
    }
}

/// Runs one step of a gated recurrent unit. The reset gate's error comes through the candidate's weights, which belong
/// to the same layer and time step. `pulled: [units]` is workspace.
pub fn learn_gru<W: Weights>(
    cell: &mut Cell<'_, W>,
    x: &[f32],
    h: &[f32],
    gates: &[f32],
    reset: &[f32],
    pulled: &mut [f32],
    rate: f32,
    error: impl Fn(usize) -> f32,
) {
    let units = h.len();
    pulled.fill(0.0);
    for j in 0..units {
        let (u, c) = (gates[j], gates[2 * units + j]);
        let of_candidate = error(j) * (1.0 - u) * (1.0 - c * c);
        cell.state.add_row(2 * units + j, of_candidate, pulled);
        cell.descend(2 * units + j, rate * of_candidate, x, reset);
        cell.descend(j, rate * error(j) * (h[j] - c) * u * (1.0 - u), x, h);
    }
    for j in 0..units {
        let r = gates[units + j];
        cell.descend(units + j, rate * pulled[j] * h[j] * r * (1.0 - r), x, h);
    }
}

/// Runs one step of a gated recurrent unit that applies the reset gate after the state's product. `gates: [4 · units]`
/// holds update, reset, candidate, and that product, whose biases follow all others.
pub fn learn_gru_reset_after<W: Weights>(
    cell: &mut Cell<'_, W>,
    x: &[f32],
    h: &[f32],
    gates: &[f32],
    rate: f32,
    error: impl Fn(usize) -> f32,
) {
    let units = h.len();
    for j in 0..units {
        let [u, r, c, product] = [0, 1, 2, 3].map(|gate| gates[gate * units + j]);
        let of_candidate = error(j) * (1.0 - u) * (1.0 - c * c);
        cell.descend(j, rate * error(j) * (h[j] - c) * u * (1.0 - u), x, h);
        cell.descend(units + j, rate * of_candidate * product * r * (1.0 - r), x, h);
        let row = 2 * units + j;
        cell.bias[row] -= rate * of_candidate;
        cell.input.descend(row, rate * of_candidate, x);
        cell.bias[3 * units + j] -= rate * of_candidate * r;
        cell.state.descend(row, rate * of_candidate * r, h);
    }
}

/// Runs one step of a simple recurrent layer with a ReLU.
pub fn learn_rectified<W: Weights>(
    cell: &mut Cell<'_, W>,
    x: &[f32],
    h: &[f32],
    next: &[f32],
    rate: f32,
    error: impl Fn(usize) -> f32,
) {
    for (j, _) in next.iter().enumerate().filter(|(_, n)| **n > 0.0) {
        cell.descend(j, rate * error(j), x, h);
    }
}

/// Long short-term memory (Hochreiter and Schmidhuber, 1997, with the forget gate of Gers et al., 2000): with input
/// `i`, forget `f`, output `o` and candidate `g`, `memory ← f ∘ memory + i ∘ g`, `next = o ∘ tanh(memory)`. Leaves
/// `gates: [4 · units]` and `before: [units]` (the previous memory) for [`learn_lstm`].
pub fn lstm<W: Weights>(
    cell: &Cell<'_, W>,
    x: &[f32],
    h: &[f32],
    gates: &mut [f32],
    before: &mut [f32],
    memory: &mut [f32],
    next: &mut [f32],
) {
    let units = h.len();
    before.copy_from_slice(memory);
    cell.sums(0, x, h, gates);
    for (row, gate) in gates.iter_mut().enumerate() {
        *gate = if row < 3 * units { sigmoid(*gate) } else { libm::tanhf(*gate) };
    }
    for j in 0..units {
        memory[j] = gates[units + j] * memory[j] + gates[j] * gates[3 * units + j];
        next[j] = gates[2 * units + j] * libm::tanhf(memory[j]);
    }
}

/// Runs one step of a long short-term memory.
pub fn learn_lstm<W: Weights>(
    cell: &mut Cell<'_, W>,
    x: &[f32],
    h: &[f32],
    gates: &[f32],
    before: &[f32],
    memory: &[f32],
    rate: f32,
    error: impl Fn(usize) -> f32,
) {
    let units = h.len();
    for j in 0..units {
        let [i, f, o, g] = [0, 1, 2, 3].map(|gate| gates[gate * units + j]);
        let out = libm::tanhf(memory[j]);
        let of_memory = error(j) * o * (1.0 - out * out);
        cell.descend(j, rate * of_memory * g * i * (1.0 - i), x, h);
        cell.descend(units + j, rate * of_memory * before[j] * f * (1.0 - f), x, h);
        cell.descend(2 * units + j, rate * error(j) * out * o * (1.0 - o), x, h);
        cell.descend(3 * units + j, rate * of_memory * i * (1.0 - g * g), x, h);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::Float;
    use offshoot_kernels::Random;
    use std::vec::Vec;

    const INPUTS: usize = 3;
    const UNITS: usize = 4;

    /// Runs one time step of a kind of cell and learns from it; returns `next`.
    fn moment(
        kind: usize,
        all: &mut [Vec<f32>; 3],
        x: &[f32],
        h: &[f32],
        error: Option<(f32, &[f32])>,
    ) -> Vec<f32> {
        let [input, state, bias] = all;
        let mut input = Float::new(input, INPUTS);
        let mut state = Float::new(state, UNITS);
        let mut cell = Cell { input: &mut input, state: &mut state, bias };
        let mut next = vec![0.0; UNITS];
        let (mut gates, mut workspace, mut memory) =
            (vec![0.0; [1, 3, 4][kind] * UNITS], vec![0.0; UNITS], vec![0.2; UNITS]);
        match kind {
            0 => simple(&cell, x, h, &mut next),
            1 => gru(&cell, x, h, &mut gates, &mut workspace, &mut next),
            _ => lstm(&cell, x, h, &mut gates, &mut workspace, &mut memory, &mut next),
        }
        if let Some((rate, e)) = error {
            let error = |j: usize| e[j];
            match kind {
                0 => learn_simple(&mut cell, x, h, &next, rate, error),
                1 => learn_gru(&mut cell, x, h, &gates, &workspace, &mut [0.0; UNITS], rate, error),
                _ => learn_lstm(&mut cell, x, h, &gates, &workspace, &memory, rate, error),
            }
        }
        next
    }

    /// Steps equal those of the gradient of `Σ e · next` by finite differences.
    #[test]
    fn steps_are_gradients_of_one_moment() {
        let mut random = Random::new(21);
        let mut draw = |n: usize| -> Vec<f32> { (0..n).map(|_| 0.5 * random.normal()).collect() };
        for kind in 0..3 {
            let rows = [1, 3, 4][kind] * UNITS;
            let all = [draw(rows * INPUTS), draw(rows * UNITS), draw(rows)];
            let (x, h, e) = (draw(INPUTS), draw(UNITS), draw(UNITS));
            let mut learned = all.clone();
            moment(kind, &mut learned, &x, &h, Some((1.0, &e)));
            for part in 0..3 {
                for i in 0..all[part].len() {
                    let loss = |delta: f32| -> f32 {
                        let mut moved = all.clone();
                        moved[part][i] += delta;
                        moment(kind, &mut moved, &x, &h, None).iter().zip(&e).map(|(n, e)| n * e).sum()
                    };
                    let slope = (loss(1e-2) - loss(-1e-2)) / 2e-2;
                    let step = all[part][i] - learned[part][i];
                    assert!((slope - step).abs() < 2e-3, "kind {kind} part {part} {i}: {slope} {step}");
                }
            }
        }
    }

    /// Cells equal those of the inference kernel to the bit.
    #[test]
    fn steps_are_those_of_inference() {
        use crate::weights::Float;
        use offshoot_format::record::RecurrentKind;
        use offshoot_kernels::recurrent::{FloatSums, State, recurrent_step};
        const INPUTS: usize = 5;
        const UNITS: usize = 6;
        let mut random = Random::new(4);
        let mut draw = |n: usize| -> Vec<f32> { (0..n).map(|_| 0.5 * random.normal()).collect() };
        for kind in [RecurrentKind::Tanh, RecurrentKind::Gru, RecurrentKind::Lstm] {
            let rows = kind.gates() * UNITS;
            let (mut input, mut state, mut bias) = (draw(rows * INPUTS), draw(rows * UNITS), draw(rows));
            let mut own =
                FloatSums { units: UNITS, bias: &bias.clone(), input: &input.clone(), state: &state.clone() };
            let (mut held, mut carried) = ([0.0; UNITS], [0.0; UNITS]);
            let (mut h, mut memory) = ([0.0f32; UNITS], [0.0f32; UNITS]);
            for _ in 0..4 {
                let x = draw(INPUTS);
                let (mut gates, mut reset) = (vec![0.0; rows], [0.0; UNITS]);
                let state_now =
                    State { carried: &mut carried, held: &mut held, reset: &mut reset, gates: &mut gates };
                recurrent_step(kind, &mut own, &x, state_now);
                let mut cell = (Float::new(&mut input, INPUTS), Float::new(&mut state, UNITS));
                let cell = Cell { input: &mut cell.0, state: &mut cell.1, bias: &mut bias };
                let (mut next, mut workspace) = ([0.0; UNITS], [0.0; UNITS]);
                match kind {
                    RecurrentKind::Gru => gru(&cell, &x, &h, &mut gates, &mut workspace, &mut next),
                    RecurrentKind::Lstm => {
                        lstm(&cell, &x, &h, &mut gates, &mut workspace, &mut memory, &mut next)
                    }
                    _ => simple(&cell, &x, &h, &mut next),
                }
                h = next;
                assert_eq!(held, h, "{kind:?}");
            }
        }
    }
}
