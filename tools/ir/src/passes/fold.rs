//! Constant folding: operators that read only constants are computed once, here.
//!
//! float32 arithmetic is the runtime's (`libm`, no fused operations), so folding changes no bit. Data movements are
//! folded for every element type. Graph outputs stay computed, so that every output has a producer.

use std::sync::Arc;

use super::edit;
use crate::{Data, Graph, Node, Op, Result, Value};

/// Largest constant that folding may create: an Expand must not blow up the file.
const MAX_ELEMENTS: usize = 1 << 20;

/// Runs the pass; see the module documentation.
///
/// # Errors
/// None; all passes share this signature.
pub(super) fn run(graph: Graph) -> Result<Graph> {
    Ok(edit::repeat(graph, |g| {
        let folded = (0..g.nodes.len()).find_map(|at| {
            let node = &g.nodes[at];
            if g.outputs.contains(&node.output) || g.value(node.output).len() > MAX_ELEMENTS {
                return None;
            }
            evaluate(g, node).map(|data| (at, data))
        });
        let Some((at, data)) = folded else { return false };
        let output = g.nodes.remove(at).output;
        g.value_mut(output).data = Some(Arc::new(data));
        true
    }))
}

/// The node's output, if all its inputs are constant and its kind is one that is folded.
fn evaluate(graph: &Graph, node: &Node) -> Option<Data> {
    let inputs: Vec<&Value> = node.inputs.iter().map(|id| graph.value(*id)).collect();
    if inputs.is_empty() || inputs.iter().any(|v| v.data.is_none()) {
        return None;
    }
    let (x, out) = (inputs[0], graph.value(node.output));
    // Scales per channel would have to follow their axis.
    let plain = inputs.iter().all(|v| v.quant.as_ref().is_none_or(|q| q.axis.is_none()));
    if !plain || x.dtype != out.dtype || x.quant != out.quant {
        return None;
    }
    let bounds = node.op.activation().map_or((f32::NEG_INFINITY, f32::INFINITY), |a| a.bounds());
    match &node.op {
        Op::Reshape => x.data.as_deref().cloned(),
        Op::Transpose { perm } => {
            let strides = strides(&x.shape);
            pick(x, out, |at| at.iter().zip(perm).map(|(i, p)| i * strides[*p]).sum())
        }
        Op::Slice { start, step } => {
            let strides = strides(&x.shape);
            pick(x, out, |at| {
                let axes = at.iter().zip(start).zip(step).zip(&strides);
                axes.map(|(((i, s), by), stride)| (*s as isize + *i as isize * by) as usize * stride).sum()
            })
        }
        Op::Expand => pick(x, out, |at| broadcast(&x.shape, at)),
        Op::Unary(kind) => {
            let Data::F32(v) = x.data.as_deref()? else { return None };
            Some(Data::F32(v.iter().map(|v| kind.apply(*v)).collect()))
        }
        Op::Binary { kind, .. } => {
            let (Data::F32(a), Data::F32(b)) = (inputs[0].data.as_deref()?, inputs[1].data.as_deref()?)
            else {
                return None;
            };
            let values = indices(&out.shape).map(|at| {
                let (p, q) = (a[broadcast(&inputs[0].shape, &at)], b[broadcast(&inputs[1].shape, &at)]);
                kind.apply(p, q).max(bounds.0).min(bounds.1)
            });
            Some(Data::F32(values.collect()))
        }
        _ => None,
    }
}

fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    strides
}

/// All indices of a shape, in order.
fn indices(shape: &[usize]) -> impl Iterator<Item = Vec<usize>> + '_ {
    let strides = strides(shape);
    (0..shape.iter().product())
        .map(move |i: usize| strides.iter().zip(shape).map(|(s, d)| i / s % d).collect())
}

/// Offset in a tensor of `shape` of the element broadcast to index `at`.
fn broadcast(shape: &[usize], at: &[usize]) -> usize {
    let skipped = at.len() - shape.len();
    shape.iter().zip(&at[skipped..]).fold(0, |place, (d, i)| place * d + if *d == 1 { 0 } else { *i })
}

/// Elements of `x` at the offsets that `place` gives for each index of `out`.
fn pick(x: &Value, out: &Value, place: impl Fn(&[usize]) -> usize) -> Option<Data> {
    let places: Vec<usize> = indices(&out.shape).map(|at| place(&at)).collect();
    fn gather<T: Copy>(values: &[T], places: &[usize]) -> Option<Vec<T>> {
        places.iter().map(|p| values.get(*p).copied()).collect()
    }
    Some(match x.data.as_deref()? {
        Data::F32(v) => Data::F32(gather(v, &places)?),
        Data::I8(v) => Data::I8(gather(v, &places)?),
        Data::I16(v) => Data::I16(gather(v, &places)?),
        Data::I32(v) => Data::I32(gather(v, &places)?),
        Data::I64(v) => Data::I64(gather(v, &places)?),
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Build, names};
    use super::*;
    use crate::{Activation, BinaryKind, UnaryKind};

    #[test]
    fn what_reads_constants_only_is_computed() {
        let mut b = Build::default();
        let x = b.input(&[2, 3]);
        let c = b.constant(&[3, 2], vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let t = b.transpose(c, &[1, 0]);
        let n = b.node(Op::Unary(UnaryKind::Neg), &[t], &[2, 3]);
        let add = Op::Binary { kind: BinaryKind::Add, activation: Activation::Relu };
        let row = b.constant(&[3], vec![2.0, 2.0, 2.0]);
        let s = b.node(add.clone(), &[n, row], &[2, 3]);
        let y = b.node(add, &[x, s], &[2, 3]);
        let g = run(b.finish(&[y])).expect("runs");
        assert_eq!(names(&g), ["add"]);
        let folded = g.nodes[0].inputs[1];
        assert_eq!(g.value(folded).data.as_deref(), Some(&Data::F32(vec![1.0, 0.0, 0.0, 0.0, 0.0, 0.0])));
    }

    #[test]
    fn slices_and_expansions_read_the_right_elements() {
        let mut b = Build::default();
        let x = b.input(&[2, 2]);
        let c = b.constant(&[4], vec![1.0, 2.0, 3.0, 4.0]);
        let s = b.node(Op::Slice { start: vec![3], step: vec![-2] }, &[c], &[2]);
        let e = b.node(Op::Expand, &[s], &[2, 2]);
        let add = Op::Binary { kind: BinaryKind::Add, activation: Activation::None };
        let y = b.node(add, &[x, e], &[2, 2]);
        let g = run(b.finish(&[y])).expect("runs");
        let folded = g.nodes[0].inputs[1];
        assert_eq!(g.value(folded).data.as_deref(), Some(&Data::F32(vec![4.0, 2.0, 4.0, 2.0])));
    }
}
