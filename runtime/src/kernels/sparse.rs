//! Sparse matrices of weights ([`crate::format::sparse`]): the parts of the blob, checked once, and the product with a
//! vector, which is all that an operator with such weights needs.
//!
//! Any operator can have one: [`Sparse::of`] on its blob, [`Sparse::check`] when the file is opened, [`add_sparse`] (sums
//! of products) or [`sparse_row`] (outputs of int8) when it runs.

use super::Requant;
#[cfg(arm_dsp)]
pub(crate) use super::arm_dsp::{add_sparse, requantise_sums};
#[cfg(not(arm_dsp))]
pub(crate) use super::portable::{add_sparse, requantise_sums};
use crate::format::sparse::{Form, MOST_ENTRIES, SparseRepr};

/// Rows of a sparse matrix.
#[derive(Clone, Copy, Debug)]
pub struct Sparse<'a> {
    /// How entries are stored.
    pub form: Form,
    /// Entries of each row.
    pub counts: &'a [u16],
    /// Weights of all entries.
    pub weights: &'a [i8],
    /// Steps of all entries, packed.
    pub steps: &'a [u8],
}

/// Bytes of the blob of a matrix with so many rows; `None` if they do not fit in 64 bits.
pub(crate) fn sparse_bytes(repr: &SparseRepr, rows: u64) -> Option<u64> {
    let counts = rows.checked_mul(2)?.checked_next_multiple_of(4)?;
    counts.checked_add(repr.weights())?.checked_add(repr.steps.into())
}

impl<'a> Sparse<'a> {
    /// The parts of a blob of [`sparse_bytes`], which begins at a multiple of two; `None` if it is too short.
    pub fn of(repr: &SparseRepr, rows: usize, blob: &'a [u8]) -> Option<Self> {
        let (counts, rest) = blob.split_at_checked(rows.checked_mul(2)?)?;
        let rest = rest.get(counts.len().next_multiple_of(4) - counts.len()..)?;
        let (weights, rest) = rest.split_at_checked(usize::try_from(repr.weights()).ok()?)?;
        let steps = rest.get(..usize::try_from(repr.steps).ok()?)?;
        let counts = bytemuck::try_cast_slice(counts).ok()?;
        Some(Self { form: repr.form, counts, weights: bytemuck::cast_slice(weights), steps })
    }

    /// Weights of an entry.
    fn width(&self) -> usize {
        if self.form == Form::Blocks { 4 } else { 1 }
    }

    /// Takes the weights and steps of the first row off; both are empty behind the last row, or shorter than it says if the
    /// matrix has not been checked.
    #[inline]
    pub(super) fn next_row(&mut self) -> (&'a [i8], &'a [u8]) {
        let Some((&count, counts)) = self.counts.split_first() else { return (&[], &[]) };
        let count = usize::from(count);
        let (weights, rest) = self.weights.split_at((count * self.width()).min(self.weights.len()));
        let (steps, after) = self.steps.split_at(self.form.packed(count).min(self.steps.len()));
        (self.counts, self.weights, self.steps) = (counts, rest, after);
        (weights, steps)
    }

    /// Whether the rows take up weights and steps exactly, have few enough entries, and meet no input beyond `columns`.
    pub(crate) fn check(&self, columns: u64) -> bool {
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
        // Steps are not negative: a row that ends inside was never outside.
        let mut rest = *self;
        self.counts.iter().all(|&count| {
            let (_, steps) = rest.next_row();
            let last: u64 = match self.form {
                Form::Nibbles => {
                    let odd = usize::from(count & 1);
                    let both = steps.iter().map(|&s| u64::from(s & 15) + u64::from(s >> 4)).sum::<u64>();
                    // The half byte behind an odd number of entries is none of them.
                    let unused = steps.last().filter(|_| odd == 1).map_or(0, |&s| u64::from(s >> 4));
                    both - unused
                }
                Form::Bytes | Form::Blocks => steps.iter().map(|&s| u64::from(s)).sum(),
            };
            count == 0 || (last + 1) * width as u64 <= columns
        })
    }
}

/// Rows whose sums are held at once.
const ROWS: usize = 32;

/// Outputs of one row of inputs: `dst[o] = requantise(bias[o] + Σ weights[o, i] · src[i])`. `matrix` has been checked
/// against as many columns as `src` has elements.
pub(crate) fn sparse_row(q: &Requant<'_>, matrix: &Sparse<'_>, src: &[i8], dst: &mut [i8]) {
    let mut rest = *matrix;
    for (dst, first) in dst.chunks_mut(ROWS).zip((0..).step_by(ROWS)) {
        let mut sums = [0; ROWS];
        for (sum, bias) in sums.iter_mut().zip(q.bias.get(first..).unwrap_or_default()) {
            *sum = *bias;
        }
        let sums = &mut sums[..dst.len()];
        add_sparse(&mut rest, src, sums);
        requantise_sums(q, first, sums, dst);
    }
}
