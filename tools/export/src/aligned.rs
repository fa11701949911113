//! Bytes at the alignment that models and arenas need.

use offshoot::format::ALIGNMENT;

/// Bytes that begin at a multiple of [`ALIGNMENT`], as flash and arenas of a device do.
#[derive(Clone, Debug)]
pub struct Aligned {
    /// 16 bytes each, and aligned to 16.
    storage: Vec<u128>,
    len: usize,
}

impl Aligned {
    /// A copy of `bytes`.
    pub fn new(bytes: &[u8]) -> Self {
        let mut copy = Self::zeros(bytes.len());
        copy.bytes_mut().copy_from_slice(bytes);
        copy
    }

    /// Zeros, for an arena.
    pub fn zeros(len: usize) -> Self {
        Self { storage: vec![0; len.div_ceil(ALIGNMENT)], len }
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.storage)[..self.len]
    }

    /// The bytes, to change.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut bytemuck::cast_slice_mut(&mut self.storage)[..self.len]
    }
}
