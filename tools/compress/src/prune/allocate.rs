//! Chooses how many channels of which family to remove, and which layers get fewer bits: greedily, by loss per saving.

use std::collections::BTreeMap;

use offshoot_ir::{Graph, Node, Op, ValueId};

use super::groups::{Family, Groups};
use super::memory::Memory;
use crate::quantize::{WeightBits, packs};

/// A step towards a smaller network: groups that are removed at once (those of one family that bring it to the next
/// multiple), or fewer bits for the weights of one layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Move {
    /// The groups; empty if it is about bits.
    pub groups: Vec<usize>,
    /// The layer that gets fewer bits, and how many.
    pub bits: Option<(String, u8)>,
    /// What it loses, in units of the scores.
    pub lost: f64,
    /// What remains after this move: for [`order`] the share of weights and multiply-accumulates, weighted by
    /// `bytes_share`; for a budget the larger of the modelled sizes, as a share of its limit.
    pub left: f64,
}

/// Which families may shrink, and how far.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    /// Families keep a multiple of this many channels where they can.
    pub(super) multiple: usize,
    /// Least groups of every family.
    pub(super) floors: Vec<usize>,
}

impl Rules {
    /// The same share of every family stays.
    pub(super) fn new(groups: &Groups, multiple: usize, least: f64) -> Self {
        let floor = |f: &Family| ((f.groups.len() as f64 * least).ceil() as usize).max(1);
        Self { multiple, floors: groups.families.iter().map(floor).collect() }
    }
}

/// A layer that can take fewer bits, and what that loses.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Lowering {
    /// Name of the layer.
    pub(crate) layer: String,
    /// Its weights.
    pub(crate) weights: ValueId,
    /// The new bits.
    pub(crate) bits: u8,
    /// The loss that it adds.
    pub(crate) lost: f64,
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
    let cost = Cost::new(graph, groups, removed, &Rates::default());
    let [bytes, work, _] = Cost::new(graph, groups, &vec![false; removed.len()], &Rates::default()).totals();
    let weights = [bytes_share / bytes.max(1.0), (1.0 - bytes_share) / work.max(1.0), 0.0];
    let rules = Rules::new(groups, multiple, least);
    moves(groups, scores, removed, &rules, &[], cost, &Weigh::Fixed(weights))
}

/// As [`order`], towards a budget: only what exceeds its limit counts, as far as it does.
pub(super) fn toward(
    groups: &Groups,
    scores: &[f64],
    removed: &[bool],
    rules: &Rules,
    lowerings: &[Lowering],
    cost: Cost,
    aim: Aim,
) -> Vec<Move> {
    // The model knows no headers, no operators without weights, and no workspace.
    let totals = cost.totals();
    let other = [0, 1, 2].map(|i| aim.now[i] - totals[i]);
    moves(groups, scores, removed, rules, lowerings, cost, &Weigh::Toward { other, goal: aim.goal })
}

fn moves(
    groups: &Groups,
    scores: &[f64],
    removed: &[bool],
    rules: &Rules,
    lowerings: &[Lowering],
    mut cost: Cost,
    weigh: &Weigh,
) -> Vec<Move> {
    let (mut removed, mut moves) = (removed.to_vec(), Vec::new());
    let mut lowerings = lowerings.to_vec();
    loop {
        let weights = weigh.weights(cost.totals());
        let price = |lost: f64, saved: [f64; 3]| lost / dot(weights, saved).max(f64::MIN_POSITIVE);
        let channels = groups.families.iter().zip(&rules.floors).filter_map(|(family, &floor)| {
            let chosen = next(groups, family, scores, &removed, rules.multiple, floor)?;
            let lost: f64 = chosen.iter().map(|&g| scores[g]).sum();
            Some((price(lost, cost.saved(&chosen)), lost, chosen, None))
        });
        let bits = lowerings.iter().enumerate().map(|(i, l)| {
            (price(l.lost, [cost.lowered(l.weights, l.bits), 0.0, 0.0]), l.lost, vec![], Some(i))
        });
        let Some((_, lost, chosen, lowered)) = channels.chain(bits).min_by(|a, b| a.0.total_cmp(&b.0)) else {
            break;
        };
        for &g in &chosen {
            removed[g] = true;
            cost.remove(g);
        }
        let bits = lowered.map(|i| lowerings.remove(i)).map(|l| {
            cost.lower(l.weights, l.bits);
            // A layer does not go back from 2 bits to 4.
            lowerings.retain(|other| other.layer != l.layer || other.bits < l.bits);
            let rest = lowerings.iter_mut().filter(|other| other.layer == l.layer);
            rest.for_each(|other| other.lost = (other.lost - l.lost).max(0.0));
            (l.layer, l.bits)
        });
        moves.push(Move { groups: chosen, bits, lost, left: weigh.left(cost.totals()) });
    }
    moves
}

/// What savings are worth.
enum Weigh {
    /// Always the same for a byte and a unit of work.
    Fixed([f64; 3]),
    /// As far as the modelled size, with what the model leaves out, exceeds its goal.
    Toward { other: [f64; 3], goal: [f64; 3] },
}

impl Weigh {
    fn weights(&self, totals: [f64; 3]) -> [f64; 3] {
        match self {
            Self::Fixed(weights) => *weights,
            Self::Toward { other, goal } => {
                let limited = goal.map(|g| if g.is_finite() { 1.0 / g.max(1.0) } else { 0.0 });
                let excess =
                    [0, 1, 2].map(|i| ((totals[i] + other[i]) * limited[i] - 1.0).max(0.0) * limited[i]);
                // The model is satisfied, the measurement is not: whatever has a limit counts.
                let none = [0.0; 3];
                match excess == none {
                    true if limited == none => [0.5 / totals[0].max(1.0), 0.5 / totals[1].max(1.0), 0.0],
                    true => limited,
                    false => excess,
                }
            }
        }
    }

    fn left(&self, totals: [f64; 3]) -> f64 {
        match self {
            Self::Fixed(weights) => dot(*weights, totals),
            Self::Toward { other, goal } => {
                [0, 1, 2].map(|i| (totals[i] + other[i]) / goal[i].max(1.0)).into_iter().fold(0.0, f64::max)
            }
        }
    }
}

fn dot(a: [f64; 3], b: [f64; 3]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Measured sizes of a network, and the sizes wanted: bytes of the file, work in the unit of the rates, and bytes of arena.
/// A goal is infinite where nothing is limited.
#[derive(Clone, Copy, Debug)]
pub(super) struct Aim {
    /// Now.
    pub(super) now: [f64; 3],
    /// Wanted.
    pub(super) goal: [f64; 3],
}

/// The least important groups of a family, down to its next multiple.
pub(super) fn next(
    groups: &Groups,
    family: &Family,
    scores: &[f64],
    removed: &[bool],
    multiple: usize,
    floor: usize,
) -> Option<Vec<usize>> {
    let mut left: Vec<usize> = family.groups.iter().copied().filter(|&g| !removed[g]).collect();
    let step = multiple.max(1) / gcd(multiple.max(1), family.channels);
    let goal = (left.len().checked_sub(1)?) / step * step;
    if goal < floor.max(1) {
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

pub(super) fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// What a multiply-accumulate of each layer takes, what other operators take, and how many bits each weight.
#[derive(Clone, Debug, Default)]
pub(super) struct Rates {
    /// Work of one multiply-accumulate by name of the operator; 1 without an entry.
    pub(super) work: BTreeMap<String, f64>,
    /// Work of one element of the output, by name of an operator without weights; 0 without an entry.
    pub(super) elements: BTreeMap<String, f64>,
    /// Bytes of arena that are live while an operator runs, by its name.
    pub(super) live: BTreeMap<String, u64>,
    /// Bits of the weights.
    pub(super) bits: WeightBits,
}

/// One constant, or the output of an operator without weights: for each axis, the number of indices of each group and the number of remaining indices.
#[derive(Clone, Debug)]
struct Part {
    id: ValueId,
    axes: Vec<(BTreeMap<usize, usize>, usize)>,
    /// Bytes and work of an element.
    price: [f64; 2],
}

impl Part {
    fn elements(&self) -> f64 {
        self.axes.iter().map(|(_, left)| *left as f64).product()
    }
}

/// Remaining weights in bytes, remaining work, and the most bytes of arena that are live at once.
#[derive(Clone, Debug)]
pub(super) struct Cost {
    parts: Vec<Part>,
    /// Tensors in the arena.
    tensors: Vec<Part>,
    /// For each operator: bytes that do not depend on channels, and the tensors that are live while it runs.
    steps: Vec<(f64, Vec<usize>)>,
}

impl Cost {
    pub(super) fn new(graph: &Graph, groups: &Groups, removed: &[bool], rates: &Rates) -> Self {
        let axes = |id: ValueId| -> Vec<(BTreeMap<usize, usize>, usize)> {
            let one = |(axis, &extent): (usize, &usize)| {
                let mut counts = BTreeMap::new();
                let along = groups.along(id, axis).unwrap_or(&[]);
                along.iter().filter(|&&g| !removed[g]).for_each(|&g| *counts.entry(g).or_insert(0) += 1);
                let left = if along.is_empty() { extent } else { counts.values().sum() };
                (counts, left)
            };
            graph.value(id).shape.iter().enumerate().map(one).collect()
        };
        let mut parts = Vec::new();
        for (index, value) in graph.values.iter().enumerate().filter(|(_, v)| v.data.is_some()) {
            let id = ValueId(index as u32);
            let recurrent = |n: &Node| matches!(n.op, Op::Recurrent { .. }) && n.inputs.get(2) == Some(&id);
            let readers = || graph.nodes.iter().filter(|n| n.inputs.get(1) == Some(&id) || recurrent(n));
            let work: f64 = readers()
                .map(|n| pixels(graph, n) as f64 * rates.work.get(&n.name).copied().unwrap_or(1.0))
                .sum();
            let bits = readers().find(|n| packs(graph, n)).map_or(8, |n| bits_of(&rates.bits, n));
            // A bias takes four bytes, and its multiplier another four.
            let bytes = if value.shape.len() > 1 { f64::from(bits) / 8.0 } else { 8.0 };
            parts.push(Part { id, axes: axes(id), price: [bytes, work] });
        }
        // Pooling and sums of activations have no weights, and a share of the instructions.
        for node in &graph.nodes {
            if let Some(&work) = rates.elements.get(&node.name) {
                parts.push(Part { id: node.output, axes: axes(node.output), price: [0.0, work] });
            }
        }
        let memory = Memory::of(graph, &rates.live);
        let tensors: Vec<Part> =
            memory.tensors.iter().map(|&id| Part { id, axes: axes(id), price: [0.0; 2] }).collect();
        let modelled = |live: &[usize]| live.iter().map(|&t| tensors[t].elements()).sum::<f64>();
        let steps = memory.steps.into_iter().map(|(bytes, live)| (bytes as f64 - modelled(&live), live));
        let steps = steps.collect();
        Self { parts, tensors, steps }
    }

    /// First-order saving of these groups together: elements that two of them share count twice. Of the arena, what is
    /// saved while most is live.
    pub(super) fn saved(&self, chosen: &[usize]) -> [f64; 3] {
        let gone = |part: &Part| {
            let gone = part.axes.iter().filter(|(_, left)| *left > 0).map(|(counts, left)| {
                let indices: usize = chosen.iter().filter_map(|g| counts.get(g)).sum();
                indices as f64 / *left as f64
            });
            part.elements() * gone.sum::<f64>()
        };
        let mut saved = [0.0; 3];
        for part in &self.parts {
            let gone = gone(part);
            saved.iter_mut().zip(part.price).for_each(|(s, p)| *s += p * gone);
        }
        if let Some((_, live)) = self.fullest() {
            saved[2] = live.iter().map(|&t| gone(&self.tensors[t])).sum();
        }
        saved
    }

    fn remove(&mut self, group: usize) {
        for (counts, left) in self.parts.iter_mut().chain(&mut self.tensors).flat_map(|p| &mut p.axes) {
            *left -= counts.remove(&group).unwrap_or(0);
        }
    }

    /// Most bytes that are live at once, and the tensors that are live then.
    fn fullest(&self) -> Option<(f64, &[usize])> {
        let bytes = |(other, live): &(f64, Vec<usize>)| {
            other + live.iter().map(|&t| self.tensors[t].elements()).sum::<f64>()
        };
        let all = self.steps.iter().map(|step| (bytes(step), step.1.as_slice()));
        all.max_by(|a, b| a.0.total_cmp(&b.0))
    }

    /// Bytes saved by fewer bits for a constant.
    fn lowered(&self, id: ValueId, bits: u8) -> f64 {
        let part = self.parts.iter().find(|p| p.id == id);
        part.map_or(0.0, |p| (p.price[0] - f64::from(bits) / 8.0).max(0.0) * p.elements())
    }

    fn lower(&mut self, id: ValueId, bits: u8) {
        if let Some(part) = self.parts.iter_mut().find(|p| p.id == id) {
            part.price[0] = f64::from(bits) / 8.0;
        }
    }

    /// Bytes, work, and bytes of arena.
    pub(super) fn totals(&self) -> [f64; 3] {
        let mut totals = [0.0, 0.0, self.fullest().map_or(0.0, |(bytes, _)| bytes)];
        for part in &self.parts {
            totals.iter_mut().zip(part.price).for_each(|(t, p)| *t += p * part.elements());
        }
        totals
    }
}

fn bits_of(bits: &WeightBits, node: &Node) -> u8 {
    let of = |name: &str| bits.layers.get(name).copied();
    of(&node.name).or_else(|| of(node.op.name())).unwrap_or(bits.weights)
}

/// How often each weight of an operator is used in a run.
fn pixels(graph: &Graph, n: &Node) -> usize {
    let rows = |id: ValueId| {
        let value = graph.value(id);
        value.len() / value.shape.last().copied().unwrap_or(1).max(1)
    };
    match n.op {
        Op::Conv2d { .. } | Op::FullyConnected { .. } | Op::MatMul { .. } => rows(n.output),
        // Every weight is used at every time step.
        Op::Recurrent { .. } => graph.value(n.inputs[0]).shape.iter().take(2).product(),
        Op::ConvTranspose2d { .. } => rows(n.inputs[0]),
        _ => 0,
    }
}
