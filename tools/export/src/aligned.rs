//! Bytes with the alignment of models and arenas.

use offshoot::format::ALIGNMENT;

/// Bytes aligned to [`ALIGNMENT`], as models in flash and arenas are.
#[derive(Clone, Debug)]
pub struct Aligned {
    /// Words of 16 bytes, aligned to 16.
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

    /// `len` zeros, for an arena.
    pub fn zeros(len: usize) -> Self {
        Self { storage: vec![0; len.div_ceil(ALIGNMENT)], len }
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.storage)[..self.len]
    }

    /// The bytes, mutable.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut bytemuck::cast_slice_mut(&mut self.storage)[..self.len]
    }
}
