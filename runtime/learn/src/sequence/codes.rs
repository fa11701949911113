//! int8 weights of a recurrent layer as they learn: stepped in real numbers with stochastic rounding, dense or sparse.

use core::cell::Cell;

use crate::integer::sparse::{Cursor, Row};
use crate::weights;
use crate::weights::Weights;
use offshoot_format::sparse::SparseRepr;
use offshoot_kernels::Random;
use offshoot_kernels::recurrent::RecurrentMatrix;
use offshoot_kernels::sparse::Sparse;
use offshoot_kernels::sparse_products::SparseBlocks;

/// int8 weights of a layer's input or state, in the order of its blob.
#[derive(Debug)]
pub enum Stored<'a> {
    /// `[gates · units, columns]`
    Dense(&'a mut [i8]),
    /// Entries of a sparse matrix with as many rows: nothing else has a weight, before and after.
    Sparse {
        /// Of the matrix.
        repr: SparseRepr,
        /// `[gates · units]`: `-zero · Σ weights` of a row, or empty where the zero point is 0.
        start: &'a mut [i32],
        /// Counts, weights, steps.
        blob: &'a mut [i8],
    },
}

impl Stored<'_> {
    /// For the kernels; `None` if a blob is too short. Sparse matrices have been checked.
    pub(super) fn matrix(&self, rows: usize) -> Option<RecurrentMatrix<'_>> {
        match self {
            Self::Dense(weights) => Some(RecurrentMatrix::Dense(weights)),
            Self::Sparse { repr, start, blob } => {
                let matrix = Sparse::of(repr, rows, bytemuck::cast_slice(blob))?;
                Some(RecurrentMatrix::Sparse(SparseBlocks::new(start, matrix)))
            }
        }
    }
}

/// Blocks of rows that a step goes through side by side: the gates.
const GATES: usize = 4;

/// int8 weights of which the products of scales are known: `weight = products[row] / unit · code`.
#[derive(Debug)]
pub(super) struct Scaled<'a, 'b> {
    codes: &'a mut Stored<'b>,
    products: &'a [f32],
    /// Rows of a gate.
    units: usize,
    /// Scale and zero point of what the weights are multiplied with.
    unit: f32,
    zero: i8,
    random: &'a Cell<Random>,
    /// Where each gate's rows have come to.
    cursors: Cell<[Cursor; GATES]>,
}

impl<'a, 'b> Scaled<'a, 'b> {
    pub(super) fn new(
        codes: &'a mut Stored<'b>,
        products: &'a [f32],
        units: usize,
        (unit, zero): (f32, i8),
        random: &'a Cell<Random>,
    ) -> Self {
        Self { codes, products, units, unit, zero, random, cursors: Cell::default() }
    }

    fn length(&self) -> usize {
        match &self.codes {
            Stored::Dense(codes) => codes.len() / self.products.len().max(1),
            Stored::Sparse { .. } => 0,
        }
    }

    fn scale(&self, row: usize) -> f32 {
        self.products[row] / self.unit
    }

    /// Where the entries of a sparse row lie.
    fn row(&self, repr: &SparseRepr, blob: &[i8], row: usize) -> Option<Row> {
        let mut cursors = self.cursors.get();
        let found = cursors.get_mut(row / self.units.max(1))?.row((repr, self.products.len()), blob, row);
        self.cursors.set(cursors);
        found
    }

    /// Replaces the code of every weight of a row that there is by what `next` makes of its column and it.
    fn change(&mut self, row: usize, mut next: impl FnMut(usize, i8) -> i8) {
        let length = self.length();
        let own = match &self.codes {
            Stored::Dense(_) => None,
            Stored::Sparse { repr, blob, .. } => self.row(repr, blob, row),
        };
        match &mut *self.codes {
            Stored::Dense(codes) => {
                let codes = codes.get_mut(row * length..).and_then(|c| c.get_mut(..length));
                for (column, q) in codes.unwrap_or_default().iter_mut().enumerate() {
                    *q = next(column, *q);
                }
            }
            Stored::Sparse { start, blob, .. } => {
                let mut moved = 0i32;
                if let Some(own) = own {
                    own.each_mut(blob, |column, q| {
                        let new = next(column, *q);
                        moved += i32::from(new) - i32::from(*q);
                        *q = new;
                    });
                }
                if let Some(start) = start.get_mut(row) {
                    *start = start.wrapping_sub(i32::from(self.zero) * moved);
                }
            }
        }
    }
}

impl Weights for Scaled<'_, '_> {
    fn at(&self, channel: usize, index: usize) -> f32 {
        let code = match &self.codes {
            Stored::Dense(codes) => codes[channel * self.length() + index],
            Stored::Sparse { repr, blob, .. } => {
                let mut found = 0;
                if let Some(own) = self.row(repr, blob, channel) {
                    own.each(blob, |column, q| found = if column == index { q } else { found });
                }
                found
            }
        };
        self.scale(channel) * f32::from(code)
    }

    fn product(&self, x: &[f32], bias: &[f32], out: &mut [f32]) {
        for (o, (out, bias)) in out.iter_mut().zip(bias).enumerate() {
            *out = x.iter().enumerate().fold(*bias, |sum, (i, x)| sum + self.at(o, i) * x);
        }
    }

    fn add_row(&self, channel: usize, factor: f32, out: &mut [f32]) {
        let scale = self.scale(channel);
        match &self.codes {
            Stored::Dense(codes) => {
                let row = codes.get(channel * self.length()..).unwrap_or_default();
                for (out, q) in out.iter_mut().zip(row) {
                    *out += factor * (scale * f32::from(*q));
                }
            }
            Stored::Sparse { repr, blob, .. } => {
                if let Some(own) = self.row(repr, blob, channel) {
                    own.each(blob, |column, q| {
                        if let Some(out) = out.get_mut(column) {
                            *out += factor * (scale * f32::from(q));
                        }
                    });
                }
            }
        }
    }

    fn descend(&mut self, channel: usize, rate: f32, gradient: &[f32]) {
        // A row of zeros may have a scale of 0: it stays.
        let scale = self.scale(channel);
        if scale <= 0.0 {
            return;
        }
        let (rate, mut random) = (rate / scale, self.random.get());
        self.change(channel, |column, q| match gradient.get(column) {
            Some(g) => weights::stepped(q, rate * g, &mut random),
            None => q,
        });
        self.random.set(random);
    }

    fn nudge(&mut self, channel: usize, index: usize, step: f32) {
        let (scale, mut random) = (self.scale(channel), self.random.get());
        self.change(channel, |column, q| {
            if column == index { weights::stepped(q, step / scale, &mut random) } else { q }
        });
        self.random.set(random);
    }
}
