//! Offshoot's runtime: runs a `.off` network on a microcontroller, and on the host bit for bit the same.
//!
//! `no_std`, no allocator, no global state. Everything mutable lies in one arena that the caller hands over.
//! Data flows down: [`format`] (bytes) → [`graph`] (a validated model) → [`engine`] (runs it in an arena) →
//! `ops` (one file per operator family: rules, dispatch) → [`kernels`] (the arithmetic).

#![cfg_attr(not(test), no_std)]
#![deny(unsafe_code)]

pub mod engine;
pub mod error;
pub mod format;
pub mod graph;
pub mod kernels;
pub mod learn;
mod ops;
pub mod trace;
pub mod wire;

pub use engine::Engine;
pub use error::{Error, Rule};
pub use graph::Model;
