//! Moves Transposes down past operators that work with either order of axes, until they meet their inverse or a graph
//! output.

use super::edit::{self, Index};
use super::transpose::{moves_only_units, permute_constant, transposed};
use crate::{Graph, Node, Op, Result, ValueId};

/// Runs the pass; see the module documentation.
///
/// # Errors
/// None; all passes share this signature.
pub(super) fn run(graph: Graph) -> Result<Graph> {
    Ok(edit::repeat(graph, |g| {
        let index = Index::new(g);
        (0..g.nodes.len()).any(|at| step(g, &index, at))
    }))
}

/// An operator on the untransposed input, and the Transpose that restores the old output.
struct Moved {
    op: Op,
    inputs: Vec<ValueId>,
    shape: Vec<usize>,
    perm: Vec<usize>,
}

fn step(g: &mut Graph, index: &Index, at: usize) -> bool {
    let node = g.nodes[at].clone();
    let moved = match &node.op {
        Op::Concat { axis } => concat(g, index, &node, *axis),
        Op::Switch => switch(g, index, &node),
        Op::Binary { .. } => binary(g, index, at, &node),
        _ => transposed(g, index, node.inputs[0]).and_then(|(perm, x)| single(g, &node, &perm, x)),
    };
    let Some(moved) = moved else {
        return false;
    };
    // `binary` may have inserted a Reshape before the node.
    let Some(at) = g.producer(node.output) else {
        return false;
    };
    let inner = edit::tensor(
        g,
        &g.value(node.output).name.clone(),
        moved.shape,
        g.value(node.output).dtype,
        g.value(node.output).quant.clone(),
    );
    if !index.is_output(node.output) {
        // The name follows the operator that computes the tensor.
        let (a, b) = (inner.0 as usize, node.output.0 as usize);
        let name = std::mem::take(&mut g.values[a].name);
        g.values[a].name = std::mem::replace(&mut g.values[b].name, name);
    }
    g.nodes[at] = Node { name: node.name.clone(), op: moved.op, inputs: moved.inputs, output: inner };
    let transpose = Node {
        name: node.name,
        op: Op::Transpose { perm: moved.perm },
        inputs: vec![inner],
        output: node.output,
    };
    g.nodes.insert(at + 1, transpose);
    true
}

/// `q` with `q[perm[i]] = items[i]`.
fn unpermuted<T: Clone>(items: &[T], perm: &[usize]) -> Vec<T> {
    let mut out = items.to_vec();
    for (item, &p) in items.iter().zip(perm) {
        out[p] = item.clone();
    }
    out
}

/// Operators with one input for which axes matter: `node` reads `x` transposed by `perm`.
fn single(g: &Graph, node: &Node, perm: &[usize], x: ValueId) -> Option<Moved> {
    let x_shape = &g.value(x).shape;
    let out = &g.value(node.output).shape;
    let rank = perm.len();
    let same = |op: Op| Moved {
        op,
        inputs: std::iter::once(x).chain(node.inputs[1..].iter().copied()).collect(),
        shape: unpermuted(out, perm),
        perm: perm.to_vec(),
    };
    Some(match &node.op {
        Op::Unary(_) | Op::Lookup(_) | Op::Quantize | Op::Dequantize | Op::Requantize => {
            same(node.op.clone())
        }
        Op::PRelu | Op::BatchNorm { .. } | Op::LayerNorm { .. } | Op::FullyConnected { .. }
            if perm[rank - 1] == rank - 1 =>
        {
            same(node.op.clone())
        }
        Op::Softmax { axis } => same(Op::Softmax { axis: perm[*axis] }),
        Op::Pad { before, after, mode, value } => same(Op::Pad {
            before: unpermuted(before, perm),
            after: unpermuted(after, perm),
            mode: *mode,
            value: *value,
        }),
        Op::Slice { start, step } => {
            same(Op::Slice { start: unpermuted(start, perm), step: unpermuted(step, perm) })
        }
        Op::Reduce { kind, axes } => {
            let mut moved: Vec<usize> = axes.iter().map(|&a| perm[a]).collect();
            moved.sort_unstable();
            let (shape, perm) = reduced(x_shape, perm, axes, out.len() == rank);
            Moved { op: Op::Reduce { kind: *kind, axes: moved }, inputs: vec![x], shape, perm }
        }
        Op::ArgMax { axis, select_last } => {
            let (shape, out_perm) = reduced(x_shape, perm, &[*axis], out.len() == rank);
            Moved {
                op: Op::ArgMax { axis: perm[*axis], select_last: *select_last },
                inputs: vec![x],
                shape,
                perm: out_perm,
            }
        }
        Op::Reshape => {
            let (shape, perm) = unit_reshape(x_shape, perm, out)?;
            Moved { op: Op::Reshape, inputs: vec![x], shape, perm }
        }
        _ => return None,
    })
}

/// Shape of the reduction before the Transpose, and the permutation of the Transpose after it.
fn reduced(x: &[usize], perm: &[usize], axes: &[usize], keep: bool) -> (Vec<usize>, Vec<usize>) {
    let mut gone = vec![false; x.len()];
    axes.iter().for_each(|&a| gone[perm[a]] = true);
    if keep {
        let shape = (0..x.len()).map(|i| if gone[i] { 1 } else { x[i] }).collect();
        return (shape, perm.to_vec());
    }
    let left = |axis: usize| gone[..axis].iter().filter(|&&g| !g).count();
    let shape = (0..x.len()).filter(|&i| !gone[i]).map(|i| x[i]).collect();
    let perm = perm.iter().filter(|&&p| !gone[p]).map(|&p| left(p)).collect();
    (shape, perm)
}

/// A Reshape that only adds and removes extents of 1, after a Transpose by `perm`: the shape that the Reshape has
/// when moved before the Transpose, and that Transpose's permutation.
fn unit_reshape(x: &[usize], perm: &[usize], out: &[usize]) -> Option<(Vec<usize>, Vec<usize>)> {
    // Axes of x longer than 1, in their order after the Transpose, and where they end up.
    let long: Vec<usize> = perm.iter().copied().filter(|&p| x[p] != 1).collect();
    let place: Vec<usize> = (0..out.len()).filter(|&i| out[i] != 1).collect();
    let fits = long.len() == place.len() && long.iter().zip(&place).all(|(&p, &i)| x[p] == out[i]);
    if !fits {
        return None;
    }
    let mut order: Vec<usize> = (0..long.len()).collect();
    order.sort_unstable_by_key(|&i| long[i]);
    let mut shape = vec![1; out.len()];
    let mut back: Vec<usize> = (0..out.len()).collect();
    for (&from, &to) in order.iter().zip(&place) {
        shape[to] = out[place[from]];
        back[place[from]] = to;
    }
    Some((shape, back))
}

fn concat(g: &mut Graph, index: &Index, node: &Node, axis: usize) -> Option<Moved> {
    let (perm, inputs) = all(g, index, &node.inputs)?;
    let shape = unpermuted(&g.value(node.output).shape, &perm);
    Some(Moved { op: Op::Concat { axis: perm[axis] }, inputs, shape, perm })
}

fn switch(g: &mut Graph, index: &Index, node: &Node) -> Option<Moved> {
    let (&chooses, branches) = node.inputs.split_last()?;
    let (perm, mut inputs) = all(g, index, branches)?;
    inputs.push(chooses);
    let shape = unpermuted(&g.value(node.output).shape, &perm);
    Some(Moved { op: Op::Switch, inputs, shape, perm })
}

/// The tensors before their Transpose, if all of them that are not constant have the same; constants are permuted.
fn all(g: &mut Graph, index: &Index, tensors: &[ValueId]) -> Option<(Vec<usize>, Vec<ValueId>)> {
    let found: Vec<_> = tensors.iter().map(|&id| transposed(g, index, id)).collect();
    let perm = found.iter().flatten().next()?.0.clone();
    let fits = tensors.iter().zip(&found).all(|(&id, f)| match f {
        Some((p, _)) => *p == perm,
        None => g.value(id).data.is_some(),
    });
    if !fits {
        return None;
    }
    let inverse = unpermuted(&(0..perm.len()).collect::<Vec<_>>(), &perm);
    let mut inputs = Vec::with_capacity(found.len());
    for (&id, f) in tensors.iter().zip(found) {
        inputs.push(match f {
            Some((_, x)) => x,
            None => permute_constant(g, id, &inverse)?,
        });
    }
    Some((perm, inputs))
}

fn binary(g: &mut Graph, index: &Index, at: usize, node: &Node) -> Option<Moved> {
    let out = g.value(node.output).shape.clone();
    let side = |i: usize| transposed(g, index, node.inputs[i]).filter(|(p, _)| p.len() == out.len());
    let (perm, inputs) = match (side(0), side(1)) {
        (Some((p, a)), Some((q, b))) if p == q => (p, vec![a, b]),
        (first, second) => {
            let by_first = first.and_then(|(p, a)| {
                let b = operand(g, at, node.inputs[1], &p)?;
                Some((p, vec![a, b]))
            });
            by_first.or_else(|| {
                let (p, b) = second?;
                let a = operand(g, at, node.inputs[0], &p)?;
                Some((p, vec![a, b]))
            })?
        }
    };
    Some(Moved { op: node.op.clone(), inputs, shape: unpermuted(&out, &perm), perm })
}

/// The other operand, in the order of axes before the Transpose by `perm`, without moving elements at run time: a
/// constant is permuted, and a tensor in which only extents of 1 move is reshaped.
fn operand(g: &mut Graph, at: usize, id: ValueId, perm: &[usize]) -> Option<ValueId> {
    let value = g.value(id);
    let missing = perm.len().checked_sub(value.shape.len())?;
    if value.len() == 1 {
        return Some(id);
    }
    let aligned: Vec<usize> = std::iter::repeat_n(1, missing).chain(value.shape.iter().copied()).collect();
    let inverse = unpermuted(&(0..perm.len()).collect::<Vec<_>>(), perm);
    let shape = edit::permuted(&aligned, &inverse);
    let units = moves_only_units(&aligned, &inverse);
    let Some(data) = value.data.clone() else {
        return units.then(|| edit::insert(g, at, Op::Reshape, vec![id], shape, id));
    };
    let (name, mut quant) = (value.name.clone(), value.quant.clone());
    if let Some(q) = &mut quant {
        q.axis = q.axis.map(|a| perm[a + missing]);
    }
    let stride = edit::strides(&aligned);
    let steps: Vec<isize> = inverse.iter().map(|&p| stride[p] as isize).collect();
    let moved = edit::gather(&data, &edit::offsets(&shape, &steps, 0));
    Some(edit::constant(g, &name, shape, moved, quant))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Build, names};
    use super::*;
    use crate::{Activation, BinaryKind, UnaryKind};

    const ADD: Op = Op::Binary { kind: BinaryKind::Add, activation: Activation::None };

    #[test]
    fn a_transpose_passes_elementwise_operators() {
        let mut b = Build::default();
        let x = b.input(&[1, 2, 3, 4]);
        let t = b.transpose(x, &[0, 3, 1, 2]);
        let u = b.node(Op::Unary(UnaryKind::Abs), &[t], &[1, 4, 2, 3]);
        let c = b.ramp(&[4, 1, 1]);
        let a = b.node(ADD, &[u, c], &[1, 4, 2, 3]);
        let g = run(b.finish(&[a])).expect("runs");
        assert_eq!(names(&g), ["unary", "add", "transpose"]);
        assert_eq!(g.value(g.nodes[1].inputs[1]).shape, [1, 1, 1, 4]);
    }

    #[test]
    fn a_transpose_passes_a_gate_and_a_reduction() {
        let mut b = Build::default();
        let (x, s) = (b.input(&[1, 2, 3, 4]), b.input(&[1, 4, 1, 1]));
        let t = b.transpose(x, &[0, 3, 1, 2]);
        let a = b.node(ADD, &[t, s], &[1, 4, 2, 3]);
        let op = Op::Reduce { kind: crate::ReduceKind::Mean, axes: vec![2] };
        let r = b.node(op, &[a], &[1, 4, 3]);
        let g = run(b.finish(&[r])).expect("runs");
        assert_eq!(names(&g), ["reshape", "add", "reduce", "transpose"]);
        assert_eq!(g.nodes[3].op, Op::Transpose { perm: vec![0, 2, 1] });
    }

    #[test]
    fn a_squeeze_passes() {
        assert_eq!(
            unit_reshape(&[1, 1, 5, 7], &[0, 3, 1, 2], &[1, 7, 5]),
            Some((vec![1, 5, 7], vec![0, 2, 1]))
        );
        assert_eq!(unit_reshape(&[1, 2, 5, 7], &[0, 3, 1, 2], &[1, 7, 10]), None);
    }
}
