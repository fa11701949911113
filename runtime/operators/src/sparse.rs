//! Operators with sparse weights: [`FullyConnectedSparse`], [`ConvSparse`].
//!
//! Rules: all extents are at least 1; the rows of the matrix add up to the stored entries and read no input beyond the
//! last; shifts and biases lie in the ranges given at the record; blocks of four need a multiple of four columns;
//! input, output and scratch are disjoint. A convolution also follows the rules of windows, without dilated kernel
//! columns.

use super::tiled::check_requant;
use super::weights::{Layout, bounds_i8, check_clamp, requant_blob};
use crate::operator::{InPlace, Operator, bytes, outputs};
use easy_ext::ext;
use offshoot_base::{Limits, Memory, Rule, Span, product, require};
use offshoot_format::record::{ConvSparse, DType, FullyConnectedSparse};
use offshoot_format::sparse::SparseRepr;
use offshoot_kernels::geometry::{Tiled, window_output};
use offshoot_kernels::sparse::{Sparse, sparse_bytes};
use offshoot_kernels::sparse_products::sparse_row;
use offshoot_kernels::{Requant, portable};

/// Bytes of the matrix, and an upper bound on the products and sums for one vector. Both are at least 1.
fn sizes(matrix: &SparseRepr, rows: u64) -> Result<(u64, u64), Rule> {
    let bytes = sparse_bytes(matrix, rows).ok_or(Rule::BlobBounds)?;
    Ok((bytes, matrix.weights().checked_add(rows).ok_or(Rule::Shape)?))
}

/// Reads requantisation parameters and matrix from an operator's blob.
fn parts<'m>(
    blobs: &'m [u8],
    at: u32,
    layout: &Layout,
    per_channel: bool,
    numbers: (i32, i32, i32, i32),
    matrix: &SparseRepr,
) -> Result<(Requant<'m>, Sparse<'m>), Rule> {
    let (requant, rest) = requant_blob(blobs, at, layout, per_channel, numbers)?;
    let sparse = Sparse::of(matrix, requant.bias.len(), bytemuck::cast_slice(rest));
    Ok((requant, sparse.ok_or(Rule::BlobBounds)?))
}

#[ext(FullyConnectedSparsePlaces)]
impl FullyConnectedSparse {
    pub(crate) fn layout(&self) -> Result<Layout, Rule> {
        let (weights, work) = sizes(&self.matrix, self.out_c.into())?;
        Ok(Layout {
            src: Span::new(self.src, product([self.rows, self.in_c])?, 1)?,
            dst: Span::new(self.dst, product([self.rows, self.out_c])?, 1)?,
            channels: self.out_c.into(),
            weights,
            work: product([self.rows.into(), work])?,
        })
    }

    pub(crate) fn parts<'m>(
        &self,
        blobs: &'m [u8],
        layout: &Layout,
    ) -> Result<(Requant<'m>, Sparse<'m>), Rule> {
        let (min, max) = bounds_i8(self.clamp);
        let numbers = (self.in_zp.into(), self.out_zp.into(), min, max);
        parts(blobs, self.blob, layout, self.per_channel, numbers, &self.matrix)
    }
}

impl Operator for FullyConnectedSparse {
    fn check(&self, limits: &Limits<'_>) -> Result<u64, Rule> {
        require(self.matrix.is_built(), Rule::Format)?;
        let layout = self.layout()?;
        limits.disjoint(layout.src, layout.dst)?;
        check_clamp(self.clamp)?;
        let (requant, matrix) = self.parts(limits.blobs, &layout)?;
        check_requant(&requant)?;
        require(matrix.check(self.in_c.into()), Rule::Table)?;
        Ok(layout.work)
    }

    fn output(&self) -> Result<Span, Rule> {
        Ok(self.layout()?.dst)
    }

    fn run(&self, memory: &mut Memory<'_>) -> Result<(), Rule> {
        let layout = self.layout()?;
        let (requant, matrix) = self.parts(memory.blobs(), &layout)?;
        let (src, dst) = memory.split(layout.src, layout.dst)?;
        let (in_c, out_c) = (self.in_c.max(1) as usize, self.out_c.max(1) as usize);
        for (src, dst) in src.chunks_exact(in_c).zip(dst.chunks_exact_mut(out_c)) {
            sparse_row(&requant, &matrix, src, dst);
        }
        Ok(())
    }

    fn output_dtype(&self) -> DType {
        DType::I8
    }

    fn macs(&self) -> u64 {
        u64::from(self.rows) * self.matrix.weights()
    }

    fn weights(&self) -> u64 {
        self.matrix.weights()
    }

    fn scratch(&self, _: &[u8]) -> Result<u32, Rule> {
        Ok(0)
    }

    fn in_place(&self, _: &[u8]) -> InPlace {
        InPlace::Apart
    }
}

#[ext(ConvSparsePlaces)]
impl ConvSparse {
    pub(crate) fn layout(&self) -> Result<(Tiled, Layout), Rule> {
        let (out_h, out_w) = window_output(&self.window, self.h, self.w)?;
        let geometry = Tiled::of(&self.dense());
        require(geometry.window.dilation[1] == 1 || geometry.window.kernel[1] == 1, Rule::Window)?;
        let pixels = product([self.n.into(), out_h, out_w])?;
        let (weights, work) = sizes(&self.matrix, self.out_c.into())?;
        let layout = Layout {
            src: Span::new(self.src, product([self.n, self.h, self.w, self.c])?, 1)?,
            dst: Span::new(self.dst, product([pixels, self.out_c.into()])?, 1)?,
            channels: self.out_c.into(),
            weights,
            work: product([pixels, work.checked_add(self.columns()?).ok_or(Rule::Shape)?])?,
        };
        Ok((geometry, layout))
    }

    /// Inputs of an output pixel, rounded up to a multiple of four.
    pub(crate) fn columns(&self) -> Result<u64, Rule> {
        let [k_h, k_w] = offshoot_format::record::Window::from(self.window).kernel;
        Ok(product([k_h, k_w, self.c])?.next_multiple_of(4))
    }

    /// Scratch for the gathered inputs of one pixel.
    pub(crate) fn column(&self) -> Result<Span, Rule> {
        Span::new(self.scratch.checked_mul(4).ok_or(Rule::ArenaBounds)?, self.columns()?, 1)
    }

    pub(crate) fn parts<'m>(
        &self,
        blobs: &'m [u8],
        layout: &Layout,
    ) -> Result<(Requant<'m>, Sparse<'m>), Rule> {
        let (min, max) = bounds_i8(self.clamp);
        let numbers = (self.in_zp.into(), self.out_zp.into(), min, max);
        parts(blobs, self.blob, layout, self.per_channel, numbers, &self.matrix)
    }
}

impl Operator for ConvSparse {
    fn check(&self, limits: &Limits<'_>) -> Result<u64, Rule> {
        require(self.matrix.is_built(), Rule::Format)?;
        let (_, layout) = self.layout()?;
        let column = self.column()?;
        limits.disjoint(layout.src, layout.dst)?;
        limits.disjoint(layout.src, column)?;
        limits.disjoint(layout.dst, column)?;
        check_clamp(self.clamp)?;
        let (requant, matrix) = self.parts(limits.blobs, &layout)?;
        check_requant(&requant)?;
        require(matrix.check(self.columns()?), Rule::Table)?;
        Ok(layout.work)
    }

    fn output(&self) -> Result<Span, Rule> {
        Ok(self.layout()?.1.dst)
    }

    fn run(&self, memory: &mut Memory<'_>) -> Result<(), Rule> {
        let (g, layout) = self.layout()?;
        let (requant, matrix) = self.parts(memory.blobs(), &layout)?;
        let (dense, place, out_c) = (self.dense(), self.column()?, usize::from(self.out_c));
        for pixel in 0..g.pixels {
            let (src, column) = memory.split(layout.src, place)?;
            portable::gather_column(&dense, &g, pixel, src, column);
            let (column, dst) = memory.split(place, layout.dst)?;
            let dst =
                dst.get_mut(pixel * out_c..).and_then(|d| d.get_mut(..out_c)).ok_or(Rule::ArenaBounds)?;
            sparse_row(&requant, &matrix, column, dst);
        }
        Ok(())
    }

    fn output_dtype(&self) -> DType {
        DType::I8
    }

    fn macs(&self) -> u64 {
        outputs(self) / u64::from(self.out_c.max(1)) * self.matrix.weights()
    }

    fn weights(&self) -> u64 {
        self.matrix.weights()
    }

    fn scratch(&self, _: &[u8]) -> Result<u32, Rule> {
        Ok(bytes(self.column()?))
    }

    fn in_place(&self, _: &[u8]) -> InPlace {
        InPlace::Apart
    }
}
