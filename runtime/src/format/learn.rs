//! Learning records: what of a network learns, from what, and where its memory lies.
//!
//! They stand behind the operators in the graph section if the header requires [`super::requires::LEARNS`]:
//! a [`LearnHead`], then its [`LearnLayer`]s, by ascending operator. All learning memory lies behind the inference
//! arena, in this order: the room of a step at [`LearnHead::room`], then for each layer its overlay, the lower bytes of
//! int16 weights, and the table of a head that learns. A record is **untrusted** until [`crate::graph::Model::open`]
//! has checked it; `graph/learn.rs` says what it demands.

use crate::learn::{Rule, Schedule};
use serde::{Deserialize, Serialize};

/// What all layers share.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LearnHead {
    /// Number of layers that learn.
    pub layers: u8,
    /// Number of classes.
    pub classes: u16,
    /// Bytes of arena that learning needs, inference included.
    pub arena_bytes: u32,
    /// Where the room of a step begins in the arena, bytes.
    pub room: u32,
    /// Of all randomness: stochastic rounding draws from it.
    pub seed: u32,
    /// Learning rate.
    pub rate: f32,
    /// How the rate falls.
    pub schedule: Schedule,
    /// Divide the rate by one plus the energy of the input.
    pub normalised: bool,
}

/// One operator that learns.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LearnLayer {
    /// Position of the operator: Conv2d, Depthwise, FullyConnected, ConvBlocked or DepthwisePlanar.
    pub op: u16,
    /// What of it learns.
    pub part: Part,
    /// What it learns from.
    pub teacher: Teacher,
    /// Where and how its weights lie.
    pub format: Format,
    /// Rate relative to [`LearnHead::rate`].
    pub rate: f32,
    /// Where the overlay lies in the arena, bytes: a copy of the operator's blob, which learns.
    pub overlay: u32,
    /// Scales of input and output, if they are int8; else 0.
    pub scales: [f32; 2],
}

/// What of an operator learns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Part {
    /// Weights and biases.
    All,
    /// Biases.
    Bias,
}

/// What a layer learns from.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Teacher {
    /// Its outputs are the scores of the classes; cross-entropy.
    Output,
    /// Codes on the features of its output.
    Local {
        /// Which error.
        rule: Rule,
        /// From classes to features.
        codes: CodesRepr,
        /// Features are means over the cells of a raster of so many rows and columns.
        grid: u8,
    },
}

/// Where codes come from; see [`crate::learn::Codes`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum CodesRepr {
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
    /// float32 `[classes, features]` that learns too; zeros at first.
    Head {
        /// Where it lies in the arena, bytes.
        at: u32,
        /// Its rate relative to the layer's.
        rate: f32,
    },
}

/// Number format of what learns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Format {
    /// float32: all of the overlay.
    F32,
    /// int8 weights, int32 biases.
    I8,
    /// int16 weights: the upper bytes in the overlay, the lower ones from arena offset `fine` on.
    I16 {
        /// Arena offset, bytes.
        fine: u32,
    },
}
