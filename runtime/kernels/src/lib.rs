//! Kernels: the arithmetic of operators and of learning. [`portable`] is the specification in plain Rust; one folder
//! per instruction set holds faster kernels that give the same bits. Kernels see slices and plain parameters: records
//! of sizes ([`offshoot_format`]) and spans ([`offshoot_base::Span`]). The loop drivers in `offshoot-operators` decide
//! in which order an operator visits its tensors.
//!
//! [`gradient`] is for learning: sums over the pixels of a layer, and the types they use.

#![cfg_attr(not(test), no_std)]
#![deny(unsafe_code)]

#[cfg(all(feature = "testing", not(test)))]
extern crate std;

mod accumulate;
#[cfg(arm_dsp)]
mod arm_dsp;
#[cfg(arm_mve)]
mod arm_mve;
mod dispatch;
pub mod geometry;
pub mod gradient;
#[cfg(wide)]
#[doc(hidden)]
pub mod host;
pub mod layer;
#[cfg(all(wide, target_arch = "aarch64"))]
mod neon;
#[cfg(any(arm_dsp, scalar, test))]
mod plane;
#[cfg(any(arm_dsp, scalar, test))]
mod pooling;
pub mod portable;
mod random;
pub mod recurrent;
mod requant;
#[cfg(any(scalar, test))]
mod scalar;
pub mod sparse;
pub mod sparse_products;
#[cfg(all(wide, any(test, feature = "testing")))]
pub mod testing;
pub mod tiles;
#[cfg(all(wide, target_arch = "wasm32"))]
mod wasm;
#[cfg(wide)]
mod wide;
#[cfg(all(wide, target_arch = "x86_64"))]
mod x86;

pub use dispatch::*;
pub use random::{GOLDEN, Random, mix};
pub use requant::Requant;
