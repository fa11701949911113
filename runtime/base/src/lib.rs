//! What every crate of the Offshoot runtime passes around: [`Error`] and [`Rule`], places of tensors ([`Span`]), the
//! arena as an operator sees it ([`Memory`]), and the checksum of files, messages and flash pages ([`crc`]).
//!
//! Firmware depends on the crate `offshoot`, which re-exports what it needs of this one.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

pub mod crc;
mod element;
mod error;
mod memory;
mod span;

pub use element::{Element, cast, cast_mut};
pub use error::{Error, FORMAT_VERSION, Rule};
pub use memory::Memory;
pub use span::{ALIGNMENT, BLOB_ALIGNMENT, Limits, Span, blob, product, require};
