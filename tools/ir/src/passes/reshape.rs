//! Moves Reshapes down past elementwise operators, so that linear operators and the operators they can absorb become
//! neighbours, and Reshapes meet.

use super::edit::{self, Index};
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

fn reshaped(g: &Graph, index: &Index, id: ValueId) -> Option<ValueId> {
    let node = &g.nodes[index.producer(id)?];
    (node.op == Op::Reshape).then(|| node.inputs[0])
}

/// Inputs of `node` before their Reshape, if the result has the same elements.
fn unshaped(g: &Graph, index: &Index, node: &Node) -> Option<Vec<ValueId>> {
    let out = &g.value(node.output).shape;
    let last_kept = |x: ValueId| {
        let (a, b) = (g.value(x).shape.last(), out.last());
        a.is_some() && a == b
    };
    match &node.op {
        Op::Unary(_) | Op::Lookup(_) | Op::Quantize | Op::Dequantize | Op::Requantize => {
            Some(vec![reshaped(g, index, node.inputs[0])?])
        }
        Op::BatchNorm { .. } | Op::PRelu | Op::LayerNorm { .. } => {
            let x = reshaped(g, index, node.inputs[0]).filter(|&x| last_kept(x))?;
            Some(std::iter::once(x).chain(node.inputs[1..].iter().copied()).collect())
        }
        Op::Binary { .. } => {
            let (a, b) = (node.inputs[0], node.inputs[1]);
            let (from_a, from_b) = (reshaped(g, index, a), reshaped(g, index, b));
            let full = |id: ValueId| g.value(id).shape == *out;
            if let (Some(x), Some(y)) = (from_a, from_b)
                && g.value(x).shape == g.value(y).shape
                && full(a)
                && full(b)
            {
                return Some(vec![x, y]);
            }
            // The other operand: a single element, or a constant with one element per channel.
            let beside = |x: ValueId, c: ValueId| {
                let value = g.value(c);
                let single = value.len() == 1 && value.shape.len() <= g.value(x).shape.len();
                let channel = value.data.is_some() && value.shape.len() == 1 && last_kept(x);
                single || channel
            };
            match (from_a, from_b) {
                (Some(x), _) if full(a) && beside(x, b) => Some(vec![x, b]),
                (_, Some(y)) if full(b) && beside(y, a) => Some(vec![a, y]),
                _ => None,
            }
        }
        _ => None,
    }
}

fn step(g: &mut Graph, index: &Index, at: usize) -> bool {
    let node = g.nodes[at].clone();
    let Some(inputs) = unshaped(g, index, &node) else {
        return false;
    };
    // The largest input has the shape on which the operator now works.
    let moved: Vec<ValueId> =
        node.inputs.iter().zip(&inputs).filter(|(a, b)| a != b).map(|(_, &b)| b).collect();
    let shape = g.value(moved[0]).shape.clone();
    let inner = edit::insert(g, at, node.op, inputs, shape, node.output);
    g.nodes[at].name = node.name;
    if !index.is_output(node.output) {
        // The name follows the operator that computes the tensor.
        let (a, b) = (inner.0 as usize, node.output.0 as usize);
        let name = std::mem::take(&mut g.values[a].name);
        g.values[a].name = std::mem::replace(&mut g.values[b].name, name);
    }
    g.nodes[at + 1].op = Op::Reshape;
    g.nodes[at + 1].inputs = vec![inner];
    true
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Build, names};
    use super::*;
    use crate::{Activation, BinaryKind, UnaryKind};

    #[test]
    fn reshapes_pass_elementwise_operators() {
        let mut b = Build::default();
        let x = b.input(&[1, 1, 5, 3]);
        let r = b.node(Op::Reshape, &[x], &[1, 5, 3]);
        let c = b.ramp(&[3]);
        let op = Op::Binary { kind: BinaryKind::Mul, activation: Activation::None };
        let y = b.node(op, &[r, c], &[1, 5, 3]);
        let y = b.node(Op::Unary(UnaryKind::Abs), &[y], &[1, 5, 3]);
        let g = run(b.finish(&[y])).expect("runs");
        assert_eq!(names(&g), ["mul", "unary", "reshape"]);
    }

    #[test]
    fn a_constant_along_another_axis_stops_it() {
        let mut b = Build::default();
        let x = b.input(&[5, 3]);
        let r = b.node(Op::Reshape, &[x], &[15]);
        let c = b.ramp(&[15]);
        let op = Op::Binary { kind: BinaryKind::Add, activation: Activation::None };
        let y = b.node(op, &[r, c], &[15]);
        let g = b.finish(&[y]);
        assert_eq!(run(g.clone()).expect("runs"), g);
    }
}
