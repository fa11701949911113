//! A gated recurrent layer over the rows of the input, unrolled step by step.
//!
//! Unrolling repeats small operators, so a long sequence is first averaged over time to a few steps.

use offshoot_ir::{Activation, BinaryKind, Op, PoolKind, UnaryKind, ValueId, Window};

use super::builder::Builder;
use super::{Built, Shape};
use crate::{Error, Result};

/// Steps above which an unrolled network needs more memory for its operators than for its weights.
const MOST_STEPS: usize = 32;

/// `h' = (1 - z) · n + z · h` with `z, r` as sigmoids and `n` as tanh of sums over input and state (Cho et al. 2014);
/// the state has the width of the first stage.
pub(super) fn gru(shape: &Shape) -> Result<Built> {
    let [rows, width, channels] = shape.input;
    let features = width * channels;
    let window = rows.div_ceil(shape.steps.max(1));
    let steps = rows / window;
    if shape.steps == 0 || steps > MOST_STEPS {
        return Err(Error::Space(format!(
            "network: {steps} steps; the device has no recurrent operator yet and a network is unrolled to at most \
             {MOST_STEPS}: lower `steps`"
        )));
    }
    let state = shape.widths[0];
    let (mut b, input) = Builder::new("gru", vec![1, rows, width, channels], shape.seed);
    let mean =
        Window { kernel: [window as u16, 1], stride: [window as u16, 1], dilation: [1, 1], pad: [0; 4] };
    let pool = Op::Pool { kind: PoolKind::Average, window: mean, activation: Activation::None };
    let pooled = b.push("mean", pool, vec![input], vec![1, steps, width, channels]);
    let frames = b.reshape("frames", pooled, vec![1, steps, features]);
    let weights: Vec<[ValueId; 3]> = ["z", "r", "n"]
        .iter()
        .map(|gate| {
            let from_input = b.weights(&format!("gru.input.{gate}"), vec![state, features], 1.0);
            let from_state = b.weights(&format!("gru.state.{gate}"), vec![state, state], 1.0);
            [from_input, from_state, b.filled(&format!("gru.{gate}.bias"), state, 0.0)]
        })
        .collect();
    // Sums over the input, for all steps at once.
    let fc = || Op::FullyConnected { activation: Activation::None };
    let given: Vec<ValueId> = weights
        .iter()
        .enumerate()
        .map(|(i, w)| b.push(&format!("gru.input{i}"), fc(), vec![frames, w[0], w[2]], vec![1, steps, state]))
        .collect();
    let mut h: Option<ValueId> = None;
    for step in 0..steps {
        let part = |suffix: &str| format!("gru.step{step}.{suffix}");
        let at = |b: &mut Builder, gate: usize| {
            let op = Op::Slice { start: vec![0, step, 0], step: vec![1; 3] };
            b.push(&part(&format!("input{gate}")), op, vec![given[gate]], vec![1, 1, state])
        };
        let (xz, xr, xn) = (at(&mut b, 0), at(&mut b, 1), at(&mut b, 2));
        let Some(before) = h else {
            // From a zero state: h = (1 - z) · n.
            let z = gate(&mut b, &part("z"), xz, UnaryKind::Sigmoid);
            let n = gate(&mut b, &part("n"), xn, UnaryKind::Tanh);
            let kept = b.binary(&part("zn"), BinaryKind::Mul, z, n);
            h = Some(b.binary(&part("h"), BinaryKind::Sub, n, kept));
            continue;
        };
        let sum = |b: &mut Builder, which: usize, name: &str, x: ValueId, from: ValueId| {
            let inner =
                b.push(&format!("{name}.state"), fc(), vec![from, weights[which][1]], vec![1, 1, state]);
            b.binary(&format!("{name}.sum"), BinaryKind::Add, inner, x)
        };
        let z = sum(&mut b, 0, &part("z"), xz, before);
        let z = gate(&mut b, &part("z"), z, UnaryKind::Sigmoid);
        let r = sum(&mut b, 1, &part("r"), xr, before);
        let r = gate(&mut b, &part("r"), r, UnaryKind::Sigmoid);
        let gated = b.binary(&part("rh"), BinaryKind::Mul, r, before);
        let n = sum(&mut b, 2, &part("n"), xn, gated);
        let n = gate(&mut b, &part("n"), n, UnaryKind::Tanh);
        // h' = n + z · (h - n)
        let apart = b.binary(&part("apart"), BinaryKind::Sub, before, n);
        let moved = b.binary(&part("moved"), BinaryKind::Mul, z, apart);
        h = Some(b.binary(&part("h"), BinaryKind::Add, n, moved));
    }
    let last = h.ok_or_else(|| Error::Space("network: the input has no rows".into()))?;
    let state = b.reshape("state", last, vec![1, state]);
    let scores = b.dense("head", state, shape.classes, 1.0);
    let graph = b.finish(scores);
    graph.validate()?;
    Ok(Built { graph, blocks: vec![] })
}

fn gate(b: &mut Builder, name: &str, x: ValueId, kind: UnaryKind) -> ValueId {
    b.unary(&format!("{name}.gate"), x, kind)
}
