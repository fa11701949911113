//! Kernels for the DSP extension: Armv7E-M (Cortex-M4, M7) and Armv8-M Mainline with it (Cortex-M33).
//!
//! The inner loops are whole functions in assembly (`pair`, `vector`, `plane`, `gather`): a compiler that is
//! given single instructions spills. Their order of operations is that of [`super::passes`], their results those of
//! [`super::portable`], to the bit.

#![allow(unsafe_code)]

/// What assembly of a function begins with. Where the extension is an option of the core (Armv8-M), link-time optimisation
/// reads assembly without the options of the compiler: it has to be told again.
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

pub use add::add_i8;
pub use conv::conv_blocks;
pub use depthwise::depthwise_planar;
pub use huffman::fully_connected_huffman;
pub use linear::conv_single_multiply;
pub use planes::add_planes;
pub use pool::average_i8;
pub use products::products_i8;
pub use rows::{add_errors, add_windows, energy, select, select_errors};
pub use sparse::{add_sparse, requantise_sums};
pub use step::step_line;
pub use winograd::conv_winograd;

use crate::requant::Requant;

/// Whether the kernels' saturation to int8 is the whole clamp.
fn saturates(q: &Requant<'_>) -> bool {
    (q.min, q.max) == (-128, 127)
}

/// Whether the clamp ends all negative values at the zero point: then their rounding does not matter.
fn drops_negatives(q: &Requant<'_>) -> bool {
    saturates(q) && q.out_zp == q.min
}

/// Twice the zero point and one: shifted left by one less than the right shift, it is the zero point and the half that
/// rounding adds.
fn zero_and_half(q: &Requant<'_>) -> i32 {
    2 * q.out_zp + 1
}
