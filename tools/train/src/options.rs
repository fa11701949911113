//! Options and observers of training.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::path::PathBuf;
use std::sync::Arc;

use offshoot_ir::Graph;

use crate::augment::Augment;
use crate::dataset::Dataset;
use crate::device::Device;
use crate::fake_quant::WeightQuant;
use crate::optimiser::{Schedule, UpdateRule};

/// Options of [`crate::fit`]. The default trains a small network from random weights.
#[derive(Clone, Debug)]
pub struct FitOptions {
    /// Passes over the samples.
    pub epochs: usize,
    /// Samples per step; samples that do not fill the last batch of an epoch are skipped in that epoch.
    pub batch: usize,
    /// Highest learning rate.
    pub rate: f32,
    /// Learning-rate schedule.
    pub schedule: Schedule,
    /// Update rule.
    pub rule: UpdateRule,
    /// Decoupled weight decay of tensors with more than one axis; biases, gamma and beta do not decay.
    pub decay: f32,
    /// Label smoothing: share of the labels that is distributed evenly over all classes (Szegedy et al. 2016).
    pub smoothing: f32,
    /// Largest norm of the gradient over all weights; longer gradients are scaled down.
    pub clip: Option<f32>,
    /// Seed of the sample order.
    pub seed: u64,
    /// Whether batch normalisation uses (and updates) batch statistics; otherwise the stored ones, as in inference.
    pub batch_statistics: bool,
    /// Names of constants that are not trained.
    pub frozen: BTreeSet<String>,
    /// By constant name: `false` keeps a weight at zero from before the first step on.
    pub masks: BTreeMap<String, Vec<bool>>,
    /// By constant name: `true` fades a weight in equal shares per step to zero at the last step (HESSO, Chen et al.
    /// 2024). A run that ends early leaves it partly faded.
    pub fade: BTreeMap<String, Vec<bool>>,
    /// Augments samples.
    pub augment: Option<Arc<dyn Augment>>,
    /// Whether samples and their targets are mixed in pairs, after `augment` (mixup, Zhang et al. 2018).
    pub mix: bool,
    /// Normal noise on gradients, of variance `noise / (1 + t)^0.55` at step t (Neelakantan et al. 2015).
    pub noise: Option<f32>,
    /// Rounds weights in the forward pass.
    pub weight_quant: Option<WeightQuant>,
    /// Rounds activations to int8 in the forward pass.
    pub activation_quant: bool,
    /// Fixed ranges of rounded activations, by name; those of the others are observed.
    pub activation_ranges: BTreeMap<String, (f32, f32)>,
    /// With rounded weights and activations: forward tensors are the device's own, bit for bit.
    pub device: Option<Arc<dyn Device>>,
    /// Changes weights in the forward pass, before they are rounded.
    pub transform: Option<Arc<dyn WeightTransform>>,
    /// A network to learn from.
    pub teacher: Option<Teacher>,
    /// Samples on which each epoch is judged; the result has the weights of the best epoch.
    pub validation: Option<Dataset>,
    /// Epochs without improvement after which training ends; needs `validation`.
    pub patience: Option<usize>,
    /// Where training is saved; it resumes from the file if that exists.
    pub checkpoint: Option<Checkpoint>,
}

impl Default for FitOptions {
    fn default() -> Self {
        Self {
            epochs: 20,
            batch: 64,
            rate: 3e-3,
            schedule: Schedule::Cosine { warm_up: 0.05 },
            rule: UpdateRule::Adam,
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
    /// The teacher; it takes the same inputs and, if `weight` is above 0, has the same number of outputs.
    pub graph: Graph,
    /// Divides both logits; the loss is multiplied by its square.
    pub temperature: f32,
    /// Weight of the teacher's logits in the loss; the targets have the rest.
    pub weight: f32,
    /// Pairs of inner tensors to match (Romero et al. 2015).
    pub features: Vec<Feature>,
}

/// A pair of tensors with equally many elements: their mean squared difference, times `weight`, is added to the loss.
#[derive(Clone, Debug, PartialEq)]
pub struct Feature {
    /// Name of the value in the trained graph.
    pub student: String,
    /// Name of the value in the teacher.
    pub teacher: String,
    /// Factor.
    pub weight: f32,
    /// The part of the difference that counts.
    pub view: View,
}

/// The part of the difference of two features that counts (the two views of ScaleKD, Fan et al. 2024).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum View {
    /// All of it.
    #[default]
    Plain,
    /// All but the lowest frequencies: for every channel, the first `suppressed` by `suppressed` coefficients of its
    /// discrete cosine transform over height and width are left out (1 removes the mean). The strongest components of
    /// a feature often vary least, and would drown out the rest.
    Detail {
        /// Coefficients along each axis.
        suppressed: usize,
    },
}

/// Where training is saved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The file; it is replaced atomically.
    pub path: PathBuf,
    /// Steps between two saves. Training is also saved when it ends without an error.
    pub every: usize,
}

/// A change of weights in the forward pass, such as a rotation, a low-rank form or another number format.
pub trait WeightTransform: Debug + Send + Sync {
    /// Called before the weights of a step (from 0) are changed, and with `None` before those of a network to be
    /// judged.
    fn begin(&self, step: Option<usize>) {
        let _ = step;
    }

    /// The weights that the network computes with; `None` to use the stored ones.
    fn forward(&self, name: &str, shape: &[usize], weights: &[f32]) -> Option<Vec<f32>>;

    /// Turns the gradient of the changed weights into that of the stored ones, in place. Straight-through by default.
    fn backward(&self, name: &str, shape: &[usize], weights: &[f32], gradient: &mut [f32]) {
        let _ = (name, shape, weights, gradient);
    }
}

/// Observes training, and may end it. `()` ignores everything.
pub trait Observer {
    /// Called after each step.
    fn step(&mut self, step: &Step) -> Control {
        let _ = step;
        Control::Continue
    }

    /// Called after each epoch.
    fn epoch(&mut self, epoch: &Epoch) -> Control {
        let _ = epoch;
        Control::Continue
    }
}

impl Observer for () {}

/// Decision of an observer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// Continue.
    Continue,
    /// Stop now: the checkpoint, if any, is written, and a later call resumes from this step.
    Stop,
}

/// One update of the weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// Number of the step, from 1.
    pub number: usize,
    /// Total number of steps.
    pub of: usize,
    /// Loss of its batch.
    pub loss: f32,
    /// Learning rate of the step.
    pub rate: f32,
}

/// One pass over the samples.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Epoch {
    /// Number of the epoch, from 1.
    pub number: usize,
    /// Mean loss over its steps.
    pub loss: f32,
    /// Result on the validation samples.
    pub validation: Option<Judgement>,
}

/// Quality of a graph on samples.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Judgement {
    /// Mean loss against the targets.
    pub loss: f32,
    /// Share of samples whose largest output is that of their label, if there are labels.
    pub accuracy: Option<f64>,
}

impl Judgement {
    /// Whether accuracy is higher, or equal with a lower loss.
    pub(crate) fn better_than(&self, other: &Self) -> bool {
        match (self.accuracy, other.accuracy) {
            (Some(a), Some(b)) if a != b => a > b,
            _ => self.loss < other.loss,
        }
    }
}

/// Report of training.
#[derive(Clone, Debug, PartialEq)]
pub struct FitReport {
    /// All finished epochs, including those before a checkpoint.
    pub epochs: Vec<Epoch>,
    /// Number of updates.
    pub steps: usize,
    /// Why training ended.
    pub ended: Ended,
    /// Number of the epoch whose weights are the result; `None` if they are those of the last.
    pub best: Option<usize>,
    /// Learned step sizes by name of the weights, one per output channel.
    pub weight_steps: BTreeMap<String, Vec<f32>>,
    /// Smallest and largest element of each rounded activation, by name.
    pub activation_ranges: BTreeMap<String, (f32, f32)>,
}

/// Why training ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// All epochs are finished.
    Completed,
    /// The observer stopped it.
    Stopped,
    /// No epoch improved within [`FitOptions::patience`].
    Patience,
}
