//! Records of int8 convolutions with exact single-multiply requantisation.
//!
//! An output is `max(-128, min(127, (256 · Σ x·w + bias) · multiplier >> 44))`. The sum counts modulo 2^24; 256 times
//! the sum plus the bias counts modulo 2^32; the product has 64 bits; the shift rounds down. TFLite rounds twice, and
//! rounds negative values away from zero. But requantisation is a step function with at most 256 steps over integer
//! sums, and a single multiply-shift can usually reproduce it. The exporter looks for a bias and a multiplier that give
//! TFLite's output for **every** sum that a channel can reach, and uses another record if there are none. This record
//! defines its own numbers, so a reader has nothing to verify.

use super::tiled::{ConvTiled, DepthwisePlanar, Traversal};
use super::types::WindowRepr;
use serde::{Deserialize, Serialize};

/// Bits that the shift drops beyond the lower 32: the shift is 44 in total.
pub const SHIFT: u32 = 12;

/// Words of a block besides its weights.
pub const WORDS: usize = 8;

/// int8 convolution as [`ConvTiled`] with several output pixels. Its weights have the same words and blocks.
///
/// **Order.** Pairs of output pixels form strips of `strip` pairs, in order of address ([`Traversal::Backwards`]: the
/// last strip first). The kernel gathers the inputs of all pairs of a strip and then writes its outputs, so it reads
/// weights once for several pixels. The output may overlap the input as for [`ConvTiled`].
///
/// **Blob.** Words, for each block of four channels (A, B, C, D), the last padded with zeros: `bias_B bias_D`, the
/// weights as in [`ConvTiled`], `bias_A bias_C multiplier_A multiplier_B multiplier_C multiplier_D`.
///
/// If `wide`, weights take 16 bits, which saves the kernel one word of work per step. A block is then
/// `bias_B bias_A bias_D bias_C`, the weights, `multiplier_A … multiplier_D`. Each group of four inputs (0, 1, 2, 3)
/// holds int16 weights as `A0 A2 B0 B2 C0 C2 D0 D2 A1 A3 B1 B3 C1 C3 D1 D3`. A wide weight stands for `256 · w` in the
/// formula above and need not be a multiple of 256. If all are, the numbers equal those of the narrow form.
///
/// **Scratch.** Its offset is given in words of 4 bytes. First come the lanes of `strip` pairs, `4 · k` bytes each, as
/// in [`ConvTiled`]. If `weight_tile`, space for the words of one block follows, into which a kernel may copy them.
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
    pub traversal: Traversal,
    pub strip: u8,
    pub weight_tile: bool,
    pub wide: bool,
    pub blob: u32,
}

impl ConvSingleMultiply {
    /// A convolution with the geometry of `conv` and its blocks at `conv.blob`.
    pub fn new(conv: ConvTiled, strip: u8, weight_tile: bool, wide: bool) -> Self {
        let ConvTiled { src, dst, scratch, n, h, w, c, out_c, window, in_zp, traversal, blob, .. } = conv;
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
            traversal,
            strip,
            weight_tile,
            wide,
            blob,
        }
    }

    /// The tiled convolution with the same geometry and addresses. Its requantisation does not apply.
    pub fn conv(&self) -> ConvTiled {
        let Self { src, dst, scratch, n, h, w, c, out_c, window, in_zp, traversal, blob, .. } = *self;
        let (out_zp, clamp) = (i8::MIN, None);
        ConvTiled { src, dst, scratch, n, h, w, c, out_c, window, in_zp, out_zp, traversal, clamp, blob }
    }
}

/// int8 depthwise convolution as [`DepthwisePlanar`], with 3×3 windows and strides of 1 or 2.
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
    /// A depthwise convolution with the geometry of `planar` and its parameters at `planar.blob`.
    pub fn new(planar: DepthwisePlanar) -> Self {
        let DepthwisePlanar { src, dst, scratch, n, h, w, c, rows, window, in_zp, blob, .. } = planar;
        Self { src, dst, scratch, n, h, w, c, rows, window, in_zp, blob }
    }

    /// The channel-planar convolution with the same geometry and addresses. Its requantisation does not apply.
    pub fn planar(&self) -> DepthwisePlanar {
        let Self { src, dst, scratch, n, h, w, c, rows, window, in_zp, blob } = *self;
        let (out_zp, clamp) = (i8::MIN, None);
        DepthwisePlanar { src, dst, scratch, n, h, w, c, rows, window, in_zp, out_zp, clamp, blob }
    }
}
