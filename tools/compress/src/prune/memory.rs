//! Which tensors are live in the arena while each operator runs.
//!
//! The compiler's report says how many bytes that are; this says which tensors of the float graph they come from, so that
//! channels have a price in RAM. It is a model: what is chosen by it is measured.

use std::collections::BTreeMap;

use offshoot_ir::{Graph, Op, ValueId};

use crate::quantize::packs;

/// Tensors, and the operators while which they are live.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory {
    /// Tensors with memory of their own.
    pub(super) tensors: Vec<ValueId>,
    /// For each operator with a known size: its live bytes, and the positions in `tensors` of what is live.
    pub(super) steps: Vec<(u64, Vec<usize>)>,
}

impl Memory {
    /// `live` are the bytes by the operators' names.
    pub(super) fn of(graph: &Graph, live: &BTreeMap<String, u64>) -> Self {
        if live.is_empty() {
            return Self::default();
        }
        let mut last = vec![0usize; graph.values.len()];
        for (at, node) in graph.nodes.iter().enumerate() {
            node.inputs.iter().for_each(|id| last[id.0 as usize] = at);
        }
        graph.outputs.iter().for_each(|id| last[id.0 as usize] = graph.nodes.len());
        let is_tensor = |id: &ValueId| graph.value(*id).data.is_none();
        // The tensor in whose memory each value lies.
        let mut root: Vec<ValueId> = (0..graph.values.len() as u32).map(ValueId).collect();
        // From the operator that writes a tensor to the last that reads it.
        let mut spans: BTreeMap<ValueId, (usize, usize)> = BTreeMap::new();
        spans.extend(graph.inputs.iter().map(|&id| (id, (0, last[id.0 as usize]))));
        for (at, node) in graph.nodes.iter().enumerate() {
            let own = &live.contains_key(&node.name);
            let inputs: Vec<ValueId> =
                node.inputs.iter().filter(|id| is_tensor(id)).map(|id| root[id.0 as usize]).collect();
            let ends = |r: &&ValueId| spans.get(r).is_some_and(|s| s.1 <= at);
            let into = match node.op {
                // Computed in place of an operand that nobody else reads.
                Op::Binary { .. } | Op::Unary(_) if *own => inputs.iter().find(ends),
                // A part of the operator before it, or only another shape.
                _ if !own && !packs(graph, node) => inputs.first(),
                _ => None,
            };
            let tensor = into.copied().unwrap_or(node.output);
            root[node.output.0 as usize] = tensor;
            let span = spans.entry(tensor).or_insert((at, at));
            span.1 = span.1.max(last[node.output.0 as usize]);
        }
        let tensors: Vec<ValueId> = spans.keys().copied().collect();
        let steps = graph.nodes.iter().enumerate().filter_map(|(at, node)| {
            let bytes = *live.get(&node.name)?;
            let during =
                spans.values().enumerate().filter(|(_, (first, last))| (*first..=*last).contains(&at));
            Some((bytes, during.map(|(t, _)| t).collect()))
        });
        Self { steps: steps.collect(), tensors }
    }
}
