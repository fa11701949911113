//! Classes of interchangeable groups of channels: groups on the same axes of the same tensors.
//!
//! The groups of one family need not be interchangeable: in a layer that computes queries, keys and values at once,
//! the queries' groups are tied to the keys', but the values' are not.

use std::collections::BTreeMap;

use offshoot_compress::prune::Groups;
use offshoot_ir::{Graph, ValueId};

/// Interchangeable groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Class {
    /// Groups in their order along the axes.
    pub groups: Vec<usize>,
    /// Axes that carry the groups, with the number of indices per group.
    pub axes: Vec<(ValueId, usize, usize)>,
}

/// All classes of groups that are not fixed.
pub fn classes(graph: &Graph, groups: &Groups) -> Vec<Class> {
    // For each group, its axes with counts, and its first index on any axis.
    let mut axes: Vec<BTreeMap<(ValueId, usize), usize>> = vec![BTreeMap::new(); groups.len()];
    let mut order: Vec<Option<(ValueId, usize, usize)>> = vec![None; groups.len()];
    for index in 0..graph.values.len() {
        let id = ValueId(index as u32);
        for axis in 0..graph.value(id).shape.len() {
            let Some(along) = groups.along(id, axis) else { continue };
            for (i, &g) in along.iter().enumerate() {
                *axes[g].entry((id, axis)).or_insert(0) += 1;
                order[g].get_or_insert((id, axis, i));
            }
        }
    }
    let mut classes: BTreeMap<Vec<(ValueId, usize, usize)>, Vec<usize>> = BTreeMap::new();
    for (g, axes) in axes.into_iter().enumerate().filter(|(g, _)| groups.fixed[*g].is_none()) {
        let key = axes.into_iter().map(|((id, axis), count)| (id, axis, count)).collect();
        classes.entry(key).or_default().push(g);
    }
    let sorted = |(axes, mut groups): (Vec<_>, Vec<usize>)| {
        groups.sort_by_key(|&g| order[g]);
        Class { groups, axes }
    };
    classes.into_iter().map(sorted).collect()
}

/// The class of channel `first` of the constant `weights`.
pub(super) fn find<'c>(
    groups: &Groups,
    classes: &'c [Class],
    weights: ValueId,
    first: usize,
) -> Result<&'c Class, String> {
    let group = groups.along(weights, 0).and_then(|along| along.get(first));
    let &group = group.ok_or("its output channels are tied to what stays whole")?;
    if let Some(reason) = &groups.fixed[group] {
        return Err(format!("channel {first} {reason}"));
    }
    classes.iter().find(|c| c.groups.contains(&group)).ok_or_else(|| "it is in no class".into())
}
