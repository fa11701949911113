//! Known constant value of each channel (index along the last axis) of each tensor.

use super::linear::{Known, Linear, reaches_padding, rest};
use super::liveness::{Flow, paired};
use crate::quant_math::activation_range;
use crate::{Activation, DType, Graph, Node, Op, PoolKind, ReduceKind, UnaryKind, Value};

/// For each channel of each tensor: its value, if it is the same everywhere. Graph inputs and constants count as
/// unknown.
pub(super) fn find(graph: &Graph) -> Vec<Vec<Known>> {
    let mut known: Vec<Vec<Known>> =
        graph.values.iter().map(|v| vec![None; v.shape.last().copied().unwrap_or(0)]).collect();
    for node in &graph.nodes {
        let x = &known[node.inputs[0].0 as usize];
        let out = if let Some(linear) = Linear::of(graph, node) {
            (0..linear.rows).map(|row| linear.output(row, x)).collect()
        } else if let Flow::Channels = Flow::of(graph, node) {
            let channels = known[node.output.0 as usize].len();
            through(x, channels)
                .into_iter()
                .map(|v| v.and_then(|v| element(graph, node, v)).filter(|v| v.is_finite()))
                .collect()
        } else {
            continue;
        };
        known[node.output.0 as usize] = out;
    }
    known
}

/// The known values behind a movement to `channels` output channels; where several input channels map to one output
/// channel, they must agree.
fn through(x: &[Known], channels: usize) -> Vec<Known> {
    let mut out: Vec<Option<Known>> = vec![None; channels];
    for (i, o) in paired(x.len(), channels) {
        out[o] = match out[o] {
            None => Some(x[i]),
            Some(seen) => Some(seen.filter(|_| seen == x[i])),
        };
    }
    out.into_iter().map(Option::flatten).collect()
}

/// Result of a channelwise operator for a channel that is `v` everywhere, as the device computes it.
fn element(graph: &Graph, node: &Node, v: f32) -> Known {
    let (x, y) = (graph.value(node.inputs[0]), graph.value(node.output));
    let float = x.dtype == DType::F32 && y.dtype == DType::F32;
    let same = x.dtype == y.dtype && x.quant == y.quant;
    match &node.op {
        Op::Reshape | Op::Transpose { .. } if same => Some(v),
        Op::Pool { kind, window, activation } if same => {
            let inside = *kind != PoolKind::AverageIncludePad || !reaches_padding(window, &x.shape, &y.shape);
            (inside || v == rest(x)).then(|| bounded(v, *activation, y))
        }
        Op::Unary(kind) if float => Some(kind.apply(v)),
        Op::Unary(UnaryKind::Clip { min, max }) if same => {
            Some(bounded(v, Activation::Clip { min: *min, max: *max }, y))
        }
        Op::Reduce { kind, .. } => match kind {
            ReduceKind::Max | ReduceKind::Min if same => Some(v),
            ReduceKind::Mean if float => Some(v),
            ReduceKind::Sum if float && v == 0.0 => Some(v),
            _ => None,
        },
        _ => None,
    }
}

/// Clamps `v` of tensor `y` to the bounds of an activation.
fn bounded(v: f32, activation: Activation, y: &Value) -> f32 {
    let (low, high) = match &y.quant {
        Some(q) if y.dtype == DType::I8 => {
            let range = activation_range(activation.bounds(), q.scale[0], q.zero_point[0]);
            let (low, high) = range.unwrap_or((i8::MIN, i8::MAX));
            (f32::from(low), f32::from(high))
        }
        _ => activation.bounds(),
    };
    v.max(low).min(high)
}
