//! Products of a sparse matrix with a vector: [`SparseBlocks`] gives sums, [`sparse_row`] int8 outputs.

use crate::dispatch::{add_sparse, requantise_sums};
use crate::requant::Requant;
use crate::sparse::Sparse;

/// Rows of a sparse matrix in equal blocks, which are visited in order, repeatedly.
#[derive(Clone, Copy, Debug)]
pub struct SparseBlocks<'a> {
    starts: &'a [i32],
    all: Sparse<'a>,
    /// The rows from block `next` on.
    rest: Sparse<'a>,
    next: usize,
}

impl<'a> SparseBlocks<'a> {
    /// `starts` are the initial values of the rows' sums; empty means all 0.
    pub const fn new(starts: &'a [i32], all: Sparse<'a>) -> Self {
        Self { starts, all, rest: all, next: 0 }
    }

    /// See [`Sparse::check`].
    pub fn check(&self, columns: u64) -> bool {
        self.all.check(columns)
    }

    /// `sums[r] = start[r] + Σ weights[r, i] · x[i]` for the rows of a block, one per sum. The matrix must have been
    /// checked against `x.len()` columns. Skipping to a later block walks over the counts of the rows between.
    pub fn products(&mut self, block: usize, x: &[i8], sums: &mut [i32]) {
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

/// Outputs of one input row: `dst[o] = requantise(bias[o] + Σ weights[o, i] · src[i])`. `matrix` must have been checked
/// against `src.len()` columns.
pub fn sparse_row(q: &Requant<'_>, matrix: &Sparse<'_>, src: &[i8], dst: &mut [i8]) {
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
