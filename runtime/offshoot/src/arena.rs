//! [`Arena`]: the working memory of a network.

use core::fmt;
use core::ops::{Deref, DerefMut};

/// `N` bytes of working memory, with the alignment that [`crate::Engine`] needs.
///
/// [`crate::include_model!`] gives the size: `Arena<{ Keywords::ARENA_BYTES }>`. An arena derefs to `[u8]`, so `&mut
/// arena` works wherever a `&mut [u8]` is expected.
///
/// An arena is often tens of kilobytes: on a device, put it in a static, not on the stack. `cortex_m_rt::entry` turns a
/// `static mut` at the top of `main` into a `&'static mut Arena`; elsewhere use
/// `static_cell::ConstStaticCell<Arena<N>>`. A static arena of zeros takes no flash.
///
/// ```
/// let mut arena = offshoot::Arena::<1024>::new();
/// assert_eq!(arena.len(), 1024);
/// assert!(arena.as_ptr().addr().is_multiple_of(16));
/// let bytes: &mut [u8] = &mut arena;
/// bytes[0] = 1;
/// ```
#[repr(C, align(16))]
pub struct Arena<const N: usize>([u8; N]);

impl<const N: usize> Arena<N> {
    /// An arena filled with zeros.
    pub const fn new() -> Self {
        Self([0; N])
    }
}

impl<const N: usize> Default for Arena<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> Deref for Arena<N> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl<const N: usize> DerefMut for Arena<N> {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl<const N: usize> fmt::Debug for Arena<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Arena<{N}>")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use offshoot_format::ALIGNMENT;

    static SHARED: Arena<33> = Arena::new();

    #[test]
    fn arenas_are_aligned_wherever_they_lie() {
        let locals = [const { Arena::<33>::new() }; 3];
        for arena in locals.iter().chain([&SHARED]) {
            assert_eq!(arena.len(), 33);
            assert!(arena.as_ptr().addr().is_multiple_of(ALIGNMENT));
        }
        assert_eq!(align_of::<Arena<1>>(), ALIGNMENT);
        assert_eq!(format!("{SHARED:?}"), "Arena<33>");
    }
}
