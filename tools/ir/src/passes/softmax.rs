//! Recognises a softmax written as arithmetic, and replaces it by one operator.
//!
//! `e / sum(e)` with `e = exp(x)` and the sum along one axis is the softmax of `x`, with or without the maximum along
//! that axis subtracted first. The operator subtracts it itself, so that no exponential overflows.

use super::edit::{self, Index};
use crate::{Activation, BinaryKind, DType, Graph, Node, Op, ReduceKind, Result, UnaryKind, ValueId};

/// Runs the pass; see the module documentation.
///
/// # Errors
/// None; all passes share this signature.
pub(super) fn run(graph: Graph) -> Result<Graph> {
    Ok(edit::repeat(graph, |g| {
        let index = Index::new(g);
        (0..g.nodes.len()).any(|at| {
            let Some((x, axis)) = written_out(g, &index, &g.nodes[at]) else { return false };
            g.nodes[at].op = Op::Softmax { axis };
            g.nodes[at].inputs = vec![x];
            true
        })
    }))
}

/// Input and axis of the softmax whose last node is `node`.
fn written_out(g: &Graph, index: &Index, node: &Node) -> Option<(ValueId, usize)> {
    let from = |id: ValueId| index.producer(id).map(|p| &g.nodes[p]);
    let reciprocal = |id: ValueId| match from(id)? {
        Node { op: Op::Unary(UnaryKind::Reciprocal), inputs, .. } => Some(inputs[0]),
        Node { op: Op::Unary(UnaryKind::Pow { exponent: -1.0 }), inputs, .. } => Some(inputs[0]),
        _ => None,
    };
    let Op::Binary { kind, activation: Activation::None } = node.op else { return None };
    let (a, b) = (node.inputs[0], node.inputs[1]);
    let (exponential, sum) = match kind {
        BinaryKind::Div => (a, b),
        BinaryKind::Mul => reciprocal(b).map(|s| (a, s)).or_else(|| reciprocal(a).map(|s| (b, s)))?,
        _ => return None,
    };
    let x = match from(exponential)? {
        Node { op: Op::Unary(UnaryKind::Exp), inputs, .. } => inputs[0],
        _ => return None,
    };
    let axis = reduced(g, index, sum, exponential, ReduceKind::Sum)?;
    let value = g.value(x);
    if value.dtype != DType::F32 || value.shape != g.value(node.output).shape {
        return None;
    }
    // Subtracting the same from all elements of a row changes nothing.
    let shifted = from(x).and_then(|n| match n.op {
        Op::Binary { kind: BinaryKind::Sub, activation: Activation::None } => {
            let (x, most) = (n.inputs[0], n.inputs[1]);
            let of_row = reduced(g, index, most, x, ReduceKind::Max) == Some(axis)
                || codes(g, index, [most, x])
                    .is_some_and(|[most, x]| reduced(g, index, most, x, ReduceKind::Max) == Some(axis));
            (of_row && g.value(x).shape == value.shape).then_some(x)
        }
        _ => None,
    });
    Some((shifted.unwrap_or(x), axis))
}

/// The integers of two dequantised tensors, if they stand for the same numbers.
fn codes(g: &Graph, index: &Index, real: [ValueId; 2]) -> Option<[ValueId; 2]> {
    let before = |id: ValueId| {
        let node = &g.nodes[index.producer(id)?];
        matches!(node.op, Op::Dequantize).then_some(node.inputs[0])
    };
    let (a, b) = (before(real[0])?, before(real[1])?);
    (g.value(a).quant == g.value(b).quant).then_some([a, b])
}

/// The single axis, kept with extent 1, along which `id` is the reduction `kind` of `of`.
fn reduced(g: &Graph, index: &Index, id: ValueId, of: ValueId, kind: ReduceKind) -> Option<usize> {
    let mut node = &g.nodes[index.producer(id)?];
    let shape = &g.value(id).shape;
    if node.op == Op::Reshape {
        node = &g.nodes[index.producer(node.inputs[0])?];
    }
    let Op::Reduce { kind: found, axes } = &node.op else { return None };
    let [axis] = axes[..] else { return None };
    let mut kept = g.value(of).shape.clone();
    *kept.get_mut(axis)? = 1;
    (*found == kind && node.inputs[0] == of && *shape == kept).then_some(axis)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Build, names};
    use super::*;

    fn op(kind: BinaryKind) -> Op {
        Op::Binary { kind, activation: Activation::None }
    }

    #[test]
    fn what_is_written_out_becomes_one_operator() {
        for (shifted, by_reciprocal) in [(false, false), (true, false), (false, true), (true, true)] {
            let mut b = Build::default();
            let x = b.input(&[1, 3, 4]);
            let sum = |kind| Op::Reduce { kind, axes: vec![2] };
            let z = match shifted {
                true => {
                    let m = b.node(sum(ReduceKind::Max), &[x], &[1, 3, 1]);
                    b.node(op(BinaryKind::Sub), &[x, m], &[1, 3, 4])
                }
                false => x,
            };
            let e = b.node(Op::Unary(UnaryKind::Exp), &[z], &[1, 3, 4]);
            let s = match by_reciprocal {
                true => b.node(sum(ReduceKind::Sum), &[e], &[1, 3, 1]),
                // The axis is dropped, and restored by a reshape.
                false => {
                    let s = b.node(sum(ReduceKind::Sum), &[e], &[1, 3]);
                    b.node(Op::Reshape, &[s], &[1, 3, 1])
                }
            };
            let y = match by_reciprocal {
                true => {
                    let r = b.node(Op::Unary(UnaryKind::Reciprocal), &[s], &[1, 3, 1]);
                    b.node(op(BinaryKind::Mul), &[e, r], &[1, 3, 4])
                }
                false => b.node(op(BinaryKind::Div), &[e, s], &[1, 3, 4]),
            };
            let g = run(b.finish(&[y])).expect("runs").prune_unreachable();
            assert_eq!(names(&g), ["softmax"], "{shifted} {by_reciprocal}");
            assert_eq!(g.nodes[0].op, Op::Softmax { axis: 2 });
            assert_eq!(g.nodes[0].inputs, g.inputs);
        }
    }

    /// Dequantisation sinks below a maximum.
    #[test]
    fn the_maximum_may_be_that_of_codes() {
        for (scale, whole) in [(0.5, true), (0.25, false)] {
            let mut b = Build::default();
            let real = b.input(&[1, 3]);
            let q = b.node(Op::Quantize, &[real], &[1, 3]);
            let m = b.node(Op::Reduce { kind: ReduceKind::Max, axes: vec![1] }, &[q], &[1, 1]);
            let x = b.node(Op::Dequantize, &[q], &[1, 3]);
            let most = b.node(Op::Dequantize, &[m], &[1, 1]);
            let z = b.node(op(BinaryKind::Sub), &[x, most], &[1, 3]);
            let e = b.node(Op::Unary(UnaryKind::Exp), &[z], &[1, 3]);
            let s = b.node(Op::Reduce { kind: ReduceKind::Sum, axes: vec![1] }, &[e], &[1, 1]);
            let y = b.node(op(BinaryKind::Div), &[e, s], &[1, 3]);
            for (id, scale) in [(q, 0.5), (m, scale)] {
                let value = b.0.value_mut(id);
                (value.dtype, value.quant) = (DType::I8, Some(crate::Quant::per_tensor(scale, 3)));
            }
            let g = run(b.finish(&[y])).expect("runs").prune_unreachable();
            assert_eq!(names(&g).contains(&"sub"), !whole, "{:?}", names(&g));
        }
    }

    #[test]
    fn other_sums_stay() {
        // Along an axis other than the division's; of another tensor; over two axes.
        for case in 0..3 {
            let mut b = Build::default();
            let x = b.input(&[1, 3, 3]);
            let e = b.node(Op::Unary(UnaryKind::Exp), &[x], &[1, 3, 3]);
            let (axes, shape): (Vec<usize>, Vec<usize>) = match case {
                0 => (vec![1, 2], vec![1, 1, 1]),
                _ => (vec![2], vec![1, 3, 1]),
            };
            let of = if case == 1 { x } else { e };
            let s = b.node(Op::Reduce { kind: ReduceKind::Sum, axes }, &[of], &shape);
            let s = if case == 2 { b.node(Op::Reshape, &[s], &[1, 1, 3]) } else { s };
            let y = b.node(op(BinaryKind::Div), &[e, s], &[1, 3, 3]);
            let g = run(b.finish(&[y])).expect("runs");
            assert!(!names(&g).contains(&"softmax"), "{case}");
        }
    }
}
