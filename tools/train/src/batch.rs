//! A graph for several samples at once.

use ndarray::{ArrayD, Axis, IxDyn};
use offshoot_ir::{Graph, Indexing, Op, ValueId};

/// Values that depend on a graph input.
pub(crate) fn dependent(graph: &Graph) -> Vec<bool> {
    let mut dependent = vec![false; graph.values.len()];
    graph.inputs.iter().for_each(|id| dependent[id.0 as usize] = true);
    for node in &graph.nodes {
        dependent[node.output.0 as usize] = node.inputs.iter().any(|id| dependent[id.0 as usize]);
    }
    dependent
}

/// `graph` with `count` samples along the first axis of everything that depends on an input, or `None` if an operator
/// does not treat that axis as a batch. Every graph can be run sample by sample instead.
pub(crate) fn widened(graph: &Graph, count: usize) -> Option<Graph> {
    let dependent = dependent(graph);
    let mut wide = graph.clone();
    for (value, _) in wide.values.iter_mut().zip(&dependent).filter(|(_, d)| **d) {
        match value.shape.first_mut() {
            Some(first @ 1) => *first = count,
            _ => return None,
        }
    }
    for node in &mut wide.nodes {
        let (mut ranks, mut all) = (Vec::new(), true);
        for id in &node.inputs {
            match dependent[id.0 as usize] {
                true => ranks.push(graph.value(*id).shape.len()),
                false => all = false,
            }
        }
        let Some(&rank) = ranks.first() else { continue };
        let keeps = match &mut node.op {
            Op::Transpose { perm } => perm.first() == Some(&0),
            Op::Softmax { axis } | Op::ArgMax { axis, .. } | Op::Concat { axis } => *axis > 0,
            Op::Reduce { axes, .. } => !axes.contains(&0) && graph.value(node.output).shape.len() > 1,
            Op::FullyConnected { .. } | Op::PRelu | Op::BatchNorm { .. } | Op::LayerNorm { .. } => rank > 1,
            // Rows of a matrix multiplied by constants are a batch; everything else needs a separate batch axis.
            Op::MatMul { .. } => (all && rank > 2) || (rank == 2 && !dependent[node.inputs[1].0 as usize]),
            Op::Binary { .. } => ranks.iter().all(|r| *r == graph.value(node.output).shape.len()),
            // Samples of a batch do not follow each other.
            Op::History { .. } => false,
            Op::Expand => rank == graph.value(node.output).shape.len(),
            Op::TopK { axis, .. } => *axis > 0,
            Op::Gather(indexing) | Op::Scatter { indexing, .. } => match indexing {
                Indexing::Slices { axis } if dependent[node.inputs[0].0 as usize] => *axis > 0 && !all,
                // Indices into a constant: the batch is the first axis of the output.
                Indexing::Slices { axis } => *axis == 0,
                Indexing::Elements { axis } => *axis > 0 && all,
                Indexing::Tuples { batch } => *batch > 0 && all,
            },
            Op::GridSample { .. } => all,
            // Each sample has an index of its own.
            Op::Switch => false,
            Op::Slice { step, .. } => {
                step.iter_mut().take(1).for_each(|s| *s = 1);
                true
            }
            _ => true,
        };
        if !keeps {
            return None;
        }
    }
    wide.validate().is_ok().then_some(wide)
}

/// Division of a batch into shards, with one graph for each shard size. It depends only on sizes, never on the number
/// of cores, so that sums are the same everywhere.
#[derive(Clone, Debug)]
pub(crate) struct Shards {
    /// Samples of each shard.
    pub(crate) sizes: Vec<usize>,
    graphs: Vec<(usize, Graph)>,
}

/// Samples per shard: enough for efficient matrix products, few enough to spread a batch over cores.
const SHARD: usize = 8;

impl Shards {
    pub(crate) fn new(graph: &Graph, samples: usize) -> Self {
        let mut sizes = vec![SHARD; samples / SHARD];
        sizes.extend((!samples.is_multiple_of(SHARD)).then_some(samples % SHARD));
        let mut graphs: Vec<(usize, Graph)> = Vec::new();
        for &size in &sizes {
            if graphs.iter().all(|(s, _)| *s != size) {
                let wide = if size == 1 { Some(graph.clone()) } else { widened(graph, size) };
                let Some(wide) = wide else {
                    return Self { sizes: vec![1; samples], graphs: vec![(1, graph.clone())] };
                };
                graphs.push((size, wide));
            }
        }
        Self { sizes, graphs }
    }

    /// The graph of a shard.
    pub(crate) fn graph(&self, shard: usize) -> &Graph {
        let size = self.sizes[shard];
        // `new` has made one for each size.
        &self.graphs.iter().find(|(s, _)| *s == size).expect("a graph for each size").1
    }

    /// Samples `chosen` of `x`, as shards in the shapes that the graphs have for `input`.
    pub(crate) fn cut(&self, x: &ArrayD<f32>, chosen: &[usize], input: ValueId) -> Vec<ArrayD<f32>> {
        let mut at = 0;
        let shards = self.sizes.iter().enumerate().map(|(shard, size)| {
            let part = x.select(Axis(0), &chosen[at..at + size]);
            at += size;
            let shape = &self.graph(shard).value(input).shape;
            part.into_shape_with_order(IxDyn(shape)).expect("samples have the input's shape")
        });
        shards.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::Network;

    #[test]
    fn a_graph_that_mixes_its_batch_is_run_sample_by_sample() {
        let graph = Network::new("g", [2, 2, 3], 1).global_average("a").dense("b", 2).softmax("c");
        assert_eq!(Shards::new(&graph, 19).sizes, [8, 8, 3]);
        let mut mixed = graph;
        let last = mixed.nodes.len() - 1;
        mixed.nodes[last].op = Op::Softmax { axis: 0 };
        assert_eq!(Shards::new(&mixed, 3).sizes, [1, 1, 1]);
    }
}
