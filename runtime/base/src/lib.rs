//! Types shared by every crate of the Offshoot runtime: [`Error`] and [`Rule`], the place of a tensor ([`Span`]), the
//! arena as an operator sees it ([`Memory`]), and the checksum of files, messages and flash pages ([`crc`]).
//!
//! Firmware depends on the crate `offshoot`, which re-exports the parts that it needs.

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
