//! Records with packed weights: indices of 4 or 2 bits into a table of levels.

use super::extended::extended;
use super::tiled::{ConvTiled, Traversal};
use super::types::WindowRepr;
use serde::{Deserialize, Serialize};

extended! {
    ConvTiled:
    /// A [`ConvTiled`], field by field, whose weights are indices of 4 or 2 bits into a table of levels: evenly spaced
    /// levels (-7 to 7), or any 16 or 4 values (a codebook; Han et al. 2016, arXiv:1510.00149). It gives the numbers of the
    /// convolution whose weights are the levels.
    ///
    /// **Order.** Output channels are computed in weight tiles of `weight_tile` blocks of four channels; the last tile may
    /// be smaller. The kernel unpacks the weights of a tile into the scratch and then computes its outputs in the
    /// convolution's order. So the output may overlap the input only if one tile holds all blocks.
    ///
    /// **Blob.** As for [`ConvTiled`], except that the weights are replaced by `levels: [i8; 2^bits]`, none of them -128,
    /// and codes. Each half of a word of weights, `256·B + A`, has a code of `2 · bits` bits with the index of A in the
    /// lower bits. A byte holds one code of eight bits, or two of four with the first in the lower bits.
    ///
    /// **Scratch.** The convolution's scratch, rounded up to 4 bytes; then, in int16, a table of `2^(2 · bits)` halves by
    /// code, and the weights of one tile.
    pub struct ConvPacked {
        pub bits: u8,
        pub weight_tile: u16,
    }
}

impl ConvPacked {
    /// A convolution with packed weights.
    pub const fn new(conv: ConvTiled, bits: u8, weight_tile: u16) -> Self {
        Self::extending(conv, bits, weight_tile)
    }
}
