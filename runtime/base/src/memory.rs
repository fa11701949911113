//! Typed views of the arena and the blobs for one operator: shared views of its inputs, an exclusive one of its output.

use crate::element::{Element, cast, cast_mut};
use crate::error::Rule;
use crate::span::Span;

/// Writes zeros, eight words a round. `memset` of small cores stores one word a round, four times slower.
fn zero(bytes: &mut [u8]) {
    // Opaque, or the compiler would recognise `memset` here.
    let word = core::hint::black_box(0u32);
    let (head, words, tail) = bytemuck::pod_align_to_mut::<u8, u32>(bytes);
    head.fill(0);
    let (rounds, rest) = words.as_chunks_mut::<8>();
    rounds.iter_mut().for_each(|round| *round = [word; 8]);
    rest.fill(word);
    tail.fill(0);
}

/// The arena and the blob section.
///
/// Every method checks bounds, alignment and overlap again, at a cost of a few comparisons per operator. On a validated
/// model no check fails.
#[derive(Debug)]
pub struct Memory<'a> {
    arena: &'a mut [u8],
    blobs: &'a [u8],
    /// Learned parameters that replace the first bytes of an operator's blob (its biases). Empty if there are none.
    parameters: &'a [u8],
    /// Whether used scratch is cleared later, and the end of what is to be cleared then.
    later: Option<usize>,
}

/// The arena without the bytes that an operator writes.
struct Around<'a> {
    before: &'a [u8],
    after: &'a [u8],
    after_start: usize,
}

impl<'a> Around<'a> {
    fn read<T: Element>(&self, src: Span) -> Result<&'a [T], Rule> {
        let bytes = match src.start.checked_sub(self.after_start) {
            Some(start) => self.after.get(start..).and_then(|b| b.get(..src.len)),
            None => self.before.get(src.range()),
        };
        cast(bytes.ok_or(Rule::Overlap)?)
    }
}

impl<'a> Memory<'a> {
    /// Views an arena and the file's blobs.
    pub fn new(arena: &'a mut [u8], blobs: &'a [u8]) -> Self {
        Self { arena, blobs, parameters: &[], later: None }
    }

    /// Replaces the first bytes of an operator's blob by learned biases, or by learned biases, multipliers and shifts.
    pub fn with_parameters(self, parameters: &'a [u8]) -> Self {
        Self { parameters, ..self }
    }

    /// Learned parameters that replace the first bytes of an operator's blob. Empty if there are none.
    pub fn parameter_override(&self) -> &'a [u8] {
        self.parameters
    }

    /// The learned biases if there are any, else `own`.
    ///
    /// # Errors
    /// [`Rule::BlobBounds`] if there are fewer learned biases than `own` has; [`Rule::Alignment`].
    pub fn bias(&self, own: &'a [f32]) -> Result<&'a [f32], Rule> {
        if self.parameters.is_empty() {
            return Ok(own);
        }
        cast(self.parameters.get(..4 * own.len()).ok_or(Rule::BlobBounds)?)
    }

    /// The arena and the blob section.
    pub fn parts(self) -> (&'a mut [u8], &'a [u8]) {
        (self.arena, self.blobs)
    }

    /// The blob section.
    pub fn blobs(&self) -> &'a [u8] {
        self.blobs
    }

    /// Bytes of the arena.
    ///
    /// # Errors
    /// [`Rule::ArenaBounds`].
    pub fn bytes(&self, span: Span) -> Result<&[u8], Rule> {
        self.arena.get(span.range()).ok_or(Rule::ArenaBounds)
    }

    fn around(&mut self, dst: Span) -> Result<(Around<'_>, &mut [u8]), Rule> {
        let (before, rest) = self.arena.split_at_mut_checked(dst.start).ok_or(Rule::ArenaBounds)?;
        let (dst_bytes, after) = rest.split_at_mut_checked(dst.len).ok_or(Rule::ArenaBounds)?;
        Ok((Around { before, after, after_start: dst.end() }, dst_bytes))
    }

    /// The output of an operator that reads nothing from the arena.
    ///
    /// # Errors
    /// [`Rule::ArenaBounds`] or [`Rule::Alignment`].
    pub fn write<T: Element>(&mut self, dst: Span) -> Result<&mut [T], Rule> {
        cast_mut(self.arena.get_mut(dst.range()).ok_or(Rule::ArenaBounds)?)
    }

    /// One tensor to read and one to write.
    ///
    /// # Errors
    /// [`Rule::ArenaBounds`], [`Rule::Overlap`] or [`Rule::Alignment`].
    pub fn split<S: Element, D: Element>(&mut self, src: Span, dst: Span) -> Result<(&[S], &mut [D]), Rule> {
        let (around, dst) = self.around(dst)?;
        Ok((around.read(src)?, cast_mut(dst)?))
    }

    /// Two tensors to read, which may be the same, and one to write.
    ///
    /// # Errors
    /// As [`Self::split`].
    pub fn split2<S: Element, D: Element>(
        &mut self,
        a: Span,
        b: Span,
        dst: Span,
    ) -> Result<(&[S], &[S], &mut [D]), Rule> {
        let (around, dst) = self.around(dst)?;
        Ok((around.read(a)?, around.read(b)?, cast_mut(dst)?))
    }

    /// The whole arena.
    pub fn arena_mut(&mut self) -> &mut [u8] {
        self.arena
    }

    /// Clears scratch that an operator has used. What kernels leave there differs between targets; an operator that reads it, in a
    /// file that no exporter writes, must not see that. Does nothing without the feature `clear-scratch`.
    ///
    /// # Errors
    /// [`Rule::ArenaBounds`].
    #[inline]
    pub fn clear(&mut self, scratch: Span) -> Result<(), Rule> {
        if cfg!(feature = "clear-scratch") { self.clear_now(scratch) } else { Ok(()) }
    }

    // Several operators call it, and it takes flash.
    #[inline(never)]
    fn clear_now(&mut self, scratch: Span) -> Result<(), Rule> {
        match &mut self.later {
            Some(end) => *end = scratch.end().max(*end),
            None => zero(self.arena.get_mut(scratch.range()).ok_or(Rule::ArenaBounds)?),
        }
        Ok(())
    }

    /// Calls `work`, whose operators share their scratch, and then clears that from `start` on.
    ///
    /// # Errors
    /// Those of `work`; [`Rule::ArenaBounds`].
    pub fn sharing(
        &mut self,
        start: usize,
        work: impl FnOnce(&mut Self) -> Result<(), Rule>,
    ) -> Result<(), Rule> {
        if !cfg!(feature = "clear-scratch") {
            return work(self);
        }
        self.later = Some(start);
        work(self)?;
        let end = self.later.take().unwrap_or(start);
        self.clear(Span { start, len: end.saturating_sub(start) })
    }

    /// Copies `src` to `dst` unless both start at the same byte.
    ///
    /// # Errors
    /// As [`Self::split`]; [`Rule::Shape`] if the lengths differ.
    pub fn bring(&mut self, src: Span, dst: Span) -> Result<(), Rule> {
        if src.start != dst.start {
            let (from, to) = self.split::<u8, u8>(src, dst)?;
            if from.len() != to.len() {
                return Err(Rule::Shape);
            }
            to.copy_from_slice(from);
        }
        Ok(())
    }

    /// The tensor that an operator changes in place, copied to `dst` first if it lies elsewhere.
    ///
    /// # Errors
    /// As [`Self::bring`].
    pub fn in_place<T: Element>(&mut self, src: Span, dst: Span) -> Result<&mut [T], Rule> {
        self.bring(src, dst)?;
        self.write(dst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[repr(align(16))]
    struct Aligned([u8; 64]);

    #[test]
    fn splits_before_and_after_and_refuses_overlap() {
        let mut arena = Aligned(core::array::from_fn(|i| i as u8));
        let span = |start, n| Span::new(start, n, 1).unwrap();
        let mut memory = Memory::new(&mut arena.0, &[]);
        let (a, b, dst) = memory.split2::<u8, u8>(span(4, 4), span(40, 4), span(8, 8)).unwrap();
        assert_eq!((a, b, dst.len()), (&[4, 5, 6, 7][..], &[40, 41, 42, 43][..], 8));
        assert_eq!(memory.split::<u8, u8>(span(4, 5), span(8, 8)).unwrap_err(), Rule::Overlap);
        assert_eq!(memory.split::<u8, u8>(span(15, 1), span(8, 8)).unwrap_err(), Rule::Overlap);
        assert_eq!(memory.split::<u8, u8>(span(60, 8), span(8, 8)).unwrap_err(), Rule::Overlap);
        assert_eq!(memory.write::<u8>(span(60, 8)).unwrap_err(), Rule::ArenaBounds);
        assert_eq!(memory.write::<f32>(span(2, 4)).unwrap_err(), Rule::Alignment);
        assert_eq!(memory.in_place::<u8>(span(0, 4), span(16, 4)).unwrap(), &[0, 1, 2, 3]);
        assert_eq!(memory.in_place::<u8>(span(16, 4), span(16, 4)).unwrap(), &[0, 1, 2, 3]);
    }
}
