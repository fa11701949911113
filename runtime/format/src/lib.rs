//! The `.off` container: everything that turns bytes into values and back. Nothing else reads raw bytes.
//!
//! Specification: `runtime/FORMAT.md`. [`header`] is the fixed part; [`record`] the operators and tensors;
//! [`codec`] their encoding (postcard); `offshoot_base::crc` the checksum.
//!
//! A [`record::Record`] that was decoded is well formed, not yet valid: only records that
//! `Model` hands out have passed every rule of their operator.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

pub mod codec;
mod decode;
mod elementwise;
pub mod embedded;
pub mod fused_rows;
pub mod header;
pub mod huffman;
mod kinds;
pub mod learn;
mod movement;
pub mod nested;
pub mod packed;
mod quantize;
pub mod record;
pub mod recurrent;
mod reduce;
pub mod single_multiply;
pub mod sparse;
pub mod tag;
pub mod tiled;
mod types;
mod weighted;

/// Bits of [`header::Header::requires`]: what a runtime must have to run the file.
pub mod requires {
    /// An operator computes in float32 ([`crate::record::Quantize`] and `Dequantize` alone do not
    /// count).
    pub const NEEDS_F32: u16 = 1;
    /// Records of [`crate::learn`] stand behind the operators.
    pub const LEARNS: u16 = 2;
    /// Further networks stand behind the operators ([`crate::nested`]).
    pub const NESTED: u16 = 4;
}

pub use offshoot_base::{ALIGNMENT, BLOB_ALIGNMENT};
