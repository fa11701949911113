//! Kernels for the Arm DSP extension: Armv7E-M (Cortex-M4, M7), and Armv8-M Mainline with the extension (Cortex-M33).
//!
//! The inner loops are whole functions in assembly (`pair`, `vector`, `plane`, `gather`), because a compiler that is
//! given single instructions spills registers. They visit tensors in the order of the loop drivers in
//! `offshoot-operators`, and give the bits of [`super::portable`].

#![allow(unsafe_code)]

/// Prefix of every assembly function. On cores where the extension is optional (Armv8-M), link-time optimisation reads
/// assembly without the compiler's options, so the core must be named again.
#[cfg(not(arm_dsp_optional))]
macro_rules! extension {
    () => {
        ""
    };
}

#[cfg(arm_dsp_optional)]
macro_rules! extension {
    () => {
        ".cpu cortex-m33"
    };
}

mod add;
mod conv;
mod correlate;
mod depthwise;
mod gather;
mod huffman;
mod int16;
mod int16_depthwise;
mod int16_quad;
mod pair;
mod plane;
mod planes;
mod pool;
mod products;
mod rows;
mod single_multiply;
mod sparse;
mod step;
mod straight;
mod strip;
mod taps;
mod vector;
mod window;
mod winograd;

pub(crate) use add::add_i8;
pub(crate) use conv::conv_blocks;
pub(crate) use depthwise::depthwise_planar;
pub use huffman::fully_connected_huffman;
pub(crate) use int16::conv_int16;
pub use planes::add_planes;
pub(crate) use pool::{average_i8, pool_i8};
pub(crate) use products::products_i8;
pub use rows::{add_errors, add_windows, energy, select, select_errors};
pub(crate) use single_multiply::conv_single_multiply;
pub use sparse::{add_sparse, requantise_sums};
pub use step::step_line;
pub(crate) use winograd::conv_winograd;

use crate::requant::Requant;

/// Whether the kernels' saturation to int8 is the whole clamp.
fn saturates(q: &Requant<'_>) -> bool {
    (q.min, q.max) == (-128, 127)
}

/// Whether the clamp replaces all negative values by the zero point: then their rounding does not matter.
fn drops_negatives(q: &Requant<'_>) -> bool {
    saturates(q) && q.out_zp == q.min
}

/// Twice the zero point plus one. Shifted left by the right shift minus one, it is the zero point plus the half for
/// rounding.
fn zero_and_half(q: &Requant<'_>) -> i32 {
    2 * q.out_zp + 1
}
