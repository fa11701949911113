//! Kernels for the M-profile vector extension of integers (Helium): Cortex-M55 and M85. They give the bits of
//! [`super::portable`]. Records without a kernel here run on those of [`super::arm_dsp`], which these cores have too.
//!
//! A dot product of bytes takes two loads and one `vmladava` for sixteen products, which adds them up across its lanes
//! into a general register. That register has an even number, so a tile has at most six sums: three pixels by two
//! channels read five vectors for 96 products. `dlstp` and `letp` handle the last, incomplete vector.
//!
//! Loops are whole functions in assembly: neither intrinsics nor vector operands of `asm!` are stable for this extension.

#![allow(unsafe_code)]

/// First line of every assembly function: link-time optimisation reads assembly without the compiler's options.
macro_rules! extension {
    () => {
        ".cpu cortex-m55"
    };
}

mod add;
mod band;
mod conv;
mod depthwise;
mod gather;
mod line;
mod pool;
mod requantise;
mod table;
mod tile;
mod vector;

pub(crate) use add::add_i8;
pub(crate) use conv::conv_row_major;
pub(crate) use depthwise::depthwise_planar;
pub(crate) use pool::pool_i8;
pub(crate) use table::lut_i8;
