//! Kernels for 32-bit cores without vector instructions: Cortex-M0, M0+ and M3, RV32. They read the tiled weights, the
//! scratch and the order of the records as the kernels of [`super::arm_dsp`](crate) do, and give the bits of
//! [`super::portable`].
//!
//! Such a core multiplies and adds one product at a time, so a kernel is as fast as its loads are few: a tile of two
//! output pixels and four output channels reads each input for four products and each weight for two. The loops over
//! the inputs of a tile ([`tile`]) are assembly for Arm, because a compiler spills half of the eight sums there. Hosts
//! run the rest of this folder in tests.

#![cfg_attr(not(scalar), allow(dead_code, unreachable_pub))]
#![allow(unsafe_code)]

mod add;
mod conv;
mod depthwise;
mod fixed_point;
mod gather;
mod pool;
#[cfg(test)]
mod tests;
mod tile;
mod winograd;

pub(crate) use add::add_i8;
pub(crate) use conv::conv_vector;
pub use conv::{conv_pair, conv_pair_single_multiply};
pub(crate) use depthwise::depthwise_planar;
pub use gather::gather_pair;
pub(crate) use pool::{average_i8, pool_i8};
pub(crate) use winograd::conv_winograd;
