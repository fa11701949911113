//! Sums that hand their result on to one another, as the residual stream of a transformer, with the normalisations that read
//! them, which compute in float32 anyhow.
//!
//! Each block adds a little to a stream that grows from block to block, so that one step of int8 is a large part of what is
//! added; and a channel that is far beyond the others, as in trained transformers, leaves few codes to those.

use std::collections::BTreeSet;

use offshoot_ir::{BinaryKind, Graph, Op};

use super::classes::is_activation;

/// The streams of the network among operators that are not float32 already: their nodes, ascending; the longest stream first. A
/// sum alone is no stream.
pub(super) fn streams(graph: &Graph, float: &[bool]) -> Vec<Vec<usize>> {
    let adds = |n: usize| match graph.nodes[n].op {
        Op::Binary { kind: BinaryKind::Add, .. } => {
            graph.nodes[n].inputs.iter().filter(|id| is_activation(graph, **id)).count() == 2
        }
        _ => false,
    };
    let passes = |n: usize| {
        let op = &graph.nodes[n].op;
        !float[n] && (adds(n) || matches!(op, Op::LayerNorm { .. } | Op::Reshape | Op::Transpose { .. }))
    };
    let mut left: BTreeSet<usize> = (0..graph.nodes.len()).filter(|&n| passes(n)).collect();
    let mut found = Vec::new();
    while let Some(first) = left.pop_first() {
        let (mut stream, mut edge) = (BTreeSet::from([first]), vec![first]);
        while let Some(n) = edge.pop() {
            let before = graph.nodes[n].inputs.iter().filter_map(|&id| graph.producer(id));
            for next in before.chain(graph.consumers(graph.nodes[n].output)) {
                if left.remove(&next) {
                    stream.insert(next);
                    edge.push(next);
                }
            }
        }
        // What only moves the numbers of the stream, or on their way to it, need not be wider.
        let inner = |n: &usize| {
            let read = graph.nodes[*n]
                .inputs
                .iter()
                .any(|&id| graph.producer(id).is_some_and(|n| stream.contains(&n)));
            let handed_on = graph.consumers(graph.nodes[*n].output).iter().any(|n| stream.contains(n));
            adds(*n) || read && (handed_on || matches!(graph.nodes[*n].op, Op::LayerNorm { .. }))
        };
        let stream: Vec<usize> = stream.iter().copied().filter(inner).collect();
        if stream.iter().filter(|&&n| adds(n)).count() > 1 {
            found.push(stream);
        }
    }
    found.sort_by_key(|stream| std::cmp::Reverse(stream.len()));
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use offshoot_ir::{Activation, DType, Data, Node, Value, ValueId};

    #[test]
    fn sums_that_follow_one_another_are_a_stream() {
        let mut g = Graph::default();
        let ids: Vec<ValueId> = (0..9)
            .map(|i| {
                g.add_value(Value {
                    name: format!("v{i}"),
                    shape: vec![1, 4],
                    dtype: DType::F32,
                    quant: None,
                    data: None,
                    channels_first_outside: false,
                })
            })
            .collect();
        let w = g.add_constant("w", vec![4, 4], Data::F32(vec![0.1; 16]));
        let c = g.add_constant("c", vec![4], Data::F32(vec![0.1; 4]));
        let mut node = |op: Op, inputs: &[ValueId], output: usize| {
            g.nodes.push(Node {
                name: format!("n{output}"),
                op,
                inputs: inputs.to_vec(),
                output: ids[output],
            });
        };
        let add = || Op::Binary { kind: BinaryKind::Add, activation: Activation::None };
        let layer = || Op::FullyConnected { activation: Activation::None };
        node(layer(), &[ids[0], w], 1);
        node(add(), &[ids[0], ids[1]], 2);
        node(Op::LayerNorm { epsilon: 1e-5 }, &[ids[2], c, c], 3);
        node(layer(), &[ids[3], w], 4);
        node(add(), &[ids[2], ids[4]], 5);
        node(Op::Reshape, &[ids[5]], 6);
        node(layer(), &[ids[6], w], 7);
        // A bias and a sum alone.
        node(add(), &[ids[7], c], 8);
        assert_eq!(streams(&g, &[false; 8]), [vec![1, 2, 4]]);
        assert!(streams(&g, &[false, true, false, false, false, false, false, false]).is_empty());
    }
}
