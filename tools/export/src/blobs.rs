//! The blob section: constants aligned to 4 bytes; equal constants are stored once.

use std::collections::HashMap;

/// Builds the blob section.
#[derive(Clone, Debug, Default)]
pub struct Blobs {
    bytes: Vec<u8>,
    known: HashMap<Vec<u8>, u32>,
}

impl Blobs {
    /// Adds a blob and returns its offset in the section, and whether it is new.
    pub fn add(&mut self, blob: Vec<u8>) -> (u32, bool) {
        if let Some(&offset) = self.known.get(&blob) {
            return (offset, false);
        }
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        let offset = self.bytes.len() as u32;
        self.bytes.extend_from_slice(&blob);
        self.known.insert(blob, offset);
        (offset, true)
    }

    /// The section.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Little-endian bytes of 32-bit words.
pub fn words(values: &[i32]) -> Vec<u8> {
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
