//! The `.off` container: decoding and encoding of files. No other crate reads raw bytes of a file.
//!
//! `runtime/FORMAT.md` is the specification. [`header`] is the fixed part, [`record`] the operators and tensors,
//! [`codec`] their encoding (postcard), and [`offshoot_base::crc`] the checksum.
//!
//! A decoded [`record::Record`] is well formed but not necessarily valid. Only the records that `Model` hands out have
//! passed every rule of their operator.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

pub mod branch;
pub mod codec;
mod decode;
pub mod elementary;
mod elementwise;
pub mod embedded;
mod extended;
pub mod fused_rows;
pub mod header;
pub mod huffman;
mod indexed;
pub mod int16;
mod kinds;
pub mod learn;
pub mod micro_frontend;
mod movement;
pub mod nested;
pub mod packed;
mod quantize;
pub mod record;
pub mod recurrent;
mod reduce;
pub mod row_major;
pub mod single_multiply;
pub mod sparse;
pub mod spectral;
pub mod tag;
pub mod tiled;
mod types;
pub mod weight_only;
mod weighted;

/// Bits of [`header::Header::requires`]: features that a runtime needs to run the file.
pub mod requires {
    /// An operator computes in float32. [`crate::record::Quantize`] and [`crate::record::Dequantize`] alone do not
    /// count.
    pub const NEEDS_F32: u16 = 1;
    /// Records of [`crate::learn`] follow the operators.
    pub const LEARNS: u16 = 2;
    /// Further networks follow the operators ([`crate::nested`]).
    pub const NESTED: u16 = 4;
}

pub use offshoot_base::{ALIGNMENT, BLOB_ALIGNMENT};
