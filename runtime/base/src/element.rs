//! Typed views of bytes: the element types that the arena may hold, and checked casts to them.

use crate::error::Rule;
use bytemuck::{AnyBitPattern, NoUninit};

/// A plain number that may lie in the arena. Every bit pattern is a valid value.
pub trait Element: NoUninit + AnyBitPattern {}
impl<T: NoUninit + AnyBitPattern> Element for T {}

/// Views bytes as elements. An empty slice needs no alignment.
///
/// # Errors
/// [`Rule::Alignment`] if the bytes are not aligned to `T` or their length is not a multiple of its size.
pub fn cast<T: Element>(bytes: &[u8]) -> Result<&[T], Rule> {
    if bytes.is_empty() {
        return Ok(&[]);
    }
    bytemuck::try_cast_slice(bytes).map_err(|_| Rule::Alignment)
}

/// Views bytes as mutable elements. An empty slice needs no alignment.
///
/// # Errors
/// As [`cast`].
pub fn cast_mut<T: Element>(bytes: &mut [u8]) -> Result<&mut [T], Rule> {
    if bytes.is_empty() {
        return Ok(&mut []);
    }
    bytemuck::try_cast_slice_mut(bytes).map_err(|_| Rule::Alignment)
}
