//! The whole method: periods of scoring, choosing, deleting, refitting and training.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ndarray::{ArrayD, Axis, IxDyn};
use offshoot_export::Core;
use offshoot_ir::Graph;
use offshoot_train::{Augment, Dataset, Target};
use serde::Serialize;

use super::allocate::{Aim, Cost, Rates, Rules, toward};
use super::budget::{Gauge, Instructions, Limits, Size};
use super::choose::{chosen, with};
use super::give_back::{Choice, Judge, Known};
use super::groups::{Family, Groups, Split};
use super::lowering::lowerings;
use super::refit::refit;
use super::scores::{Score, scores};
use super::slice::slice;
use super::tune::{Stage, train};
use crate::quantize::WeightBits;
use crate::{Error, Result};

/// Settings of [`prune`].
#[derive(Clone, Debug)]
pub struct PruneOptions {
    /// Most bytes of the int8 model file.
    pub max_flash: Option<u64>,
    /// Most bytes of arena.
    pub max_ram: Option<u64>,
    /// Most multiply-accumulates per run.
    pub max_macs: Option<u64>,
    /// Most instructions per run, as [`PruneOptions::instructions`] counts them.
    pub max_instructions: Option<u64>,
    /// Counts the instructions of one run of an `.off` file.
    pub instructions: Option<Instructions>,
    /// Core that sizes are measured for.
    pub core: Core,
    /// Bits of weights for which sizes are measured.
    pub weight_bits: WeightBits,
    /// Fewest bits that weights may get along with the removal of channels: 8, 4 or 2.
    pub fewest_bits: u8,
    /// Layers that keep all their channels, by name.
    pub keep: Vec<String>,
    /// Share of the channels that a layer keeps, by its name; it is neither more nor less.
    pub ratios: BTreeMap<String, f64>,
    /// The score by which channels are ranked.
    pub score: Score,
    /// Families keep a multiple of this many channels where they can, to suit the target's kernels.
    pub multiple: usize,
    /// Share of every family that always stays.
    pub least: f64,
    /// Number of times that channels are scored and removed (the periods of HESSO); sizes fall in equal ratios.
    pub periods: usize,
    /// Whether dimensions or heads of attention are removed.
    pub split: Split,
    /// Samples on which layers are refitted; 0 for no refit.
    pub refit_samples: usize,
    /// Samples over which gradients are taken.
    pub score_samples: usize,
    /// Passes over the data in each period during which the channels to be removed fade to zero while the rest learns
    /// to do without them (hybrid training of HESSO); 0 deletes them at once, and refits.
    pub fade_epochs: usize,
    /// Passes over the data after the last deletion, learning from the uncompressed network and the targets.
    pub epochs: usize,
    /// Highest learning rate.
    pub rate: f32,
    /// Whether batch normalisation is put back behind convolutions for the final training, and folded afterwards.
    pub normalise: bool,
    /// Augments training samples.
    pub augment: Option<Arc<dyn Augment>>,
    /// Whether training samples are mixed in pairs.
    pub mix: bool,
    /// Weight of the uncompressed network's outputs in the loss; the targets, if there are any, have the rest.
    pub distil: f32,
    /// Share of the labels that is spread over all classes.
    pub smoothing: f32,
    /// Seed of the sample order.
    pub seed: u64,
    /// Where training is saved and resumed from.
    pub checkpoint: Option<offshoot_train::Checkpoint>,
}

impl Default for PruneOptions {
    fn default() -> Self {
        Self {
            max_flash: None,
            max_ram: None,
            max_macs: None,
            max_instructions: None,
            instructions: None,
            core: Core::default(),
            weight_bits: WeightBits::default(),
            fewest_bits: 8,
            keep: Vec::new(),
            ratios: BTreeMap::new(),
            score: Score::default(),
            multiple: 4,
            least: 0.1,
            periods: 4,
            split: Split::default(),
            refit_samples: 64,
            score_samples: 256,
            fade_epochs: 0,
            epochs: 0,
            normalise: true,
            augment: None,
            mix: false,
            distil: 0.7,
            smoothing: 0.0,
            rate: 1e-3,
            seed: 0,
            checkpoint: None,
        }
    }
}

/// A family before and after.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FamilyReport {
    /// Operators whose outputs carry it.
    pub operators: Vec<String>,
    /// Channels before.
    pub before: usize,
    /// Channels after.
    pub after: usize,
    /// Why no channel can be removed.
    pub fixed: Option<String>,
}

/// Report of [`prune`].
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PruneReport {
    /// Before.
    pub before: Size,
    /// After.
    pub after: Size,
    /// Channels of each family.
    pub families: Vec<FamilyReport>,
    /// Bits of the weights.
    pub weight_bits: WeightBits,
}

/// Observer of [`prune`].
pub trait Progress {
    /// Reports `done` of `total` in the current phase `what`.
    fn tick(&mut self, what: &str, done: usize, total: usize) {
        let _ = (what, done, total);
    }

    /// Reports the network at the end of a period, before fine-tuning, and its size.
    ///
    /// # Errors
    /// Any error stops the work.
    fn period(&mut self, graph: &Graph, size: Size) -> Result<()> {
        let _ = (graph, size);
        Ok(())
    }

    /// Whether the time is over. Training then ends with what has been learned, and a later call with the same checkpoint
    /// goes on there.
    fn is_over(&self) -> bool {
        false
    }
}

impl Progress for () {}

/// Prunes `graph` (float, after the lossless passes) until its int8 form fits. `data` are training samples in the
/// graph's shapes. They need targets, except for [`Score::Magnitude`] without training.
///
/// # Errors
/// [`Error::Budget`] with the smallest sizes that can be reached; the data do not fit the graph; see also
/// [`mod@crate::quantize`] and [`offshoot_export::compile`].
pub fn prune(
    graph: &Graph,
    data: &Dataset,
    options: &PruneOptions,
    progress: &mut dyn Progress,
) -> Result<(Graph, PruneReport)> {
    data.check(graph).map_err(Error::Training)?;
    let graph = &with_own_vectors(graph);
    let groups = Groups::of(graph, options.split)?;
    let samples = samples(graph, data, options.refit_samples.max(2));
    let gauge = Gauge { samples: &samples[..samples.len().min(2)], options };
    let before = gauge.size(graph, &options.weight_bits)?;
    let (mut limits, given) = (Limits::new(options, before), Limits::given(options));
    let few = head(data, options.score_samples.max(1));
    let whole = Choice { removed: vec![false; groups.len()], bits: options.weight_bits.clone() };
    let mut choice = whole.clone();
    let (rules, fixed) = rules(graph, &groups, options)?;
    let reaches = |limits| reachable(graph, &groups, &gauge, &rules, limits, before, &whole);
    // Narrow layers may take more workspace than wide ones: without a limit, that is allowed where nothing else helps.
    if reaches(&limits).is_err() {
        reaches(&given)?;
        limits = given;
    }
    let known = Known::default();
    let mut small = graph.clone();
    let periods = options.periods.max(1);
    for period in 1..=periods {
        let share = period as f64 / periods as f64;
        let goals = limits.after(before, share);
        progress.tick("scoring channels", period - 1, periods);
        let own = Groups::of(&small, options.split)?;
        let origin = origins(graph, &groups, &choice.removed, &small, &own);
        let mut lifted = vec![0.0; groups.len()];
        let found = scores(&small, &own, options.score, &few, 32)?;
        origin.iter().zip(found).for_each(|(&g, s)| lifted[g] += s);
        let now = gauge.measure(&small, &choice.bits)?;
        let within = goals.hold(now.size);
        let lowerings = match options.fewest_bits < 8 && !within {
            true => lowerings(&small, &few, options.fewest_bits, &choice.bits, progress)?,
            false => vec![],
        };
        if !lowerings.is_empty() && options.score != Score::Taylor {
            // What bits lose is a change of the loss; the scores have to be in the same unit.
            let changes: f64 = scores(&small, &own, Score::Taylor, &few, 32)?.iter().sum();
            let unit = changes / lifted.iter().sum::<f64>().max(f64::MIN_POSITIVE);
            lifted.iter_mut().for_each(|s| *s *= unit);
        }
        let base = choice.clone();
        if period == 1 {
            // What was asked for by name comes first, and is not given back.
            choice.removed = by_name(&groups, &lifted, &fixed);
        }
        let named = choice.clone();
        let judge = Judge {
            graph,
            groups: &groups,
            scores: &lifted,
            lowerings: &lowerings,
            rules: &rules,
            gauge: &gauge,
            limits: goals,
            before,
            known: &known,
        };
        if !goals.hold(judge.measure(&choice)?.size) {
            choice = match chosen(&judge, &named) {
                Err(Error::Budget { .. }) => {
                    limits = given;
                    chosen(&Judge { limits: limits.after(before, share), ..judge }, &named)?
                }
                found => found?,
            };
        }
        if choice.removed == base.removed {
            continue;
        }
        let marked: Vec<bool> = origin.iter().map(|&g| choice.removed[g]).collect();
        if options.fade_epochs > 0 {
            let stage = Stage::fading(&small, &own, &marked, options, period);
            small = train(graph, &small, data, options, &stage, progress)?;
        }
        small = slice(&small, &own, &marked)?;
        if options.refit_samples > 0 && options.fade_epochs == 0 {
            let mut tick = |done, total| progress.tick("refitting layers", done, total);
            small = refit(graph, &groups, &choice.removed, small, &samples, &mut tick)?;
        }
        progress.period(&small, gauge.size(&small, &choice.bits)?)?;
    }
    if options.epochs > 0 {
        small = train(graph, &small, data, options, &Stage::tuning(options), progress)?;
    }
    small = trimmed(small, data, &gauge, &limits, &choice.bits, &samples)?;
    let after = gauge.size(&small, &choice.bits)?;
    let families = families(&groups, &choice.removed);
    Ok((small, PruneReport { before, after, families, weight_bits: choice.bits }))
}

/// `graph` with a copy of every vector for each operator that reads it. Equal constants are one after the lossless passes,
/// such as biases of zeros; they would tie the channels of layers that have nothing to do with each other.
fn with_own_vectors(graph: &Graph) -> Graph {
    let mut out = graph.clone();
    let mut taken = BTreeSet::new();
    for at in 0..out.nodes.len() {
        for input in 0..out.nodes[at].inputs.len() {
            let id = out.nodes[at].inputs[input];
            let value = out.value(id).clone();
            let (Some(data), true) = (value.data, value.shape.len() == 1) else { continue };
            if !taken.insert(id) {
                let name = format!("{}.{}.{input}", value.name, out.nodes[at].name);
                out.nodes[at].inputs[input] = out.add_constant(name, value.shape, Arc::unwrap_or_clone(data));
            }
        }
    }
    out
}

/// Takes a little more of a network that is already pruned, where it exceeds the limits of `options`; `bits` are those of its
/// weights. Nothing is trained.
///
/// # Errors
/// As [`prune`].
pub fn trim(graph: &Graph, data: &Dataset, options: &PruneOptions, bits: &WeightBits) -> Result<Graph> {
    data.check(graph).map_err(Error::Training)?;
    let samples = samples(graph, data, options.refit_samples.max(2));
    let gauge = Gauge { samples: &samples[..samples.len().min(2)], options };
    let limits = Limits::new(options, gauge.size(graph, bits)?);
    trimmed(graph.clone(), data, &gauge, &limits, bits, &samples)
}

/// Takes a little more if training changed what the kernels take: the multipliers of an output channel decide which of
/// them can run it.
fn trimmed(
    mut small: Graph,
    data: &Dataset,
    gauge: &Gauge<'_>,
    limits: &Limits,
    bits: &WeightBits,
    samples: &[Vec<ArrayD<f32>>],
) -> Result<Graph> {
    const TIMES: usize = 3;
    let options = gauge.options;
    for _ in 0..TIMES {
        let now = gauge.measure(&small, bits)?;
        if limits.hold(now.size) {
            break;
        }
        let groups = Groups::of(&small, options.split)?;
        let scores = scores(&small, &groups, options.score, &head(data, options.score_samples.max(1)), 32)?;
        // What was asked for by name stays as it is.
        let names = options.keep.iter().chain(options.ratios.keys()).cloned().collect();
        let named = PruneOptions { keep: names, ratios: BTreeMap::new(), ..options.clone() };
        let rules = Rules { multiple: 1, ..rules(&small, &groups, &named)?.0 };
        let base = Choice { removed: vec![false; groups.len()], bits: bits.clone() };
        let judge = Judge {
            graph: &small,
            groups: &groups,
            scores: &scores,
            lowerings: &[],
            rules: &rules,
            gauge,
            limits: *limits,
            before: now.size,
            known: &Known::default(),
        };
        let removed = chosen(&judge, &base)?.removed;
        let cut = slice(&small, &groups, &removed)?;
        small = match options.refit_samples {
            0 => cut,
            _ => refit(&small, &groups, &removed, cut, samples, &mut |_, _| {})?,
        };
    }
    Ok(small)
}

/// Checks that the budget can be met before anything is trained.
fn reachable(
    graph: &Graph,
    groups: &Groups,
    gauge: &Gauge<'_>,
    rules: &Rules,
    limits: &Limits,
    before: Size,
    whole: &Choice,
) -> Result<()> {
    if limits.hold(before) {
        return Ok(());
    }
    let fewest =
        WeightBits { weights: whole.bits.weights.min(gauge.options.fewest_bits), ..whole.bits.clone() };
    let mut nearest = before;
    // A narrow family may have to leave the multiples.
    for multiple in [rules.multiple, 1] {
        let rates = Rates { bits: whole.bits.clone(), ..Rates::default() };
        let cost = Cost::new(graph, groups, &whole.removed, &rates);
        let now = [before.flash as f64, before.macs as f64, 0.0];
        let aim = Aim { now, goal: [f64::INFINITY; 3] };
        let rules = Rules { multiple, ..rules.clone() };
        let all = toward(groups, &vec![0.0; groups.len()], &whole.removed, &rules, &[], cost, aim);
        let small = slice(graph, groups, &with(whole, &all).removed)?;
        for bits in [&whole.bits, &fewest] {
            let found = gauge.size(&small, bits)?;
            if limits.hold(found) {
                return Ok(());
            }
            if limits.taken(found) < limits.taken(nearest) {
                nearest = found;
            }
        }
    }
    Err(nearest.too_large())
}

/// How far each family may shrink, and the families whose share of channels is given, with the number of groups that
/// stay.
fn rules(graph: &Graph, groups: &Groups, options: &PruneOptions) -> Result<(Rules, Vec<(usize, usize)>)> {
    let mut rules = Rules::new(groups, options.multiple, options.least);
    let mut fixed: BTreeMap<usize, (usize, &str)> = BTreeMap::new();
    let kept = options.keep.iter().map(|name| (name, 1.0));
    for (name, share) in kept.chain(options.ratios.iter().map(|(name, share)| (name, *share))) {
        let of_layer = |f: &Family| f.operators.contains(name);
        if !(share > 0.0 && share <= 1.0) {
            let reason = format!("{share} for `{name}`: shares are above 0 and at most 1");
            return Err(Error::Option { option: "ratio", reason });
        }
        let known = |n: &offshoot_ir::Node| groups.families.iter().any(|f| f.operators.contains(&n.name));
        if !groups.families.iter().any(of_layer) {
            return Err(Error::unknown_operator(name, graph, " with channels", known));
        }
        for (index, family) in groups.families.iter().enumerate().filter(|(_, f)| of_layer(f)) {
            let stay = ((family.groups.len() as f64 * share).round() as usize).max(1);
            if let (true, Some(reason)) = (stay < family.groups.len(), groups.refusal(family)) {
                let reason = format!("{share} for `{name}`: its channels stay whole, since one {reason}");
                return Err(Error::Option { option: "ratio", reason });
            }
            if let Some((other, by)) = fixed.insert(index, (stay, name)).filter(|(other, _)| *other != stay) {
                let reason =
                    format!("`{by}` and `{name}` have the same channels: {other} of them, or {stay}?");
                return Err(Error::Option { option: "ratio", reason });
            }
            rules.floors[index] = stay;
        }
    }
    Ok((rules, fixed.into_iter().map(|(index, (stay, _))| (index, stay)).collect()))
}

/// Marks the least important groups of the families whose number is given.
fn by_name(groups: &Groups, scores: &[f64], fixed: &[(usize, usize)]) -> Vec<bool> {
    let mut removed = vec![false; groups.len()];
    for &(index, stay) in fixed {
        let mut order = groups.families[index].groups.clone();
        order.sort_by(|&a, &b| scores[a].total_cmp(&scores[b]));
        let mut surplus = order.len().saturating_sub(stay);
        for g in order {
            if surplus > 0 && groups.removable(&removed, g) {
                removed[g] = true;
                surplus -= 1;
            }
        }
    }
    removed
}

/// For each group of `small`, which is `graph` sliced by `removed`: the group in `graph` that it came from.
fn origins(graph: &Graph, groups: &Groups, removed: &[bool], small: &Graph, own: &Groups) -> Vec<usize> {
    let mut origin = vec![0; own.len()];
    for index in 0..graph.values.len() {
        let id = offshoot_ir::ValueId(index as u32);
        for axis in 0..small.value(id).shape.len() {
            let (Some(old), Some(new)) = (groups.along(id, axis), own.along(id, axis)) else { continue };
            let kept = old.iter().filter(|&&g| !removed[g]);
            new.iter().zip(kept).for_each(|(&n, &o)| origin[n] = o);
        }
    }
    origin
}

fn families(groups: &Groups, removed: &[bool]) -> Vec<FamilyReport> {
    let report = |f: &Family| FamilyReport {
        operators: f.operators.clone(),
        before: f.groups.len() * f.channels,
        after: f.groups.iter().filter(|&&g| !removed[g]).count() * f.channels,
        fixed: groups.refusal(f).map(str::to_owned),
    };
    groups.families.iter().map(report).collect()
}

/// The first `count` samples.
pub fn head(data: &Dataset, count: usize) -> Dataset {
    let count = count.min(data.len());
    let first = |x: &ArrayD<f32>| x.slice_axis(Axis(0), (0..count).into()).to_owned();
    Dataset {
        inputs: data.inputs.iter().map(first).collect(),
        target: match &data.target {
            Target::Labels(labels) => Target::Labels(labels[..count.min(labels.len())].to_vec()),
            Target::Values(values) => Target::Values(first(values)),
            Target::Unlabelled => Target::Unlabelled,
        },
    }
}

/// The first `count` samples as arrays in the shapes of the graph's inputs.
pub fn samples(graph: &Graph, data: &Dataset, count: usize) -> Vec<Vec<ArrayD<f32>>> {
    let one = |i: usize| {
        let inputs = data.inputs.iter().zip(&graph.inputs);
        let cut = |(x, &id): (&ArrayD<f32>, &offshoot_ir::ValueId)| {
            let elements: Vec<f32> = x.index_axis(Axis(0), i).iter().copied().collect();
            ArrayD::from_shape_vec(IxDyn(&graph.value(id).shape), elements)
                .unwrap_or_else(|_| ArrayD::zeros(IxDyn(&[0])))
        };
        inputs.map(cut).collect()
    };
    (0..count.min(data.len())).map(one).collect()
}
