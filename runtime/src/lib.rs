//! Offshoot's runtime: runs a `.off` network on a microcontroller, and on the host bit for bit the same.

#![cfg_attr(not(test), no_std)]
#![deny(unsafe_code)]

// What a firmware author sees.
mod arena;
pub mod heads;
#[doc(hidden)]
pub mod include;
#[cfg(feature = "learn")]
pub mod learning;
#[cfg(feature = "store")]
pub mod store;
mod tensor;
pub mod wire;

pub use arena::Arena;
pub use engine::Engine;
pub use error::{Error, Rule};
pub use format::record::{DType, IoRepr as TensorInfo};
pub use graph::Model;
pub use trace::Observer;

// What the host tools see as well.
#[doc(hidden)]
pub mod engine;
#[doc(hidden)]
pub mod error;
#[doc(hidden)]
pub mod format;
#[doc(hidden)]
pub mod graph;
#[doc(hidden)]
pub mod kernels;
#[doc(hidden)]
pub mod learn;
mod ops;
#[doc(hidden)]
pub mod trace;
