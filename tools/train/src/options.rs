//! Settings of training, and who watches it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::path::PathBuf;
use std::sync::Arc;

use offshoot_ir::Graph;

use crate::augment::Augment;
use crate::dataset::Dataset;
use crate::device::Device;
use crate::fake_quant::WeightQuant;
use crate::optimiser::{Rule, Schedule};

/// Settings of [`crate::fit`]. The default trains a small network from random weights.
#[derive(Clone, Debug)]
pub struct FitOptions {
    /// Passes over the samples.
    pub epochs: usize,
    /// Samples a step; samples that do not fill the last batch of an epoch wait for the next.
    pub batch: usize,
    /// Highest learning rate.
    pub rate: f32,
    /// Its course.
    pub schedule: Schedule,
    /// Update rule.
    pub rule: Rule,
    /// Decoupled weight decay of tensors of more than one axis: not of biases, gamma and beta.
    pub decay: f32,
    /// Share of the labels that goes to all classes evenly (Szegedy et al. 2016).
    pub smoothing: f32,
    /// Longest gradient, over all weights; longer ones are scaled down.
    pub clip: Option<f32>,
    /// Seed of the order of the samples.
    pub seed: u64,
    /// Whether batch normalisation uses (and updates) the statistics of batches; else the stored ones, as in inference.
    pub batch_statistics: bool,
    /// Names of constants that stay as they are.
    pub frozen: BTreeSet<String>,
    /// By name of the constant: `false` keeps a weight at zero, from before the first step on.
    pub masks: BTreeMap<String, Vec<bool>>,
    /// By name of the constant: `true` lets a weight fade, in equal shares a step, to zero at the last one (HESSO, Chen et
    /// al. 2024). A run that ends early leaves it on the way.
    pub fade: BTreeMap<String, Vec<bool>>,
    /// Changes samples on their way in.
    pub augment: Option<Arc<dyn Augment>>,
    /// Whether samples and their targets are mixed in pairs, after `augment` (mixup, Zhang et al. 2018).
    pub mix: bool,
    /// Normal noise on gradients, of variance `noise / (1 + t)^0.55` at step t (Neelakantan et al. 2015).
    pub noise: Option<f32>,
    /// Rounds weights on the way forward.
    pub weight_quant: Option<WeightQuant>,
    /// Rounds activations to int8 on the way forward.
    pub activation_quant: bool,
    /// Ranges of rounded activations, by name, that hold; those of others are observed.
    pub activation_ranges: BTreeMap<String, (f32, f32)>,
    /// With rounded weights and activations: their tensors are the device's own, bit for bit, on the way forward.
    pub device: Option<Arc<dyn Device>>,
    /// Changes weights on the way forward, before they are rounded.
    pub transform: Option<Arc<dyn WeightTransform>>,
    /// A network to learn from.
    pub teacher: Option<Teacher>,
    /// Samples to judge each epoch on; the best epoch's weights are the result.
    pub validation: Option<Dataset>,
    /// Epochs without a better one after which training ends; needs `validation`.
    pub patience: Option<usize>,
    /// Where training is saved, and continued from if the file is there.
    pub checkpoint: Option<Checkpoint>,
}

impl Default for FitOptions {
    fn default() -> Self {
        Self {
            epochs: 20,
            batch: 64,
            rate: 3e-3,
            schedule: Schedule::Cosine { warm_up: 0.05 },
            rule: Rule::Adam,
            decay: 1e-2,
            smoothing: 0.0,
            clip: None,
            seed: 0,
            batch_statistics: true,
            frozen: BTreeSet::new(),
            masks: BTreeMap::new(),
            fade: BTreeMap::new(),
            augment: None,
            mix: false,
            noise: None,
            weight_quant: None,
            activation_quant: false,
            activation_ranges: BTreeMap::new(),
            device: None,
            transform: None,
            teacher: None,
            validation: None,
            patience: None,
            checkpoint: None,
        }
    }
}

/// Distillation (Hinton et al. 2015).
#[derive(Clone, Debug)]
pub struct Teacher {
    /// The teacher; it takes the same inputs and, if `weight` is above 0, has as many outputs.
    pub graph: Graph,
    /// Divides both logits; the loss is multiplied by its square.
    pub temperature: f32,
    /// Share of the teacher's logits in the loss; the targets have the rest.
    pub weight: f32,
    /// Tensors inside that should be equal (Romero et al. 2015).
    pub features: Vec<Feature>,
}

/// A pair of tensors of as many elements: their mean squared difference, times `weight`, is added to the loss.
#[derive(Clone, Debug, PartialEq)]
pub struct Feature {
    /// Name of the value in the graph that is trained.
    pub student: String,
    /// Name of the value in the teacher.
    pub teacher: String,
    /// Factor.
    pub weight: f32,
    /// What of the difference counts.
    pub view: View,
}

/// What of the difference of two features counts (the two views of ScaleKD, Fan et al. 2024).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum View {
    /// All of it.
    #[default]
    Plain,
    /// All but its lowest frequencies: of every channel the `suppressed` by `suppressed` first coefficients of its
    /// discrete cosine transform over height and width are left out, 1 being the mean. What is strongest in a feature
    /// is often what changes least, and drowns the rest.
    Detail {
        /// Coefficients along each axis.
        suppressed: usize,
    },
}

/// Where training is saved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The file; it appears whole or not at all.
    pub path: PathBuf,
    /// Steps between two savings. It is also saved when training ends for any reason but an error.
    pub every: usize,
}

/// A change of weights on the way forward, such as a rotation, a low-rank form or another number format.
pub trait WeightTransform: Debug + Send + Sync {
    /// Before the weights of a step (from 0) are changed; `None` before those of the network as it is to be judged.
    fn begin(&self, step: Option<usize>) {
        let _ = step;
    }

    /// The weights that the network computes with; `None` for the ones that are stored.
    fn forward(&self, name: &str, shape: &[usize], weights: &[f32]) -> Option<Vec<f32>>;

    /// From the gradient of the changed weights to that of the stored ones, in place. Straight-through unless said
    /// otherwise.
    fn backward(&self, name: &str, shape: &[usize], weights: &[f32], gradient: &mut [f32]) {
        let _ = (name, shape, weights, gradient);
    }
}

/// Watches training, and may end it. `()` watches nothing.
pub trait Observer {
    /// After each step.
    fn step(&mut self, step: &Step) -> Control {
        let _ = step;
        Control::Continue
    }

    /// After each epoch.
    fn epoch(&mut self, epoch: &Epoch) -> Control {
        let _ = epoch;
        Control::Continue
    }
}

impl Observer for () {}

/// What an observer wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// Go on.
    Continue,
    /// End now: the checkpoint, if there is one, is written, and a later call goes on from this very step.
    Stop,
}

/// One update of the weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// Number from 1.
    pub number: usize,
    /// How many there will be.
    pub of: usize,
    /// Loss of its batch.
    pub loss: f32,
    /// Learning rate it was made with.
    pub rate: f32,
}

/// One pass over the samples.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Epoch {
    /// Number from 1.
    pub number: usize,
    /// Mean loss over its steps.
    pub loss: f32,
    /// On the validation samples.
    pub validation: Option<Judgement>,
}

/// How a graph does on samples.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Judgement {
    /// Mean loss against the targets.
    pub loss: f32,
    /// Share of samples whose largest output is their label's, if there are labels.
    pub accuracy: Option<f64>,
}

impl Judgement {
    /// More right answers, or as many at a lower loss.
    pub(crate) fn better_than(&self, other: &Self) -> bool {
        match (self.accuracy, other.accuracy) {
            (Some(a), Some(b)) if a != b => a > b,
            _ => self.loss < other.loss,
        }
    }
}

/// What training did.
#[derive(Clone, Debug, PartialEq)]
pub struct FitReport {
    /// All epochs that were finished, also those before a checkpoint.
    pub epochs: Vec<Epoch>,
    /// Updates that were made.
    pub steps: usize,
    /// Why it ended.
    pub ended: Ended,
    /// Number of the epoch whose weights are the result; `None` if they are the last ones.
    pub best: Option<usize>,
    /// Learned step sizes by name of the weights, one an output channel.
    pub weight_steps: BTreeMap<String, Vec<f32>>,
    /// Smallest and largest element of each rounded activation, by name.
    pub activation_ranges: BTreeMap<String, (f32, f32)>,
}

/// Why training ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// All epochs are done.
    Completed,
    /// The observer asked for it.
    Stopped,
    /// No better epoch came.
    Patience,
}
