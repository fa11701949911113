//! A graph that is being changed, with tables of the writer and the readers of each value.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};

use offshoot_ir::{DType, Graph, Node, Quant, Value, ValueId};

/// Sort key of a node: its index in the original graph, then the number of earlier insertions behind that node.
type Place = (usize, usize);

/// The graph's nodes with tables; the cost of a change is proportional to what it touches.
pub(super) struct Table {
    graph: Graph,
    /// The original `graph.nodes`, with removed nodes as `None` and inserted ones at the end.
    nodes: Vec<Option<Node>>,
    places: Vec<Place>,
    producer: Vec<Option<usize>>,
    readers: Vec<Vec<usize>>,
    is_output: Vec<bool>,
    names: HashSet<String>,
}

impl Table {
    pub(super) fn new(mut graph: Graph) -> Self {
        let nodes: Vec<Option<Node>> = std::mem::take(&mut graph.nodes).into_iter().map(Some).collect();
        let values = graph.values.len();
        let mut table = Self {
            places: (0..nodes.len()).map(|n| (n, 0)).collect(),
            producer: vec![None; values],
            readers: vec![Vec::new(); values],
            is_output: vec![false; values],
            names: graph.values.iter().map(|v| v.name.clone()).collect(),
            graph,
            nodes: Vec::new(),
        };
        for id in &table.graph.outputs {
            table.is_output[id.0 as usize] = true;
        }
        for (n, node) in nodes.into_iter().enumerate() {
            table.nodes.push(node.clone());
            if let Some(node) = node {
                table.link(n, &node);
            }
        }
        for n in (0..table.nodes.len()).rev() {
            table.drop_unread(n);
        }
        table
    }

    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    pub(super) fn is_alive(&self, n: usize) -> bool {
        self.nodes[n].is_some()
    }

    /// Node `n`, which must be alive: callers only use indices that this table returned.
    pub(super) fn node(&self, n: usize) -> &Node {
        self.nodes[n].as_ref().expect("rules look at nodes that are alive")
    }

    pub(super) fn value(&self, id: ValueId) -> &Value {
        self.graph.value(id)
    }

    /// The node that writes `id`; `None` for graph inputs and constants.
    pub(super) fn producer(&self, id: ValueId) -> Option<usize> {
        self.producer[id.0 as usize]
    }

    /// The only node that reads `id`, if there is exactly one and `id` is not a graph output.
    pub(super) fn sole_reader(&self, id: ValueId) -> Option<usize> {
        match self.readers[id.0 as usize].as_slice() {
            [n] if !self.is_output[id.0 as usize] => Some(*n),
            _ => None,
        }
    }

    /// The nodes that read `id`.
    pub(super) fn readers(&self, id: ValueId) -> &[usize] {
        &self.readers[id.0 as usize]
    }

    /// Whether `id` is a graph output.
    pub(super) fn is_output(&self, id: ValueId) -> bool {
        self.is_output[id.0 as usize]
    }

    fn link(&mut self, n: usize, node: &Node) {
        self.producer[node.output.0 as usize] = Some(n);
        for id in &node.inputs {
            let readers = &mut self.readers[id.0 as usize];
            if readers.last() != Some(&n) {
                readers.push(n);
            }
        }
    }

    fn unlink(&mut self, n: usize, node: &Node) {
        self.producer[node.output.0 as usize] = None;
        for id in &node.inputs {
            self.readers[id.0 as usize].retain(|r| *r != n);
        }
    }

    /// Removes node `n`; its inputs stay.
    pub(super) fn remove(&mut self, n: usize) {
        if let Some(node) = self.nodes[n].take() {
            self.unlink(n, &node);
        }
    }

    /// Replaces node `n` by another, and removes inputs that nothing reads any more.
    pub(super) fn replace(&mut self, n: usize, node: Node) {
        let before = self.nodes[n].take();
        if let Some(before) = &before {
            self.unlink(n, before);
        }
        self.link(n, &node);
        self.nodes[n] = Some(node);
        for id in before.iter().flat_map(|b| &b.inputs) {
            if let Some(p) = self.producer(*id) {
                self.drop_unread(p);
            }
        }
    }

    /// Replaces nodes `a` and `b` by two others, which together read and write the same values.
    pub(super) fn swap(&mut self, a: usize, node_a: Node, b: usize, node_b: Node) {
        self.remove(a);
        self.remove(b);
        self.link(a, &node_a);
        self.link(b, &node_b);
        self.nodes[a] = Some(node_a);
        self.nodes[b] = Some(node_b);
    }

    /// Adds a node right behind node `n`.
    pub(super) fn insert_after(&mut self, n: usize, node: Node) {
        let (major, minor) = self.places[n];
        let index = self.nodes.len();
        self.link(index, &node);
        self.nodes.push(Some(node));
        self.places.push((major, minor + 1));
    }

    /// Adds a node right before node `n`, behind nodes added there earlier.
    pub(super) fn insert_before(&mut self, n: usize, node: Node) {
        let index = self.nodes.len();
        let place = self.places[n];
        self.link(index, &node);
        self.nodes.push(Some(node));
        self.places.push(place);
    }

    /// Sets the scale and zero point of a value.
    pub(super) fn set_quant(&mut self, id: ValueId, quant: Quant) {
        self.graph.value_mut(id).quant = Some(quant);
    }

    /// Removes node `n` if nothing reads it, then does the same for its inputs.
    fn drop_unread(&mut self, n: usize) {
        let mut suspects = vec![n];
        while let Some(n) = suspects.pop() {
            let Some(node) = &self.nodes[n] else { continue };
            let y = node.output.0 as usize;
            if self.is_output[y] || !self.readers[y].is_empty() {
                continue;
            }
            if let Some(node) = self.nodes[n].take() {
                self.unlink(n, &node);
                suspects.extend(node.inputs.iter().filter_map(|id| self.producer(*id)));
            }
        }
    }

    /// Adds a value under its name, or a similar name if that is taken.
    pub(super) fn add(&mut self, mut value: Value) -> ValueId {
        let mut n = 1;
        let wanted = value.name.clone();
        // There are at most a few thousand times as many values as requests for one name.
        while !self.names.insert(value.name.clone()) {
            n = if n == 1 { self.graph.values.len() } else { n + 1 };
            value.name = format!("{wanted}#{n}");
        }
        self.producer.push(None);
        self.readers.push(Vec::new());
        self.is_output.push(false);
        self.graph.add_value(value)
    }

    /// A value with the shape of `like`, named after it, with the quantisation of `quant_of`.
    pub(super) fn new_value(
        &mut self,
        like: ValueId,
        suffix: &str,
        dtype: DType,
        quant_of: Option<ValueId>,
    ) -> ValueId {
        let source = self.value(like);
        // A value that is moved several times is not renamed each time: names would grow quadratically with the
        // movements.
        let name = format!("{}/{suffix}", source.name.trim_end_matches(&format!("/{suffix}")));
        let shape = source.shape.clone();
        let quant = quant_of.and_then(|id| self.value(id).quant.clone());
        self.add(Value { name, shape, dtype, quant, data: None, channels_first_outside: false })
    }

    /// The graph, with its nodes as close to the former order as their inputs allow.
    pub(super) fn into_graph(mut self) -> Graph {
        let mut waits: Vec<usize> = vec![0; self.nodes.len()];
        let mut ready = BinaryHeap::new();
        for (n, node) in self.nodes.iter().enumerate() {
            let Some(node) = node else { continue };
            let mut from: Vec<usize> = node.inputs.iter().filter_map(|id| self.producer(*id)).collect();
            from.sort_unstable();
            from.dedup();
            waits[n] = from.len();
            if from.is_empty() {
                ready.push(Reverse((self.places[n], n)));
            }
        }
        while let Some(Reverse((_, n))) = ready.pop() {
            let Some(node) = self.nodes[n].take() else {
                continue;
            };
            for &r in &self.readers[node.output.0 as usize] {
                waits[r] -= 1;
                if waits[r] == 0 {
                    ready.push(Reverse((self.places[r], r)));
                }
            }
            self.graph.nodes.push(node);
        }
        self.graph
    }
}
