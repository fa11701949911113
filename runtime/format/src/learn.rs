//! Learning records: what of a network learns, from what, and where its memory lies.
//!
//! They stand behind the operators in the graph section if the header requires [`super::requires::LEARNS`]:
//! a [`LearnHead`], then its [`LearnLayer`]s, by ascending operator, then the [`Tap`]s of its [`ClassifierHead`]. All learning
//! memory lies behind the inference arena, in this order: the room of a step at [`LearnHead::room`], features and scores of
//! the answer; from [`LearnHead::learned`] on what learning changes: for each layer its trainable copy, lower bytes or table, and
//! velocities; statistics of the input; the answer's memory. A record is **untrusted** until
//! `Model::open` has checked it; `graph/learn.rs` says what it demands.

use serde::{Deserialize, Serialize};

/// Which error a layer learns from.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum LocalRule {
    /// tpSGD with the cross-entropy of scores through the fixed codes. `scale` multiplies scores: an inverse
    /// temperature.
    CrossEntropy {
        /// Of the scores.
        scale: f32,
    },
    /// tpSGD, squared distance to the label's code times `scale`.
    Squared {
        /// Of the targets.
        scale: f32,
    },
    /// tpSGD, absolute distance to the label's code times `scale`.
    Absolute {
        /// Of the targets.
        scale: f32,
    },
    /// Direct random target projection: the code itself, whatever the activity.
    Drtp,
}

/// How the rate falls with the steps taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Schedule {
    /// It does not.
    Constant,
    /// On a line to zero at `steps`.
    Linear {
        /// Steps after which the rate is 0.
        steps: u32,
    },
    /// Half a cosine to zero at `steps` (by Bhaskara's rational approximation, error below 0.002).
    Cosine {
        /// Steps after which the rate is 0.
        steps: u32,
    },
    /// `half / (half + step)`: for streams without an end.
    Inverse {
        /// Steps after which the rate is halved.
        half: u32,
    },
}

/// What all layers share.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LearnHead {
    /// Number of layers that learn.
    pub layers: u8,
    /// Number of classes that layers learn.
    pub classes: u16,
    /// Bytes of arena that learning needs, inference included.
    pub arena_bytes: u32,
    /// Where the room of a step begins in the arena, bytes.
    pub workspace: u32,
    /// Where what learning changes begins in the arena, bytes.
    pub learned: u32,
    /// Of all randomness: stochastic rounding draws from it.
    pub seed: u32,
    /// Learning rate.
    pub rate: f32,
    /// How the rate falls.
    pub schedule: Schedule,
    /// Steps over which the rates of layers before the last rise from 0, so that heads go first.
    pub warm: u32,
    /// Divide the rate by one plus the energy of the input.
    pub normalised: bool,
    /// Part of the last step that is taken again, in 2^-15; 0 for none.
    pub momentum: u16,
    /// Deviation of the noise on gradients at the first step; it falls with the root of the steps. 0 for none.
    pub noise: f32,
    /// Input statistics that follow the data.
    pub standard: Option<InputNormalizerRepr>,
    /// What answers in the place of the network's own output.
    pub classifier: Option<ClassifierHead>,
}

/// Statistics of the network's only input: a mean for each number, one energy for all ([`crate::learn::InputNormalizer`]). Every input
/// is brought from those of the device to those of the host before the first operator.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct InputNormalizerRepr {
    /// float32 in the blob section: the host's mean of each number of the input.
    pub blob: u32,
    /// The host's mean of `|x - mean|²`.
    pub energy: f32,
    /// How many samples the host's statistics count as.
    pub trust: f32,
    /// Steps after which statistics stand still; 0: never.
    pub steps: u32,
    /// Where they lie in the arena, bytes: float32, means, energy, weight.
    pub at: u32,
}

/// A head of [`crate::learn::heads`] on features of operators.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassifierHead {
    /// Which head.
    pub kind: HeadKind,
    /// Workspace for so many classes, at least those of the network.
    pub classes: u16,
    /// Number of [`Tap`]s.
    pub taps: u8,
    /// The step from which on it learns, the first being 0.
    pub from: u32,
    /// Where features lie in the arena, bytes, and scores behind them: float32.
    pub features: u32,
    /// Where its memory lies in the arena, bytes: to the end of the arena.
    pub at: u32,
}

/// A kind of head and its options; see [`crate::learn::heads`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum HeadKind {
    Softmax {
        step: f32,
    },
    NearestMean {
        /// Infinite: no sample fades.
        window: f32,
    },
    Lda {
        /// Negative: as the numbers of features and samples suggest (`Shrinkage::Prior`).
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
    /// A block is a tap.
    Boosted {
        step: f32,
    },
}

/// Features for an [`ClassifierHead`]: of the input of an operator that could learn, the means of each channel over all pixels.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tap {
    /// Position of the operator; taps ascend.
    pub op: u16,
    /// Scale of an int8 input; else 0.
    pub scale: f32,
}

/// One operator that learns.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LearnLayer {
    /// Position of the operator: Conv2d, Depthwise, FullyConnected, ConvTiled, DepthwisePlanar or LayerNorm.
    pub op: u16,
    /// What of it learns.
    pub part: Part,
    /// What it learns from.
    pub error_source: ErrorSource,
    /// Where and how its weights lie.
    pub format: Format,
    /// Rate relative to [`LearnHead::rate`].
    pub rate: f32,
    /// Where the trainable copy lies in the arena, bytes: what learns, see [`Part`].
    pub trainable: u32,
    /// Where velocities lie in the arena, bytes, if there is momentum; else 0.
    pub velocity: u32,
    /// Scales of input and output, if they are int8; else 0.
    pub scales: [f32; 2],
}

impl LearnLayer {
    /// The same with its learning memory so many bytes further on.
    pub fn move_by(&mut self, bytes: u32) {
        self.trainable += bytes;
        self.velocity += bytes;
        if let Format::I16 { fine } = &mut self.format {
            *fine += bytes;
        }
        if let ErrorSource::Local { codes: TargetProjectionRepr::Head { at, .. }, .. } =
            &mut self.error_source
        {
            *at += bytes;
        }
    }
}

/// What of an operator learns, and what its trainable copy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Part {
    /// Weights and biases: a copy of the operator's blob. Of a LayerNorm its scale and bias.
    All,
    /// Biases: a copy of them. Weights stay in flash.
    Bias,
    /// Biases and a scale of each output channel, `z = scale · (W x + bias)`. float32: biases, then scales; int8: biases,
    /// multipliers, shifts, as the operator's blob begins. Weights stay in flash.
    Scale,
    /// An adaptor of low rank, `z = W x + bias + up (down x)`: float32 `up [out_c, rank]`, then `down [rank, k_h, k_w, c]`. Weights stay in
    /// flash. Conv2d without groups and FullyConnected.
    LowRank {
        /// 1 to 64.
        rank: u8,
    },
}

/// What a layer learns from.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum ErrorSource {
    /// Its outputs are the scores of the classes; cross-entropy.
    Output,
    /// TargetProjection on the features of its output.
    Local {
        /// Which error.
        rule: LocalRule,
        /// From classes to features.
        codes: TargetProjectionRepr,
        /// Features are means over the cells of a pooling grid of so many rows and columns.
        grid: u8,
    },
    /// The error of the next layer that learns, brought back through that layer: the first of a block of two. Its output is the
    /// input of the next.
    Next,
}

/// Where codes come from; see [`crate::learn::TargetProjection`].
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
    /// int8 in the blob section, `[classes, features]`.
    Probe {
        blob: u32,
    },
    /// float32 `[classes, features]` that learns too.
    Head {
        /// Where it lies in the arena, bytes.
        at: u32,
        /// Its rate relative to the layer's.
        rate: f32,
        /// What it begins as: a probe, int8 in the blob section, and its unit; zeros if absent.
        from: Option<(u32, f32)>,
    },
}

/// Number format of what learns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Format {
    /// float32: all of the trainable copy.
    F32,
    /// int8 weights, int32 biases.
    I8,
    /// int16 weights: the upper bytes in the trainable copy, the lower ones from arena offset `fine` on.
    I16 {
        /// Arena offset, bytes.
        fine: u32,
    },
}
