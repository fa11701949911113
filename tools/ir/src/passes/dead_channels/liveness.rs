//! Determines which channels must stay. Channels that can only be removed together (a depthwise filter's input and
//! output, the two sides of a pool) form a class; one needed member keeps the class.

use super::linear::{Known, Linear};
use crate::{DType, Graph, Node, Op, ValueId};

/// How a node's output channels depend on its first input's channels.
pub(super) enum Flow<'g> {
    /// Every output channel reads every input channel; each can be removed alone.
    Mixes(Linear<'g>),
    /// Output channels `c·m .. c·m + m` read only input channel c.
    Depthwise(Linear<'g>),
    /// Output channels read the input channels given by [`paired`].
    Channels,
    /// Input and output must stay whole.
    Whole,
}

impl<'g> Flow<'g> {
    pub(super) fn of(graph: &'g Graph, node: &'g Node) -> Self {
        if let Some(linear) = Linear::of(graph, node) {
            return match linear.groups {
                1 => Self::Mixes(linear),
                _ if linear.is_depthwise() => Self::Depthwise(linear),
                _ => Self::Whole,
            };
        }
        let (x, y) = (graph.value(node.inputs[0]), graph.value(node.output));
        let (Some(&from), Some(&to)) = (x.shape.last(), y.shape.last()) else {
            return Self::Whole;
        };
        let last = x.shape.len() - 1;
        let apart = match &node.op {
            Op::Pool { .. }
            | Op::Unary(_)
            | Op::Lookup(_)
            | Op::Quantize
            | Op::Dequantize
            | Op::Requantize => true,
            // Element i of both tensors belongs to channel i modulo the last extent, if the longer extent is a
            // multiple of the other.
            Op::Reshape => from.max(to).is_multiple_of(from.min(to)),
            Op::Transpose { perm } => perm.last() == Some(&last),
            Op::Reduce { axes, .. } => !axes.contains(&last),
            _ => false,
        };
        if apart && from * to > 0 && x.data.is_none() { Self::Channels } else { Self::Whole }
    }
}

/// Pairs (input channel, output channel) of a channelwise operator. If one extent is a multiple of the other (a
/// reshape), element i belongs to channel i modulo the extent on either side.
pub(super) fn paired(from: usize, to: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..from.max(to)).map(move |i| (i % from.max(1), i % to.max(1)))
}

/// For every tensor, which channels stay; `None` if all do. At least one channel of each tensor stays.
pub(super) fn keep(graph: &Graph, known: &[Vec<Known>]) -> Option<Vec<Vec<bool>>> {
    let mut classes = Classes::new(graph);
    let whole = graph.values.iter().enumerate().filter(|(_, v)| {
        let along_axis = v.dtype == DType::I8 && v.quant.as_ref().is_none_or(|q| q.scale.len() != 1);
        v.data.is_some() || along_axis
    });
    for id in whole.map(|(i, _)| ValueId(i as u32)) {
        classes.need_all(id);
    }
    for &id in graph.inputs.iter().chain(&graph.outputs) {
        classes.need_all(id);
    }
    for node in &graph.nodes {
        let (x, y) = (node.inputs[0], node.output);
        let channels = |id: ValueId| known[id.0 as usize].len();
        match Flow::of(graph, node) {
            Flow::Mixes(linear) => {
                let dispensable = linear.dispensable(&known[x.0 as usize]);
                for (c, _) in dispensable.iter().enumerate().filter(|(_, d)| !**d) {
                    classes.need(x, c);
                }
            }
            Flow::Depthwise(linear) => {
                let multiplier = linear.rows / linear.groups;
                (0..linear.rows).for_each(|row| classes.join((x, row / multiplier), (y, row)));
            }
            Flow::Channels => {
                paired(channels(x), channels(y)).for_each(|(i, o)| classes.join((x, i), (y, o)));
            }
            Flow::Whole => {
                classes.need_all(x);
                classes.need_all(y);
            }
        }
        node.inputs[1..].iter().for_each(|&id| classes.need_all(id));
    }
    keep_enough(graph, known, &mut classes);
    let keep: Vec<Vec<bool>> = (0..known.len())
        .map(|v| (0..known[v].len()).map(|c| classes.needed(ValueId(v as u32), c)).collect())
        .collect();
    keep.iter().flatten().any(|k| !k).then_some(keep)
}

/// Keeps one channel of every tensor, and two of a fully connected operator with scales per channel: with a single
/// scale, TFLite computes the multiplier in another precision.
fn keep_enough(graph: &Graph, known: &[Vec<Known>], classes: &mut Classes) {
    for node in &graph.nodes {
        let y = node.output;
        let channels = known[y.0 as usize].len();
        let scales = match (&node.op, node.inputs.get(1)) {
            (Op::FullyConnected { .. }, Some(&w)) => {
                graph.value(w).quant.as_ref().map_or(1, |q| q.scale.len())
            }
            _ => 1,
        };
        let mut missing = scales.min(2);
        missing = missing.saturating_sub((0..channels).filter(|&c| classes.needed(y, c)).count());
        for c in 0..channels {
            // A class may bring several channels of this tensor, which is more than needed but correct.
            if missing > 0 && !classes.needed(y, c) {
                classes.need(y, c);
                missing -= 1;
            }
        }
    }
}

/// Disjoint sets of channels of all tensors, each set marked as needed or not.
struct Classes {
    /// Index of a tensor's first channel.
    first: Vec<usize>,
    parent: Vec<usize>,
    /// Flags of the sets' roots.
    needed: Vec<bool>,
}

impl Classes {
    fn new(graph: &Graph) -> Self {
        let mut first = vec![0];
        for v in &graph.values {
            let channels = v.shape.last().copied().unwrap_or(0);
            first.push(first[first.len() - 1] + channels);
        }
        let n = first[first.len() - 1];
        Self { first, parent: (0..n).collect(), needed: vec![false; n] }
    }

    fn root(&mut self, (id, channel): (ValueId, usize)) -> usize {
        let mut at = self.first[id.0 as usize] + channel;
        while self.parent[at] != at {
            self.parent[at] = self.parent[self.parent[at]];
            at = self.parent[at];
        }
        at
    }

    fn join(&mut self, a: (ValueId, usize), b: (ValueId, usize)) {
        let (a, b) = (self.root(a), self.root(b));
        self.parent[b] = a;
        self.needed[a] |= self.needed[b];
    }

    fn need(&mut self, id: ValueId, channel: usize) {
        let root = self.root((id, channel));
        self.needed[root] = true;
    }

    fn need_all(&mut self, id: ValueId) {
        let channels = self.first[id.0 as usize + 1] - self.first[id.0 as usize];
        (0..channels).for_each(|c| self.need(id, c));
    }

    fn needed(&mut self, id: ValueId, channel: usize) -> bool {
        let root = self.root((id, channel));
        self.needed[root]
    }
}
