//! The dependency graph: which channels must be removed together.
//!
//! Every operator with weights creates one *group* for each of its output channels. Groups are propagated forwards
//! along the axes of tensors; where an operator needs the same channels on two axes (a residual sum, a depthwise
//! filter, the two sides of a matrix product), their groups are united. Groups created together form a *family*: any
//! of its groups may be chosen for removal. This is the pruning dependency graph of OTOv2 (Chen et al. 2023) on
//! elements of axes instead of operators, so concatenation, splits and flattening need no special cases.
//!
//! A group is *zero-invariant*: with all its weights at zero nothing that remains depends on it, and deleting it
//! leaves the same function ([`super::slice`], [`super::masked`]). A group for which that does not hold is fixed,
//! with a reason.

use std::collections::{BTreeMap, BTreeSet};

use offshoot_ir::{Graph, Op, ValueId};

use super::rules;
use super::union::Units;
use crate::{Error, Result};

/// How a flat axis of channels is grouped when it is split in two, as in multi-head attention.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Split {
    /// By the last axis of the split: the same dimensions of every head go together.
    #[default]
    Dimensions,
    /// By the first axis: whole heads go together.
    Heads,
}

/// Groups along one axis of a tensor, one for each index.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    /// Group of each index.
    pub(super) units: Vec<u32>,
    /// Whether the tensor is zero wherever a group's weights are zero.
    pub(super) zero: bool,
}

/// State of one axis.
#[derive(Clone, Debug)]
pub(super) enum Slot {
    /// A constant that no operator has read yet.
    Unbound,
    /// Carries no groups.
    Whole,
    /// Carries groups.
    Channels(Axis),
}

/// A family of groups from which any may be removed.
#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    /// Its groups, ascending.
    pub groups: Vec<usize>,
    /// Channels of one group at the operator that created it (more than one for grouped convolutions and heads).
    pub channels: usize,
    /// Names of the operators with weights whose outputs carry the family, in the graph's order.
    pub operators: Vec<String>,
}

/// The dependency graph of a network.
#[derive(Clone, Debug)]
pub struct Groups {
    /// All families carried by the output of an operator with weights, in the graph's order.
    pub families: Vec<Family>,
    /// For each group, why it must stay.
    pub fixed: Vec<Option<String>>,
    /// Groups along axes of tensors and constants.
    axes: BTreeMap<(ValueId, usize), Vec<usize>>,
    /// Every distinct set of groups along an axis: at least one group of each must stay.
    floors: Vec<BTreeSet<usize>>,
    /// Constants that masking does not change: divisors and variances.
    unmasked: BTreeSet<ValueId>,
}

impl Groups {
    /// Finds the groups of a float graph.
    ///
    /// # Errors
    /// The graph is not well formed or already quantised.
    pub fn of(graph: &Graph, split: Split) -> Result<Self> {
        Self::walked(graph, split, false)
    }

    /// As [`Self::of`], for networks whose sub-networks are trained as such: normalised axes shrink as well, and
    /// groups need not be zero-invariant. [`super::slice`] then gives a smaller network, but not the same function.
    ///
    /// # Errors
    /// As [`Self::of`].
    pub fn elastic(graph: &Graph, split: Split) -> Result<Self> {
        Self::walked(graph, split, true)
    }

    fn walked(graph: &Graph, split: Split, elastic: bool) -> Result<Self> {
        graph.validate().map_err(|e| Error::Execution { node: graph.name.clone(), source: Box::new(e) })?;
        if let Some(v) = graph.values.iter().find(|v| v.quant.is_some()) {
            return Err(Error::AlreadyQuantized { tensor: v.name.clone() });
        }
        let mut walk = Walk::new(graph, split, elastic);
        for node in &graph.nodes {
            rules::apply(&mut walk, node);
        }
        for &id in &graph.outputs {
            let name = &graph.value(id).name;
            for axis in 0..graph.value(id).shape.len() {
                if let Slot::Channels(a) = walk.slot(id, axis).clone() {
                    walk.units.fix_all(&a.units, &format!("reaches the network's output `{name}`"));
                }
            }
        }
        Ok(walk.finish())
    }

    /// Number of groups.
    pub fn len(&self) -> usize {
        self.fixed.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.fixed.is_empty()
    }

    /// Groups along an axis of a tensor, if it carries channels.
    pub fn along(&self, id: ValueId, axis: usize) -> Option<&[usize]> {
        self.axes.get(&(id, axis)).map(Vec::as_slice)
    }

    /// Whether `group` can be removed in addition to those in `removed`: it is not fixed, and no axis becomes empty.
    pub fn removable(&self, removed: &[bool], group: usize) -> bool {
        self.fixed[group].is_none()
            && !removed[group]
            && (self.floors.iter().filter(|f| f.contains(&group)))
                .all(|floor| floor.iter().any(|&g| g != group && !removed[g]))
    }

    /// Why no group of a family can be removed; `None` if some can.
    pub fn refusal(&self, family: &Family) -> Option<&str> {
        let free = family.groups.iter().any(|&g| self.fixed[g].is_none());
        let first = family.groups.first().and_then(|&g| self.fixed[g].as_deref());
        if free { None } else { first }
    }

    /// Whether masking leaves this constant unchanged.
    pub(super) fn keeps(&self, id: ValueId) -> bool {
        self.unmasked.contains(&id)
    }

    /// The distinct sets of groups along axes.
    pub(super) fn floors(&self) -> &[BTreeSet<usize>] {
        &self.floors
    }

    /// For every element of constant `id`, whether it belongs to a group marked in `marked`; `None` if none does.
    pub fn elements(&self, graph: &Graph, id: ValueId, marked: &[bool]) -> Option<Vec<bool>> {
        let shape = &graph.value(id).shape;
        let mut hit: Option<Vec<bool>> = None;
        for axis in 0..shape.len() {
            let Some(groups) = self.along(id, axis).filter(|g| g.iter().any(|&g| marked[g])) else {
                continue;
            };
            let inner: usize = shape[axis + 1..].iter().product();
            let hit = hit.get_or_insert_with(|| vec![false; graph.value(id).len()]);
            for (i, h) in hit.iter_mut().enumerate() {
                *h |= marked[groups[i / inner % shape[axis]]];
            }
        }
        hit
    }
}

/// State of the propagation.
pub(super) struct Walk<'g> {
    pub(super) graph: &'g Graph,
    pub(super) split: Split,
    /// Groups need not be zero-invariant.
    pub(super) elastic: bool,
    pub(super) units: Units,
    slots: Vec<Vec<Slot>>,
    births: Vec<(u32, usize)>,
    unmasked: BTreeSet<ValueId>,
}

impl<'g> Walk<'g> {
    fn new(graph: &'g Graph, split: Split, elastic: bool) -> Self {
        let slot = |constant: bool| if constant { Slot::Unbound } else { Slot::Whole };
        let slots = graph.values.iter().map(|v| vec![slot(v.data.is_some()); v.shape.len()]).collect();
        let mut unmasked = BTreeSet::new();
        for node in &graph.nodes {
            let kept = match node.op {
                Op::BatchNorm { .. } => node.inputs.get(3..5).unwrap_or(&[]),
                Op::Binary { kind: offshoot_ir::BinaryKind::Div, .. } => &node.inputs[1..],
                _ => &[],
            };
            unmasked.extend(kept.iter().filter(|id| graph.value(**id).data.is_some()));
        }
        Self { graph, split, elastic, units: Units::default(), slots, births: Vec::new(), unmasked }
    }

    pub(super) fn shape(&self, id: ValueId) -> &'g [usize] {
        &self.graph.value(id).shape
    }

    fn slot(&mut self, id: ValueId, axis: usize) -> &mut Slot {
        &mut self.slots[id.0 as usize][axis]
    }

    /// The groups on an axis; a constant that no operator has read yet becomes whole.
    pub(super) fn read(&mut self, id: ValueId, axis: usize) -> Option<Axis> {
        let slot = self.slot(id, axis);
        if let Slot::Unbound = slot {
            *slot = Slot::Whole;
        }
        match slot {
            Slot::Channels(a) => Some(a.clone()),
            _ => None,
        }
    }

    /// [`Self::read`] for all axes.
    pub(super) fn read_all(&mut self, id: ValueId) -> Vec<Option<Axis>> {
        (0..self.shape(id).len()).map(|axis| self.read(id, axis)).collect()
    }

    /// Sets the groups of an operator's output.
    pub(super) fn write(&mut self, id: ValueId, axes: Vec<Option<Axis>>) {
        let slots = axes.into_iter().map(|a| a.map_or(Slot::Whole, Slot::Channels));
        self.slots[id.0 as usize] = slots.collect();
    }

    /// Whether an axis belongs to a constant that no operator has read yet.
    pub(super) fn is_unbound(&mut self, id: ValueId, axis: usize) -> bool {
        matches!(self.slot(id, axis), Slot::Unbound)
    }

    /// Requires an axis of a constant to have the groups `wanted`.
    pub(super) fn bind(&mut self, id: ValueId, axis: usize, wanted: Option<&Axis>, why: &str) {
        if self.is_unbound(id, axis) {
            // Masking sets a constant's elements to zero, whatever tensor it meets.
            let zero = !self.unmasked.contains(&id);
            *self.slot(id, axis) =
                wanted.map_or(Slot::Whole, |a| Slot::Channels(Axis { units: a.units.clone(), zero }));
            return;
        }
        let present = self.read(id, axis);
        self.unify(present, wanted.cloned(), why);
    }

    /// Requires two axes to have the same groups. If only one has any, those groups are fixed.
    pub(super) fn unify(&mut self, a: Option<Axis>, b: Option<Axis>, why: &str) -> Option<Axis> {
        match (a, b) {
            (Some(a), Some(b)) => {
                a.units.iter().zip(&b.units).for_each(|(&p, &q)| self.units.join(p, q));
                Some(Axis { zero: a.zero && b.zero, ..a })
            }
            (None, None) => None,
            (Some(a), None) | (None, Some(a)) => {
                self.units.fix_all(&a.units, why);
                Some(a)
            }
        }
    }

    /// Fixes groups, with the reason `why`.
    pub(super) fn fix(&mut self, axis: Option<&Axis>, why: &str) {
        if let Some(a) = axis {
            self.units.fix_all(&a.units, why);
        }
    }

    /// Creates `count` groups of one family.
    pub(super) fn birth(&mut self, count: usize, zero: bool) -> Axis {
        let units = self.units.family(count);
        if count == 1 {
            self.units.fix_all(&units, "is the only channel");
        }
        Axis { units, zero }
    }

    /// Records that an operator with weights writes these groups.
    pub(super) fn carried(&mut self, node: usize, axis: &Axis) {
        self.births.extend(axis.units.iter().map(|&u| (u, node)));
    }

    fn finish(mut self) -> Groups {
        let mut number: BTreeMap<u32, usize> = BTreeMap::new();
        let mut fixed = Vec::new();
        let (mut axes, mut floors) = (BTreeMap::new(), BTreeSet::new());
        for (v, slots) in self.slots.iter().enumerate() {
            for (axis, slot) in slots.iter().enumerate() {
                let Slot::Channels(a) = slot else { continue };
                let groups: Vec<usize> = (a.units.iter())
                    .map(|&u| {
                        let root = self.units.root(u);
                        *number.entry(root).or_insert_with(|| {
                            fixed.push(self.units.reason(root).map(str::to_owned));
                            fixed.len() - 1
                        })
                    })
                    .collect();
                floors.insert(groups.iter().copied().collect::<BTreeSet<_>>());
                axes.insert((ValueId(v as u32), axis), groups);
            }
        }
        let mut families: BTreeMap<u32, (usize, Family)> = BTreeMap::new();
        let mut births = std::mem::take(&mut self.births);
        births.sort_by_key(|&(_, node)| node);
        for &(unit, node) in &births {
            let (root, family) = (self.units.root(unit), self.units.family_of(unit));
            let Some(&group) = number.get(&root) else { continue };
            let empty = || (node, Family { groups: vec![], channels: 1, operators: vec![] });
            let (_, family) = families.entry(family).or_insert_with(empty);
            let name = &self.graph.nodes[node].name;
            if !family.operators.contains(name) {
                family.operators.push(name.clone());
            }
            family.groups.push(group);
        }
        let mut families: Vec<(usize, Family)> = families.into_values().collect();
        families.sort_by_key(|(node, _)| *node);
        for (first, family) in &mut families {
            // Channels of one group at the operator that created it.
            let one = family.groups[0];
            let same =
                births.iter().filter(|(u, n)| n == first && number.get(&self.units.root(*u)) == Some(&one));
            family.channels = same.count().max(1);
            family.groups.sort_unstable();
            family.groups.dedup();
        }
        Groups {
            families: families.into_iter().map(|(_, f)| f).collect(),
            fixed,
            axes,
            floors: floors.into_iter().collect(),
            unmasked: self.unmasked,
        }
    }
}
