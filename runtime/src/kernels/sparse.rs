//! Sparse matrices of weights ([`crate::format::sparse`]): the parts of the blob, checked once, and the product with a
//! vector, which is all that an operator with such weights needs.
//!
//! Any operator can have one: [`Sparse::of`] on its blob, `Sparse::check` when the file is opened, [`add_sparse`] or
//! [`SparseBlocks`] (sums of products) or `sparse_row` (outputs of int8) when it runs.

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

/// Rows of a sparse matrix in blocks of as many, which are met one after the other, over and over.
#[derive(Clone, Copy, Debug)]
pub struct SparseBlocks<'a> {
    starts: &'a [i32],
    all: Sparse<'a>,
    /// What is left behind the blocks before `next`.
    rest: Sparse<'a>,
    next: usize,
}

impl<'a> SparseBlocks<'a> {
    /// `starts` are what the rows' sums begin with; none: all with 0.
    pub const fn new(starts: &'a [i32], all: Sparse<'a>) -> Self {
        Self { starts, all, rest: all, next: 0 }
    }

    /// See [`Sparse::check`].
    pub(crate) fn check(&self, columns: u64) -> bool {
        self.all.check(columns)
    }

    /// `sums[r] = start[r] + Σ weights[r, i] · x[i]` of a block's rows, of which there are as many as sums. The matrix has been
    /// checked against as many columns as `x` has elements. Blocks before the next one cost a walk over their counts.
    pub(crate) fn products(&mut self, block: usize, x: &[i8], sums: &mut [i32]) {
        if block < self.next {
            (self.rest, self.next) = (self.all, 0);
        }
        for _ in self.next * sums.len()..block * sums.len() {
            self.rest.next_row();
        }
        let first = block * sums.len();
        match self.starts.get(first..first + sums.len()) {
            Some(starts) => sums.copy_from_slice(starts),
            None => sums.fill(0),
        }
        add_sparse(&mut self.rest, x, sums);
        self.next = block + 1;
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

/// Matrices for tests.
#[cfg(test)]
pub(crate) mod testing {
    use super::*;
    use std::vec::Vec;

    /// The blob of a dense matrix's weights that are not zero; in words, for its alignment. Gaps are shorter than 15.
    pub(crate) fn encode(weights: &[i8], columns: usize, form: Form) -> (SparseRepr, Vec<u32>) {
        let width = if form == Form::Blocks { 4 } else { 1 };
        let (mut counts, mut stored, mut steps, mut entries) = (Vec::new(), Vec::new(), Vec::new(), 0);
        for row in weights.chunks(columns) {
            let mut own: Vec<u8> = Vec::new();
            let mut last = 0;
            for (at, unit) in row.chunks_exact(width).enumerate() {
                // Zeros too, now and then: gaps stay short.
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
