//! Offshoot's runtime: runs a `.off` network on a microcontroller, and on the host bit for bit the same.
//!
//! `no_std`, no allocator, no global state. Everything mutable lies in one arena that the caller hands over.
//! Data flows down, crate by crate: `offshoot-format` (bytes to records) → [`model`] (a validated file) → [`engine`] (runs it in
//! an arena) → `offshoot-operators` (rules, costs and loops of every operator) → `offshoot-kernels` (the arithmetic).

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

pub mod engine;
pub mod model;
pub mod trace;

pub use engine::Engine;
pub use model::Model;
pub use offshoot_base::{Error, Rule};
pub use offshoot_learn as learn;
#[cfg(feature = "store")]
pub use offshoot_store as store;
pub use offshoot_wire as wire;

#[doc(hidden)]
pub use model as graph;
#[doc(hidden)]
pub use {
    offshoot_base as base, offshoot_format as format, offshoot_kernels as kernels,
    offshoot_operators as operators,
};
