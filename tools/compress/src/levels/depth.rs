//! Pairs of identical blocks in a row.

use std::collections::BTreeMap;

use offshoot_ir::{Graph, Op, ValueId};

/// Two blocks of the same form, one after the other: indices of their nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Twin {
    pub(super) first: Vec<usize>,
    pub(super) second: Vec<usize>,
}

/// Most stretches between cuts that a block may span.
const LONGEST: usize = 8;

/// Pairs of identical blocks with weights, in order; no two pairs share a node.
///
/// A cut is a value such that everything after it depends on nothing else before it. A block is a run of stretches
/// between cuts whose input and output have the same shape.
pub(super) fn twins(graph: &Graph) -> Vec<Twin> {
    let cuts = cuts(graph);
    let stretch = |j: usize| (if j == 0 { 0 } else { cuts[j - 1] + 1 })..cuts[j] + 1;
    let mut out = Vec::new();
    let mut at = 0;
    while at < cuts.len() {
        let longest = LONGEST.min((cuts.len() - at) / 2);
        let found = (1..=longest).find_map(|length| {
            let first: Vec<usize> = (stretch(at).start..stretch(at + length - 1).end).collect();
            let second: Vec<usize> = (stretch(at + length).start..stretch(at + 2 * length - 1).end).collect();
            alike(graph, &first, &second).then_some((length, Twin { first, second }))
        });
        match found {
            Some((length, twin)) => {
                out.push(twin);
                at += 2 * length;
            }
            None => at += 1,
        }
    }
    out
}

/// Positions of nodes after which only their output is still to be read.
fn cuts(graph: &Graph) -> Vec<usize> {
    let mut last = vec![0; graph.values.len()];
    for (index, node) in graph.nodes.iter().enumerate() {
        node.inputs.iter().for_each(|id| last[id.0 as usize] = index);
    }
    graph.outputs.iter().for_each(|id| last[id.0 as usize] = graph.nodes.len());
    let mut open: Vec<ValueId> = graph.inputs.clone();
    let mut cuts = Vec::new();
    for (index, node) in graph.nodes.iter().enumerate() {
        open.push(node.output);
        open.retain(|id| last[id.0 as usize] > index);
        if open == [node.output] {
            cuts.push(index);
        }
    }
    cuts
}

/// Whether two runs of nodes compute the same with constants of the same shapes, the second from the result of the
/// first.
fn alike(graph: &Graph, first: &[usize], second: &[usize]) -> bool {
    let (Some(&end), true) = (first.last(), first.len() == second.len()) else { return false };
    // Maps values of the first run to those of the second.
    let mut same: BTreeMap<ValueId, ValueId> = BTreeMap::new();
    let inside = |run: &[usize], id: ValueId| run.iter().any(|&i| graph.nodes[i].output == id);
    let mut weights = false;
    for (&a, &b) in first.iter().zip(second) {
        let (a, b) = (&graph.nodes[a], &graph.nodes[b]);
        if a.op != b.op || a.inputs.len() != b.inputs.len() {
            return false;
        }
        weights |= matches!(a.op, Op::Conv2d { .. } | Op::ConvTranspose2d { .. } | Op::FullyConnected { .. });
        for (&x, &y) in a.inputs.iter().zip(&b.inputs) {
            let (p, q) = (graph.value(x), graph.value(y));
            if p.shape != q.shape || p.data.is_some() != q.data.is_some() {
                return false;
            }
            if p.data.is_none() && !inside(first, x) {
                // A value from before the block: there is only one, and for the second block it is the output of the
                // first.
                if y != graph.nodes[end].output || *same.entry(x).or_insert(y) != y {
                    return false;
                }
            } else if *same.entry(x).or_insert(y) != y {
                return false;
            }
        }
        if graph.value(a.output).shape != graph.value(b.output).shape {
            return false;
        }
        same.insert(a.output, b.output);
    }
    let outer: Vec<&ValueId> =
        same.keys().filter(|&&x| graph.value(x).data.is_none() && !inside(first, x)).collect();
    let input = outer.first().map(|&&x| &graph.value(x).shape);
    weights && outer.len() == 1 && input == Some(&graph.value(graph.nodes[end].output).shape)
}

/// Removes the second block of each pair: readers of its result read the result of the first block instead.
pub(super) fn remove_second(graph: &mut Graph, twins: &[Twin]) {
    for twin in twins {
        let (Some(&a), Some(&b)) = (twin.first.last(), twin.second.last()) else { continue };
        let (kept, gone) = (graph.nodes[a].output, graph.nodes[b].output);
        if graph.outputs.contains(&gone) {
            // Graph outputs keep their name, so the first block writes it.
            let from = kept;
            for node in &mut graph.nodes {
                node.inputs.iter_mut().filter(|i| **i == from).for_each(|i| *i = gone);
            }
            graph.nodes[a].output = gone;
        } else {
            for node in &mut graph.nodes {
                node.inputs.iter_mut().filter(|i| **i == gone).for_each(|i| *i = kept);
            }
        }
    }
    let mut gone: Vec<usize> = twins.iter().flat_map(|t| t.second.iter().copied()).collect();
    gone.sort_unstable();
    gone.iter().rev().for_each(|&i| drop(graph.nodes.remove(i)));
}
