//! Recognises layer normalisation over the last axis that exporters write as arithmetic, and replaces it by one
//! operator.
//!
//! `d = x - mean(x)`, `d / sqrt(mean(d²) + ε)` becomes the operator with gamma 1 and beta 0; a multiplication and an
//! addition after it, with one element for each index of the last axis, become gamma and beta.

use super::affine::per_channel;
use super::edit::{self, Index};
use crate::{Activation, BinaryKind, DType, Graph, Node, Op, ReduceKind, Result, UnaryKind, ValueId};

/// Runs the pass; see the module documentation.
///
/// # Errors
/// None; all passes share this signature.
pub(super) fn run(graph: Graph) -> Result<Graph> {
    Ok(edit::repeat(graph, |g| {
        let index = Index::new(g);
        (0..g.nodes.len()).any(|at| normalisation(g, &index, at) || parameters(g, &index, at))
    }))
}

fn normalisation(g: &mut Graph, index: &Index, at: usize) -> bool {
    let Some((x, epsilon)) = written_out(g, index, &g.nodes[at]) else {
        return false;
    };
    let name = g.nodes[at].name.clone();
    let Some(&width) = g.value(x).shape.last() else {
        return false;
    };
    let gamma = edit::constant_f32(g, &format!("{name}/gamma"), vec![width], vec![1.0; width]);
    let beta = edit::constant_f32(g, &format!("{name}/beta"), vec![width], vec![0.0; width]);
    g.nodes[at].op = Op::LayerNorm { epsilon };
    g.nodes[at].inputs = vec![x, gamma, beta];
    true
}

/// The operands of arithmetic of kind `wanted` without an activation.
fn arithmetic(node: &Node, wanted: BinaryKind) -> Option<[ValueId; 2]> {
    match node.op {
        Op::Binary { kind, activation: Activation::None } if kind == wanted => {
            Some([node.inputs[0], node.inputs[1]])
        }
        _ => None,
    }
}

/// The input of the mean over the last axis (kept) that writes `id`.
fn mean(g: &Graph, index: &Index, id: ValueId) -> Option<ValueId> {
    let node = &g.nodes[index.producer(id)?];
    let Op::Reduce { kind: ReduceKind::Mean, axes } = &node.op else {
        return None;
    };
    let rank = g.value(node.inputs[0]).shape.len();
    (axes[..] == [rank.checked_sub(1)?] && g.value(id).shape.len() == rank).then_some(node.inputs[0])
}

/// Input and epsilon of the normalisation whose last node is `node`.
fn written_out(g: &Graph, index: &Index, node: &Node) -> Option<(ValueId, f32)> {
    let from = |id: ValueId| index.producer(id).map(|p| &g.nodes[p]);
    let root = |id: ValueId| {
        from(id).and_then(|n| match n.op {
            Op::Unary(UnaryKind::Sqrt) => Some(n.inputs[0]),
            Op::Unary(UnaryKind::Pow { exponent: 0.5 }) => Some(n.inputs[0]),
            _ => None,
        })
    };
    let inverse_root = |id: ValueId| {
        from(id).and_then(|n| match n.op {
            Op::Unary(UnaryKind::Reciprocal) => root(n.inputs[0]),
            Op::Unary(UnaryKind::Pow { exponent: -0.5 }) => Some(n.inputs[0]),
            _ => None,
        })
    };
    let (centred, sum) = match arithmetic(node, BinaryKind::Div) {
        Some([d, s]) => (d, root(s)?),
        None => {
            let [a, b] = arithmetic(node, BinaryKind::Mul)?;
            match (inverse_root(a), inverse_root(b)) {
                (_, Some(sum)) => (a, sum),
                (Some(sum), None) => (b, sum),
                _ => return None,
            }
        }
    };
    let [p, q] = arithmetic(from(sum)?, BinaryKind::Add)?;
    let (variance, epsilon) = match (edit::scalar(g, p), edit::scalar(g, q)) {
        (None, Some(e)) => (p, e),
        (Some(e), None) => (q, e),
        _ => return None,
    };
    let square = mean(g, index, variance)?;
    let squared = match (&from(square)?.op, arithmetic(from(square)?, BinaryKind::Mul)) {
        (_, Some([a, b])) => a == centred && b == centred,
        (Op::Unary(UnaryKind::Pow { exponent: 2.0 }), None) => from(square)?.inputs[0] == centred,
        _ => false,
    };
    let [x, m] = arithmetic(from(centred)?, BinaryKind::Sub)?;
    let value = g.value(x);
    let fits = squared
        && mean(g, index, m) == Some(x)
        && value.dtype == DType::F32
        && value.shape == g.value(node.output).shape;
    fits.then_some((x, epsilon))
}

/// Folds arithmetic with a constant after a normalisation into gamma and beta.
fn parameters(g: &mut Graph, index: &Index, at: usize) -> bool {
    let node = &g.nodes[at];
    let Op::Binary { kind: kind @ (BinaryKind::Add | BinaryKind::Mul), activation: Activation::None } =
        node.op
    else {
        return false;
    };
    let out = node.output;
    let (shape, sides) = (&g.value(out).shape, [node.inputs[0], node.inputs[1]]);
    let Some(&width) = shape.last() else {
        return false;
    };
    let found = [(sides[0], sides[1]), (sides[1], sides[0])].into_iter().find_map(|(x, c)| {
        let norm = index.producer(x).filter(|_| index.used_once(x))?;
        let fits = matches!(g.nodes[norm].op, Op::LayerNorm { .. }) && g.value(x).shape == *shape;
        fits.then_some((norm, per_channel(g, c, width)?))
    });
    let Some((norm, values)) = found else {
        return false;
    };
    let (gamma, beta) = (g.nodes[norm].inputs[1], g.nodes[norm].inputs[2]);
    let (Some(old_gamma), Some(old_beta)) = (edit::floats(g, gamma), edit::floats(g, beta)) else {
        return false;
    };
    let with = |old: &[f32], combine: fn(f32, f32) -> f32| {
        old.iter().zip(&values).map(|(&a, &b)| combine(a, b)).collect::<Vec<f32>>()
    };
    let changed = if kind == BinaryKind::Mul {
        vec![(1, gamma, with(old_gamma, |a, b| a * b)), (2, beta, with(old_beta, |a, b| a * b))]
    } else {
        vec![(2, beta, with(old_beta, |a, b| a + b))]
    };
    for (slot, old, data) in changed {
        let name = g.value(old).name.clone();
        let id = edit::constant_f32(g, &name, vec![width], data);
        g.nodes[norm].inputs[slot] = id;
    }
    g.nodes[norm].output = out;
    g.nodes.remove(at);
    true
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Build, names};
    use super::*;

    #[test]
    fn arithmetic_becomes_one_operator() {
        for by_power in [false, true] {
            let mut b = Build::default();
            let x = b.input(&[1, 3, 4]);
            let op = |kind| Op::Binary { kind, activation: Activation::None };
            let mean = Op::Reduce { kind: ReduceKind::Mean, axes: vec![2] };
            let m = b.node(mean.clone(), &[x], &[1, 3, 1]);
            let d = b.node(op(BinaryKind::Sub), &[x, m], &[1, 3, 4]);
            let s = if by_power {
                b.node(Op::Unary(UnaryKind::Pow { exponent: 2.0 }), &[d], &[1, 3, 4])
            } else {
                b.node(op(BinaryKind::Mul), &[d, d], &[1, 3, 4])
            };
            let v = b.node(mean, &[s], &[1, 3, 1]);
            let e = b.constant(&[], vec![1e-5]);
            let v = b.node(op(BinaryKind::Add), &[v, e], &[1, 3, 1]);
            let v = b.node(Op::Unary(UnaryKind::Sqrt), &[v], &[1, 3, 1]);
            let y = b.node(op(BinaryKind::Div), &[d, v], &[1, 3, 4]);
            let gamma = b.constant(&[4], vec![1.0, 2.0, 3.0, 4.0]);
            let y = b.node(op(BinaryKind::Mul), &[y, gamma], &[1, 3, 4]);
            let beta = b.constant(&[4], vec![5.0, 6.0, 7.0, 8.0]);
            let y = b.node(op(BinaryKind::Add), &[y, beta], &[1, 3, 4]);
            let g = run(b.finish(&[y])).expect("runs");
            assert_eq!(names(&g), ["layer_norm"]);
            assert_eq!(g.nodes[0].op, Op::LayerNorm { epsilon: 1e-5 });
            assert_eq!(edit::floats(&g, g.nodes[0].inputs[1]), Some(&[1.0, 2.0, 3.0, 4.0][..]));
            assert_eq!(edit::floats(&g, g.nodes[0].inputs[2]), Some(&[5.0, 6.0, 7.0, 8.0][..]));
        }
    }
}
