//! Removes operators whose output equals their input: a Reshape to the same shape, a Transpose that keeps the
//! order, a Slice of everything, a Pad by nothing, and the like.

use super::edit::{self, Index};
use crate::{Graph, Node, Op, PoolKind, Result, UnaryKind};

/// Runs the pass; see the module documentation.
///
/// # Errors
/// None; all passes share this signature.
pub(super) fn run(graph: Graph) -> Result<Graph> {
    Ok(edit::repeat(graph, |g| {
        let index = Index::new(g);
        (0..g.nodes.len()).any(|at| is_identity(g, &g.nodes[at]) && edit::bypass(g, &index, at))
    }))
}

fn is_identity(graph: &Graph, node: &Node) -> bool {
    let (x, out) = (graph.value(node.inputs[0]), graph.value(node.output));
    if (&x.shape, x.dtype, &x.quant) != (&out.shape, out.dtype, &out.quant) {
        return false;
    }
    match &node.op {
        Op::Reshape | Op::Expand | Op::Requantize => true,
        Op::Transpose { perm } => perm.iter().enumerate().all(|(i, &p)| i == p),
        Op::Slice { start, step } => {
            start.iter().all(|&s| s == 0) && step.iter().zip(&x.shape).all(|(&s, &d)| s == 1 || d <= 1)
        }
        Op::Pad { before, after, .. } => before.iter().chain(after).all(|&p| p == 0),
        Op::Concat { .. } => node.inputs.len() == 1,
        Op::Switch => node.inputs.len() == 2,
        Op::Unary(UnaryKind::Clip { min, max }) => *min == f32::NEG_INFINITY && *max == f32::INFINITY,
        Op::Reduce { axes, .. } => axes.iter().all(|&a| x.shape[a] == 1),
        Op::Pool { kind: PoolKind::Max | PoolKind::Average, window, activation } => {
            window.kernel == [1; 2]
                && window.stride == [1; 2]
                && window.pad == [0; 4]
                && activation.bounds() == (f32::NEG_INFINITY, f32::INFINITY)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Build, names};
    use super::*;

    #[test]
    fn identities_go_and_outputs_keep_their_name() {
        let mut b = Build::default();
        let x = b.input(&[1, 4]);
        let y = b.node(Op::Unary(UnaryKind::Abs), &[x], &[1, 4]);
        let z = b.node(Op::Reshape, &[y], &[1, 4]);
        let t = b.transpose(z, &[0, 1]);
        let mut g = b.finish(&[t]);
        g.value_mut(t).name = "y".into();
        let g = run(g).expect("runs");
        assert_eq!(names(&g), ["unary"]);
        assert_eq!(g.value(g.outputs[0]).name, "y");
    }

    #[test]
    fn an_output_that_is_an_input_keeps_its_operator() {
        let mut b = Build::default();
        let x = b.input(&[2]);
        let y = b.node(Op::Reshape, &[x], &[2]);
        let g = run(b.finish(&[y])).expect("runs");
        assert_eq!(names(&g), ["reshape"]);
    }
}
