//! Cost of a node, independent of any device.

use crate::graph::{Graph, Node, Op};

/// Multiply-accumulates of a node: convolutions, fully connected and recurrent layers, and matrix products. Windows
/// count in full, padding included.
pub fn macs(graph: &Graph, node: &Node) -> u64 {
    let outputs = graph.value(node.output).len() as u64;
    let input = |i: usize| node.inputs.get(i).map(|id| graph.value(*id));
    // Weights that one output channel reads.
    let filter =
        || input(1).map_or(0, |w| w.len() as u64 / w.shape.first().copied().unwrap_or(1).max(1) as u64);
    match &node.op {
        Op::Conv2d { .. } | Op::FullyConnected { .. } => outputs * filter(),
        // Every weight is multiplied with every input pixel once.
        Op::ConvTranspose2d { .. } => {
            let weights = input(1).map_or(0, |w| w.len() as u64);
            let pixels =
                input(0).map_or(0, |x| x.len() as u64 / x.shape.last().copied().unwrap_or(1).max(1) as u64);
            weights * pixels
        }
        Op::MatMul { .. } => {
            let k = input(0).and_then(|a| a.shape.last().copied()).unwrap_or(0) as u64;
            outputs * k
        }
        // Every weight is used once per step and sample.
        Op::Recurrent { .. } => {
            let steps = input(0).map_or(0, |x| x.shape.iter().take(2).product::<usize>() as u64);
            steps * weights(graph, node)
        }
        _ => 0,
    }
}

/// Number of weights that a node reads (without biases).
pub fn weights(graph: &Graph, node: &Node) -> u64 {
    if let Op::Recurrent { .. } = node.op {
        return node.inputs[1..3].iter().map(|id| graph.value(*id).len() as u64).sum();
    }
    let carries = matches!(
        node.op,
        Op::Conv2d { .. }
            | Op::ConvTranspose2d { .. }
            | Op::FullyConnected { .. }
            | Op::PRelu
            | Op::LayerNorm { .. }
    );
    let constant = node.inputs.get(1).map(|id| graph.value(*id)).filter(|v| v.data.is_some());
    if carries { constant.map_or(0, |v| v.len() as u64) } else { 0 }
}
