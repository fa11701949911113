//! [`AlignedBytes`]: a file or an arena on the heap of a host.

extern crate std;

use core::ops::{Deref, DerefMut};
use std::vec::Vec;

use offshoot_format::ALIGNMENT;

/// Bytes on the heap with the alignment that models and arenas need, of a length that is known at run time. Needs the
/// feature `std`; on a device use [`crate::Arena`] and [`crate::include_model!`].
///
/// ```no_run
/// use offshoot::{AlignedBytes, Engine, Model};
///
/// let file = AlignedBytes::copy_of(&std::fs::read("model.off")?);
/// let model = Model::open(&file).map_err(std::io::Error::other)?;
/// let mut arena = AlignedBytes::zeroed(model.arena_bytes() as usize);
/// let engine = Engine::new(model, &mut arena).map_err(std::io::Error::other)?;
/// # let _ = engine;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct AlignedBytes {
    /// The bytes, between those that alignment takes: no type of 16 bytes is aligned to 16 on every 32-bit platform. They
    /// are never reallocated.
    all: Vec<u8>,
    start: usize,
    len: usize,
}

impl AlignedBytes {
    /// `len` zeros.
    pub fn zeroed(len: usize) -> Self {
        let all = std::vec![0; len + ALIGNMENT - 1];
        let start = all.as_ptr().addr().wrapping_neg() % ALIGNMENT;
        Self { all, start, len }
    }

    /// A copy of `bytes`.
    pub fn copy_of(bytes: &[u8]) -> Self {
        let mut copy = Self::zeroed(bytes.len());
        copy.copy_from_slice(bytes);
        copy
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        self
    }

    /// The bytes, mutable.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self
    }
}

impl Default for AlignedBytes {
    fn default() -> Self {
        Self::zeroed(0)
    }
}

impl Clone for AlignedBytes {
    fn clone(&self) -> Self {
        Self::copy_of(self)
    }
}

impl Deref for AlignedBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.all[self.start..self.start + self.len]
    }
}

impl DerefMut for AlignedBytes {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.all[self.start..self.start + self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_aligned_and_as_long_as_asked() {
        for len in [0, 1, 15, 16, 17, 1000] {
            let bytes: Vec<u8> = (0..len).map(|i| i as u8).collect();
            let mut aligned = AlignedBytes::copy_of(&bytes);
            assert_eq!(aligned.bytes(), bytes);
            assert!(aligned.as_ptr().addr().is_multiple_of(ALIGNMENT));
            aligned.bytes_mut().fill(7);
            assert_eq!(*aligned, std::vec![7; len]);
            let copy = aligned.clone();
            assert_eq!(*copy, *aligned);
            assert!(copy.as_ptr().addr().is_multiple_of(ALIGNMENT));
        }
    }
}
