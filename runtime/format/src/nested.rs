//! Records of weight-shared sub-networks, and the header of each sub-network.
//!
//! A file that requires [`super::requires::NESTED`] holds further networks behind the operators of the first. They use
//! prefixes of its channels, as SortedNet training makes them (Valipour et al. 2023, arXiv:2309.00255). If an operator
//! of a sub-network reads and writes prefixes of the channels, it reads its weights from those of the whole operator.

use super::extended::extended;
use super::tiled::{ConvTiled, DepthwisePlanar, Traversal};
use super::types::WindowRepr;
use serde::{Deserialize, Serialize};

/// Header of each further network. `len` bytes follow: a [`super::codec::GraphHead`], descriptions of inputs and
/// outputs, and operators, encoded as for the first network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NestedHead {
    /// Bytes of the network's records.
    pub len: u32,
    /// Bytes of arena that its operators use. At most the file header's.
    pub arena_bytes: u32,
    /// Proved bytes that no plan of these operators can go below. Tools compare it with `arena_bytes`.
    pub arena_lower_bound: u32,
    /// As [`super::header::Header::source_hash`], for the graph that this network was compiled from.
    pub source_hash: u32,
}

extended! {
    ConvTiled:
    /// A [`ConvTiled`], field by field, whose weights are part of another's: the first `out_c` of `whole_out_c` output
    /// channels, each with the first `c` of `whole_c` inputs. It gives the numbers of the convolution with these weights.
    ///
    /// `c` and `whole_c` are equal or both multiples of four; so are `out_c` and `whole_out_c`.
    ///
    /// **Order.** As for [`super::packed::ConvPacked`]: the kernel copies the weights of a tile of blocks into the scratch
    /// and then computes its outputs.
    ///
    /// **Blob.** `bias: [i32; out_c]`, each with the zero point folded in, and if `own_scales` also `multiplier: [i32; Q]`
    /// and `shift: [i8; Q]`; all counts are rounded up to four. Otherwise the first multipliers and shifts of the whole
    /// apply. `whole` is the blob of the whole, in the order of [`ConvTiled`].
    ///
    /// **Scratch.** The convolution's scratch, rounded up to 4 bytes; then the weights of one tile.
    pub struct ConvWeightShared {
        pub whole: u32,
        pub whole_c: u16,
        pub whole_out_c: u16,
        pub own_scales: bool,
        pub weight_tile: u16,
    }
}

/// The operator whose weights a sub-network shares.
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
    /// A convolution with part of the weights of `whole`.
    pub const fn new(conv: ConvTiled, whole: Whole, own_scales: bool, weight_tile: u16) -> Self {
        Self::extending(conv, whole.blob, whole.c, whole.out_c, own_scales, weight_tile)
    }
}

extended! {
    DepthwisePlanar:
    /// A [`DepthwisePlanar`], field by field, of the first `c` of `whole_c` channels of another one, whose weights it
    /// reads.
    ///
    /// **Blob.** `bias: [i32; c]`, and if `own_scales` also `multiplier: [i32; c]` and `shift: [i8; c]`. Otherwise the
    /// first multipliers and shifts of the whole apply. `whole` is the blob of the whole, in the order of
    /// [`DepthwisePlanar`].
    pub struct DepthwiseWeightShared {
        pub whole: u32,
        pub whole_c: u16,
        pub own_scales: bool,
    }
}

impl DepthwiseWeightShared {
    /// A depthwise convolution with part of the weights of `whole`.
    pub const fn new(planar: DepthwisePlanar, whole: Whole, own_scales: bool) -> Self {
        Self::extending(planar, whole.blob, whole.out_c, own_scales)
    }
}
