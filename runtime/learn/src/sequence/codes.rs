//! int8 weights of a recurrent layer during learning: dense or sparse, stepped in real numbers with stochastic
//! rounding.

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
    /// Entries of a sparse matrix with `gates · units` rows. Only stored weights learn.
    Sparse {
        /// Shape and form of the matrix.
        repr: SparseRepr,
        /// `[gates · units]`: `-zero · Σ weights` of each row; empty if the zero point is 0.
        start: &'a mut [i32],
        /// Counts, weights, steps.
        blob: &'a mut [i8],
    },
}

impl Stored<'_> {
    /// The weights for the kernels; `None` if a blob is too short. Sparse matrices have been checked.
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

/// Number of row groups that a step visits in parallel: the gates.
const GATES: usize = 4;

/// int8 weights with known scale products: `weight = products[row] / unit · code`.
#[derive(Debug)]
pub(super) struct Scaled<'a, 'b> {
    codes: &'a mut Stored<'b>,
    products: &'a [f32],
    /// Rows per gate.
    units: usize,
    /// Scale and zero point of the factor of the weights (input or state).
    unit: f32,
    zero: i8,
    random: &'a Cell<Random>,
    /// Current position in each gate's rows.
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

    /// Finds the entries of a sparse row.
    fn row(&self, repr: &SparseRepr, blob: &[i8], row: usize) -> Option<Row> {
        let mut cursors = self.cursors.get();
        let found = cursors.get_mut(row / self.units.max(1))?.row((repr, self.products.len()), blob, row);
        self.cursors.set(cursors);
        found
    }

    /// Replaces every stored weight of a row by `next(column, weight)`.
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
        // Skips a row of zeros, which may have a scale of 0.
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
