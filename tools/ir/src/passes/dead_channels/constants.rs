//! Known constant value of each channel (index along the last axis) of each tensor.

use offshoot::kernels::portable::fixed_point::multiply_by_quantized_multiplier;

use super::linear::{CODES, Known, Linear, Range, reaches_padding, rest};
use super::liveness::{Flow, paired};
use crate::quant_math::{activation_range, mean_multiplier, quantize_multiplier};
use crate::{Activation, DType, Graph, Node, Op, PoolKind, ReduceKind, UnaryKind, Value};

/// For each channel of each tensor: its value, if it is the same everywhere. Graph inputs and constants count as
/// unknown.
///
/// An int8 channel is also known if no input can move its output: the lowest and the highest sum of its products give the same
/// output.
pub(super) fn find(graph: &Graph) -> Vec<Vec<Known>> {
    let channels = |v: &Value| v.shape.last().copied().unwrap_or(0);
    let mut known: Vec<Vec<Known>> = graph.values.iter().map(|v| vec![None; channels(v)]).collect();
    let mut ranges: Vec<Vec<Range>> = graph
        .values
        .iter()
        .map(|v| if v.dtype == DType::I8 { vec![CODES; channels(v)] } else { Vec::new() })
        .collect();
    for node in &graph.nodes {
        let (from, to) = (node.inputs[0].0 as usize, node.output.0 as usize);
        let x = &known[from];
        let (out, range): (Vec<Known>, Vec<Range>) = if let Some(linear) = Linear::of(graph, node) {
            let row = |row: usize| {
                let range = linear.output_range(row, &ranges[from]).unwrap_or(CODES);
                let known = linear.output(row, x).or_else(|| Some(range.0).filter(|_| range.0 == range.1));
                (known, known.map_or(range, |v| (v, v)))
            };
            (0..linear.rows).map(row).unzip()
        } else if let Flow::Channels = Flow::of(graph, node) {
            let channels = known[to].len();
            let known = through(x, channels)
                .into_iter()
                .map(|v| v.and_then(|v| element(graph, node, v)).filter(|v| v.is_finite()));
            let ranges = moved(graph, node, &ranges[from], channels);
            known.zip(ranges).map(|(known, range)| (known, known.map_or(range, |v| (v, v)))).unzip()
        } else {
            continue;
        };
        known[to] = out;
        if graph.value(node.output).dtype == DType::I8 {
            ranges[to] = range;
        }
    }
    known
}

/// The ranges of int8 codes behind an operator that takes each channel by itself.
fn moved(graph: &Graph, node: &Node, x: &[Range], channels: usize) -> Vec<Range> {
    let (from, to) = (graph.value(node.inputs[0]), graph.value(node.output));
    let keeps = match &node.op {
        Op::Reshape | Op::Transpose { .. } | Op::Unary(UnaryKind::Clip { .. }) => true,
        Op::Pool { kind, .. } => *kind != PoolKind::AverageIncludePad,
        Op::Reduce { kind, .. } => matches!(kind, ReduceKind::Max | ReduceKind::Min),
        _ => false,
    };
    if !keeps || x.is_empty() || to.dtype != DType::I8 || from.quant != to.quant {
        return vec![CODES; channels];
    }
    let mut out: Vec<Option<Range>> = vec![None; channels];
    for (i, o) in paired(x.len(), channels) {
        out[o] = Some(out[o].map_or(x[i], |(low, high)| (low.min(x[i].0), high.max(x[i].1))));
    }
    out.into_iter().map(|range| range.unwrap_or(CODES)).collect()
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
            ReduceKind::Mean | ReduceKind::Sum => reduced(graph, node, v, *kind == ReduceKind::Mean),
            _ => None,
        },
        Op::Requantize => {
            let scale = |value: &Value| value.quant.as_ref().map(|q| f64::from(q.scale[0]));
            requantised(v, x, y, quantize_multiplier(scale(x)? / scale(y)?), 1)
        }
        _ => None,
    }
}

/// Mean or sum of int8 elements that are all `v`.
fn reduced(graph: &Graph, node: &Node, v: f32, mean: bool) -> Known {
    let Op::Reduce { axes, .. } = &node.op else { return None };
    let (x, y) = (graph.value(node.inputs[0]), graph.value(node.output));
    let extent: usize = axes.iter().filter_map(|&a| x.shape.get(a)).product();
    let scale = |value: &Value| value.quant.as_ref().map(|q| q.scale[0]);
    let fixed = mean_multiplier(scale(x)?, scale(y)?, if mean { extent } else { 1 });
    requantised(v, x, y, fixed, extent)
}

/// The sum of `count` elements `v` of int8 tensor `x`, in numbers of `y`; `None` if it may wrap, or the tensors are not int8.
fn requantised(v: f32, x: &Value, y: &Value, (multiplier, shift): (i32, i8), count: usize) -> Known {
    if x.dtype != DType::I8 || y.dtype != DType::I8 {
        return None;
    }
    let (x, y) = (x.quant.as_ref()?, y.quant.as_ref()?);
    if x.scale.len() != 1 || y.scale.len() != 1 {
        return None;
    }
    let sum = i64::from(v as i32 - x.zero_point[0]).checked_mul(i64::try_from(count).ok()?)?;
    // Where the sum of the largest elements wraps, the exporter takes another multiplier.
    i32::try_from(
        255i64.checked_mul(i64::try_from(count).ok()?)?.checked_shl(shift.max(0).unsigned_abs().into())?,
    )
    .ok()?;
    let out = multiply_by_quantized_multiplier(sum as i32, multiplier, shift).wrapping_add(y.zero_point[0]);
    Some(out.clamp(-128, 127) as f32)
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
