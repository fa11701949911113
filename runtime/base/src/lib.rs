//! What every crate of the Offshoot runtime passes around: [`Error`] and [`Rule`], places of tensors ([`Span`]), the
//! arena as an operator sees it ([`Memory`]), and the checksum of files, messages and flash pages ([`crc`]).
//!
//! Firmware depends on the crate `offshoot`, which re-exports what it needs of this one.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

pub mod crc;
mod error;
mod memory;
mod span;

pub use error::{Error, Rule};
pub use memory::{Element, Memory, cast, cast_mut};
pub use span::{Limits, Span, blob, product, require};

/// Alignment of the file, the blob section and the arena in memory, bytes.
pub const ALIGNMENT: usize = 16;

/// Alignment of every blob within the blob section, bytes.
pub const BLOB_ALIGNMENT: usize = 4;
