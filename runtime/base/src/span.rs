//! Places of tensors in memory, and the arithmetic that all checks share. No operation wraps.

use crate::element::Element;
use crate::error::Rule;
use core::ops::Range;

/// Alignment in bytes of the file, the blob section and the arena in memory.
pub const ALIGNMENT: usize = 16;

/// Alignment in bytes of each blob within the blob section.
pub const BLOB_ALIGNMENT: usize = 4;

/// A range of bytes. Its end fits in 32 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// First byte.
    pub start: usize,
    /// Length in bytes.
    pub len: usize,
}

impl Span {
    /// A span of `elements` (at least one) of `size` bytes each. `offset` must be a multiple of `size`.
    ///
    /// # Errors
    /// [`Rule::Shape`], [`Rule::Alignment`] or [`Rule::ArenaBounds`].
    pub fn new(offset: u32, elements: u64, size: usize) -> Result<Self, Rule> {
        let size = u32::try_from(size).map_err(|_| Rule::Shape)?;
        require(elements > 0, Rule::Shape)?;
        require(offset.is_multiple_of(size), Rule::Alignment)?;
        let len = elements.checked_mul(u64::from(size)).and_then(|n| u32::try_from(n).ok());
        let len = len.filter(|&n| offset.checked_add(n).is_some()).ok_or(Rule::ArenaBounds)?;
        // `usize` has at least 32 bits on all targets of this crate (checked below).
        Ok(Self { start: offset as usize, len: len as usize })
    }

    /// The offset after the last byte.
    pub fn end(&self) -> usize {
        self.start + self.len
    }

    /// Offsets from the first byte to the end.
    pub fn range(&self) -> Range<usize> {
        self.start..self.end()
    }

    /// Whether the two share a byte.
    pub fn overlaps(&self, other: Self) -> bool {
        self.start < other.end() && other.start < self.end()
    }
}

const _: () = assert!(usize::BITS >= 32, "arena and file offsets are 32 bits wide");

/// The memory that a record is checked against.
#[derive(Clone, Copy, Debug)]
pub struct Limits<'m> {
    /// Bytes of the arena.
    pub arena_bytes: u32,
    /// The blob section.
    pub blobs: &'m [u8],
}

impl Limits<'_> {
    /// Checks that all spans lie in the arena.
    ///
    /// # Errors
    /// [`Rule::ArenaBounds`].
    pub fn arena(&self, spans: &[Span]) -> Result<(), Rule> {
        let inside = spans.iter().all(|s| s.end() as u64 <= u64::from(self.arena_bytes));
        require(inside, Rule::ArenaBounds)
    }

    /// Checks that both spans lie in the arena and share no byte.
    ///
    /// # Errors
    /// [`Rule::ArenaBounds`] or [`Rule::Overlap`].
    pub fn disjoint(&self, src: Span, dst: Span) -> Result<(), Rule> {
        self.arena(&[src, dst])?;
        require(!src.overlaps(dst), Rule::Overlap)
    }

    /// Checks that both spans lie in the arena and are equal or share no byte.
    ///
    /// # Errors
    /// [`Rule::ArenaBounds`] or [`Rule::Overlap`].
    pub fn disjoint_or_same(&self, src: Span, dst: Span) -> Result<(), Rule> {
        self.arena(&[src, dst])?;
        require(src == dst || !src.overlaps(dst), Rule::Overlap)
    }
}

/// Returns `rule` as an error unless `holds`.
///
/// # Errors
/// `rule`.
pub fn require(holds: bool, rule: Rule) -> Result<(), Rule> {
    if holds { Ok(()) } else { Err(rule) }
}

/// Product of extents.
///
/// # Errors
/// [`Rule::Shape`] if an extent is zero or the product exceeds 64 bits.
pub fn product<T: Into<u64>>(extents: impl IntoIterator<Item = T>) -> Result<u64, Rule> {
    match extents.into_iter().map(Into::into).fold(1, times) {
        0 => Err(Rule::Shape),
        product => Ok(product),
    }
}

/// Multiplies by one more factor; 0 on overflow, and 0 stays 0. Most factors fit in 32 bits, whose product takes one
/// instruction. A 64-bit product takes many on a small core, so its code stands here once.
#[inline(never)]
fn times(total: u64, extent: u64) -> u64 {
    match (u32::try_from(total), u32::try_from(extent)) {
        (Ok(total), Ok(extent)) => u64::from(total) * u64::from(extent),
        _ => total.checked_mul(extent).unwrap_or(0),
    }
}

/// Typed view of `elements` (possibly none) in the blob section.
///
/// # Errors
/// [`Rule::Alignment`] if `at` is not a multiple of [`BLOB_ALIGNMENT`]; [`Rule::BlobBounds`].
pub fn blob<T: Element>(blobs: &[u8], at: u32, elements: u64) -> Result<&[T], Rule> {
    require((at as usize).is_multiple_of(BLOB_ALIGNMENT), Rule::Alignment)?;
    let len = elements.checked_mul(size_of::<T>() as u64).and_then(|n| usize::try_from(n).ok());
    let bytes = blobs.get(at as usize..).and_then(|b| b.get(..len?)).ok_or(Rule::BlobBounds)?;
    bytemuck::try_cast_slice(bytes).map_err(|_| Rule::Alignment)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_do_not_wrap() {
        assert_eq!(Span::new(0, 0, 4), Err(Rule::Shape));
        assert_eq!(Span::new(2, 1, 4), Err(Rule::Alignment));
        assert_eq!(Span::new(4, 1 << 30, 4), Err(Rule::ArenaBounds));
        assert_eq!(Span::new(u32::MAX, 1, 1), Err(Rule::ArenaBounds));
        assert_eq!(Span::new(4, u64::MAX, 4), Err(Rule::ArenaBounds));
        assert_eq!(product([0u32, 4]), Err(Rule::Shape));
        assert_eq!(product([u32::MAX; 3]), Err(Rule::Shape));
    }
}
