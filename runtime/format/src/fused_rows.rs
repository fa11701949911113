//! The record of operators that run strip by strip.

use serde::{Deserialize, Serialize};

/// Operators that follow one another, each the only reader of the one before, of which none but the last has an output as
/// a whole: they run together, strip of rows by strip of rows, and between them lie only the rows that are still to be read
/// (line buffers). A fused inverted bottleneck, a convolution with its pool, and the patches of the first layers of a
/// network (MCUNetV2, Lin et al., NeurIPS 2021, but without computing any row twice) are of this form.
///
/// **Members.** `members` (2 to 8) records stand in the blob section at `blob`, `len` bytes, each its tag and its encoding as in the
/// graph section: one image, channels last, `rows` rows in the first one's input. Their addresses are not read. A member is one
/// of Conv2d, Depthwise, ConvTiled, DepthwisePlanar, ConvPacked, ConvSingleMultiply, DepthwiseSingleMultiply, Pool (windows over rows), or,
/// row by row, Lut, Requantize, FullyConnected, and a 1×1 convolution over one row of pixels.
///
/// **Order.** Strip `j` ends before row `min((j + 1) · step, output rows)` of the last output. Each member in turn computes the rows
/// that the strip needs and that have not been computed, as the same operator with fewer rows and the padding that then
/// is left; before, the rows that its reader still needs are moved to the front of its buffer.
///
/// `bytes` is those of the last output. All members compute on int8.
///
/// **Scratch.** Its offset is given in words of 4 bytes. The buffers of all members but the last, each with room for the most
/// rows that a strip keeps in it, rounded up to 4 bytes; then the most that a member needs as its own scratch.
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
