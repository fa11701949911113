//! Steps against finite differences of the loss, samples that are learned, zeros that stay.

use super::*;
use offshoot_format::record::RecurrentArith;
use offshoot_format::sparse::{Form, SparseRepr};
use offshoot_kernels::portable::products_i8;
use offshoot_kernels::recurrent::RecurrentMatrix;
use offshoot_kernels::sparse::testing::encode;
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

/// With one time step, the train step equals the gradient of the rule's loss by finite differences.
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
        let target = StepTarget {
            rule: LocalRule::Squared { scale: 0.5 },
            projection: TargetProjection::Signs { seed: 3 },
            grid: PoolingGrid::new(1, [1, 1], UNITS),
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
            let target = |j| 0.5 * target.projection.at(2, UNITS, 1, j);
            forward(parts).iter().enumerate().map(|(j, h)| 0.5 * (h - target(j)).powi(2)).sum()
        };
        let mut learned = parts.clone();
        {
            let [bias, input, state] = &mut learned;
            let own = Parts::Float { bias, input, state };
            let h = forward(&parts);
            let mut workspace = vec![0.0; workspace_words(&r)];
            let seen = (&x[..], &h[..], Some(&initial[..]));
            learn_float(&r, own, &target, seen, &mut [0.0; 2], &mut workspace).unwrap();
        }
        // The squared rule's error is h minus its target, times a common factor.
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

/// Repeated samples bring a sequence's states to their target, in both formats.
#[test]
fn train_steps_bring_states_to_their_codes() {
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
        let target = StepTarget {
            rule: LocalRule::CrossEntropy { scale: 1.0 },
            projection: TargetProjection::Signs { seed: 3 },
            grid: PoolingGrid::new(2, [outputs, 1], UNITS),
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
                    input: RecurrentMatrix::Dense(&input),
                    state: RecurrentMatrix::Dense(&state),
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
                input: Stored::Dense(&mut input),
                state: Stored::Dense(&mut state),
                real: Real { zeros: [0; 2], scales: [1.0 / 128.0; 2] },
            };
            let mut workspace = vec![0.0; workspace_words(&r)];
            let seen = (&x[..], &h[..], None);
            learn_codes(&r, parts, &target, seen, &mut residual, &mut workspace, &mut random).unwrap();
            // The residual of the label: minus what the softmax lacks.
            first.get_or_insert(-residual[1]);
        }
        assert!(-residual[1] < 0.5 * first.unwrap(), "{kind:?}: {first:?} {residual:?}");
    }
}

/// Only stored weights of a sparse matrix learn, and the zero point's part of a row's start follows them. With all
/// weights stored, the result equals the dense one.
#[test]
fn sparse_weights_learn_and_keep_their_zeros() {
    use RecurrentKind::{Gru, GruResetAfter, Lstm, Tanh};
    const WIDTHS: [usize; 2] = [8, UNITS];
    for kind in [Tanh, Gru, GruResetAfter, Lstm] {
        for (form, full) in
            [(Form::Bytes, false), (Form::Nibbles, false), (Form::Blocks, false), (Form::Bytes, true)]
        {
            let rows = kind.gates() * UNITS;
            let zeros = [-3, 5];
            let mut random = Random::new(8);
            let mut draw = |n: usize| (0..n).map(|_| (random.next_u32() as i8) / 2).collect::<Vec<_>>();
            let keep = |(at, w): (usize, i8)| {
                if full {
                    w | 1
                } else if at / 4 % 3 == 0 {
                    w
                } else {
                    0
                }
            };
            let dense =
                WIDTHS.map(|width| draw(rows * width).into_iter().enumerate().map(keep).collect::<Vec<_>>());
            let x = draw(STEPS * WIDTHS[0]);
            let h = draw(STEPS * UNITS);
            let (scale_input, scale_state) = (vec![1e-4; rows], vec![1e-4; rows]);
            let arith = RecurrentArith::I8 { in_zp: zeros[0], out_zp: zeros[1], out_scale: 1.0 / 128.0 };
            let r = Recurrent { inputs: 8, ..record(kind, Returns::Sequence, false, arith) };
            let real = Real { zeros, scales: [1.0 / 128.0; 2] };
            let learn = |input: Stored<'_>, state: Stored<'_>| {
                let mut bias = vec![0.0; kind.biases() * UNITS];
                let (scale_input, scale_state) = (&scale_input[..], &scale_state[..]);
                let parts = Parts::Codes { bias: &mut bias, scale_input, scale_state, input, state, real };
                let target = StepTarget {
                    rule: LocalRule::CrossEntropy { scale: 1.0 },
                    projection: TargetProjection::Signs { seed: 3 },
                    grid: PoolingGrid::new(1, [STEPS, 1], UNITS),
                    label: 1,
                    rate: 50.0,
                    normalised: false,
                };
                let mut workspace = vec![0.0; workspace_words(&r)];
                let mut random = Random::new(4);
                learn_codes(&r, parts, &target, (&x, &h, None), &mut [0.0; 3], &mut workspace, &mut random)
                    .unwrap();
                bias
            };
            let mut blobs = [0, 1].map(|i| encode(&dense[i], WIDTHS[i], form));
            let before = blobs.clone();
            let start = |weights: &[i8], i: usize| {
                let mut sums = vec![0; rows];
                products_i8(weights, &vec![0; WIDTHS[i]], zeros[i], &mut sums);
                sums
            };
            let mut starts = [0, 1].map(|i| start(&dense[i], i));
            let [(input, of_input), (state, of_state)] = &mut blobs;
            let [start_input, start_state] = &mut starts;
            let stored = |repr: &SparseRepr, start, blob| Stored::Sparse { repr: *repr, start, blob };
            let bias = learn(
                stored(input, start_input, bytemuck::cast_slice_mut(of_input)),
                stored(state, start_state, bytemuck::cast_slice_mut(of_state)),
            );
            let mut changed = 0;
            for (i, (repr, blob)) in blobs.iter().enumerate() {
                let columns = WIDTHS[i];
                let mut after = vec![0i8; rows * columns];
                let bytes: &[i8] = bytemuck::cast_slice(blob);
                for row in 0..rows {
                    let own = crate::integer::sparse::Cursor::default().row((repr, rows), bytes, row);
                    own.unwrap().each(bytes, |column, w| after[row * columns + column] = w);
                }
                for (row, start) in starts[i].iter().enumerate() {
                    let sum: i32 = after[row * columns..][..columns].iter().map(|w| i32::from(*w)).sum();
                    assert_eq!(*start, -i32::from(zeros[i]) * sum, "{kind:?} {form:?}");
                }
                changed += after.iter().zip(&dense[i]).filter(|(a, b)| a != b).count();
                let (counts, first): (&[i8], &[i8]) =
                    (&bytes[..2 * rows], bytemuck::cast_slice(&before[i].1));
                assert_eq!(counts, &first[..2 * rows]);
                let steps = bytes.len() - repr.steps as usize - 3;
                assert_eq!(bytes[steps + 3..], first[steps + 3..]);
            }
            assert!(changed > 10, "{kind:?} {form:?}: {changed}");
            if full {
                let mut own = dense.clone();
                let [input, state] = &mut own;
                assert_eq!(learn(Stored::Dense(input), Stored::Dense(state)), bias);
                let [input, state] = [0, 1].map(|i| encode(&own[i], WIDTHS[i], form).1);
                assert!(input == blobs[0].1 && state == blobs[1].1, "{kind:?}");
            }
        }
    }
}
