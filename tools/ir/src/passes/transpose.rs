//! Simplifies Transposes: two in a row become one, one that only moves extents of 1 becomes a Reshape, and one that a
//! constant weight or a matrix product can absorb disappears. `sink` brings them together.

use std::sync::Arc;

use super::edit::{self, Index};
use crate::{Graph, Op, Result, ValueId};

/// Runs the pass; see the module documentation.
///
/// # Errors
/// None; all passes share this signature.
pub(super) fn run(graph: Graph) -> Result<Graph> {
    Ok(edit::repeat(graph, |g| {
        let index = Index::new(g);
        (0..g.nodes.len()).any(|at| {
            merge(g, &index, at)
                || units_only(g, at)
                || into_weights(g, &index, at)
                || into_matmul(g, &index, at)
        })
    }))
}

/// The permutation and input of the Transpose that writes `id`.
pub(super) fn transposed(graph: &Graph, index: &Index, id: ValueId) -> Option<(Vec<usize>, ValueId)> {
    let node = &graph.nodes[index.producer(id)?];
    match &node.op {
        Op::Transpose { perm } => Some((perm.clone(), node.inputs[0])),
        _ => None,
    }
}

/// Whether permuting the axes of `shape` by `perm` keeps the order of those longer than 1.
pub(super) fn moves_only_units(shape: &[usize], perm: &[usize]) -> bool {
    let long: Vec<usize> = perm.iter().copied().filter(|&p| shape[p] != 1).collect();
    long.is_sorted()
}

/// Makes a Transpose or Reshape after another of the same kind read the first one's input.
fn merge(g: &mut Graph, index: &Index, at: usize) -> bool {
    let x = g.nodes[at].inputs[0];
    let Some(first) = index.producer(x) else {
        return false;
    };
    let op = match (&g.nodes[first].op, &g.nodes[at].op) {
        (Op::Transpose { perm: p }, Op::Transpose { perm: q }) => {
            Op::Transpose { perm: edit::permuted(p, q) }
        }
        (Op::Reshape, Op::Reshape) => Op::Reshape,
        _ => return false,
    };
    g.nodes[at].op = op;
    g.nodes[at].inputs[0] = g.nodes[first].inputs[0];
    true
}

fn units_only(g: &mut Graph, at: usize) -> bool {
    let Op::Transpose { perm } = &g.nodes[at].op else {
        return false;
    };
    let found = moves_only_units(&g.value(g.nodes[at].inputs[0]).shape, perm);
    if found {
        g.nodes[at].op = Op::Reshape;
    }
    found
}

/// Transpose → Reshape (flatten) → FullyConnected: reorders the columns of the weights instead.
fn into_weights(g: &mut Graph, index: &Index, at: usize) -> bool {
    if !matches!(g.nodes[at].op, Op::FullyConnected { .. }) {
        return false;
    }
    let (flat, w) = (g.nodes[at].inputs[0], g.nodes[at].inputs[1]);
    let Some(reshape) = index.producer(flat).filter(|&p| g.nodes[p].op == Op::Reshape) else {
        return false;
    };
    let Some((perm, x)) = transposed(g, index, g.nodes[reshape].inputs[0]) else {
        return false;
    };
    let weights = g.value(w);
    let (Some(data), &[rows, columns]) = (weights.data.clone(), weights.shape.as_slice()) else {
        return false;
    };
    if columns == 0 || weights.quant.as_ref().is_some_and(|q| q.axis == Some(1)) {
        return false;
    }
    // The axes that form one row of the flattened input; those before must stay where they are.
    let shape = g.value(x).shape.clone();
    let mut split = shape.len();
    let mut size = 1;
    while size < columns && split > 0 {
        split -= 1;
        size *= shape[perm[split]];
    }
    if size != columns || perm[..split].iter().enumerate().any(|(i, &p)| i != p) {
        return false;
    }
    let stride = edit::strides(&shape);
    let tail: Vec<usize> = perm[split..].iter().map(|&p| shape[p]).collect();
    let steps: Vec<isize> = perm[split..].iter().map(|&p| stride[p] as isize).collect();
    let mut source = vec![0; columns];
    for (old, new) in edit::offsets(&tail, &steps, 0).into_iter().enumerate() {
        source[new] = old;
    }
    let all: Vec<usize> = (0..rows).flat_map(|r| source.iter().map(move |c| r * columns + c)).collect();
    let (name, quant) = (weights.name.clone(), weights.quant.clone());
    let new = edit::constant(g, &name, vec![rows, columns], edit::gather(&data, &all), quant);
    g.nodes[at].inputs[1] = new;
    let flat_shape = g.value(flat).shape.clone();
    let input = edit::insert(g, at, Op::Reshape, vec![x], flat_shape, flat);
    g.nodes[at + 1].inputs[0] = input;
    true
}

/// Absorbs a Transpose of the last two axes of a product's right operand into `transpose_b`.
fn into_matmul(g: &mut Graph, index: &Index, at: usize) -> bool {
    let Op::MatMul { transpose_b } = g.nodes[at].op else {
        return false;
    };
    let Some((perm, b)) = transposed(g, index, g.nodes[at].inputs[1]) else {
        return false;
    };
    let n = perm.len();
    let last_two = perm[n - 2..] == [n - 1, n - 2] && perm[..n - 2].iter().enumerate().all(|(i, &p)| i == p);
    if last_two {
        g.nodes[at].op = Op::MatMul { transpose_b: !transpose_b };
        g.nodes[at].inputs[1] = b;
    }
    last_two
}

/// Permutes a constant, so that no Transpose of it is needed at run time.
pub(super) fn permute_constant(g: &mut Graph, id: ValueId, perm: &[usize]) -> Option<ValueId> {
    let value = g.value(id);
    let data: Arc<_> = value.data.clone()?;
    let stride = edit::strides(&value.shape);
    let steps: Vec<isize> = perm.iter().map(|&p| stride[p] as isize).collect();
    let shape = edit::permuted(&value.shape, perm);
    let mut quant = value.quant.clone();
    if let Some(q) = &mut quant {
        q.axis = q.axis.and_then(|a| perm.iter().position(|&p| p == a));
    }
    let name = value.name.clone();
    let moved = edit::gather(&data, &edit::offsets(&shape, &steps, 0));
    Some(edit::constant(g, &name, shape, moved, quant))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Build, names};
    use super::*;
    use crate::Activation;

    #[test]
    fn two_become_one_and_units_a_reshape() {
        let mut b = Build::default();
        let x = b.input(&[1, 2, 3, 4]);
        let y = b.transpose(x, &[0, 3, 1, 2]);
        let z = b.transpose(y, &[0, 2, 3, 1]);
        let u = b.input(&[1, 1, 1, 4]);
        let v = b.transpose(u, &[0, 3, 1, 2]);
        let g = run(b.finish(&[z, v])).expect("runs");
        assert_eq!(names(&g), ["reshape", "reshape"]);
    }

    #[test]
    fn flattened_order_moves_into_the_weights() {
        let mut b = Build::default();
        let x = b.input(&[1, 2, 1, 3]);
        let t = b.transpose(x, &[0, 3, 1, 2]);
        let r = b.node(Op::Reshape, &[t], &[1, 6]);
        let w = b.constant(&[1, 6], vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        let op = Op::FullyConnected { activation: Activation::None };
        let y = b.node(op, &[r, w], &[1, 1]);
        let g = run(b.finish(&[y])).expect("runs");
        assert_eq!(names(&g), ["reshape", "fully_connected"]);
        // Channel c of row h was column 2c + h and is now 3h + c.
        let w = edit::floats(&g, g.nodes[1].inputs[1]).expect("float weights");
        assert_eq!(w, [0.0, 2.0, 4.0, 1.0, 3.0, 5.0]);
    }
}
