//! Sparse weight matrices ([`offshoot_format::sparse`]): the parts of the blob, checked once, and the product with a
//! vector, which is all that an operator needs.
//!
//! Any operator can use one: call [`Sparse::of`] on its blob, [`Sparse::check`] when the file is opened, and
//! [`crate::add_sparse`] or [`crate::sparse_products`] (sums of products, int8 outputs) when it runs.

use offshoot_format::sparse::{Form, MOST_ENTRIES, SparseRepr};

/// Rows of a sparse matrix.
#[derive(Clone, Copy, Debug)]
pub struct Sparse<'a> {
    /// How entries are stored.
    pub form: Form,
    /// Number of entries in each row.
    pub counts: &'a [u16],
    /// Weights of all entries.
    pub weights: &'a [i8],
    /// Steps of all entries, packed.
    pub steps: &'a [u8],
}

/// Bytes of the blob of a matrix with `rows` rows; `None` if they do not fit 64 bits.
pub fn sparse_bytes(repr: &SparseRepr, rows: u64) -> Option<u64> {
    let counts = rows.checked_mul(2)?.checked_next_multiple_of(4)?;
    counts.checked_add(repr.weights())?.checked_add(repr.steps.into())
}

impl<'a> Sparse<'a> {
    /// Splits a blob of [`sparse_bytes`], which begins at a multiple of two; `None` if it is too short.
    pub fn of(repr: &SparseRepr, rows: usize, blob: &'a [u8]) -> Option<Self> {
        let (counts, rest) = blob.split_at_checked(rows.checked_mul(2)?)?;
        let rest = rest.get(counts.len().next_multiple_of(4) - counts.len()..)?;
        let (weights, rest) = rest.split_at_checked(usize::try_from(repr.weights()).ok()?)?;
        let steps = rest.get(..usize::try_from(repr.steps).ok()?)?;
        let counts = bytemuck::try_cast_slice(counts).ok()?;
        Some(Self { form: repr.form, counts, weights: bytemuck::cast_slice(weights), steps })
    }

    /// Weights per entry.
    fn width(&self) -> usize {
        if self.form == Form::Blocks { 4 } else { 1 }
    }

    /// Removes the first row and returns its weights and steps. Both are empty after the last row, and may be too short
    /// if the matrix has not been checked.
    #[inline]
    pub fn next_row(&mut self) -> (&'a [i8], &'a [u8]) {
        let Some((&count, counts)) = self.counts.split_first() else { return (&[], &[]) };
        let count = usize::from(count);
        let (weights, rest) = self.weights.split_at((count * self.width()).min(self.weights.len()));
        let (steps, after) = self.steps.split_at(self.form.packed(count).min(self.steps.len()));
        (self.counts, self.weights, self.steps) = (counts, rest, after);
        (weights, steps)
    }

    /// Whether the rows use exactly the stored weights and steps, have no more entries than allowed, and read no input
    /// beyond `columns`.
    pub fn check(&self, columns: u64) -> bool {
        let width = self.width();
        let (mut weights, mut steps) = (0u64, 0u64);
        for &count in self.counts {
            let count = usize::from(count);
            if count * width > MOST_ENTRIES as usize {
                return false;
            }
            weights += (count * width) as u64;
            steps += self.form.packed(count) as u64;
        }
        if (weights, steps) != (self.weights.len() as u64, self.steps.len() as u64) {
            return false;
        }
        // Steps are not negative: a row whose last entry is inside is inside throughout.
        let mut rest = *self;
        self.counts.iter().all(|&count| {
            let (_, steps) = rest.next_row();
            let last: u64 = match self.form {
                Form::Nibbles => {
                    let odd = usize::from(count & 1);
                    let both = steps.iter().map(|&s| u64::from(s & 15) + u64::from(s >> 4)).sum::<u64>();
                    // With an odd number of entries, the last half byte is unused.
                    let unused = steps.last().filter(|_| odd == 1).map_or(0, |&s| u64::from(s >> 4));
                    both - unused
                }
                Form::Bytes | Form::Blocks => steps.iter().map(|&s| u64::from(s)).sum(),
            };
            count == 0 || (last + 1) * width as u64 <= columns
        })
    }
}

/// Matrices for tests.
#[cfg(any(test, feature = "testing"))]
pub mod testing {
    use super::*;
    use std::vec::Vec;

    /// The blob of a dense matrix's non-zero weights, as words for alignment. Gaps are at most 15.
    pub fn encode(weights: &[i8], columns: usize, form: Form) -> (SparseRepr, Vec<u32>) {
        let width = if form == Form::Blocks { 4 } else { 1 };
        let (mut counts, mut stored, mut steps, mut entries) = (Vec::new(), Vec::new(), Vec::new(), 0);
        for row in weights.chunks(columns) {
            let mut own: Vec<u8> = Vec::new();
            let mut last = 0;
            for (at, unit) in row.chunks_exact(width).enumerate() {
                // Stores a zero where a gap would become too long.
                if unit.iter().any(|w| *w != 0) || at - last == 15 {
                    own.push((at - last) as u8);
                    stored.extend(unit.iter().map(|w| *w as u8));
                    last = at;
                }
            }
            counts.extend((own.len() as u16).to_le_bytes());
            entries += own.len() as u32;
            if form == Form::Nibbles {
                let (eights, rest) = own.split_at(own.len() / 8 * 8);
                steps.extend(eights.chunks(8).flat_map(|e| (0..4).map(|i| e[i] | e[i + 4] << 4)));
                steps.extend(rest.chunks(2).map(|p| p[0] | p.get(1).map_or(0, |s| s << 4)));
            } else {
                steps.extend(own);
            }
        }
        let repr = SparseRepr { form, entries, steps: steps.len() as u32 };
        counts.resize(counts.len().next_multiple_of(4), 0);
        let mut blob = [counts, stored, steps].concat();
        blob.resize(blob.len().next_multiple_of(4), 0);
        let words = blob.chunks_exact(4).map(|b| u32::from_ne_bytes([b[0], b[1], b[2], b[3]]));
        (repr, words.collect())
    }
}
