//! Records with weights in row-major order, for cores whose vectors multiply bytes.

use super::extended::extended;
use super::tiled::{ConvTiled, Traversal};
use super::types::WindowRepr;
use serde::{Deserialize, Serialize};

/// Output pixels that are gathered and computed together.
pub const PIXELS: usize = 3;

extended! {
    ConvTiled:
    /// A [`ConvTiled`], field by field, whose weights are bytes in row-major order. It gives the same numbers and takes any
    /// weight, also -128.
    ///
    /// **Order.** Output pixels are computed in threes ([`PIXELS`]), in order of address ([`Traversal::Backwards`]: the
    /// last three first). The kernel gathers the inputs of three pixels into `scratch` and then writes their outputs. So
    /// the output may overlap the input at the in-place offsets that `offshoot_operators::in_place` gives.
    ///
    /// **Weights.** `[out_c, k_h, k_w, c]`, int8. Zero rows follow, up to a multiple of four channels.
    ///
    /// **Blob.** As for [`ConvTiled`], with these weights.
    ///
    /// **Scratch.** Its offset is given in words of 4 bytes. It takes `3 · k` bytes, where `k = k_h · k_w · c`: the inputs of
    /// the three pixels, one after another. No scratch is needed if there is only one output pixel and the kernel is 1×1
    /// without padding. Exactly then `traversal` is one of the vector forms.
    pub struct ConvRowMajor {}
}

impl ConvRowMajor {
    /// A convolution with row-major weights.
    pub const fn new(conv: ConvTiled) -> Self {
        Self::extending(conv)
    }
}
