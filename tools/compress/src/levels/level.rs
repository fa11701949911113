//! A network and the smaller one made by merging its units and blocks in pairs.
//!
//! Coalescing averages the two units of a pair where they are results, and adds them where an operator sums over
//! them; of two identical blocks it averages the weights and removes the second. De-coalescing gives both units of a
//! pair the same numbers and divides summed weights between them, so that **without merged blocks the larger network
//! computes what the smaller one does**; coalescing it again gives the smaller one back. Both blocks of a pair get
//! the same numbers, which changes the function (as in the paper); interpolation with the trained larger network
//! makes up for that.

use std::collections::BTreeMap;
use std::sync::Arc;

use offshoot_ir::{Data, Graph, Op, ValueId};

use super::depth::{self, Twin};
use super::units::{Layout, Role, gather, identity, role};
use crate::{Error, Result};

/// What is merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LevelOptions {
    /// Units in pairs.
    pub width: bool,
    /// Blocks in pairs.
    pub depth: bool,
}

impl Default for LevelOptions {
    fn default() -> Self {
        Self { width: true, depth: true }
    }
}

/// Where a constant of the larger network comes from.
#[derive(Clone, Debug)]
struct Source {
    /// Name of the smaller network's constant.
    small: String,
    /// Shape of that constant.
    shape: Vec<usize>,
    /// For each axis and index of the larger constant: indices into the smaller one, with weights.
    axes: Axes,
}

/// For each axis and index: source indices and their weights.
type Axes = Vec<Vec<Vec<(usize, f32)>>>;

/// The mapping between a larger network and a smaller one, in both directions.
#[derive(Clone, Debug)]
pub struct Level {
    large: Graph,
    sources: BTreeMap<String, Source>,
    /// Units before and after, for each family that was merged.
    pub families: Vec<[usize; 2]>,
    /// Names of the operators removed with the second block of each pair.
    pub removed: Vec<Vec<String>>,
}

impl Level {
    /// Coalesces `graph`; returns the smaller network and the mapping back.
    ///
    /// # Errors
    /// The graph is not well formed, or is quantised.
    pub fn of(graph: &Graph, options: LevelOptions) -> Result<(Graph, Self)> {
        let mut small = graph.clone();
        let mut up: BTreeMap<u32, Axes> = BTreeMap::new();
        let mut families = Vec::new();
        if options.width {
            let layout = Layout::of(graph, true)?;
            families = layout.sizes.iter().map(|&n| [n, n.div_ceil(2)]).collect();
            for index in 0..graph.values.len() {
                merge(graph, &layout, ValueId(index as u32), &mut small, &mut up);
            }
            fix_groups(graph, &mut small);
        }
        let (twins, mut owners) = (if options.depth { depth::twins(graph) } else { vec![] }, BTreeMap::new());
        let removed = twins.iter().map(|t| t.second.iter().map(|&i| graph.nodes[i].name.clone()).collect());
        let removed = removed.collect();
        for twin in &twins {
            owners.extend(average(&mut small, graph, twin));
        }
        depth::remove_second(&mut small, &twins);
        let mut sources = BTreeMap::new();
        for (index, value) in graph.values.iter().enumerate() {
            if !matches!(value.data.as_deref(), Some(Data::F32(_))) {
                continue;
            }
            let axes = up.remove(&(index as u32));
            let axes = axes.unwrap_or_else(|| value.shape.iter().map(|&n| identity(n)).collect());
            let owner = owners.get(&ValueId(index as u32)).copied().unwrap_or(ValueId(index as u32));
            let (small_name, shape) = (graph.value(owner).name.clone(), small.value(owner).shape.clone());
            sources.insert(value.name.clone(), Source { small: small_name, shape, axes });
        }
        let small = small.prune_unreachable();
        let well = |e: offshoot_ir::Error| Error::Execution { node: graph.name.clone(), source: Box::new(e) };
        small.validate().map_err(well)?;
        Ok((small, Self { large: graph.clone(), sources, families, removed }))
    }

    /// De-coalesces: returns the larger network with the numbers of the smaller one.
    ///
    /// # Errors
    /// `small` is not the smaller network of this level (trained or not).
    pub fn up(&self, small: &Graph) -> Result<Graph> {
        let mut out = self.large.clone();
        for value in &mut out.values {
            let Some(source) = self.sources.get(&value.name) else { continue };
            let found = small.values.iter().find(|v| v.name == source.small && v.shape == source.shape);
            let Some(Data::F32(data)) = found.and_then(|v| v.data.as_deref()) else {
                return Err(Error::Option {
                    option: "small",
                    reason: format!("there is no `{}` of shape {:?} in it", source.small, source.shape),
                });
            };
            value.data = Some(Arc::new(Data::F32(gather(data, &source.shape, &source.axes))));
        }
        Ok(out)
    }
}

/// `(1 - α) a + α b`, element by element, for two graphs of the same form.
///
/// # Errors
/// Their constants differ in name or shape.
pub fn interpolate(a: &Graph, b: &Graph, alpha: f32) -> Result<Graph> {
    let mut out = a.clone();
    for value in &mut out.values {
        let Some(Data::F32(mine)) = value.data.as_deref() else { continue };
        let other = b.values.iter().find(|v| v.name == value.name && v.shape == value.shape);
        let Some(Data::F32(other)) = other.and_then(|v| v.data.as_deref()) else {
            let reason = format!("the other network has no `{}` of that shape", value.name);
            return Err(Error::Option { option: "interpolate", reason });
        };
        let mixed = mine.iter().zip(other).map(|(a, b)| (1.0 - alpha) * a + alpha * b).collect();
        value.data = Some(Arc::new(Data::F32(mixed)));
    }
    Ok(out)
}

/// Merges pairs of units along the axes of one value.
fn merge(graph: &Graph, layout: &Layout, id: ValueId, small: &mut Graph, up: &mut BTreeMap<u32, Axes>) {
    let value = graph.value(id);
    let (mut smaller, mut larger) = (Vec::new(), Vec::new());
    for (axis, &extent) in value.shape.iter().enumerate() {
        let Some(along) = layout.along(id, axis) else {
            smaller.push(identity(extent));
            larger.push(identity(extent));
            continue;
        };
        let sum = role(graph, id, axis) == Some(Role::Sum);
        // New index of (family, pair, occurrence).
        let mut index: BTreeMap<(usize, usize, usize), usize> = BTreeMap::new();
        let mut picks: Vec<Vec<usize>> = Vec::new();
        let mut back = Vec::with_capacity(extent);
        for (i, place) in along.iter().enumerate() {
            let new = match place {
                Some((family, at, times)) => *index.entry((*family, at / 2, *times)).or_insert(picks.len()),
                None => picks.len(),
            };
            if new == picks.len() {
                picks.push(Vec::new());
            }
            picks[new].push(i);
            back.push(new);
        }
        let share = |members: usize| 1.0 / members as f32;
        larger.push(back.iter().map(|&n| vec![(n, if sum { share(picks[n].len()) } else { 1.0 })]).collect());
        let factor = |members: usize| if sum { 1.0 } else { share(members) };
        smaller.push(picks.iter().map(|p| p.iter().map(|&i| (i, factor(p.len()))).collect()).collect());
    }
    let shape: Vec<usize> = smaller.iter().map(Vec::len).collect();
    let new = small.value_mut(id);
    if let Some(Data::F32(data)) = value.data.as_deref() {
        new.data = Some(Arc::new(Data::F32(gather(data, &value.shape, &smaller))));
        up.insert(id.0, larger);
    }
    new.shape = shape;
}

/// Sets the groups of convolutions from the remaining channels.
fn fix_groups(graph: &Graph, small: &mut Graph) {
    for index in 0..graph.nodes.len() {
        let (x, w) = match &graph.nodes[index].inputs[..] {
            [x, w, ..] => (*x, *w),
            _ => continue,
        };
        let channels = small.value(x).shape.last().copied().unwrap_or(1);
        let per_group = small.value(w).shape.get(3).copied().unwrap_or(1).max(1);
        if let Op::Conv2d { groups, .. } | Op::ConvTranspose2d { groups, .. } = &mut small.nodes[index].op {
            *groups = channels / per_group;
        }
    }
}

/// Averages the constants of two blocks into those of the first; maps each constant of the second block to its
/// replacement.
fn average(small: &mut Graph, graph: &Graph, twin: &Twin) -> BTreeMap<ValueId, ValueId> {
    let mut owners = BTreeMap::new();
    for (&a, &b) in twin.first.iter().zip(&twin.second) {
        for (&x, &y) in graph.nodes[a].inputs.iter().zip(&graph.nodes[b].inputs) {
            let (mine, other) = (small.value(x).data.clone(), small.value(y).data.clone());
            let (Some(mine), Some(other)) = (mine, other) else { continue };
            if x != y
                && !owners.contains_key(&y)
                && let (Data::F32(mine), Data::F32(other)) = (mine.as_ref(), other.as_ref())
            {
                let mean = mine.iter().zip(other).map(|(a, b)| 0.5 * (a + b)).collect();
                small.value_mut(x).data = Some(Arc::new(Data::F32(mean)));
                owners.insert(y, x);
            }
        }
    }
    owners
}
