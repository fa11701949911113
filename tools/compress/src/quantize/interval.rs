//! Bounds of an operator's output, by interval arithmetic from the ranges of its inputs: a tensor that saturates at its range
//! leads to no numbers beyond them.

use offshoot_ir::{BinaryKind, BinaryMathKind, Graph, Node, Op, PoolKind, ReduceKind, UnaryKind, Value};

use super::form::is_weighted;
use super::tensors::real_values;

type Interval = (f32, f32);

/// All numbers.
pub(super) const ALL: Interval = (f32::NEG_INFINITY, f32::INFINITY);

fn hull(r: Interval, v: f32) -> Interval {
    (r.0.min(v), r.1.max(v))
}

/// The range of a constant; all numbers for another value.
pub(super) fn constant(value: &Value) -> Interval {
    match &value.data {
        Some(_) => real_values(value).into_iter().fold((f32::INFINITY, f32::NEG_INFINITY), hull),
        None => ALL,
    }
}

/// Bounds of the output of `node`, where `all` holds those of its inputs by value.
pub(super) fn image(graph: &Graph, node: &Node, all: &[Interval]) -> Interval {
    let (mut low, mut high) = node_bounds(graph, node, all);
    if low.is_nan() || high.is_nan() || low > high {
        (low, high) = ALL;
    }
    if let Some(activation) = node.op.activation() {
        let (least, most) = activation.bounds();
        (low, high) = (low.max(least).min(most), high.min(most).max(least));
    }
    (low, high)
}

fn node_bounds(graph: &Graph, node: &Node, all: &[Interval]) -> Interval {
    let of = |at: usize| node.inputs.get(at).map_or(ALL, |id| all[id.0 as usize]);
    let x = of(0);
    let with_zero = (x.0.min(0.0), x.1.max(0.0));
    match &node.op {
        Op::Reshape
        | Op::Transpose { .. }
        | Op::Slice { .. }
        | Op::Expand
        | Op::Resize(_)
        | Op::Pool { kind: PoolKind::Max, .. }
        | Op::Reduce { kind: ReduceKind::Max | ReduceKind::Min | ReduceKind::Mean, .. } => x,
        // Padding counts as zero.
        Op::Pool { .. } | Op::Pad { mode: None, value: 0.0, .. } => with_zero,
        Op::Pad { mode: Some(_), .. } => x,
        Op::Pad { value, .. } => (x.0.min(*value), x.1.max(*value)),
        Op::Concat { .. } | Op::Switch => (0..node.inputs.len() - usize::from(node.op == Op::Switch))
            .map(of)
            .fold((f32::INFINITY, f32::NEG_INFINITY), |r, i| (r.0.min(i.0), r.1.max(i.1))),
        Op::Reduce { kind: ReduceKind::Sum, axes } => {
            let count: usize = axes.iter().map(|&a| graph.value(node.inputs[0]).shape[a]).product();
            let most = |v: f32| if v == 0.0 { 0.0 } else { v * count as f32 };
            (most(x.0), most(x.1))
        }
        Op::Softmax { .. } => (0.0, 1.0),
        Op::Unary(kind) => unary(*kind, x),
        Op::PRelu => match graph.value(node.inputs[1]).data {
            Some(_) => prelu(x, of(1)),
            None => ALL,
        },
        op if is_weighted(op) => weighted(graph, node, with_zero),
        Op::Binary { kind, .. } => {
            let same = node.inputs[0] == node.inputs[1];
            binary(*kind, x, of(1), same)
        }
        Op::Recurrent { kind, .. } if kind.is_bounded() && node.inputs.len() == 4 => {
            let state = matches!(node.op, Op::Recurrent { returns: offshoot_ir::Returns::State, .. });
            if state { ALL } else { (-1.0, 1.0) }
        }
        _ => ALL,
    }
}

fn unary(kind: UnaryKind, (low, high): Interval) -> Interval {
    match kind {
        UnaryKind::Clip { min, max } => (low.max(min).min(max), high.min(max).max(min)),
        _ if low.is_finite() && high.is_finite() && low < high => sampled(kind, (low, high)),
        UnaryKind::Sigmoid | UnaryKind::HardSigmoid { .. } => (0.0, 1.0),
        UnaryKind::Tanh | UnaryKind::Erf => (-1.0, 1.0),
        UnaryKind::Exp => (low.exp(), high.exp()),
        UnaryKind::Sqrt if low >= 0.0 => (low.sqrt(), high.sqrt()),
        UnaryKind::Softplus => (0.0, f32::INFINITY),
        UnaryKind::Neg => (-high, -low),
        UnaryKind::Abs => {
            let most = high.abs().max(low.abs());
            let least = if low <= 0.0 && high >= 0.0 { 0.0 } else { high.abs().min(low.abs()) };
            (least, most)
        }
        UnaryKind::HardSwish => (-0.375, f32::INFINITY),
        UnaryKind::Gelu | UnaryKind::GeluTanh => (-0.18, f32::INFINITY),
        UnaryKind::Elu { alpha } if alpha >= 0.0 => (-alpha, f32::INFINITY),
        _ => ALL,
    }
}

/// Bounds of a function between two finite numbers, from as many of its results as int8 has.
fn sampled(kind: UnaryKind, (low, high): Interval) -> Interval {
    const PARTS: u16 = 256;
    let at = |i: u16| low + (high - low) * (f32::from(i) / f32::from(PARTS));
    let points = (0..PARTS).map(at).chain([high, 0.0f32.max(low).min(high)]);
    let results = points.map(|x| kind.apply(x));
    results.fold((f32::INFINITY, f32::NEG_INFINITY), |r, v| if v.is_finite() { hull(r, v) } else { ALL })
}

/// Bounds of a leaky ReLU with slopes within `slopes`.
fn prelu((low, high): Interval, slopes: Interval) -> Interval {
    let least = low.min(0.0);
    let ends = [slopes.0 * least, slopes.1 * least];
    if ends.iter().any(|v| v.is_nan()) {
        return ALL;
    }
    let positive = (low.max(0.0), high.max(0.0));
    ends.into_iter().fold((positive.0.min(0.0), positive.1), hull)
}

/// Bounds of sums of products with constant weights, where every input lies within `x`.
fn weighted(graph: &Graph, node: &Node, x: Interval) -> Interval {
    let constants = node.inputs[1..].iter().all(|&id| graph.value(id).data.is_some());
    if !constants || !x.0.is_finite() || !x.1.is_finite() || matches!(node.op, Op::ConvTranspose2d { .. }) {
        return ALL;
    }
    let weights = graph.value(node.inputs[1]);
    let rows = weights.shape.first().copied().unwrap_or(1).max(1);
    let bias = node.inputs.get(2).map(|&id| real_values(graph.value(id)));
    let weights = real_values(weights);
    let row = |(i, row): (usize, &[f32])| {
        let bias = bias.as_ref().and_then(|b| b.get(i)).copied().unwrap_or(0.0);
        row.iter().fold((bias, bias), |(low, high), w| {
            let ends = (w * x.0, w * x.1);
            (low + ends.0.min(ends.1), high + ends.0.max(ends.1))
        })
    };
    let all = weights.chunks((weights.len() / rows).max(1)).enumerate().map(row);
    all.fold((f32::INFINITY, f32::NEG_INFINITY), |r, v| (r.0.min(v.0), r.1.max(v.1)))
}

/// Bounds of arithmetic; `same`: both operands are one tensor.
fn binary(kind: BinaryKind, a: Interval, b: Interval, same: bool) -> Interval {
    let corners = |f: &dyn Fn(f32, f32) -> f32| {
        let all = [f(a.0, b.0), f(a.0, b.1), f(a.1, b.0), f(a.1, b.1)];
        // Infinity times zero gives no bound.
        if all.iter().any(|v| v.is_nan()) {
            return ALL;
        }
        all.into_iter().fold((f32::INFINITY, f32::NEG_INFINITY), |r, v| (r.0.min(v), r.1.max(v)))
    };
    match kind {
        BinaryKind::Add => (a.0 + b.0, a.1 + b.1),
        BinaryKind::Sub => (a.0 - b.1, a.1 - b.0),
        BinaryKind::Mul if same => (0.0, (a.0 * a.0).max(a.1 * a.1)),
        BinaryKind::Mul => corners(&|x, y| x * y),
        BinaryKind::Min => (a.0.min(b.0), a.1.min(b.1)),
        BinaryKind::Max => (a.0.max(b.0), a.1.max(b.1)),
        BinaryKind::Div if b.0 > 0.0 || b.1 < 0.0 => corners(&|x, y| x / y),
        BinaryKind::Math(BinaryMathKind::Keep) => (a.0.min(0.0), a.1.max(0.0)),
        BinaryKind::Math(BinaryMathKind::Equal) => (0.0, 1.0),
        BinaryKind::Div | BinaryKind::Math(_) => ALL,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use offshoot_ir::{Activation, DType, Data, Value, ValueId};

    #[test]
    fn bounds_follow_the_functions() {
        let mut g = Graph::default();
        let ids: Vec<ValueId> = ["x", "s", "d", "h", "y"]
            .iter()
            .map(|name| {
                g.add_value(Value {
                    name: (*name).into(),
                    shape: vec![1, 4],
                    dtype: DType::F32,
                    quant: None,
                    data: None,
                    channels_first_outside: false,
                })
            })
            .collect();
        let c = g.add_constant("c", vec![4], Data::F32(vec![-3.0, 0.0, 1.0, 2.0]));
        let mut node = |op, inputs: Vec<ValueId>, output| {
            g.nodes.push(Node { name: "n".into(), op, inputs, output });
        };
        let binary = |kind| Op::Binary { kind, activation: Activation::None };
        node(Op::Unary(UnaryKind::Sigmoid), vec![ids[0]], ids[1]);
        node(binary(BinaryKind::Mul), vec![ids[1], c], ids[2]);
        node(binary(BinaryKind::Sub), vec![ids[2], ids[1]], ids[3]);
        node(Op::Reduce { kind: ReduceKind::Sum, axes: vec![1] }, vec![ids[3]], ids[4]);
        let mut all: Vec<Interval> = g.values.iter().map(constant).collect();
        for node in &g.nodes {
            all[node.output.0 as usize] = image(&g, node, &all);
        }
        let bounds: Vec<Interval> = ids.iter().map(|id| all[id.0 as usize]).collect();
        assert_eq!(bounds, [ALL, (0.0, 1.0), (-3.0, 2.0), (-4.0, 2.0), (-16.0, 8.0)]);
    }

    #[test]
    fn functions_and_sums_of_finite_ranges_are_bounded() {
        assert_eq!(unary(UnaryKind::Tanh, (0.0, 100.0)), (0.0, 1.0));
        let (low, high) = unary(UnaryKind::Pow { exponent: 2.0 }, (-3.0, 1.0));
        assert!(low == 0.0 && high == 9.0, "{low} {high}");
        assert_eq!(unary(UnaryKind::Reciprocal, (-1.0, 1.0)), ALL);
        assert_eq!(prelu((-3.0, 1.0), (-0.5, 1.5)), (-4.5, 1.5));
        assert_eq!(prelu((1.0, 2.0), (-0.5, 1.5)), (0.0, 2.0));
    }
}
