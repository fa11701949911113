//! Records of recurrent layers.

use super::sparse::SparseRepr;
use serde::{Deserialize, Serialize};

/// Kind of a recurrent layer; definitions are ONNX's (operators RNN, GRU, LSTM), activations its defaults unless named.
///
/// Gates, and the rows of weights and biases that make them, stand one behind the other in the order given here, which is
/// that of [`crate::learn::layers::recurrent`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RecurrentKind {
    /// `h = tanh(W·x + R·h + b)`
    Tanh,
    /// `h = max(W·x + R·h + b, 0)`
    Relu,
    /// Gates update `u`, reset `r`, candidate `c`: `c = tanh(W·x + R·(r∘h) + b)`, `h = u∘h + (1 - u)∘c`
    /// (Cho et al. 2014; ONNX `linear_before_reset` 0).
    Gru,
    /// The same with `c = tanh(W·x + b + r∘(R·h + b'))`; `b'` stands behind all other biases (`linear_before_reset` 1, which
    /// PyTorch and Keras write).
    GruResetAfter,
    /// Gates input `i`, forget `f`, output `o`, candidate `g`: `c = f∘c + i∘g`, `h = o∘tanh(c)`.
    Lstm,
}

impl RecurrentKind {
    /// Number of gates: blocks of rows of the weights.
    pub const fn gates(self) -> usize {
        match self {
            Self::Tanh | Self::Relu => 1,
            Self::Gru | Self::GruResetAfter => 3,
            Self::Lstm => 4,
        }
    }

    /// Blocks of biases: one a gate, and one for the state's part of a candidate that is reset after its product.
    pub const fn biases(self) -> usize {
        self.gates() + matches!(self, Self::GruResetAfter) as usize
    }

    /// Whether a second state is carried from step to step in float32: the LSTM's memory; the GRU's state itself, which int8
    /// would hold too coarsely for an update gate near one.
    pub const fn carries(self) -> bool {
        matches!(self, Self::Gru | Self::GruResetAfter | Self::Lstm)
    }

    /// Numbers of a whole state, a unit: the LSTM has its memory behind the output.
    pub const fn states(self) -> usize {
        1 + matches!(self, Self::Lstm) as usize
    }

    /// Whether no output is beyond one.
    pub const fn is_bounded(self) -> bool {
        !matches!(self, Self::Relu)
    }
}

/// What of a recurrent layer is its output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Returns {
    /// The state of every step, `[steps, units]`, at the place of the step's input.
    Sequence,
    /// The state after all steps, `[units]`.
    Last,
    /// That and, behind it, the memory, `[2 · units]`. Of float32 LSTMs.
    State,
}

/// Recurrent layer over `[steps, inputs]`, one step at a time from the first, or with `reverse` from the last. Nothing is
/// unrolled: a step has the state of the one before.
///
/// **Gates.** float32: sums in order, from the bias over the inputs to the state. int8: products of the codes less their
/// zero points, int32 accumulation (which wraps), for input and state apart; then in float32, in this order,
/// `bias + scale_input · Σ input + scale_state · Σ state`. The gates' functions are `libm`'s in both forms, so
/// that every target, with or without a float unit, has the same bits.
///
/// **State.** int8: as the output, in its scale and zero point; `clamp(round_half_away(h / scale) + zp)`. What
/// [`RecurrentKind::carries`] is float32.
///
/// **Blob.** B = biases · units, N = gates · units. float32: `bias: [f32; B]`, `input: [f32; N · inputs]`,
/// `state: [f32; N · units]`. int8: `bias: [f32; B]`, `scale_input: [f32; N]`, `scale_state: [f32; N]` (scale of the input or
/// state times that of the row's weights), `input: [i8; N · inputs]`, `state: [i8; N · units]`.
///
/// **Scratch.** Its offset is given in words of 4 bytes. [`Recurrent::room`] says what lies in it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recurrent {
    /// Input, arena offset in bytes.
    pub src: u32,
    /// Output, arena offset in bytes.
    pub dst: u32,
    /// State before the first step, arena offset in bytes: `[units]` in the numbers of the output (float32 LSTM: `[2 · units]`, its
    /// memory last). `None`: zeros. An int8 LSTM has none.
    pub initial: Option<u32>,
    /// Where the state is kept from one run to the next, in words; `None` if every run begins anew. A word that tells
    /// whether there is one (not 0), then what is carried, then the state.
    pub kept: Option<u32>,
    /// Offset in words.
    pub scratch: u32,
    /// Steps.
    pub steps: u16,
    /// Elements of the input, a step.
    pub inputs: u16,
    /// Elements of the state.
    pub units: u16,
    /// What it computes.
    pub kind: RecurrentKind,
    /// What it writes.
    pub returns: Returns,
    /// From the last step to the first.
    pub reverse: bool,
    /// Number format.
    pub arith: RecurrentArith,
    /// Offset in the blob section.
    pub blob: u32,
}

/// Number format of [`Recurrent`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum RecurrentArith {
    /// int8 input, weights and state.
    I8 {
        /// Zero point of the input.
        in_zp: i8,
        /// Zero point of the state.
        out_zp: i8,
        /// Scale of the state.
        out_scale: f32,
    },
    /// float32.
    F32,
}

impl RecurrentArith {
    /// Element type of input and output.
    pub const fn dtype(&self) -> super::types::DType {
        match self {
            Self::I8 { .. } => super::types::DType::I8,
            Self::F32 => super::types::DType::F32,
        }
    }
}

/// int8 recurrent layer of whose two matrices one or both are sparse: the numbers of [`Recurrent`], weights that are not
/// stored being zero.
///
/// **Blob.** As the int8 one of [`Recurrent`], but in the place of the weights of a sparse matrix `start: [i32; N]`, the blob
/// of [`SparseRepr`], zero padding to 4 bytes. A row's sum begins with its `start`, which is the zero point's part of it,
/// `-zp · Σ weights`; there is none where the zero point (of the input or the state) is 0. A row has at most
/// [`super::sparse::MOST_ENTRIES`] weights.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecurrentSparse {
    /// The layer, as it would be dense. Its number format is int8.
    pub layer: Recurrent,
    /// `[gates · units, inputs]`, if it is sparse.
    pub input: Option<SparseRepr>,
    /// `[gates · units, units]`, if it is sparse.
    pub state: Option<SparseRepr>,
}

impl RecurrentSparse {
    /// Both matrices, as [`Recurrent`] has them one behind the other.
    pub const fn matrices(&self) -> [Option<SparseRepr>; 2] {
        [self.input, self.state]
    }
}

/// Words of the pieces of memory that a recurrent layer works in, one behind the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Workspace {
    /// What is carried, float32.
    pub carried: usize,
    /// The state, in the output's numbers.
    pub held: usize,
    /// The state after its reset, likewise.
    pub reset: usize,
    /// Gates, float32.
    pub gates: usize,
    /// Sums of int8 products, int32.
    pub sums: usize,
}

impl Workspace {
    /// All of it.
    pub const fn words(&self) -> usize {
        self.carried + self.held + self.reset + self.gates + self.sums
    }

    /// What a kept state takes.
    pub const fn kept_words(&self) -> usize {
        1 + self.carried + self.held
    }
}

impl Recurrent {
    /// Its scratch.
    pub const fn workspace(&self) -> Workspace {
        let units = self.units as usize;
        let (held, sums) = match self.arith {
            RecurrentArith::I8 { .. } => (units.div_ceil(4), units),
            RecurrentArith::F32 => (units, 0),
        };
        Workspace {
            carried: if self.kind.carries() { units } else { 0 },
            held,
            reset: if matches!(self.kind, RecurrentKind::Gru) { held } else { 0 },
            gates: self.kind.biases() * units,
            sums,
        }
    }
}
