//! Records with sparse weights: only the non-zero weights are stored, each with its distance from the one before.

use super::tiled::{ConvTiled, Traversal};
use super::types::WindowRepr;
use serde::{Deserialize, Serialize};

/// Most weights in a row, with those of blocks counted one by one. Sums of products with int8 then stay within 2^29, so
/// twice a sum and its bias fit in 32 bits.
pub const MOST_ENTRIES: u32 = (1 << 15) - 1;

/// A sparse matrix of int8 weights, row by row. These fields size the parts of its blob; the operator gives rows and
/// columns.
///
/// An entry is a step and one weight ([`Form::Blocks`]: four weights). A row begins at position 0. Each entry advances
/// by `step` and multiplies the input at that position ([`Form::Blocks`]: the four inputs from four times the position
/// on). A step may be 0 and a weight may be 0, so several entries can bridge a wide gap.
///
/// **Blob.** `counts: [u16; rows]`, entries of each row; zero padding to 4 bytes; `weights: [i8]`; `steps: [u8]`. The
/// weights of all rows are contiguous, and so are their steps; the steps of each row begin at a whole byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SparseRepr {
    /// How entries are stored.
    pub form: Form,
    /// Entries of all rows.
    pub entries: u32,
    /// Bytes of all steps.
    pub steps: u32,
}

/// How the entries of a [`SparseRepr`] are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Form {
    /// A weight and a step of one byte.
    Bytes,
    /// A weight and a step of four bits. Of every eight entries of a row, steps 0 to 3 are the lower halves of four
    /// bytes and 4 to 7 the upper ones. The remaining steps are packed two to a byte, the lower half first.
    Nibbles,
    /// Four neighbouring weights and a step of one byte, in blocks of four. The columns are a multiple of four.
    Blocks,
}

impl Form {
    /// Bytes that the steps of a row with this many entries take.
    pub const fn packed(self, entries: usize) -> usize {
        match self {
            Self::Bytes | Self::Blocks => entries,
            Self::Nibbles => entries.div_ceil(2),
        }
    }
}

impl SparseRepr {
    /// The cargo feature that the matrix needs.
    pub fn feature(&self) -> &'static str {
        match self.form {
            Form::Bytes => "sparse-bytes",
            Form::Nibbles => "sparse-nibbles",
            Form::Blocks => "sparse-blocks",
        }
    }

    /// Whether this build of the runtime includes the kernel.
    pub fn is_built(&self) -> bool {
        match self.form {
            Form::Bytes => cfg!(feature = "sparse-bytes"),
            Form::Nibbles => cfg!(feature = "sparse-nibbles"),
            Form::Blocks => cfg!(feature = "sparse-blocks"),
        }
    }

    /// Weights per entry.
    pub const fn width(&self) -> u32 {
        match self.form {
            Form::Bytes | Form::Nibbles => 1,
            Form::Blocks => 4,
        }
    }

    /// Number of stored weights, including stored zeros.
    pub fn weights(&self) -> u64 {
        u64::from(self.entries) * u64::from(self.width())
    }
}

/// int8 fully connected layer whose weights are a sparse matrix `[out_c, in_c]`. It gives the numbers of
/// [`super::record::FullyConnected`]; weights that are not stored are zero. Also used for 1×1 convolutions with stride
/// 1, with one row per pixel.
///
/// **Blob.** `bias: [i32; out_c]` (TFLite's minus `in_zp · Σ weights`), `multiplier: [i32; Q]`, `shift: [i8; Q]`, zero
/// padding to 4 bytes, the blob of [`SparseRepr`]. Q is `out_c` if `per_channel`, else 1. Shifts are TFLite's and lie
/// in -22..=-1; biases lie in ±2^29; a row has at most [`MOST_ENTRIES`] weights.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct FullyConnectedSparse {
    pub src: u32,
    pub dst: u32,
    pub rows: u32,
    pub in_c: u32,
    pub out_c: u32,
    pub in_zp: i8,
    pub out_zp: i8,
    pub per_channel: bool,
    pub clamp: Option<(i8, i8)>,
    pub blob: u32,
    pub matrix: SparseRepr,
}

/// int8 convolution, NHWC, one group, no dilation of kernel columns. Its weights are a sparse matrix over the inputs of
/// an output pixel: `out_c` rows of `k_h · k_w · c` columns (OHWI), rounded up to a multiple of four.
///
/// **Order.** For each output pixel in turn, the kernel gathers the inputs into `scratch` and computes the outputs.
/// Padding reads as `in_zp`, columns beyond the last as 0.
///
/// **Blob.** As for [`FullyConnectedSparse`].
///
/// **Scratch.** Its offset is given in words of 4 bytes. It holds the gathered inputs of one pixel, int8.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct ConvSparse {
    pub src: u32,
    pub dst: u32,
    pub scratch: u32,
    pub n: u16,
    pub h: u16,
    pub w: u16,
    pub c: u16,
    pub out_c: u16,
    pub window: WindowRepr,
    pub in_zp: i8,
    pub out_zp: i8,
    pub per_channel: bool,
    pub clamp: Option<(i8, i8)>,
    pub blob: u32,
    pub matrix: SparseRepr,
}

impl ConvSparse {
    /// The dense convolution with the same geometry and addresses.
    pub fn dense(&self) -> ConvTiled {
        let Self { src, dst, scratch, n, h, w, c, out_c, window, in_zp, out_zp, clamp, blob, .. } = *self;
        let traversal = Traversal::Forwards;
        ConvTiled { src, dst, scratch, n, h, w, c, out_c, window, in_zp, out_zp, traversal, clamp, blob }
    }
}
