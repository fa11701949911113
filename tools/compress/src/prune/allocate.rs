//! Chooses how many channels of which family to remove: greedily, by loss per saving.

use std::collections::BTreeMap;

use offshoot_ir::{Graph, Node, Op, ValueId};

use super::groups::{Family, Groups};

/// Groups removed at once: those of one family that bring it to the next multiple.
#[derive(Clone, Debug, PartialEq)]
pub struct Move {
    /// The groups.
    pub groups: Vec<usize>,
    /// Remaining share of weights and multiply-accumulates, weighted by `bytes_share`, after this move.
    pub left: f64,
}

/// Groups in the order in which they are removed, after those marked in `removed`, until no more can be: least score
/// per saved weights and multiply-accumulates first. Weights count with `bytes_share`, multiply-accumulates with the
/// rest. Families keep a multiple of `multiple` channels where they can, and at least the share `least` of their
/// groups.
pub fn order(
    graph: &Graph,
    groups: &Groups,
    scores: &[f64],
    removed: &[bool],
    multiple: usize,
    least: f64,
    bytes_share: f64,
) -> Vec<Move> {
    let mut cost = Cost::new(graph, groups, removed, bytes_share);
    let mut removed = removed.to_vec();
    let mut moves = Vec::new();
    loop {
        let candidates = groups.families.iter().filter_map(|family| {
            let chosen = next(groups, family, scores, &removed, multiple, least)?;
            let saved = cost.saved(&chosen);
            let lost: f64 = chosen.iter().map(|&g| scores[g]).sum();
            Some((lost / saved.max(f64::MIN_POSITIVE), chosen))
        });
        let Some((_, chosen)) = candidates.min_by(|a, b| a.0.total_cmp(&b.0)) else { break };
        for &g in &chosen {
            removed[g] = true;
            cost.remove(g);
        }
        moves.push(Move { groups: chosen, left: cost.left() });
    }
    moves
}

/// The least important groups of a family, down to its next multiple.
fn next(
    groups: &Groups,
    family: &Family,
    scores: &[f64],
    removed: &[bool],
    multiple: usize,
    least: f64,
) -> Option<Vec<usize>> {
    let mut left: Vec<usize> = family.groups.iter().copied().filter(|&g| !removed[g]).collect();
    let step = multiple.max(1) / gcd(multiple.max(1), family.channels);
    let floor = ((family.groups.len() as f64 * least).ceil() as usize).max(1);
    let goal = (left.len().checked_sub(1)?) / step * step;
    if goal < floor {
        return None;
    }
    let wanted = left.len() - goal;
    left.sort_by(|&a, &b| scores[a].total_cmp(&scores[b]));
    let (mut trial, mut chosen) = (removed.to_vec(), Vec::with_capacity(wanted));
    for g in left {
        if chosen.len() < wanted && groups.removable(&trial, g) {
            trial[g] = true;
            chosen.push(g);
        }
    }
    (chosen.len() == wanted).then_some(chosen)
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// One constant: for each axis, the number of indices of each group and the number of remaining indices.
struct Part {
    axes: Vec<(BTreeMap<usize, usize>, usize)>,
    /// Weighted share of all bytes and multiply-accumulates per element.
    price: f64,
}

/// Remaining weights and multiply-accumulates.
struct Cost {
    parts: Vec<Part>,
}

impl Cost {
    fn new(graph: &Graph, groups: &Groups, removed: &[bool], bytes_share: f64) -> Self {
        let (mut parts, mut totals) = (Vec::new(), (0.0, 0.0));
        let mut prices = Vec::new();
        for (index, value) in graph.values.iter().enumerate().filter(|(_, v)| v.data.is_some()) {
            let id = ValueId(index as u32);
            let recurrent = |n: &Node| matches!(n.op, Op::Recurrent { .. }) && n.inputs.get(2) == Some(&id);
            let readers = graph.nodes.iter().filter(|n| n.inputs.get(1) == Some(&id) || recurrent(n));
            let pixels: usize = readers
                .map(|n| match n.op {
                    Op::Conv2d { .. } | Op::FullyConnected { .. } | Op::MatMul { .. } => {
                        let y = graph.value(n.output);
                        y.len() / y.shape.last().copied().unwrap_or(1).max(1)
                    }
                    // Every weight is used at every time step.
                    Op::Recurrent { .. } => graph.value(n.inputs[0]).shape.iter().take(2).product(),
                    Op::ConvTranspose2d { .. } => {
                        let x = graph.value(n.inputs[0]);
                        x.len() / x.shape.last().copied().unwrap_or(1).max(1)
                    }
                    _ => 0,
                })
                .sum();
            // A bias takes four bytes, and its multiplier another four.
            let bytes = if value.shape.len() > 1 { 1.0 } else { 8.0 };
            totals.0 += bytes * value.len() as f64;
            totals.1 += pixels as f64 * value.len() as f64;
            prices.push((bytes, pixels as f64));
            let axes = (0..value.shape.len()).map(|axis| {
                let mut counts = BTreeMap::new();
                let along = groups.along(id, axis).unwrap_or(&[]);
                along.iter().filter(|&&g| !removed[g]).for_each(|&g| *counts.entry(g).or_insert(0) += 1);
                let left = if along.is_empty() { value.shape[axis] } else { counts.values().sum() };
                (counts, left)
            });
            parts.push(Part { axes: axes.collect(), price: 0.0 });
        }
        for (part, (bytes, macs)) in parts.iter_mut().zip(prices) {
            part.price = bytes_share * bytes / f64::max(totals.0, 1.0)
                + (1.0 - bytes_share) * macs / f64::max(totals.1, 1.0);
        }
        Self { parts }
    }

    /// First-order saving of these groups together: elements that two of them share count twice.
    fn saved(&self, chosen: &[usize]) -> f64 {
        let part = |part: &Part| -> f64 {
            let all: f64 = part.axes.iter().map(|(_, left)| *left as f64).product();
            let gone = part.axes.iter().filter(|(_, left)| *left > 0).map(|(counts, left)| {
                let indices: usize = chosen.iter().filter_map(|g| counts.get(g)).sum();
                indices as f64 / *left as f64
            });
            part.price * all * gone.sum::<f64>()
        };
        self.parts.iter().map(part).sum()
    }

    fn remove(&mut self, group: usize) {
        for (counts, left) in self.parts.iter_mut().flat_map(|p| &mut p.axes) {
            *left -= counts.remove(&group).unwrap_or(0);
        }
    }

    fn left(&self) -> f64 {
        let elements = |p: &Part| p.axes.iter().map(|(_, left)| *left as f64).product::<f64>();
        self.parts.iter().map(|p| p.price * elements(p)).sum()
    }
}
