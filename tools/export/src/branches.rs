//! Which nodes a run computes only if a switch chooses them, and the order of all nodes that follows.
//!
//! A node belongs to a branch if nothing outside needs its output: then it stands in the branch's range, after the
//! `Branch` record, and a run that does not choose the branch passes it over. Switches with the same index whose branches do not
//! need each other's outputs form one group, so that what their branches share is computed there too.

use std::collections::{BTreeMap, BTreeSet};

use offshoot::format::branch::MOST_NESTED;
use offshoot_ir::{Graph, Op, ValueId};

/// One event of lowering, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// Lowers the node at this position.
    Node(usize),
    /// What follows runs only if the index chooses branch `number` of `count`.
    Begin {
        /// Number of the group.
        group: usize,
        /// The switches of the group, by position.
        switches: Vec<usize>,
        /// Their index.
        index: ValueId,
        /// Number of the branch.
        number: usize,
        /// Number of branches.
        count: usize,
    },
    /// The values of the branch that began last become the outputs of its switches; then it ends.
    End {
        /// The switches of the group, by position.
        switches: Vec<usize>,
        /// Number of the branch.
        number: usize,
    },
}

/// The branches that a node lies in, outermost first: group and number of branch.
type Path = Vec<(usize, usize)>;

/// Index and branches of a switch.
fn parts(graph: &Graph, at: usize) -> Option<(ValueId, &[ValueId])> {
    let node = graph.nodes.get(at).filter(|node| node.op == Op::Switch)?;
    node.inputs.split_last().map(|(index, branches)| (*index, branches))
}

/// Nodes in their order, with the branches of switches.
pub(crate) fn schedule(graph: &Graph, stateful: bool) -> Vec<Event> {
    let nodes = graph.nodes.len();
    if !graph.nodes.iter().any(|node| node.op == Op::Switch) {
        return (0..nodes).map(Event::Node).collect();
    }
    let groups = Groups::of(graph, stateful);
    let mut order = Order { graph, groups: &groups, done: vec![false; nodes], events: Vec::new() };
    order.level(&Vec::new());
    order.events
}

/// Paths of nodes, and the switches of each group.
struct Groups {
    path: Vec<Path>,
    members: Vec<Vec<usize>>,
    of: BTreeMap<usize, usize>,
    /// For each group, the nodes that its switches depend on.
    needs: Vec<BTreeSet<usize>>,
}

impl Groups {
    fn of(graph: &Graph, stateful: bool) -> Self {
        let nodes = graph.nodes.len();
        let mut producer = vec![None; graph.values.len()];
        for (at, node) in graph.nodes.iter().enumerate() {
            producer[node.output.0 as usize] = Some(at);
        }
        // What each switch depends on.
        let mut ancestors: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
        for at in (0..nodes).filter(|&at| graph.nodes[at].op == Op::Switch) {
            let (mut found, mut open) = (BTreeSet::new(), vec![at]);
            while let Some(next) = open.pop() {
                for before in graph.nodes[next].inputs.iter().filter_map(|id| producer[id.0 as usize]) {
                    if found.insert(before) {
                        open.push(before);
                    }
                }
            }
            ancestors.insert(at, found);
        }
        let mut groups = Self {
            path: vec![Vec::new(); nodes],
            members: Vec::new(),
            of: BTreeMap::new(),
            needs: Vec::new(),
        };
        // For each value the path that all its readers share; `None` before its first reader is known.
        let mut shared: Vec<Option<Path>> = vec![None; graph.values.len()];
        for id in &graph.outputs {
            shared[id.0 as usize] = Some(Vec::new());
        }
        for at in (0..nodes).rev() {
            let node = &graph.nodes[at];
            let keeps = keeps(&node.op) || stateful && matches!(node.op, Op::Recurrent { .. });
            let path = match shared[node.output.0 as usize].take() {
                // What keeps a state runs always: its state follows all samples.
                Some(path) if !keeps => path,
                _ => Vec::new(),
            };
            let mut read = |id: ValueId, path: &Path| {
                let known = &mut shared[id.0 as usize];
                *known = Some(match known.take() {
                    None => path.clone(),
                    Some(other) => {
                        other.iter().zip(path).take_while(|(a, b)| a == b).map(|(a, _)| *a).collect()
                    }
                });
            };
            match parts(graph, at).filter(|_| path.len() < MOST_NESTED) {
                Some((index, branches)) => {
                    let group = groups.join(graph, at, &path, &ancestors);
                    read(index, &path);
                    for (number, &id) in branches.iter().enumerate() {
                        let mut inner = path.clone();
                        inner.push((group, number));
                        read(id, &inner);
                    }
                }
                None => node.inputs.iter().for_each(|&id| read(id, &path)),
            }
            groups.path[at] = path;
        }
        groups.members.iter_mut().for_each(|members| members.sort_unstable());
        groups
    }

    /// The group of a switch: one with the same index, number of branches and path of which no member needs the switch's output.
    fn join(
        &mut self,
        graph: &Graph,
        at: usize,
        path: &Path,
        ancestors: &BTreeMap<usize, BTreeSet<usize>>,
    ) -> usize {
        let key = |at: usize| parts(graph, at).map(|(index, branches)| (index, branches.len()));
        let own = &ancestors[&at];
        let fits = |group: &usize| {
            let first = self.members[*group][0];
            key(first) == key(at)
                && self.path[first] == *path
                && !self.closure(*group).contains(&at)
                && !self.members[*group].iter().any(|member| own.contains(member))
        };
        let group = (0..self.members.len()).find(fits).unwrap_or(self.members.len());
        if group == self.members.len() {
            self.members.push(Vec::new());
            self.needs.push(BTreeSet::new());
        }
        self.members[group].push(at);
        self.needs[group].extend(own);
        self.of.insert(at, group);
        group
    }

    /// All nodes that must run before a group ends, where the switches of a group run together.
    fn closure(&self, group: usize) -> BTreeSet<usize> {
        let mut found = BTreeSet::new();
        let (mut seen, mut open) = (BTreeSet::from([group]), vec![group]);
        while let Some(next) = open.pop() {
            for at in &self.needs[next] {
                found.insert(*at);
                if let Some(&other) = self.of.get(at)
                    && seen.insert(other)
                {
                    open.push(other);
                }
            }
        }
        found
    }
}

struct Order<'g> {
    graph: &'g Graph,
    groups: &'g Groups,
    done: Vec<bool>,
    events: Vec<Event>,
}

impl Order<'_> {
    /// The nodes with this path, and the branches between them.
    fn level(&mut self, path: &Path) {
        for at in 0..self.graph.nodes.len() {
            if self.groups.path[at] == *path {
                self.node(at, path);
            }
        }
    }

    fn node(&mut self, at: usize, path: &Path) {
        if self.done[at] {
            return;
        }
        let group = self.groups.of.get(&at).copied();
        let Some((group, (index, branches))) = group.zip(parts(self.graph, at)) else {
            self.done[at] = true;
            self.events.push(Event::Node(at));
            return;
        };
        let members = self.groups.members[group].clone();
        for before in self.groups.closure(group) {
            if self.groups.path[before] == *path && !members.contains(&before) {
                self.node(before, path);
            }
        }
        if self.done[at] {
            return;
        }
        members.iter().for_each(|&member| self.done[member] = true);
        let count = branches.len();
        for number in 0..count {
            self.events.push(Event::Begin { group, switches: members.clone(), index, number, count });
            let mut inner = path.clone();
            inner.push((group, number));
            self.level(&inner);
            self.events.push(Event::End { switches: members.clone(), number });
        }
    }
}

/// Whether an operator keeps a state between runs by itself.
fn keeps(op: &Op) -> bool {
    match op {
        Op::History { .. } => true,
        Op::MicroFrontend(settings) => settings.keeps,
        _ => false,
    }
}
