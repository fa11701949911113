//! Records of the int8 operators whose weights or traversal are arranged for the inner loops of the kernels.
//!
//! They give the same numbers as their plain forms ([`super::record::Conv2d`], [`super::record::FullyConnected`],
//! [`super::record::Depthwise`]) and may overwrite their input as they consume it. Padding reads as `in_zp`, and
//! the bias holds TFLite's less `in_zp · Σ weights`, so that no kernel subtracts zero points.

use super::types::{Window, WindowRepr};
use core::ops::RangeInclusive;
use serde::{Deserialize, Serialize};

/// Shifts of these records: the kernels round by half of one, and add the zero point before it.
pub const SHIFTS: RangeInclusive<i8> = -22..=-1;

/// Greatest magnitude of a bias: twice the accumulator must fit in 32 bits.
pub const MOST_BIAS: u32 = 1 << 29;

/// Greatest sum of the magnitudes of a channel's weights: a sum of products with int8 then stays in ±2^23.
pub const MOST_WEIGHT: u64 = (1 << 16) - 1;

/// int8 convolution, NHWC, one group, kernel columns not dilated; with a 1×1 kernel also a fully connected layer
/// over `n · h · w` rows.
///
/// **Order.** Output pixels are computed two at a time, in order of address ([`Traversal::Backwards`]: the last pair first).
/// The inputs of a pair are first gathered into `scratch`; then its outputs are written. So the output may lie over
/// the input at the distances that [`offshoot_operators::in_place`] gives.
///
/// **Weights.** The inputs that one kernel row meets, `k_w · c` in number, are padded with zero weights to a
/// multiple of four; there are `k = k_h · roundup(k_w · c, 4)` a channel. Output channels form blocks of four,
/// (A, B, C, D), the last padded with zeros. A block is a sequence of groups of four inputs (0, 1, 2, 3), 16
/// bytes each, as four little-endian words `AB(0, 2) CD(0, 2) AB(1, 3) CD(1, 3)`. The word `AB(i, j)` has the value
/// `256·B_i + A_i` in its low half and `256·B_j + A_j` in its high half (so B is not -128). A product with the
/// word and one with its sign-extended low bytes give both channels' sums (`256·S_B + S_A` and `S_A`), exact modulo
/// 2^24: `check` demands that no sum leaves ±2^23.
///
/// **Blob.** `bias: [i32; out_c]`, `multiplier: [i32; Q]`, `shift: [i8; Q]`, zero padding to 4 bytes, weights; Q is
/// 1 for [`Traversal::VectorOneScale`], else `out_c`. Shifts are TFLite's and lie in -22..=-1; biases in ±2^29.
///
/// **Scratch.** Its offset is given in words of 4 bytes. `4 · k` bytes, int16: the group of four inputs of pixels P and Q is `P0 P2 Q0 Q2 P1 P3 Q1 Q3`.
/// None if there is one output pixel only, the kernel is 1×1 without padding, and `c` is a multiple of four:
/// then, and only then, `walk` is one of the vector forms.
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
    pub walk: Traversal,
    pub clamp: Option<(i8, i8)>,
    pub blob: u32,
}

/// How a [`ConvTiled`] goes over its output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Traversal {
    /// Pairs of pixels, in order.
    Forwards,
    /// Pairs of pixels, the last first.
    Backwards,
    /// One pixel, whose inputs lie one after another: nothing is gathered. A multiplier and shift a channel.
    Vector,
    /// The same, with one multiplier and shift for all channels.
    VectorOneScale,
}

impl Traversal {
    /// Whether it is over one pixel.
    pub const fn is_vector(self) -> bool {
        matches!(self, Self::Vector | Self::VectorOneScale)
    }
}

/// Whether a fused clamp lets all of int8 through and the zero point is its lower end, as after a ReLU: kernels then need
/// not round negative values as the specification says.
fn is_positive(clamp: Option<(i8, i8)>, out_zp: i8) -> bool {
    matches!(clamp, None | Some((i8::MIN, i8::MAX))) && out_zp == i8::MIN
}

impl ConvTiled {
    /// The cargo feature that it needs, beside that of the operator.
    pub fn feature(&self) -> &'static str {
        match (self.walk, is_positive(self.clamp, self.out_zp)) {
            (Traversal::Forwards | Traversal::Backwards, true) => "pairs-positive",
            (Traversal::Forwards | Traversal::Backwards, false) => "pairs-signed",
            (Traversal::Vector, _) => "vector",
            (Traversal::VectorOneScale, true) => "vector-one-scale-positive",
            (Traversal::VectorOneScale, false) => "vector-one-scale-signed",
        }
    }

    /// Whether this build of the runtime has the kernel; what keeps negative values serves all.
    pub fn is_built(&self) -> bool {
        let positive = is_positive(self.clamp, self.out_zp);
        match self.walk {
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

/// int8 depthwise convolution, NHWC, multiplier 1, no dilation, channel by channel.
///
/// **Order.** For one channel after the other, bands of rows of the padded input are gathered into `scratch`, and
/// the outputs that they give are written. So `dst` may equal `src`, if every output row then lies over input rows
/// that have been gathered.
///
/// **Blob.** `bias: [i32; c]`, `multiplier: [i32; c]`, `shift: [i8; c]`, zero padding to 4 bytes, weights
/// `[k_h, k_w, c]`. Shifts are TFLite's and lie in -22..=-1; biases in ±2^29.
///
/// **Scratch.** Its offset is given in words of 4 bytes. int16, `rows` (at least `k_h`) of `roundup(w + left + right, 2)` values, and two more.
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
    /// The cargo feature that it needs, beside that of the operator.
    pub fn feature(&self) -> &'static str {
        match (self.is_small(), is_positive(self.clamp, self.out_zp)) {
            (false, _) => "planar-any",
            (true, false) => "planar-signed",
            (true, true) => "planar-positive",
        }
    }

    /// Whether this build of the runtime has the kernel; what keeps negative values serves all.
    pub fn is_built(&self) -> bool {
        let positive = is_positive(self.clamp, self.out_zp);
        let small = cfg!(feature = "planar-signed") || cfg!(feature = "planar-positive") && positive;
        cfg!(feature = "planar-any") || small && self.is_small()
    }

    /// 3×3 windows at every or every other pixel, and all of int8: what kernels are best at.
    fn is_small(&self) -> bool {
        let window = Window::from(self.window);
        window.kernel == [3, 3]
            && window.stride.iter().all(|s| matches!(s, 1 | 2))
            && matches!(self.clamp, None | Some((i8::MIN, i8::MAX)))
    }
}

/// Most pairs of tiles of a strip of a [`ConvWinograd`].
pub const MOST_TILE_PAIRS: u8 = 8;

/// int8 convolution by 3×3 windows with stride 1, NHWC, one group, by Winograd's F(2, 3) along the rows: two outputs
/// from four products in place of six (Winograd 1980; Lavin & Gray, arXiv:1509.09308), in whole numbers and exact.
///
/// A tile is two neighbouring outputs of a row. From the inputs `d0 … d3` of a kernel row and channel and its weights
/// `g0 g1 g2` come the components
/// `(d0 - d2, 2·g0)`, `(d1 - d3, -2·g2)`, `(d1 + d2, g0 + g1 + g2)`, `(d2 - d1, g0 - g1 + g2)`, in this order; their
/// products, summed over kernel rows and channels, are `m0 … m3`. Twice the outputs are `m0 + m2 + m3` and
/// `m1 + m2 - m3`, each plus twice the bias.
///
/// **Order.** Tiles are computed two at a time, in order of address, a `strip` of 1 to [`MOST_TILE_PAIRS`] pairs before the
/// next: a block of weights is read once a strip. `c` is a multiple of four.
///
/// **Weights.** int16. Output channels form blocks of four (A, B, C, D), the last padded with zeros. A block holds its
/// components one after another, each a sequence over kernel rows and groups of four inputs (0, 1, 2, 3) of
/// `A0 A2 B0 B2 C0 C2 D0 D2 A1 A3 B1 B3 C1 C3 D1 D3`. The magnitudes of all components of a channel add up to
/// less than 2^22.
///
/// **Blob.** As [`ConvTiled`]'s, with a multiplier and shift a channel.
///
/// **Scratch.** Its offset is given in words of 4 bytes. int16: each component of a tile pair (P, Q), over kernel rows
/// and groups of four inputs, as `P0 P2 Q0 Q2 P1 P3 Q1 Q3`, `24 · c` values for each pair of the strip; then `c` bytes; where a
/// strip has more than one pair, then a block of weights.
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
