//! Replaces a float matrix product with a constant right operand by FullyConnected, into which biases and activations
//! can be folded.

use super::edit;
use super::transpose::permute_constant;
use crate::{Activation, Graph, Op, Result};

/// Runs the pass; see the module documentation.
///
/// # Errors
/// None; all passes share this signature.
pub(super) fn run(mut graph: Graph) -> Result<Graph> {
    for at in 0..graph.nodes.len() {
        step(&mut graph, at);
    }
    Ok(graph.prune_unreachable())
}

fn step(g: &mut Graph, at: usize) {
    let Op::MatMul { transpose_b } = g.nodes[at].op else {
        return;
    };
    let b = g.nodes[at].inputs[1];
    let value = g.value(b);
    let Some((batch, &[r, c])) = value.shape.split_last_chunk::<2>() else {
        return;
    };
    // A single matrix: with several, FullyConnected would need several weights.
    if batch.iter().any(|&d| d != 1) || edit::floats(g, b).is_none() {
        return;
    }
    let Some(data) = value.data.clone() else {
        return;
    };
    let name = value.name.clone();
    let mut weights = edit::constant(g, &name, vec![r, c], data.as_ref().clone(), None);
    if !transpose_b {
        match permute_constant(g, weights, &[1, 0]) {
            Some(id) => weights = id,
            None => return,
        }
    }
    g.nodes[at].op = Op::FullyConnected { activation: Activation::None };
    g.nodes[at].inputs[1] = weights;
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Build, names};
    use super::*;

    #[test]
    fn the_constant_becomes_weights() {
        let mut b = Build::default();
        let x = b.input(&[1, 3, 2]);
        let w = b.constant(&[1, 2, 2], vec![1.0, 2.0, 3.0, 4.0]);
        let y = b.node(Op::MatMul { transpose_b: false }, &[x, w], &[1, 3, 2]);
        let g = run(b.finish(&[y])).expect("runs");
        assert_eq!(names(&g), ["fully_connected"]);
        let w = edit::floats(&g, g.nodes[0].inputs[1]);
        assert_eq!(w, Some(&[1.0, 3.0, 2.0, 4.0][..]));
    }
}
