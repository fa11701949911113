//! Records of int8 operators whose weights or traversal are arranged for the kernels' inner loops.
//!
//! They give the same numbers as their plain forms ([`super::record::Conv2d`], [`super::record::FullyConnected`],
//! [`super::record::Depthwise`]) and may overwrite their input as they consume it. Padding reads as `in_zp`, and
//! the bias is TFLite's minus `in_zp · Σ weights`, so no kernel subtracts zero points.

use super::types::{Window, WindowRepr};
use core::ops::RangeInclusive;
use serde::{Deserialize, Serialize};

/// Range of the shifts of these records. The kernels add the zero point first and then round by half of one.
pub const SHIFTS: RangeInclusive<i8> = -22..=-1;

/// Largest magnitude of a bias: twice the accumulator must fit in 32 bits.
pub const MOST_BIAS: u32 = 1 << 29;

/// Largest sum of the magnitudes of a channel's weights. A sum of products with int8 then stays within ±2^23.
pub const MOST_WEIGHT: u64 = (1 << 16) - 1;

/// int8 convolution, NHWC, one group, no dilation of kernel columns. With a 1×1 kernel it is also a fully connected
/// layer over `n · h · w` rows.
///
/// **Order.** Output pixels are computed in pairs, in order of address ([`Traversal::Backwards`]: the last pair first).
/// The kernel gathers the inputs of a pair into `scratch` and then writes its outputs. So the output may overlap the
/// input at the in-place offsets that `offshoot_operators::in_place` gives.
///
/// **Weights.** The `k_w · c` inputs under one kernel row are padded with zero weights to a multiple of four, so a
/// channel has `k = k_h · roundup(k_w · c, 4)` weights. Output channels form blocks of four (A, B, C, D); the last is
/// padded with zeros. A block is a sequence of groups of four inputs (0, 1, 2, 3), 16 bytes each, as four little-endian
/// words `AB(0, 2) CD(0, 2) AB(1, 3) CD(1, 3)`. The word `AB(i, j)` has the value `256·B_i + A_i` in its low half and
/// `256·B_j + A_j` in its high half (so B is not -128). A product with the word and one with its sign-extended low
/// bytes give the sums of both channels (`256·S_B + S_A` and `S_A`), exact modulo 2^24. `check` demands that no sum
/// leaves ±2^23.
///
/// **Blob.** `bias: [i32; out_c]`, `multiplier: [i32; Q]`, `shift: [i8; Q]`, zero padding to 4 bytes, weights. Q is
/// 1 for [`Traversal::VectorOneScale`], else `out_c`. Shifts are TFLite's and lie in -22..=-1; biases lie in ±2^29.
///
/// **Scratch.** Its offset is given in words of 4 bytes. It takes `4 · k` bytes, int16: each group of four inputs of
/// the pixels P and Q is stored as `P0 P2 Q0 Q2 P1 P3 Q1 Q3`. No scratch is needed if there is only one output pixel,
/// the kernel is 1×1 without padding, and `c` is a multiple of four. Exactly then `traversal` is one of the vector forms.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct ConvTiled {
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
}

/// Order in which a [`ConvTiled`] computes its output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Traversal {
    /// Pairs of pixels, the first pair first.
    Forwards,
    /// Pairs of pixels, the last pair first.
    Backwards,
    /// One pixel, whose inputs are contiguous, so nothing is gathered. One multiplier and shift per channel.
    Vector,
    /// As [`Self::Vector`], with one multiplier and shift for all channels.
    VectorOneScale,
}

impl Traversal {
    /// Whether the output is a single pixel.
    pub const fn is_vector(self) -> bool {
        matches!(self, Self::Vector | Self::VectorOneScale)
    }
}

/// Whether a fused clamp admits all int8 values and the zero point is the lower end, as after a ReLU. Kernels may then
/// round negative values differently from the specification, because they are clamped anyway.
fn is_positive(clamp: Option<(i8, i8)>, out_zp: i8) -> bool {
    matches!(clamp, None | Some((i8::MIN, i8::MAX))) && out_zp == i8::MIN
}

impl ConvTiled {
    /// The cargo feature that the record needs, besides its operator's.
    pub fn feature(&self) -> &'static str {
        match (self.traversal, is_positive(self.clamp, self.out_zp)) {
            (Traversal::Forwards | Traversal::Backwards, true) => "pairs-positive",
            (Traversal::Forwards | Traversal::Backwards, false) => "pairs-signed",
            (Traversal::Vector, _) => "vector",
            (Traversal::VectorOneScale, true) => "vector-one-scale-positive",
            (Traversal::VectorOneScale, false) => "vector-one-scale-signed",
        }
    }

    /// Whether this build of the runtime includes the kernel. The signed kernel also serves positive outputs.
    pub fn is_built(&self) -> bool {
        let positive = is_positive(self.clamp, self.out_zp);
        match self.traversal {
            Traversal::Forwards | Traversal::Backwards => {
                cfg!(feature = "pairs-signed") || cfg!(feature = "pairs-positive") && positive
            }
            Traversal::Vector => cfg!(feature = "vector"),
            Traversal::VectorOneScale => {
                cfg!(feature = "vector-one-scale-signed")
                    || cfg!(feature = "vector-one-scale-positive") && positive
            }
        }
    }
}

/// int8 depthwise convolution, NHWC, multiplier 1, no dilation, channel-planar.
///
/// **Order.** For each channel in turn, the kernel gathers bands of rows of the padded input into `scratch` and writes
/// their outputs. So `dst` may equal `src` if every output row then lies over input rows that are already gathered.
///
/// **Blob.** `bias: [i32; c]`, `multiplier: [i32; c]`, `shift: [i8; c]`, zero padding to 4 bytes, weights
/// `[k_h, k_w, c]`. Shifts are TFLite's and lie in -22..=-1; biases lie in ±2^29.
///
/// **Scratch.** Its offset is given in words of 4 bytes. It holds `rows` (at least `k_h`) rows of
/// `roundup(w + left + right, 2)` int16 values, and two values more.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct DepthwisePlanar {
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
}

impl DepthwisePlanar {
    /// The cargo feature that the record needs, besides its operator's.
    pub fn feature(&self) -> &'static str {
        match (self.is_small(), is_positive(self.clamp, self.out_zp)) {
            (false, _) => "planar-any",
            (true, false) => "planar-signed",
            (true, true) => "planar-positive",
        }
    }

    /// Whether this build of the runtime includes the kernel. The signed kernel also serves positive outputs.
    pub fn is_built(&self) -> bool {
        let positive = is_positive(self.clamp, self.out_zp);
        let small = cfg!(feature = "planar-signed") || cfg!(feature = "planar-positive") && positive;
        cfg!(feature = "planar-any") || small && self.is_small()
    }

    /// 3×3 windows with strides of 1 or 2 and a clamp that admits all int8 values: the case with the fastest kernels.
    fn is_small(&self) -> bool {
        let window = Window::from(self.window);
        window.kernel == [3, 3]
            && window.stride.iter().all(|s| matches!(s, 1 | 2))
            && matches!(self.clamp, None | Some((i8::MIN, i8::MAX)))
    }
}

/// Most pairs of tiles in a strip of a [`ConvWinograd`].
pub const MOST_TILE_PAIRS: u8 = 8;

/// int8 convolution by 3×3 windows with stride 1, NHWC, one group, by Winograd's F(2, 3) along the rows: two outputs
/// from four products instead of six (Winograd 1980; Lavin & Gray, arXiv:1509.09308), in exact integer arithmetic.
///
/// A tile is two neighbouring outputs of a row. The inputs `d0 … d3` of a kernel row and channel and its weights
/// `g0 g1 g2` give the component pairs
/// `(d0 - d2, 2·g0)`, `(d1 - d3, -2·g2)`, `(d1 + d2, g0 + g1 + g2)`, `(d2 - d1, g0 - g1 + g2)`, in this order. Their
/// products, summed over kernel rows and channels, are `m0 … m3`. Twice the outputs are `m0 + m2 + m3` and
/// `m1 + m2 - m3`, each plus twice the bias.
///
/// **Order.** Tiles are computed two at a time, in order of address, in strips of 1 to [`MOST_TILE_PAIRS`] pairs
/// (`strip`). A block of weights is read once per strip. `c` is a multiple of four.
///
/// **Weights.** int16. Output channels form blocks of four (A, B, C, D); the last is padded with zeros. A block holds
/// its components one after another, each a sequence over kernel rows and groups of four inputs (0, 1, 2, 3) of
/// `A0 A2 B0 B2 C0 C2 D0 D2 A1 A3 B1 B3 C1 C3 D1 D3`. The magnitudes of all components of a channel add up to
/// less than 2^22.
///
/// **Blob.** As for [`ConvTiled`], with one multiplier and shift per channel.
///
/// **Scratch.** Its offset is given in words of 4 bytes. First come the components of the tile pairs (P, Q) in int16,
/// each over kernel rows and groups of four inputs as `P0 P2 Q0 Q2 P1 P3 Q1 Q3`: `24 · c` values for each pair of the
/// strip. Then `c` bytes. If a strip has more than one pair, a block of weights follows.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct ConvWinograd {
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
    pub clamp: Option<(i8, i8)>,
    pub strip: u8,
    pub blob: u32,
}
