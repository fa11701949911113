//! Training of the remaining network, or while channels fade: on the data, and on the uncompressed network's outputs.
//!
//! Adam's steps have the same size for every weight, while the layers of a trained network differ in size by orders
//! of magnitude (one that reads raw pixels has tiny weights). Every tensor is therefore trained in units of its own
//! size, which makes steps relative to it, like LAMB's trust ratio (You et al. 2020).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use offshoot_ir::{Data, Graph, Op};
use offshoot_train::{
    Checkpoint, Control, Dataset, FitOptions, Observer, Schedule, Step, Target, Teacher, WeightQuant,
    WeightTransform, fit, trainable,
};

use super::groups::Groups;
use super::normalise::Normalised;
use super::run::{Progress, PruneOptions, head, samples};
use super::scores::owners;
use crate::{Error, Result};

/// One training within the method.
pub(super) struct Stage {
    what: &'static str,
    epochs: usize,
    schedule: Schedule,
    rate: f32,
    seed: u64,
    fade: BTreeMap<String, Vec<bool>>,
    rounding: Option<WeightQuant>,
    /// Whether batch normalisation is put back.
    normalise: bool,
    /// Suffix of the checkpoint's name.
    suffix: String,
}

impl Stage {
    /// The final training: everything learns.
    pub(super) fn tuning(options: &PruneOptions) -> Self {
        Self {
            what: "fine-tuning",
            epochs: options.epochs,
            schedule: Schedule::Cosine { warm_up: 0.05 },
            rate: options.rate,
            seed: options.seed,
            fade: BTreeMap::new(),
            rounding: None,
            normalise: options.normalise,
            suffix: String::new(),
        }
    }

    /// Training within a period: the groups marked in `marked` fade.
    pub(super) fn fading(
        graph: &Graph,
        groups: &Groups,
        marked: &[bool],
        options: &PruneOptions,
        period: usize,
    ) -> Self {
        // Fading the weights that write the channels is enough: the channels are then zero, whatever reads them.
        let mut fade: BTreeMap<String, Vec<bool>> = BTreeMap::new();
        let known = trainable(graph);
        let owned =
            owners(graph, groups).into_iter().filter(|(id, _)| !groups.keeps(*id) && known.contains(id));
        for (id, axis) in owned {
            let (value, Some(along)) = (graph.value(id), groups.along(id, axis)) else { continue };
            let inner: usize = value.shape[axis + 1..].iter().product();
            let fades = fade.entry(value.name.clone()).or_insert_with(|| vec![false; value.len()]);
            for (i, f) in fades.iter_mut().enumerate() {
                *f |= marked[along[i / inner % along.len()]];
            }
        }
        fade.retain(|_, fades| fades.contains(&true));
        Self {
            what: "fading channels",
            epochs: options.fade_epochs,
            schedule: Schedule::Constant,
            // Lower than the peak rate of fine-tuning, because it does not decay.
            rate: 0.5 * options.rate,
            seed: options.seed.wrapping_add(1000 * period as u64),
            fade,
            rounding: None,
            // A channel that fades has no variance.
            normalise: false,
            suffix: format!("-period{period}"),
        }
    }
}

/// Samples behind the statistics of normalisation.
const STATISTICS: usize = 512;
/// Least samples to put normalisation back for.
const FEWEST: usize = 128;

impl Stage {
    /// The network with normalisation put back, if that is asked for, there is any convolution, and there are samples
    /// enough for statistics of a batch.
    fn normal(&self, small: &Graph, data: &Dataset, options: &PruneOptions) -> Result<Option<Normalised>> {
        if !self.normalise || data.len() < FEWEST || self.epochs == 0 {
            return Ok(None);
        }
        let few = samples(small, data, STATISTICS.min(options.score_samples.max(FEWEST)));
        let normal = Normalised::new(small, &few)?;
        Ok(Some(normal).filter(|n| !n.is_empty()))
    }
}

/// Fine-tuning as `options` say.
///
/// # Errors
/// As [`fit`].
pub(crate) fn tune(
    graph: &Graph,
    small: &Graph,
    data: &Dataset,
    options: &PruneOptions,
    progress: &mut dyn Progress,
) -> Result<Graph> {
    let mut stage = Stage::tuning(options);
    stage.suffix = "-erased".into();
    train(graph, small, data, options, &stage, progress)
}

/// Fine-tuning with rounded weights, at a third of the rate: most has been learned already.
///
/// # Errors
/// As [`fit`].
pub(crate) fn tune_rounded(
    graph: &Graph,
    small: &Graph,
    data: &Dataset,
    options: &PruneOptions,
    epochs: usize,
    rounding: WeightQuant,
    progress: &mut dyn Progress,
) -> Result<Graph> {
    let stage = Stage {
        what: "fine-tuning with rounded weights",
        epochs,
        rate: options.rate / 3.0,
        seed: options.seed.wrapping_add(500),
        rounding: Some(rounding),
        // Weights are rounded as they will be on the device: folded.
        normalise: false,
        suffix: "-rounded".into(),
        ..Stage::tuning(options)
    };
    train(graph, small, data, options, &stage, progress)
}

/// Trains `small` on the outputs of `graph` and on the data.
///
/// # Errors
/// As [`fit`].
pub(super) fn train(
    graph: &Graph,
    small: &Graph,
    data: &Dataset,
    options: &PruneOptions,
    stage: &Stage,
    progress: &mut dyn Progress,
) -> Result<Graph> {
    // Its checkpoint would belong to a network that has not been trained to its end.
    progress.tick(stage.what, 0, stage.epochs);
    if stage.epochs == 0 || progress.is_over() {
        return Ok(small.clone());
    }
    let normal = stage.normal(small, data, options)?;
    let trained = normal.as_ref().map_or(small, |n| &n.graph);
    let units = Units::of(trained);
    let mut scaled = trained.clone();
    units.apply(&mut scaled, |w, unit| w / unit);
    let weight = if data.target == Target::Unlabelled { 1.0 } else { options.distil };
    let checkpoint = options.checkpoint.as_ref().map(|c| {
        let mut path = c.path.clone().into_os_string();
        path.push(&stage.suffix);
        Checkpoint { path: path.into(), every: c.every }
    });
    let settings = FitOptions {
        epochs: stage.epochs,
        batch: 64,
        rate: stage.rate,
        schedule: stage.schedule,
        decay: 1e-4,
        clip: Some(5.0),
        seed: stage.seed,
        fade: stage.fade.clone(),
        weight_quant: stage.rounding.clone(),
        augment: options.augment.clone(),
        mix: options.mix,
        smoothing: options.smoothing,
        teacher: Some(Teacher { graph: graph.clone(), temperature: 4.0, weight, features: vec![] }),
        checkpoint,
        transform: Some(Arc::new(units.clone())),
        ..FitOptions::default()
    };
    let mut watch = Watch { progress, what: stage.what };
    let (mut tuned, _) = fit(&scaled, data, &settings, &mut watch).map_err(Error::Training)?;
    units.apply(&mut tuned, |v, unit| v * unit);
    let Some(normal) = normal else { return Ok(tuned) };
    // Statistics of the final weights; those observed in training lag behind.
    let few = head(data, STATISTICS);
    let tuned = offshoot_train::shared::recalibrate(&tuned, &few.inputs, 64).map_err(Error::Training)?;
    Ok(normal.fold(&tuned))
}

/// For each constant by name: the factor from its trained weights to the graph's.
#[derive(Clone, Debug)]
pub(crate) struct Units(BTreeMap<String, f32>);

impl Units {
    /// Units in which weights have the size of initial ones (He et al. 2015), and biases the size 1.
    pub(crate) fn of(graph: &Graph) -> Self {
        let mut units = BTreeMap::new();
        for value in &graph.values {
            let Some(Data::F32(data)) = value.data.as_deref() else { continue };
            let square: f32 = data.iter().map(|w| w * w).sum::<f32>() / data.len().max(1) as f32;
            let fan_in: usize = value.shape.iter().skip(1).product();
            let usual = if value.shape.len() > 1 { (2.0 / fan_in.max(1) as f32).sqrt() } else { 1.0 };
            let unit = square.sqrt() / usual;
            if unit.is_normal() && value.shape.iter().product::<usize>() > 1 {
                units.insert(value.name.clone(), unit);
            }
        }
        // Only weights and biases are always trained; the transform reaches nothing else.
        let parameters: BTreeSet<&str> = (graph.nodes.iter())
            .filter(|n| {
                let linear = matches!(n.op, Op::Conv2d { .. } | Op::ConvTranspose2d { .. });
                linear || matches!(n.op, Op::FullyConnected { .. } | Op::Recurrent { .. })
            })
            .flat_map(|n| &n.inputs[1..])
            .chain(
                graph
                    .nodes
                    .iter()
                    .filter(|n| matches!(n.op, Op::BatchNorm { .. }))
                    .flat_map(|n| &n.inputs[1..3]),
            )
            .map(|id| graph.value(*id).name.as_str())
            .collect();
        units.retain(|name, _| parameters.contains(name.as_str()));
        Self(units)
    }

    pub(crate) fn apply(&self, graph: &mut Graph, change: impl Fn(f32, f32) -> f32) {
        for value in &mut graph.values {
            let Some(&unit) = self.0.get(&value.name) else { continue };
            if let Some(Data::F32(data)) = value.data.as_mut().map(Arc::make_mut) {
                data.iter_mut().for_each(|w| *w = change(*w, unit));
            }
        }
    }
}

impl WeightTransform for Units {
    fn forward(&self, name: &str, _: &[usize], weights: &[f32]) -> Option<Vec<f32>> {
        let unit = self.0.get(name)?;
        Some(weights.iter().map(|w| w * unit).collect())
    }

    fn backward(&self, name: &str, _: &[usize], _: &[f32], gradient: &mut [f32]) {
        if let Some(unit) = self.0.get(name) {
            gradient.iter_mut().for_each(|g| *g *= unit);
        }
    }
}

/// Reports the steps of training.
pub(crate) struct Watch<'p> {
    pub(crate) progress: &'p mut dyn Progress,
    /// Label of the training.
    pub(crate) what: &'static str,
}

impl Observer for Watch<'_> {
    fn step(&mut self, step: &Step) -> Control {
        self.progress.tick(self.what, step.number, step.of);
        if self.progress.is_over() { Control::Stop } else { Control::Continue }
    }
}
