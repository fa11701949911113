//! Records whose weights take fewer than eight bits: an index into a table of a few levels.

use super::tiled::{ConvTiled, Traversal};
use super::types::WindowRepr;
use serde::{Deserialize, Serialize};

/// A [`ConvTiled`], field by field, whose weights are indices of 4 or 2 bits into a table of levels: numbers on a coarser grid (levels
/// -7 to 7), or any 16 or 4 values (a codebook). It gives the numbers of the convolution with the levels in their place.
///
/// **Order.** Output channels are computed in weight tiles of `weight_tile` blocks of four, the last weight tile maybe smaller; the
/// weights of a weight tile are expanded into the scratch, then its outputs are computed in the convolution's order. So the output may
/// lie over the input only if one weight tile holds all blocks.
///
/// **Blob.** As [`ConvTiled`]'s, but in the place of the weights `levels: [i8; 2^bits]`, none of them -128, and
/// codes. Each half of a word of weights, `256·B + A`, has a code of `2 · bits` bits, the index of A lower; a byte
/// holds one code of eight bits or two of four, the first lower.
///
/// **Scratch.** The convolution's, rounded up to 4 bytes; behind it int16: a table of `2^(2 · bits)` halves by code, and the
/// weights of a weight tile.
// Flat: a record within a record is decoded by a function that both share, for 500 instructions more in each.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct ConvPacked {
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
    pub walk: Traversal,
    pub clamp: Option<(i8, i8)>,
    pub blob: u32,
    pub bits: u8,
    pub weight_tile: u16,
}

impl ConvPacked {
    /// A convolution with packed weights.
    pub fn new(conv: ConvTiled, bits: u8, weight_tile: u16) -> Self {
        let ConvTiled { src, dst, scratch, n, h, w, c, out_c, window, in_zp, out_zp, walk, clamp, blob } =
            conv;
        Self {
            src,
            dst,
            scratch,
            n,
            h,
            w,
            c,
            out_c,
            window,
            in_zp,
            out_zp,
            walk,
            clamp,
            blob,
            bits,
            weight_tile,
        }
    }

    /// The convolution.
    pub fn conv(&self) -> ConvTiled {
        let Self { src, dst, scratch, n, h, w, c, out_c, window, in_zp, out_zp, walk, clamp, blob, .. } =
            *self;
        ConvTiled { src, dst, scratch, n, h, w, c, out_c, window, in_zp, out_zp, walk, clamp, blob }
    }
}
