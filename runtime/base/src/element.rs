//! Numbers in memory, and bytes as such numbers.

use crate::error::Rule;
use bytemuck::{AnyBitPattern, NoUninit};

/// What may lie in the arena: plain numbers, every bit pattern of which is a value.
pub trait Element: NoUninit + AnyBitPattern {}
impl<T: NoUninit + AnyBitPattern> Element for T {}

/// Bytes as elements; no bytes are no elements, wherever they lie.
///
/// # Errors
/// [`Rule::Alignment`].
pub fn cast<T: Element>(bytes: &[u8]) -> Result<&[T], Rule> {
    if bytes.is_empty() {
        return Ok(&[]);
    }
    bytemuck::try_cast_slice(bytes).map_err(|_| Rule::Alignment)
}

/// Bytes as elements that can be written.
///
/// # Errors
/// [`Rule::Alignment`].
pub fn cast_mut<T: Element>(bytes: &mut [u8]) -> Result<&mut [T], Rule> {
    if bytes.is_empty() {
        return Ok(&mut []);
    }
    bytemuck::try_cast_slice_mut(bytes).map_err(|_| Rule::Alignment)
}
