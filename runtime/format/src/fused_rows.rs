//! The record of fused row tiles: a chain of operators that run a few rows at a time.

use serde::{Deserialize, Serialize};

/// A chain of operators that run together, one strip of rows at a time. Each member is the only reader of the one
/// before, and only the last has a whole output. Between members lie line buffers, which hold just the rows that are
/// still to be read. A fused inverted bottleneck, a convolution with its pool, and the patches of a network's first
/// layers are of this form (MCUNetV2, Lin et al., NeurIPS 2021, arXiv:2110.15352; here no row is computed twice).
///
/// **Members.** `members` (2 to 8) records stand in the blob section at `blob`, `len` bytes in total, each as a tag and
/// its encoding, as in the graph section. Each works on one image, channels last; `rows` is the height of the first
/// member's input. Their addresses are not read. A member is a Conv2d, Depthwise, ConvTiled, DepthwisePlanar,
/// ConvPacked, ConvRowMajor, ConvSingleMultiply, DepthwiseSingleMultiply, or Pool (windows over rows), or, row by row, a Lut,
/// Requantize, FullyConnected, or a 1×1 convolution over one row of pixels.
///
/// **Order.** Strip `j` ends before row `min((j + 1) · step, output rows)` of the last output. Each member in turn
/// moves the rows that its reader still needs to the front of its buffer. Then it computes the rows that the strip
/// needs and that are not computed yet, as the same operator with fewer rows and the padding that remains for them.
///
/// `bytes` is the size of the last output. All members compute in int8.
///
/// **Scratch.** Its offset is given in words of 4 bytes. First come the buffers of all members but the last, each large
/// enough for the most rows that a strip keeps in it, rounded up to 4 bytes; then the largest scratch of any member.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct FusedRows {
    pub src: u32,
    pub dst: u32,
    pub scratch: u32,
    pub rows: u16,
    pub step: u16,
    pub members: u8,
    pub len: u16,
    pub bytes: u32,
    pub blob: u32,
}

/// Most members of a [`FusedRows`].
pub const MOST_MEMBERS: usize = 8;
