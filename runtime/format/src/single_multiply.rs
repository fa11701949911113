//! Records of int8 convolutions whose requantisation is one product and one shift.
//!
//! Outputs are `max(-128, min(127, (256 · Σ x·w + bias) · multiplier >> 44))`: the sum, which counts modulo 2^24, times 256 plus
//! the bias modulo 2^32, a product of 64 bits, a shift that rounds down. TFLite rounds twice, and negative values away from
//! zero; but a step function with at most 256 steps over whole sums is met by an exact single-multiply requantisation more often than not. Who
//! writes a file looks for bias and multiplier that give TFLite's output for **every** sum that a channel can
//! reach, or uses another record; this one defines its numbers by itself, and there is nothing to verify.

use super::tiled::{ConvTiled, DepthwisePlanar, Traversal};
use super::types::WindowRepr;
use serde::{Deserialize, Serialize};

/// Bits of the product that are dropped beyond the lower 32: the shift is 44 in all.
pub const SHIFT: u32 = 12;

/// Words of a block beside its weights.
pub const WORDS: usize = 8;

/// int8 convolution as [`ConvTiled`] with several output pixels, its weights in the same words and blocks.
///
/// **Order.** Pairs of output pixels in strips of `strip`, in order of address ([`Traversal::Backwards`]: the last strip
/// first). The inputs of all pairs of a strip are gathered, then its outputs are written, so that weights are
/// read once for several pixels. The output may lie over the input as [`ConvTiled`]'s.
///
/// **Blob.** For each block of four channels (A, B, C, D), the last padded with zeros, words: `bias_B bias_D`, the weights
/// as [`ConvTiled`]'s, `bias_A bias_C multiplier_A multiplier_B multiplier_C multiplier_D`.
///
/// If `wide`, weights take 16 bits, and a word less of work a step: `bias_B bias_A bias_D bias_C`, the weights times 256 (or what else its
/// line takes) of each group of
/// four inputs (0, 1, 2, 3) as int16 `A0 A2 B0 B2 C0 C2 D0 D2 A1 A3 B1 B3 C1 C3 D1 D3`, `multiplier_A … multiplier_D`. The numbers are
/// the same for weights that are whole multiples of 256, and as the sum of products says for others.
///
/// **Scratch.** Its offset is given in words of 4 bytes. The lanes of `strip` pairs, `4 · k` bytes each, as
/// [`ConvTiled`]'s; if `weight_tile`, behind them room for the words of a block, which a kernel may bring there.
// Flat: see `ConvPacked`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct ConvSingleMultiply {
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
    pub walk: Traversal,
    pub strip: u8,
    pub weight_tile: bool,
    pub wide: bool,
    pub blob: u32,
}

impl ConvSingleMultiply {
    /// A convolution with blocks at `blob`.
    pub fn new(conv: ConvTiled, strip: u8, weight_tile: bool, wide: bool) -> Self {
        let ConvTiled { src, dst, scratch, n, h, w, c, out_c, window, in_zp, walk, blob, .. } = conv;
        Self { src, dst, scratch, n, h, w, c, out_c, window, in_zp, walk, strip, weight_tile, wide, blob }
    }

    /// Geometry and places: a convolution that requantises otherwise.
    pub fn conv(&self) -> ConvTiled {
        let Self { src, dst, scratch, n, h, w, c, out_c, window, in_zp, walk, blob, .. } = *self;
        let (out_zp, clamp) = (i8::MIN, None);
        ConvTiled { src, dst, scratch, n, h, w, c, out_c, window, in_zp, out_zp, walk, clamp, blob }
    }
}

/// int8 depthwise convolution as [`DepthwisePlanar`], by 3×3 windows with strides of 1 or 2.
///
/// **Blob.** `bias: [i32; c]`, `multiplier: [i32; c]`, weights `[3, 3, c]`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct DepthwiseSingleMultiply {
    pub src: u32,
    pub dst: u32,
    pub scratch: u32,
    pub n: u16,
    pub h: u16,
    pub w: u16,
    pub c: u16,
    pub rows: u16,
    pub window: WindowRepr,
    pub in_zp: i8,
    pub blob: u32,
}

impl DepthwiseSingleMultiply {
    /// A depthwise convolution with its numbers at `blob`.
    pub fn new(planar: DepthwisePlanar) -> Self {
        let DepthwisePlanar { src, dst, scratch, n, h, w, c, rows, window, in_zp, blob, .. } = planar;
        Self { src, dst, scratch, n, h, w, c, rows, window, in_zp, blob }
    }

    /// Geometry and places: a depthwise convolution that requantises otherwise.
    pub fn planar(&self) -> DepthwisePlanar {
        let Self { src, dst, scratch, n, h, w, c, rows, window, in_zp, blob } = *self;
        let (out_zp, clamp) = (i8::MIN, None);
        DepthwisePlanar { src, dst, scratch, n, h, w, c, rows, window, in_zp, out_zp, clamp, blob }
    }
}
