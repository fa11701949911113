//! The `.off` container: everything that turns bytes into values and back. Nothing else reads raw bytes.
//!
//! Specification: `runtime/FORMAT.md`. [`header`] is the fixed part; [`record`] the operators and tensors;
//! [`codec`] their encoding (postcard); [`crc`] the checksum.
//!
//! A [`record::Record`] that was decoded is well formed, not yet valid: only records that
//! [`crate::graph::Model`] hands out have passed every rule of their operator.

pub mod blocked;
pub mod codec;
pub mod coded;
pub mod crc;
mod decode;
mod elementwise;
pub mod embedded;
pub mod header;
pub mod learn;
pub mod linear;
mod movement;
pub mod nested;
pub mod packed;
mod quantize;
pub mod record;
pub mod recurrent;
mod reduce;
pub mod sparse;
pub mod stage;
pub mod tag;
mod weighted;

/// Bits of [`header::Header::requires`]: what a runtime must have to run the file.
pub mod requires {
    /// An operator computes in float32 ([`crate::format::record::Quantize`] and `Dequantize` alone do not
    /// count).
    pub const NEEDS_F32: u16 = 1;
    /// Records of [`crate::format::learn`] stand behind the operators.
    pub const LEARNS: u16 = 2;
    /// Further networks stand behind the operators ([`crate::format::nested`]).
    pub const NESTED: u16 = 4;
    /// What this build of the runtime has.
    pub const SUPPORTED: u16 = (if cfg!(feature = "learn") { LEARNS } else { 0 })
        | if cfg!(feature = "nested") { NESTED } else { 0 }
        | if cfg!(feature = "f32") { NEEDS_F32 } else { 0 };
}

/// Alignment of the file, the blob section and the arena in memory, bytes.
pub const ALIGNMENT: usize = 16;

/// Alignment of every blob within the blob section, bytes.
pub const BLOB_ALIGNMENT: usize = 4;
