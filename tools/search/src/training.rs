//! The sub-networks of a super-network that are trained in each step.
//!
//! Lots depend only on the seed and the step number, so that training resumes from a checkpoint where it was.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use offshoot_ir::Graph;
use offshoot_train::shared::{Distil, Lot, Member, Shared, recalibrate};
use offshoot_train::{Checkpoint, Dataset, FitOptions, FitReport, Observer, fit_shared};
use serde::{Deserialize, Serialize};

use crate::elastic::Elastic;
use crate::space::{Encoding, Kind};
use crate::{Error, Result};
use offshoot_data::Random;

/// How sub-networks are drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sampling {
    /// The whole network and, on the same batch, uniformly drawn sub-networks; their gradients are summed (SortedNet,
    /// Valipour et al. 2023).
    #[default]
    Sorted,
    /// The batch is divided into parts, each for a different sub-network, normalised over its own channels and
    /// samples (multi-architectural sampling, Liao et al. 2021). The first part is for the whole network.
    MultiArchitectural,
    /// All widths of the last feature layer, with everything else whole (Matryoshka, Kusupati et al. 2022).
    Matryoshka,
    /// Only the whole network.
    Largest,
}

/// Training of a super-network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Training {
    /// How sub-networks are drawn.
    pub sampling: Sampling,
    /// Sub-networks per step, including the whole network.
    pub members: usize,
    /// Whether the smallest one is always included (the sandwich rule, Yu and Huang 2019).
    pub smallest: bool,
    /// Passes over the samples; 0 leaves the network untrained.
    pub epochs: usize,
    /// Samples per step.
    pub batch: usize,
    /// Highest learning rate.
    pub rate: f32,
    /// Decoupled weight decay.
    pub decay: f32,
    /// Label smoothing: share of the labels that is distributed evenly over all classes.
    pub smoothing: f32,
    /// Weight of the whole network's logits in the loss of the others; 0 uses labels only.
    pub distil: f32,
    /// Divides both logits.
    pub temperature: f32,
    /// Share of the training over which options become available, the largest first.
    pub warm_up: f32,
    /// Seed of the sample order and the sub-networks.
    pub seed: u64,
}

impl Default for Training {
    fn default() -> Self {
        Self {
            sampling: Sampling::Sorted,
            members: 3,
            smallest: true,
            epochs: 20,
            batch: 64,
            rate: 3e-3,
            decay: 1e-2,
            smoothing: 0.0,
            distil: 0.5,
            temperature: 2.0,
            warm_up: 0.0,
            seed: 0,
        }
    }
}

/// Selects the sub-networks of each step.
#[derive(Debug)]
pub struct Sampler<'e> {
    elastic: &'e Elastic,
    training: &'e Training,
    steps: usize,
    /// Recently cut members.
    cache: Mutex<HashMap<Encoding, Arc<Member>>>,
}

/// Size at which the cache is emptied.
const CACHED: usize = 256;

impl<'e> Sampler<'e> {
    /// A sampler for `steps` steps in total.
    pub fn new(elastic: &'e Elastic, training: &'e Training, steps: usize) -> Self {
        Self { elastic, training, steps, cache: Mutex::default() }
    }

    /// Encodings of step `step` (from 0), the whole network first.
    pub fn encodings(&self, step: usize) -> Vec<Encoding> {
        let (space, training) = (&self.elastic.space, self.training);
        let architecture = |e: Encoding| -> Encoding {
            // Bits do not matter in training.
            let largest = space.largest();
            let keep =
                |(v, (e, l)): (&crate::space::Variable, (u16, u16))| if v.is_architecture() { e } else { l };
            space.variables.iter().zip(e.into_iter().zip(largest)).map(keep).collect()
        };
        let largest = space.largest();
        let mut all = vec![largest.clone()];
        let count = training.members.max(1);
        let mut random = Random::new(training.seed, step as u64);
        match training.sampling {
            Sampling::Largest => {}
            Sampling::Matryoshka => {
                let last = space.variables.iter().rposition(|v| matches!(v.kind, Kind::Channels { .. }));
                for choice in last.map_or(0..0, |at| 0..largest[at]) {
                    let mut e = largest.clone();
                    if let Some(at) = last {
                        e[at] = choice;
                    }
                    all.push(e);
                }
            }
            Sampling::Sorted | Sampling::MultiArchitectural => {
                let open = match (training.warm_up * self.steps as f32) as usize {
                    0 => 1.0,
                    rise => ((step + 1) as f64 / rise as f64).min(1.0),
                };
                if count > 1 && training.smallest && open >= 1.0 {
                    all.push(architecture(space.smallest()));
                }
                while all.len() < count {
                    let mut e = space.sample(&mut random);
                    if open < 1.0 {
                        for (i, most) in e.iter_mut().zip(&largest) {
                            let least = (f64::from(*most) * (1.0 - open)).floor() as u16;
                            *i = (*i).max(least);
                        }
                        e = space.canonical(e);
                    }
                    all.push(architecture(e));
                }
            }
        }
        all
    }

    /// Lots of step `step` with a batch of `batch` samples.
    ///
    /// # Errors
    /// A sub-network cannot be cut.
    pub fn lots(&self, step: usize, batch: usize) -> Result<Vec<Lot>> {
        let encodings = self.encodings(step);
        let count = encodings.len();
        let parted = self.training.sampling == Sampling::MultiArchitectural;
        let lot = |(i, e): (usize, Encoding)| -> Result<Option<Lot>> {
            let (samples, weight) = match parted {
                true => {
                    let samples = batch * i / count..batch * (i + 1) / count;
                    let share = samples.len() as f32 / batch.max(1) as f32;
                    (samples, share)
                }
                false => (0..batch, 1.0 / count as f32),
            };
            Ok((!samples.is_empty()).then_some(Lot { member: self.member(e)?, samples, weight }))
        };
        encodings.into_iter().enumerate().filter_map(|x| lot(x).transpose()).collect()
    }

    fn member(&self, encoding: Encoding) -> Result<Arc<Member>> {
        let lock = || self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = lock().get(&encoding) {
            return Ok(found.clone());
        }
        let member = Arc::new(self.elastic.member(&encoding)?);
        let mut cache = lock();
        if cache.len() >= CACHED {
            cache.clear();
        }
        cache.insert(encoding, member.clone());
        Ok(member)
    }
}

/// Trains the super-network in `elastic`. Resumes from the checkpoint if there is one.
///
/// # Errors
/// As [`offshoot_train::fit_shared`].
pub fn train(
    elastic: &mut Elastic,
    data: &Dataset,
    training: &Training,
    checkpoint: Option<Checkpoint>,
    observer: &mut dyn Observer,
) -> Result<FitReport> {
    let batch = training.batch.clamp(1, data.len().max(1));
    let steps = training.epochs * (data.len() / batch);
    let (graph, report): (Graph, FitReport) = {
        let sampler = Sampler::new(elastic, training, steps);
        let lots = |step: usize, batch: usize| {
            sampler.lots(step, batch).map_err(|e| offshoot_train::Error::Data(e.to_string()))
        };
        // Parts of a batch see other samples than the first part, so it cannot teach them.
        let taught = training.distil > 0.0 && training.sampling != Sampling::MultiArchitectural;
        let distil = taught.then_some(Distil { temperature: training.temperature, weight: training.distil });
        let label = serde_json::to_string(&(training, &elastic.space)).unwrap_or_default();
        let shared = Shared { lots: &lots, label, distil };
        let options = FitOptions {
            epochs: training.epochs,
            batch,
            rate: training.rate,
            decay: training.decay,
            smoothing: training.smoothing,
            clip: Some(5.0),
            seed: training.seed,
            checkpoint,
            ..FitOptions::default()
        };
        fit_shared(&elastic.graph, data, &shared, &options, observer)?
    };
    elastic.graph = graph;
    Ok(report)
}

/// The sub-network of an encoding with batch-normalisation statistics recalibrated on `x` (samples along the first
/// axis), after the lossless passes; this is what gets quantised.
///
/// # Errors
/// It cannot be cut, or the samples do not fit.
pub fn inherited(
    elastic: &Elastic,
    encoding: &[u16],
    x: &ndarray::ArrayD<f32>,
    batch: usize,
) -> Result<Graph> {
    let cut = elastic.cut(encoding)?;
    let graph = recalibrate(&cut, std::slice::from_ref(x), batch)?;
    let (graph, _) = offshoot_ir::passes::lossless(graph)?;
    if graph.inputs.len() != 1 {
        return Err(Error::Data(format!(
            "the network has {} inputs; a search takes one",
            graph.inputs.len()
        )));
    }
    Ok(graph)
}
