//! Families of units that may be merged or permuted, and their positions on the axes of constants.

use std::collections::BTreeMap;

use offshoot_ir::{Data, Graph, Node, Op, ReduceKind, ValueId};

use crate::Result;
use crate::prune::{Groups, Split};

/// How an axis behaves when a unit on it is duplicated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// The axis holds results: the duplicate has the same numbers.
    Result,
    /// The operator sums over the axis: the two copies share the weight between them.
    Sum,
}

/// The units of a graph.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    groups: Groups,
    /// For each group: its family and its position in that family, if the family may change.
    place: Vec<Option<(usize, usize)>>,
    /// Sizes of the families that may change.
    pub(super) sizes: Vec<usize>,
}

impl Layout {
    /// Families that may be permuted; with `merging`, only those whose units may be duplicated.
    pub(super) fn of(graph: &Graph, merging: bool) -> Result<Self> {
        let groups = Groups::of(graph, Split::Dimensions)?;
        let mut place = vec![None; groups.len()];
        let mut sizes = Vec::new();
        for family in &groups.families {
            let free = family.groups.iter().all(|&g| groups.fixed[g].is_none());
            if free && family.groups.len() > 1 && whole(graph, &groups, &family.groups, merging) {
                for (at, &g) in family.groups.iter().enumerate() {
                    place[g] = Some((sizes.len(), at));
                }
                sizes.push(family.groups.len());
            }
        }
        Ok(Self { groups, place, sizes })
    }

    /// For each index of an axis: (family, position in it, how often that unit occurred before on the axis); `None`
    /// for units that stay.
    pub(super) fn along(&self, id: ValueId, axis: usize) -> Option<Vec<Option<(usize, usize, usize)>>> {
        let along = self.groups.along(id, axis)?;
        let mut count: BTreeMap<usize, usize> = BTreeMap::new();
        let each = along.iter().map(|&g| {
            let (family, at) = self.place[g]?;
            let seen = count.entry(g).or_default();
            *seen += 1;
            Some((family, at, *seen - 1))
        });
        let each: Vec<_> = each.collect();
        each.iter().any(Option::is_some).then_some(each)
    }
}

/// Whether every axis that carries one of the groups carries all of them equally often, and no operator depends on
/// their order or number.
fn whole(graph: &Graph, groups: &Groups, family: &[usize], merging: bool) -> bool {
    let member = |g: &usize| family.binary_search(g).is_ok();
    for (index, value) in graph.values.iter().enumerate() {
        let id = ValueId(index as u32);
        for axis in 0..value.shape.len() {
            let Some(along) = groups.along(id, axis).filter(|a| a.iter().any(&member)) else { continue };
            let mut count: BTreeMap<usize, usize> = BTreeMap::new();
            along.iter().filter(|g| member(g)).for_each(|&g| *count.entry(g).or_default() += 1);
            let times = count.values().next().copied().unwrap_or(0);
            let even = count.len() == family.len() && count.values().all(|&c| c == times);
            if !even || (value.data.is_some() && !matches!(value.data.as_deref(), Some(Data::F32(_)))) {
                return false;
            }
        }
    }
    let carries = |id: ValueId, axis: usize| groups.along(id, axis).is_some_and(|a| a.iter().any(&member));
    graph.nodes.iter().all(|node| !ordered(graph, node, &carries, merging))
}

/// Whether an operator depends on the order of units or, with `merging`, on their number.
fn ordered(graph: &Graph, node: &Node, carries: &dyn Fn(ValueId, usize) -> bool, merging: bool) -> bool {
    let x = node.inputs[0];
    let rank = |id: ValueId| graph.value(id).shape.len();
    match &node.op {
        Op::ArgMax { axis, .. } | Op::TopK { axis, .. } => carries(x, *axis),
        Op::Gather(_)
        | Op::Scatter { .. }
        | Op::GridSample { .. }
        | Op::Spectrum { .. }
        | Op::MicroFrontend(_) => node.inputs.iter().any(|&id| (0..rank(id)).any(|axis| carries(id, axis))),
        Op::Slice { step, .. } => {
            let y = node.output;
            (0..rank(x)).any(|axis| {
                carries(x, axis)
                    && (step[axis] != 1 || graph.value(x).shape[axis] != graph.value(y).shape[axis])
            })
        }
        Op::Softmax { axis } => merging && carries(x, *axis),
        Op::LayerNorm { .. } => merging && carries(x, rank(x) - 1),
        Op::Reduce { kind: ReduceKind::Sum, axes } => merging && axes.iter().any(|&a| carries(x, a)),
        // Both sides are computed, so neither can divide its weights between duplicates.
        Op::MatMul { .. } => {
            let computed = node.inputs.iter().all(|&id| graph.value(id).data.is_none());
            merging && computed && carries(x, rank(x) - 1)
        }
        _ => false,
    }
}

/// Role of an axis of constant `id`: the role that all its readers agree on, or `None` if they differ.
pub(super) fn role(graph: &Graph, id: ValueId, axis: usize) -> Option<Role> {
    let mut found = None;
    for node in &graph.nodes {
        for (at, _) in node.inputs.iter().enumerate().filter(|(_, i)| **i == id) {
            let rank = graph.value(id).shape.len();
            let sum = match &node.op {
                Op::Conv2d { .. } | Op::ConvTranspose2d { .. } => at == 1 && axis == 3,
                Op::FullyConnected { .. } => at == 1 && axis == 1,
                Op::MatMul { transpose_b } => {
                    let contracted = if at == 0 || *transpose_b { rank - 1 } else { rank.saturating_sub(2) };
                    axis == contracted
                }
                _ => false,
            };
            let role = if sum { Role::Sum } else { Role::Result };
            if found.is_some_and(|f| f != role) {
                return None;
            }
            found = Some(role);
        }
    }
    found.or(Some(Role::Result))
}

/// Gathers and weights elements along every axis: element `(i, j, …)` of the result is the sum over the sources that
/// `axes` lists for i, j, ….
pub(super) fn gather(data: &[f32], shape: &[usize], axes: &[Vec<Vec<(usize, f32)>>]) -> Vec<f32> {
    let mut now = data.to_vec();
    let mut extents = shape.to_vec();
    for (axis, picks) in axes.iter().enumerate() {
        let inner: usize = extents[axis + 1..].iter().product();
        let outer: usize = extents[..axis].iter().product();
        let old = extents[axis];
        let mut next = vec![0.0f32; outer * picks.len() * inner];
        for o in 0..outer {
            for (n, pick) in picks.iter().enumerate() {
                let to = &mut next[(o * picks.len() + n) * inner..][..inner];
                for &(i, factor) in pick {
                    let from = &now[(o * old + i) * inner..][..inner];
                    to.iter_mut().zip(from).for_each(|(t, f)| *t += factor * f);
                }
            }
        }
        now = next;
        extents[axis] = picks.len();
    }
    now
}

/// Sources that leave an axis unchanged.
pub(super) fn identity(extent: usize) -> Vec<Vec<(usize, f32)>> {
    (0..extent).map(|i| vec![(i, 1.0)]).collect()
}
