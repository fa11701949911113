//! Removes operators that no output depends on, and renumbers the remaining tensors densely.

use crate::{Graph, ValueId};

impl Graph {
    /// The graph without operators and tensors that no output depends on. Graph inputs stay. Ids are dense and keep
    /// their order.
    #[must_use]
    pub fn prune_unreachable(mut self) -> Self {
        let mut live = vec![false; self.values.len()];
        for id in &self.outputs {
            live[id.0 as usize] = true;
        }
        // Consumers come after producers, so one backward sweep sees every consumer first.
        let mut nodes = Vec::with_capacity(self.nodes.len());
        for node in self.nodes.into_iter().rev() {
            if live[node.output.0 as usize] {
                node.inputs.iter().for_each(|id| live[id.0 as usize] = true);
                nodes.push(node);
            }
        }
        nodes.reverse();
        self.nodes = nodes;
        for id in &self.inputs {
            live[id.0 as usize] = true;
        }

        let mut next = 0;
        let renumbered: Vec<ValueId> = live
            .iter()
            .map(|&l| {
                let id = ValueId(next);
                next += u32::from(l);
                id
            })
            .collect();
        let mut keep = live.iter();
        self.values.retain(|_| keep.next().copied().unwrap_or(false));
        let ids = self.nodes.iter_mut().flat_map(|n| n.inputs.iter_mut().chain([&mut n.output]));
        for id in ids.chain(&mut self.inputs).chain(&mut self.outputs) {
            *id = renumbered[id.0 as usize];
        }
        self
    }
}
