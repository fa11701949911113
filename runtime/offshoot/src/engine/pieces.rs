//! [`Pieces`]: learning memory behind the inference arena, handed out piece by piece.

use offshoot_base::Rule;

/// Pieces of memory, each behind the one before.
pub(super) struct Pieces<'a> {
    pub(super) rest: &'a mut [u8],
    /// Where `rest` begins.
    pub(super) at: usize,
}

impl<'a> Pieces<'a> {
    /// The piece that begins at a place.
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
