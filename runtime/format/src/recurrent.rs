//! Records of recurrent layers.

use super::sparse::SparseRepr;
use serde::{Deserialize, Serialize};

/// Kind of a recurrent layer. Definitions follow ONNX's operators RNN, GRU and LSTM, with their default activations
/// unless named here.
///
/// Gates, and the rows of weights and biases that compute them, are stored in the order given here, which is that of
/// `offshoot_learn::layers::recurrent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RecurrentKind {
    /// `h = tanh(W·x + R·h + b)`
    Tanh,
    /// `h = max(W·x + R·h + b, 0)`
    Relu,
    /// Gates update `u`, reset `r`, candidate `c`: `c = tanh(W·x + R·(r∘h) + b)`, `h = u∘h + (1 - u)∘c`
    /// (Cho et al. 2014; ONNX `linear_before_reset` 0).
    Gru,
    /// As [`Self::Gru`], with `c = tanh(W·x + b + r∘(R·h + b'))`. `b'` follows all other biases. This is
    /// `linear_before_reset` 1, the form that PyTorch and Keras export.
    GruResetAfter,
    /// Gates input `i`, forget `f`, output `o`, candidate `g`: `c = f∘c + i∘g`, `h = o∘tanh(c)`.
    Lstm,
}

impl RecurrentKind {
    /// Number of gates. Each is a block of rows of the weights.
    pub const fn gates(self) -> usize {
        match self {
            Self::Tanh | Self::Relu => 1,
            Self::Gru | Self::GruResetAfter => 3,
            Self::Lstm => 4,
        }
    }

    /// Blocks of biases: one per gate, and one more (`b'`) for [`Self::GruResetAfter`].
    pub const fn biases(self) -> usize {
        self.gates() + matches!(self, Self::GruResetAfter) as usize
    }

    /// Whether a state is carried from step to step in float32. For the LSTM it is the memory. For the GRU it is the
    /// state itself, because int8 is too coarse for an update gate near one.
    pub const fn carries(self) -> bool {
        matches!(self, Self::Gru | Self::GruResetAfter | Self::Lstm)
    }

    /// Numbers per unit in a whole state. The LSTM's memory follows its output.
    pub const fn states(self) -> usize {
        1 + matches!(self, Self::Lstm) as usize
    }

    /// Whether all outputs lie in -1..=1.
    pub const fn is_bounded(self) -> bool {
        !matches!(self, Self::Relu)
    }
}

/// The output of a recurrent layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Returns {
    /// The state of every step, `[steps, units]`, in the order of the inputs.
    Sequence,
    /// The state after all steps, `[units]`.
    Last,
    /// The state after all steps and then the memory, `[2 · units]`. Only for float32 LSTMs.
    State,
}

/// Recurrent layer over `[steps, inputs]`, one step at a time from the first, or with `reverse` from the last. It is
/// not unrolled: each step reads the state of the one before.
///
/// **Gates.** float32: sums in order, starting with the bias, then the inputs, then the state. int8: products of the
/// codes minus their zero points, accumulated in int32 (which wraps) separately for input and state; then in float32,
/// in this order, `bias + scale_input · Σ input + scale_state · Σ state`. Both forms use the activation functions of
/// `libm`, so every target computes the same bits, with or without a float unit.
///
/// **State.** int8: in the output's scale and zero point, `clamp(round_half_away(h / scale) + zp)`. The state that
/// [`RecurrentKind::carries`] is float32.
///
/// **Blob.** B = biases · units, N = gates · units. float32: `bias: [f32; B]`, `input: [f32; N · inputs]`,
/// `state: [f32; N · units]`. int8: `bias: [f32; B]`, `scale_input: [f32; N]`, `scale_state: [f32; N]` (scale of the
/// input or state times that of the row's weights), `input: [i8; N · inputs]`, `state: [i8; N · units]`.
///
/// **Scratch.** Its offset is given in words of 4 bytes. [`Recurrent::workspace`] lists its contents.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recurrent {
    /// Input, arena offset in bytes.
    pub src: u32,
    /// Output, arena offset in bytes.
    pub dst: u32,
    /// State before the first step, arena offset in bytes: `[units]` in the output's number format (float32 LSTM:
    /// `[2 · units]`, the memory last). `None`: zeros. An int8 LSTM has no initial state.
    pub initial: Option<u32>,
    /// Where the state is kept between runs, offset in words; `None` if every run starts afresh. First a word that is
    /// not 0 if a state is stored, then the carried state, then the state.
    pub kept: Option<u32>,
    /// Offset of the scratch in words.
    pub scratch: u32,
    /// Steps.
    pub steps: u16,
    /// Elements of the input per step.
    pub inputs: u16,
    /// Elements of the state.
    pub units: u16,
    /// Kind of the layer.
    pub kind: RecurrentKind,
    /// The output.
    pub returns: Returns,
    /// Whether it runs from the last step to the first.
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

/// int8 recurrent layer with one or two sparse matrices. It gives the numbers of [`Recurrent`]; weights that are not
/// stored are zero.
///
/// **Blob.** As the int8 blob of [`Recurrent`], except that the weights of a sparse matrix are replaced by
/// `start: [i32; N]`, the blob of [`SparseRepr`], and zero padding to 4 bytes. A row's sum begins with its `start`, the
/// zero point's share `-zp · Σ weights`. `start` is absent if the zero point (of the input or the state) is 0. A row
/// has at most [`super::sparse::MOST_ENTRIES`] weights.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecurrentSparse {
    /// The equivalent dense layer. Its number format is int8.
    pub layer: Recurrent,
    /// The matrix `[gates · units, inputs]`, if it is sparse.
    pub input: Option<SparseRepr>,
    /// The matrix `[gates · units, units]`, if it is sparse.
    pub state: Option<SparseRepr>,
}

impl RecurrentSparse {
    /// Both matrices, in the order of [`Recurrent`]'s blob.
    pub const fn matrices(&self) -> [Option<SparseRepr>; 2] {
        [self.input, self.state]
    }
}

/// Sizes, in words, of the pieces of a recurrent layer's workspace, in their order in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Workspace {
    /// The carried state, float32.
    pub carried: usize,
    /// The state, in the output's number format.
    pub held: usize,
    /// The state after its reset, in the output's number format.
    pub reset: usize,
    /// Gates, float32.
    pub gates: usize,
    /// Sums of int8 products, int32.
    pub sums: usize,
}

impl Workspace {
    /// Words of the whole workspace.
    pub const fn words(&self) -> usize {
        self.carried + self.held + self.reset + self.gates + self.sums
    }

    /// Words that a kept state takes.
    pub const fn kept_words(&self) -> usize {
        1 + self.carried + self.held
    }
}

impl Recurrent {
    /// Sizes of the workspace.
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
