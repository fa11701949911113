//! Learning records: which parts of a network learn, from which errors, and where their memory lies.
//!
//! They follow the operators in the graph section if the header requires [`super::requires::LEARNS`]: a [`LearnHead`],
//! its [`LearnLayer`]s in ascending order of operators, and the [`Tap`]s of its [`ClassifierHead`]. All learning memory
//! lies behind the inference arena, in this order: the workspace of a train step at [`LearnHead::workspace`], features
//! and scores of the classifier head; then, from [`LearnHead::learned`] on, everything that learning changes: its progress
//! ([`PROGRESS_BYTES`]); for each layer its trainable copy, lower bytes or table, and velocities; statistics of the
//! input; the classifier head's memory. A record is **untrusted** until `Model::open` has checked it.

use serde::{Deserialize, Serialize};

/// Bytes at the start of the learned memory that say how far learning has come: steps so far, state of the random
/// numbers, length of the course if it is not the plan's (else 0), all u32; active blocks of a boosted head (u8); outliers in
/// a row (u8); logarithm of a usual sample's distance in quarters, 0 before the first (u16); marks of the classes of the
/// last two samples, 1 + class mod 255, 0 for none (u8 each); share of samples with one of the two classes before, in units of
/// 2^-16 (u16).
pub const PROGRESS_BYTES: usize = 20;

/// The error that a layer learns from.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum LocalRule {
    /// tpSGD (arXiv:2208.08503): cross-entropy of scores through the fixed target projection. `scale` multiplies the
    /// scores: an inverse temperature.
    CrossEntropy {
        /// Multiplies the scores.
        scale: f32,
    },
    /// tpSGD, squared distance to `scale` times the label's projection.
    Squared {
        /// Multiplies the targets.
        scale: f32,
    },
    /// tpSGD, absolute distance to `scale` times the label's projection.
    Absolute {
        /// Multiplies the targets.
        scale: f32,
    },
    /// Direct random target projection (arXiv:1909.01311): the error is the projection itself, whatever the
    /// activations.
    Drtp,
}

impl LocalRule {
    /// Every rule, with a scale that suits layers of some hundred features.
    pub const ALL: [Self; 4] = [
        Self::CrossEntropy { scale: 0.1 },
        Self::Squared { scale: 10.0 },
        Self::Absolute { scale: 3.0 },
        Self::Drtp,
    ];

    /// Name in learning plans, in reports and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::CrossEntropy { .. } => "tpsgd-cross-entropy",
            Self::Squared { .. } => "tpsgd-squared",
            Self::Absolute { .. } => "tpsgd-absolute",
            Self::Drtp => "drtp",
        }
    }

    /// What it is, in a line of help.
    pub const fn about(self) -> &'static str {
        match self {
            Self::CrossEntropy { .. } => "tpSGD: cross-entropy through a fixed target projection",
            Self::Squared { .. } => "tpSGD: squared distance to the label's projection (float32)",
            Self::Absolute { .. } => "tpSGD: absolute distance to the label's projection (float32)",
            Self::Drtp => "Direct random target projection (DRTP)",
        }
    }

    /// The rule with this scale, if it has one.
    #[must_use]
    pub const fn with_scale(self, scale: f32) -> Self {
        match self {
            Self::CrossEntropy { .. } => Self::CrossEntropy { scale },
            Self::Squared { .. } => Self::Squared { scale },
            Self::Absolute { .. } => Self::Absolute { scale },
            Self::Drtp => Self::Drtp,
        }
    }

    /// Its scale, which must be a positive number.
    pub const fn scale(self) -> Option<f32> {
        match self {
            Self::CrossEntropy { scale } | Self::Squared { scale } | Self::Absolute { scale } => Some(scale),
            Self::Drtp => None,
        }
    }

    /// Whether the error of a feature depends on its own activation.
    pub const fn reads_activation(self) -> bool {
        match self {
            Self::Squared { .. } | Self::Absolute { .. } => true,
            Self::CrossEntropy { .. } | Self::Drtp => false,
        }
    }

    /// Whether int8 layers have it.
    pub const fn is_for_int8(self) -> bool {
        match self {
            Self::CrossEntropy { .. } | Self::Drtp => true,
            Self::Squared { .. } | Self::Absolute { .. } => false,
        }
    }
}

/// How the learning rate falls with the number of steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Schedule {
    /// It stays constant.
    Constant,
    /// It falls linearly to zero at `steps`.
    Linear {
        /// Steps after which the rate is 0.
        steps: u32,
    },
    /// It falls along half a cosine to zero at `steps` (Bhaskara's rational approximation, error below 0.002).
    Cosine {
        /// Steps after which the rate is 0.
        steps: u32,
    },
    /// `half / (half + step)`: for unbounded streams.
    Inverse {
        /// Steps after which the rate is halved.
        half: u32,
    },
}

/// Settings that all layers share.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LearnHead {
    /// Number of layers that learn.
    pub layers: u8,
    /// Number of classes that the layers learn.
    pub classes: u16,
    /// Bytes of arena that learning needs, including inference.
    pub arena_bytes: u32,
    /// Offset in the arena of the workspace of a train step, bytes.
    pub workspace: u32,
    /// Offset in the arena of the memory that learning changes, bytes.
    pub learned: u32,
    /// Seed of all randomness, such as stochastic rounding.
    pub seed: u32,
    /// Learning rate.
    pub rate: f32,
    /// How the rate falls.
    pub schedule: Schedule,
    /// Warm-up: steps over which the rates of all layers but the last rise from 0, so that heads learn first.
    pub warm: u32,
    /// Whether to divide the rate by one plus the energy of the input.
    pub normalised: bool,
    /// Fraction of the last step that is added to the next, in units of 2^-15; 0 disables momentum.
    pub momentum: u16,
    /// Standard deviation of the noise on gradients at the first step. It falls with the square root of the steps. 0
    /// disables it.
    pub noise: f32,
    /// Input normaliser: statistics that follow the device's data.
    pub normalizer: Option<InputNormalizerRepr>,
    /// Classifier head whose scores replace the network's output.
    pub classifier: Option<ClassifierHead>,
    /// What the file has learned: offset in the blob section of the learned bytes that no operator's blob holds. `None`:
    /// nothing, learning starts at step 0.
    pub begun: Option<u32>,
}

/// Statistics of the network's only input: a mean per element and one energy for all
/// (`offshoot_learn::InputNormalizer`). Before the first operator, every input is mapped from the device's statistics
/// to the host's.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct InputNormalizerRepr {
    /// Offset in the blob section of the host's means, float32, one per element of the input.
    pub blob: u32,
    /// The host's mean of `|x - mean|²`.
    pub energy: f32,
    /// Number of samples that the host's statistics count as.
    pub trust: f32,
    /// Steps after which the statistics stop changing; 0: never.
    pub steps: u32,
    /// Offset in the arena, bytes, of the statistics: float32 means, energy, weight.
    pub at: u32,
}

/// A classifier head (`offshoot_learn::heads`) on features of operators.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassifierHead {
    /// Which head.
    pub kind: HeadKind,
    /// Number of classes that there is memory for; at least the network's.
    pub classes: u16,
    /// Number of [`Tap`]s.
    pub taps: u8,
    /// The first step at which it learns, counted from 0.
    pub from: u32,
    /// Offset in the arena of the features, bytes; the scores follow. Both are float32.
    pub features: u32,
    /// Offset in the arena of its memory, bytes, which extends to the end of the arena.
    pub at: u32,
    /// Number of sums that the features are folded into (`offshoot_learn::heads::fold`), which are then the head's
    /// features; 0: not folded.
    pub folded: u16,
}

/// A kind of classifier head and its options; see `offshoot_learn::heads`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum HeadKind {
    Softmax {
        step: f32,
    },
    NearestMean {
        /// Largest count of a class that its mean uses, so that older samples fade. Infinite: none fades.
        window: f32,
    },
    Lda {
        /// Negative: chosen from the numbers of features and samples (`Shrinkage::Prior`).
        shrinkage: f32,
        window: f32,
    },
    LeastSquares {
        ridge: f32,
        forgetting: f32,
        balance: bool,
    },
    Simplex {
        step: f32,
    },
    /// Each tap is a block.
    Boosted {
        step: f32,
    },
    /// What is normal. Two classes: normal and anomalous.
    #[cfg(feature = "head-anomaly")]
    Anomaly {
        /// Whether only variances are kept, and no covariances.
        diagonal: bool,
        /// Number of normal samples after which older ones fade. Infinite: none fades.
        window: f32,
        /// Greatest rate of false alarms, in units of 1/10000.
        false_alarms: u16,
        /// Number of scores that the threshold rests on.
        scores: u16,
    },
    /// Keeps the number of the variant behind it. No head is of this kind.
    #[cfg(all(feature = "head-regression", not(feature = "head-anomaly")))]
    Absent,
    /// Real targets: the head adds to the network's first output. Its "classes" are the elements of that.
    #[cfg(feature = "head-regression")]
    Regression {
        ridge: f32,
        forgetting: f32,
    },
}

/// Features for a [`ClassifierHead`]: the mean of each channel over all pixels, taken from the input of an operator
/// that could learn.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tap {
    /// Position of the operator. Taps are in ascending order.
    pub op: u16,
    /// Scale of an int8 input, else 0.
    pub scale: f32,
}

/// One operator that learns.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LearnLayer {
    /// Position of the operator: Conv2d, Depthwise, FullyConnected, ConvTiled, DepthwisePlanar or LayerNorm.
    pub op: u16,
    /// The part of it that learns.
    pub part: TrainablePart,
    /// The error that it learns from.
    pub error_source: ErrorSource,
    /// Number format of the learned weights.
    pub format: Format,
    /// Rate relative to [`LearnHead::rate`].
    pub rate: f32,
    /// Offset in the arena of the trainable copy, bytes. See [`TrainablePart`] for its contents.
    pub trainable: u32,
    /// Offset in the arena of the velocities, bytes, if there is momentum; else 0.
    pub velocity: u32,
    /// Scales of input and output if they are int8, else 0.
    pub scales: [f32; 2],
}

impl LearnLayer {
    /// Moves the layer's learning memory `bytes` further on.
    pub fn move_by(&mut self, bytes: u32) {
        self.trainable += bytes;
        self.velocity += bytes;
        if let Format::I16 { fine } = &mut self.format {
            *fine += bytes;
        }
        if let ErrorSource::Local { projection: TargetProjectionRepr::Head { at, .. }, .. } =
            &mut self.error_source
        {
            *at += bytes;
        }
    }
}

/// The part of an operator that learns, and the contents of its trainable copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TrainablePart {
    /// Weights and biases: a copy of the operator's blob. For a LayerNorm, its scale and bias.
    All,
    /// Biases: a copy of them. Weights stay in flash.
    Bias,
    /// Biases and a scale per output channel, `z = scale · (W x + bias)`. float32: biases, then scales. int8: biases,
    /// multipliers and shifts, in the order of the operator's blob. Weights stay in flash.
    Scale,
    /// A low-rank adaptor (LoRA, arXiv:2106.09685), `z = W x + bias + up (down x)`: float32 `up [out_c, rank]`, then
    /// `down [rank, k_h, k_w, c]`. Weights stay in flash. Only for Conv2d without groups and FullyConnected.
    LowRank {
        /// 1 to 64.
        rank: u8,
    },
}

/// Where a layer's error comes from.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum ErrorSource {
    /// Cross-entropy; the layer's outputs are the scores of the classes.
    Output,
    /// A local rule on the features of its output, through a target projection.
    Local {
        /// The local rule.
        rule: LocalRule,
        /// The projection from classes to features.
        projection: TargetProjectionRepr,
        /// Rows and columns of the pooling grid. Features are means over its cells.
        grid: u8,
    },
    /// The error of the next layer that learns, propagated back through that layer: the first of a block of two. Its
    /// output must be the input of the next.
    Next,
}

/// A target projection; see `offshoot_learn::TargetProjection`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum TargetProjectionRepr {
    Signs {
        seed: u32,
    },
    Hadamard,
    Uniform {
        seed: u32,
    },
    /// int8 `[classes, features]` in the blob section.
    Probe {
        blob: u32,
    },
    /// float32 `[classes, features]`, which learns too.
    Head {
        /// Its offset in the arena, bytes.
        at: u32,
        /// Its rate relative to the layer's.
        rate: f32,
        /// Its initial value: a probe, int8 in the blob section, and the probe's scale. Zeros if absent.
        from: Option<(u32, f32)>,
    },
}

/// Number format of learned weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Format {
    /// The whole trainable copy is float32.
    F32,
    /// int8 weights, int32 biases.
    I8,
    /// int16 weights: the upper bytes in the trainable copy, the lower bytes at arena offset `fine`.
    I16 {
        /// Arena offset, bytes.
        fine: u32,
    },
}
