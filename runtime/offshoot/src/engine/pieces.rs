//! [`Pieces`]: hands out the learning memory after the inference arena, piece by piece.

use offshoot_base::Rule;

/// Memory that is handed out in ascending pieces.
pub(super) struct Pieces<'a> {
    pub(super) rest: &'a mut [u8],
    /// Arena offset of `rest`.
    pub(super) at: usize,
}

impl<'a> Pieces<'a> {
    /// Takes `len` bytes at arena offset `start`, which must not lie before the end of the last piece.
    pub(super) fn take(&mut self, start: usize, len: usize) -> Result<&'a mut [u8], Rule> {
        let skipped = start.checked_sub(self.at).ok_or(Rule::Overlap)?;
        let rest = core::mem::take(&mut self.rest);
        let (_, from) = rest.split_at_mut_checked(skipped).ok_or(Rule::ArenaBounds)?;
        let (piece, after) = from.split_at_mut_checked(len).ok_or(Rule::ArenaBounds)?;
        self.rest = after;
        self.at = start + len;
        Ok(piece)
    }
}
