//! The blob section: constants aligned to 4 bytes; equal constants are stored once.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

/// The section grows by one part of so many: doubling would take a large network's size once more.
const GROWTH: usize = 16;

/// Builds the blob section.
#[derive(Clone, Debug, Default)]
pub struct Blobs {
    bytes: Vec<u8>,
    hasher: RandomState,
    /// Offsets and lengths of the blobs, by hash: a large network's weights are in memory once.
    known: HashMap<u64, Vec<(u32, usize)>>,
}

impl Blobs {
    /// Adds a blob and returns its offset in the section, and whether it is new.
    pub fn add(&mut self, blob: Vec<u8>) -> (u32, bool) {
        let same = self.known.entry(self.hasher.hash_one(&blob)).or_default();
        let holds = |(offset, len): &&(u32, usize)| self.bytes[*offset as usize..][..*len] == blob;
        if let Some(&(offset, _)) = same.iter().find(holds) {
            return (offset, false);
        }
        let start = self.bytes.len().next_multiple_of(4);
        let needed = start + blob.len() - self.bytes.len();
        if self.bytes.capacity() - self.bytes.len() < needed {
            self.bytes.reserve_exact(needed.max(self.bytes.len() / GROWTH));
        }
        self.bytes.resize(start, 0);
        let offset = start as u32;
        self.bytes.extend_from_slice(&blob);
        same.push((offset, blob.len()));
        (offset, true)
    }

    /// Makes room for as many more bytes.
    pub fn reserve(&mut self, bytes: usize) {
        self.bytes.reserve_exact(bytes);
    }

    /// The section.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The section, without a copy.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// Little-endian bytes of 32-bit words.
pub fn words(values: &[i32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// Little-endian bytes of int16.
pub fn halves(values: &[i16]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// Little-endian bytes of floats.
pub fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// Bytes of int8 values.
pub fn bytes(values: &[i8]) -> Vec<u8> {
    values.iter().map(|&v| v as u8).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aligns_and_deduplicates() {
        let mut b = Blobs::default();
        assert_eq!(b.add(vec![1, 2, 3]), (0, true));
        assert_eq!(b.add(vec![4]), (4, true));
        assert_eq!(b.add(vec![1, 2, 3]), (0, false));
        assert_eq!(b.as_bytes(), [1, 2, 3, 0, 4]);
    }
}
