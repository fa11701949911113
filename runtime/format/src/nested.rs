//! Records of sub-networks that share the weights of a larger one, and what stands before each sub-network.
//!
//! A file that requires [`super::requires::NESTED`] holds further networks behind the operators of the first: nested
//! prefixes of its channels, as sorted training makes them (SortedNet, arXiv:2309.00255). An operator of theirs that
//! reads a prefix of the channels and gives a prefix of them reads its weights where those of the whole lie.

use super::tiled::{ConvTiled, DepthwisePlanar, Traversal};
use super::types::WindowRepr;
use serde::{Deserialize, Serialize};

/// What stands before each further network: then come `len` bytes, its [`super::codec::GraphHead`], descriptions of inputs and outputs
/// and operators, as for the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NestedHead {
    /// Bytes of the network's records.
    pub len: u32,
    /// Bytes of arena that its operators use; at most the header's.
    pub arena_bytes: u32,
    /// What no plan of these operators can go below; for people to compare.
    pub arena_lower_bound: u32,
    /// As [`super::header::Header::source_hash`], of the graph that it was compiled from.
    pub source_hash: u32,
}

/// A [`ConvTiled`], field by field, whose weights are a part of another's: of the first `out_c` of `whole_out_c` output
/// channels those of the first `c` of `whole_c` inputs. It gives the numbers of the convolution with these weights.
///
/// Both counts of inputs are multiples of four or equal; so are both of outputs.
///
/// **Order.** As [`super::packed::ConvPacked`]: the weights of a weight tile of blocks are copied into the scratch, then its outputs
/// are computed.
///
/// **Blob.** `bias: [i32; out_c]`, each with the zero point folded in, and if `own_scales` `multiplier: [i32; Q]`,
/// `shift: [i8; Q]`; all counts rounded up to four. Else multipliers and shifts are the first of the whole's.
/// `whole` is the blob of the whole, in the order of [`ConvTiled`].
///
/// **Scratch.** The convolution's, rounded up to 4 bytes; behind it the weights of a weight tile.
// Flat, as `ConvPacked`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct ConvWeightShared {
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
    pub whole: u32,
    pub whole_c: u16,
    pub whole_out_c: u16,
    pub own_scales: bool,
    pub weight_tile: u16,
}

/// The operator whose weights a nested one shares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Whole {
    /// Its blob.
    pub blob: u32,
    /// Its input channels.
    pub c: u16,
    /// Its output channels.
    pub out_c: u16,
}

impl ConvWeightShared {
    /// A convolution with a part of the weights of `whole`.
    pub fn new(conv: ConvTiled, whole: Whole, own_scales: bool, weight_tile: u16) -> Self {
        let ConvTiled { src, dst, scratch, n, h, w, c, out_c, window, in_zp, out_zp, walk, clamp, blob } =
            conv;
        let Whole { blob: whole, c: whole_c, out_c: whole_out_c } = whole;
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
            whole,
            whole_c,
            whole_out_c,
            own_scales,
            weight_tile,
        }
    }

    /// The convolution; its blob holds no weights.
    pub fn conv(&self) -> ConvTiled {
        let Self { src, dst, scratch, n, h, w, c, out_c, window, in_zp, out_zp, walk, clamp, blob, .. } =
            *self;
        ConvTiled { src, dst, scratch, n, h, w, c, out_c, window, in_zp, out_zp, walk, clamp, blob }
    }
}

/// A [`DepthwisePlanar`], field by field, of the first `c` of `whole_c` channels of another, whose weights it reads.
///
/// **Blob.** `bias: [i32; c]`, and if `own_scales` `multiplier: [i32; c]`, `shift: [i8; c]`. Else multipliers and shifts
/// are the first of the whole's. `whole` is the blob of the whole, in the order of [`DepthwisePlanar`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct DepthwiseWeightShared {
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
    pub out_zp: i8,
    pub clamp: Option<(i8, i8)>,
    pub blob: u32,
    pub whole: u32,
    pub whole_c: u16,
    pub own_scales: bool,
}

impl DepthwiseWeightShared {
    /// A depthwise convolution with a part of the weights of `whole`.
    pub fn new(planar: DepthwisePlanar, whole: Whole, own_scales: bool) -> Self {
        let DepthwisePlanar { src, dst, scratch, n, h, w, c, rows, window, in_zp, out_zp, clamp, blob } =
            planar;
        let Whole { blob: whole, out_c: whole_c, .. } = whole;
        Self {
            src,
            dst,
            scratch,
            n,
            h,
            w,
            c,
            rows,
            window,
            in_zp,
            out_zp,
            clamp,
            blob,
            whole,
            whole_c,
            own_scales,
        }
    }

    /// The depthwise convolution; its blob holds no weights.
    pub fn planar(&self) -> DepthwisePlanar {
        let Self { src, dst, scratch, n, h, w, c, rows, window, in_zp, out_zp, clamp, blob, .. } = *self;
        DepthwisePlanar { src, dst, scratch, n, h, w, c, rows, window, in_zp, out_zp, clamp, blob }
    }
}
