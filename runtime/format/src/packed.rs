//! Records with packed weights: indices of 4 or 2 bits into a table of levels.

use super::tiled::{ConvTiled, Traversal};
use super::types::WindowRepr;
use serde::{Deserialize, Serialize};

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
// The fields are flat: a nested record would share its decoding function, at 500 instructions more for each decode.
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
    pub traversal: Traversal,
    pub clamp: Option<(i8, i8)>,
    pub blob: u32,
    pub bits: u8,
    pub weight_tile: u16,
}

impl ConvPacked {
    /// A convolution with packed weights.
    pub fn new(conv: ConvTiled, bits: u8, weight_tile: u16) -> Self {
        let ConvTiled { src, dst, scratch, n, h, w, c, out_c, window, in_zp, out_zp, traversal, clamp, blob } =
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
            traversal,
            clamp,
            blob,
            bits,
            weight_tile,
        }
    }

    /// The convolution.
    pub fn conv(&self) -> ConvTiled {
        let Self {
            src, dst, scratch, n, h, w, c, out_c, window, in_zp, out_zp, traversal, clamp, blob, ..
        } = *self;
        ConvTiled { src, dst, scratch, n, h, w, c, out_c, window, in_zp, out_zp, traversal, clamp, blob }
    }
}
