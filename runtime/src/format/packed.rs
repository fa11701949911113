//! Records whose weights take fewer than eight bits: an index into a table of a few levels.

use super::blocked::ConvBlocked;
use serde::{Deserialize, Serialize};

/// A [`ConvBlocked`] whose weights are indices of 4 or 2 bits into a table of levels: numbers on a coarser grid (levels
/// -7 to 7), or any 16 or 4 values (a codebook). It gives the numbers of the convolution with the levels in their place.
///
/// **Order.** Output channels are computed in panels of `panel` blocks of four, the last panel maybe smaller; the
/// weights of a panel are expanded into the scratch, then its outputs are computed in `conv`'s order. So the output may
/// lie over the input only if one panel holds all blocks.
///
/// **Blob.** As [`ConvBlocked`]'s, but in the place of the weights `levels: [i8; 2^bits]`, none of them -128, and
/// codes. Each half of a word of weights, `256·B + A`, has a code of `2 · bits` bits, the index of A lower; a byte
/// holds one code of eight bits or two of four, the first lower.
///
/// **Scratch.** `conv`'s, rounded up to 4 bytes; behind it int16: a table of `2^(2 · bits)` halves by code, and the
/// weights of a panel.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct ConvPacked {
    pub conv: ConvBlocked,
    pub bits: u8,
    pub panel: u16,
}
