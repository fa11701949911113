//! The whole method: periods of scoring, choosing, deleting, refitting and training.

use std::sync::Arc;

use ndarray::{ArrayD, Axis, IxDyn};
use offshoot_export::{CompileOptions, compile};
use offshoot_ir::Graph;
use offshoot_train::{Augment, Dataset, Target};
use serde::Serialize;

use super::allocate::{Move, order};
use super::groups::{Groups, Split};
use super::refit::refit;
use super::scores::{Score, scores};
use super::slice::slice;
use super::tune::{Stage, train};
use crate::quantize::{Clipping, QuantizeOptions, Rounding, Toggle, WeightBits, WeightScale, quantize};
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
    /// Bits of weights for which sizes are measured.
    pub weight_bits: WeightBits,
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
    /// Augments training samples.
    pub augment: Option<Arc<dyn Augment>>,
    /// Whether training samples are mixed in pairs.
    pub mix: bool,
    /// Weight of the uncompressed network's outputs in the loss; the targets, if there are any, have the rest.
    pub distil: f32,
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
            weight_bits: WeightBits::default(),
            score: Score::default(),
            multiple: 4,
            least: 0.1,
            periods: 4,
            split: Split::default(),
            refit_samples: 64,
            score_samples: 256,
            fade_epochs: 0,
            epochs: 0,
            augment: None,
            mix: false,
            distil: 0.7,
            rate: 1e-3,
            seed: 0,
            checkpoint: None,
        }
    }
}

/// Exact size and cost of a network on the device, in int8.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Size {
    /// Bytes of the `.off` file.
    pub flash: u64,
    /// Bytes of arena.
    pub ram: u64,
    /// Multiply-accumulates per run.
    pub macs: u64,
    /// Instructions per run on the target; `None` if they were not counted.
    pub instructions: Option<u64>,
}

/// Counts the instructions that a target takes for one run of an `.off` file.
#[derive(Clone)]
pub struct Instructions(pub Arc<dyn Fn(&[u8]) -> Result<u64> + Send + Sync>);

impl std::fmt::Debug for Instructions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Instructions")
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
    let groups = Groups::of(graph, options.split)?;
    let samples = samples(graph, data, options.refit_samples.max(2));
    let gauge = Gauge { samples: &samples[..samples.len().min(2)], options };
    let before = gauge.size(graph)?;
    let limits = gauge.limits(before);
    // Checks that the budget can be met before anything is trained.
    let all = order(
        graph,
        &groups,
        &vec![0.0; groups.len()],
        &vec![false; groups.len()],
        options.multiple,
        options.least,
        0.5,
    );
    let least = gauge.size(&slice(graph, &groups, &with(&vec![false; groups.len()], &all))?)?;
    if !limits.hold(least) && !limits.hold(before) {
        return Err(Error::Budget { flash: least.flash, ram: least.ram, macs: least.macs });
    }
    let few = head(data, options.score_samples.max(1));
    let (mut small, mut removed) = (graph.clone(), vec![false; groups.len()]);
    let periods = options.periods.max(1);
    for period in 1..=periods {
        let goals = limits.after(before, period as f64 / periods as f64);
        progress.tick("scoring channels", period - 1, periods);
        let own = Groups::of(&small, options.split)?;
        let origin = origins(graph, &groups, &removed, &small, &own);
        let mut lifted = vec![0.0; groups.len()];
        let found = scores(&small, &own, options.score, &few, 32)?;
        origin.iter().zip(found).for_each(|(&g, s)| lifted[g] += s);
        let share = limits.bytes_share(before, if period == 1 { before } else { gauge.size(&small)? });
        let moves = order(graph, &groups, &lifted, &removed, options.multiple, options.least, share);
        let count = shortest(&moves, |moves| {
            let marked = with(&removed, moves);
            Ok(goals.hold(gauge.size(&slice(graph, &groups, &marked)?)?))
        })?;
        let Some(count) = count else {
            let least = gauge.size(&slice(graph, &groups, &with(&removed, &moves))?)?;
            return Err(Error::Budget { flash: least.flash, ram: least.ram, macs: least.macs });
        };
        if count == 0 {
            continue;
        }
        removed = with(&removed, &moves[..count]);
        let marked: Vec<bool> = origin.iter().map(|&g| removed[g]).collect();
        if options.fade_epochs > 0 {
            let stage = Stage::fading(&small, &own, &marked, options, period);
            small = train(graph, &small, data, options, &stage, progress)?;
        }
        small = slice(&small, &own, &marked)?;
        if options.refit_samples > 0 && options.fade_epochs == 0 {
            let mut tick = |done, total| progress.tick("refitting layers", done, total);
            small = refit(graph, &groups, &removed, small, &samples, &mut tick)?;
        }
        progress.period(&small, gauge.size(&small)?)?;
    }
    if options.epochs > 0 {
        small = train(graph, &small, data, options, &Stage::tuning(options), progress)?;
    }
    let after = gauge.size(&small)?;
    Ok((small, PruneReport { before, after, families: families(&groups, &removed) }))
}

/// Measures candidates.
struct Gauge<'a> {
    samples: &'a [Vec<ArrayD<f32>>],
    options: &'a PruneOptions,
}

impl Gauge<'_> {
    fn size(&self, graph: &Graph) -> Result<Size> {
        // Running an emulator takes a second: only if there is a limit of instructions.
        let count = self.options.instructions.as_ref().filter(|_| self.options.max_instructions.is_some());
        size(graph, self.samples, &self.options.weight_bits, count)
    }

    fn limits(&self, before: Size) -> Limits {
        let o = self.options;
        let own = |limit: Option<u64>, whole: u64| limit.unwrap_or(u64::MAX).min(whole);
        Limits {
            flash: own(o.max_flash, before.flash),
            ram: own(o.max_ram, before.ram),
            macs: own(o.max_macs, before.macs),
            instructions: own(o.max_instructions, before.instructions.unwrap_or(u64::MAX)),
        }
    }
}

/// Whether a size is within the limits of `options`.
pub fn fits(size: Size, options: &PruneOptions) -> bool {
    let within = |limit: Option<u64>, size: Option<u64>| limit.zip(size).is_none_or(|(l, s)| s <= l);
    within(options.max_flash, Some(size.flash))
        && within(options.max_ram, Some(size.ram))
        && within(options.max_macs, Some(size.macs))
        && within(options.max_instructions, size.instructions)
}

/// The limits.
#[derive(Clone, Copy, Debug)]
struct Limits {
    flash: u64,
    ram: u64,
    macs: u64,
    instructions: u64,
}

impl Limits {
    fn hold(&self, s: Size) -> bool {
        s.flash <= self.flash
            && s.ram <= self.ram
            && s.macs <= self.macs
            && s.instructions.is_none_or(|i| i <= self.instructions)
    }

    /// Limits of a period: sizes fall in equal ratios.
    fn after(&self, before: Size, share: f64) -> Self {
        let on_the_way = |limit: u64, whole: u64| {
            let whole = whole as f64;
            (whole * (limit as f64 / whole).powf(share)).floor() as u64
        };
        Self {
            flash: on_the_way(self.flash, before.flash),
            ram: on_the_way(self.ram, before.ram),
            macs: on_the_way(self.macs, before.macs),
            instructions: before.instructions.map_or(u64::MAX, |i| on_the_way(self.instructions, i)),
        }
    }

    /// Weight of bytes against multiply-accumulates, in proportion to what remains to be saved of each when the
    /// network has size `now`. One half if there is no limit of work, so that both fall.
    fn bytes_share(&self, before: Size, now: Size) -> f64 {
        let left = |limit: u64, whole: u64, now: u64| {
            if limit < whole { (1.0 - limit as f64 / now.max(1) as f64).max(0.0) } else { 0.0 }
        };
        let instructions = before.instructions.zip(now.instructions);
        let of_work = self.macs < before.macs || before.instructions.is_some_and(|i| self.instructions < i);
        let bytes = left(self.flash, before.flash, now.flash);
        let work = left(self.macs, before.macs, now.macs)
            .max(instructions.map_or(0.0, |(whole, now)| left(self.instructions, whole, now)));
        if !of_work || bytes + work <= 0.0 { 0.5 } else { (bytes / (bytes + work)).clamp(0.1, 0.9) }
    }
}

/// Size of the quantised form of a float graph. Ranges come from the few `samples`; they do not change the size.
///
/// # Errors
/// The graph cannot be quantised, compiled or counted.
pub fn size(
    graph: &Graph,
    samples: &[Vec<ArrayD<f32>>],
    weight_bits: &WeightBits,
    instructions: Option<&Instructions>,
) -> Result<Size> {
    let options = QuantizeOptions {
        clipping: Clipping::MinMax,
        weight_scale: WeightScale::MinMax,
        rounding: Rounding::Nearest,
        bias_correction: Toggle::Off,
        fit_samples: 1,
        weight_bits: weight_bits.clone(),
        ..QuantizeOptions::default()
    };
    let (quantised, _) = quantize(graph, samples, &options)?;
    let compiled = compile(&quantised, &CompileOptions::default()).map_err(Error::Export)?;
    let r = &compiled.report;
    let instructions = instructions.map(|count| (count.0)(&compiled.bytes)).transpose()?;
    Ok(Size { flash: r.model_bytes, ram: r.arena_bytes, macs: r.macs, instructions })
}

/// Length of the shortest run of moves for which `fits`, assuming that more moves never make the network larger;
/// `None` if even all of them do not fit.
fn shortest(moves: &[Move], mut fits: impl FnMut(&[Move]) -> Result<bool>) -> Result<Option<usize>> {
    if !fits(moves)? {
        return Ok(None);
    }
    let (mut low, mut high) = (0, moves.len());
    while low < high {
        let middle = low.midpoint(high);
        if fits(&moves[..middle])? { high = middle } else { low = middle + 1 }
    }
    Ok(Some(high))
}

fn with(removed: &[bool], moves: &[Move]) -> Vec<bool> {
    let mut marked = removed.to_vec();
    moves.iter().flat_map(|m| &m.groups).for_each(|&g| marked[g] = true);
    marked
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
    let report = |f: &super::groups::Family| FamilyReport {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_to_save_decides_what_counts() {
        let size = |flash, macs| Size { flash, ram: 10, macs, instructions: None };
        let whole = size(1000, 1000);
        let limits = |flash, macs| Limits { flash, ram: 10, macs, instructions: u64::MAX };
        let both = limits(500, 500);
        assert_eq!(both.bytes_share(whole, whole), 0.5);
        // Flash is within its limit: only work counts, and vice versa.
        assert_eq!(both.bytes_share(whole, size(450, 800)), 0.1);
        assert_eq!(both.bytes_share(whole, size(800, 450)), 0.9);
        assert!(both.bytes_share(whole, size(600, 900)) < 0.35);
        // No limit of work.
        assert_eq!(limits(500, 1000).bytes_share(whole, size(700, 900)), 0.5);
        assert_eq!(limits(1000, 500).bytes_share(whole, whole), 0.1);
    }
}
