//! The record of float32 layers with integer weights (weight-only quantisation).

use super::types::WindowRepr;
use serde::{Deserialize, Serialize};

/// float32 convolution, NHWC, whose weights are integers of 8, 4 or 2 bits times a scale: one scale for each block of
/// `block` weights of an output channel. It gives the numbers of a [`Conv2d`](super::record::Conv2d) in float32 whose
/// weights are `(code + offset) · scale`, rounded once. Fully connected layers are 1×1 convolutions with one pixel a row;
/// with as many groups as channels it is a depthwise convolution.
///
/// **Blob.** `bias: [f32; N]`, `scale: [f32; N · B]`; if `offsets`, then `offset: [i8; N · B]` and zero padding to 4
/// bytes; then the codes. N is the number of output channels and B that of a channel's blocks, the last of which may be
/// shorter. Channels follow each other; each has `k_h · k_w · c / groups` codes, signed, `[k_h, k_w, c / groups]`, the first in
/// the lowest bits of a byte, and begins with a whole byte.
///
/// **Scratch.** The float32 weights of one channel. Channels are computed one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct ConvWeightOnly {
    pub src: u32,
    pub dst: u32,
    pub scratch: u32,
    pub n: u16,
    pub h: u16,
    pub w: u16,
    pub c: u16,
    pub out_c: u16,
    pub groups: u16,
    pub window: WindowRepr,
    pub clamp: Option<(f32, f32)>,
    pub bits: u8,
    pub block: u32,
    pub offsets: bool,
    pub blob: u32,
}
