//! Matrix products: [`FullyConnected`] (with weights) and [`MatMul`] (of two activations).
//!
//! int8: products of values minus their zero points, int32 accumulation (which wraps), requantised.
//!
//! Rules: all extents are at least 1; the output is disjoint from the operands.

use super::shape::require_f32;
use super::weights::{self, Layout, check_multiplier};
use crate::operator::{InPlace, Operator};
use easy_ext::ext;
use offshoot_base::{Limits, Memory, Rule, Span, product};
use offshoot_format::record::{DType, FullyConnected, MatMul, MatMulArith};
use offshoot_kernels::portable as kernels;

#[ext(FullyConnectedPlaces)]
impl FullyConnected {
    pub(crate) fn layout(&self) -> Result<Layout, Rule> {
        let size = self.arith.dtype().size();
        Ok(Layout {
            src: Span::new(self.src, product([self.rows, self.in_c])?, size)?,
            dst: Span::new(self.dst, product([self.rows, self.out_c])?, size)?,
            channels: self.out_c.into(),
            weights: product([self.in_c, self.out_c])?,
            work: product([self.rows, self.in_c, self.out_c])?,
        })
    }
}

impl Operator for FullyConnected {
    fn check(&self, limits: &Limits<'_>) -> Result<u64, Rule> {
        weights::check(limits, &self.arith, self.blob, &self.layout()?)
    }

    fn output(&self) -> Result<Span, Rule> {
        Ok(self.layout()?.dst)
    }

    fn run(&self, memory: &mut Memory<'_>) -> Result<(), Rule> {
        let layout = self.layout()?;
        let (i8, f32) = (offshoot_kernels::fully_connected_i8, kernels::fully_connected_f32);
        weights::run(memory, self, &self.arith, self.blob, &layout, i8, f32)
    }

    fn output_dtype(&self) -> DType {
        self.arith.dtype()
    }

    fn macs(&self) -> u64 {
        u64::from(self.rows) * Operator::weights(self)
    }

    fn weights(&self) -> u64 {
        u64::from(self.in_c) * u64::from(self.out_c)
    }

    fn scratch(&self, _: &[u8]) -> Result<u32, Rule> {
        Ok(0)
    }

    fn in_place(&self, _: &[u8]) -> InPlace {
        InPlace::Apart
    }
}

#[ext(MatMulPlaces)]
impl MatMul {
    /// Places of `a`, `b` and `dst`.
    pub(crate) fn spans(&self) -> Result<[Span; 3], Rule> {
        let size = match self.arith {
            MatMulArith::I8 { .. } => 1,
            MatMulArith::F32 => 4,
        };
        Ok([
            Span::new(self.a, product([self.batch, self.m, self.k])?, size)?,
            Span::new(self.b, product([self.batch, self.k, self.n])?, size)?,
            Span::new(self.dst, product([self.batch, self.m, self.n])?, size)?,
        ])
    }
}

impl Operator for MatMul {
    fn check(&self, limits: &Limits<'_>) -> Result<u64, Rule> {
        let [a, b, dst] = self.spans()?;
        limits.disjoint(a, dst)?;
        limits.disjoint(b, dst)?;
        match self.arith {
            MatMulArith::I8 { multiplier, shift, .. } => check_multiplier(multiplier, shift)?,
            MatMulArith::F32 => require_f32()?,
        }
        product([self.batch, self.m, self.k, self.n])
    }

    fn output(&self) -> Result<Span, Rule> {
        Ok(self.spans()?[2])
    }

    fn run(&self, memory: &mut Memory<'_>) -> Result<(), Rule> {
        let [a, b, dst] = self.spans()?;
        match self.arith {
            MatMulArith::I8 { .. } => {
                let (a, b, dst) = memory.split2(a, b, dst)?;
                kernels::matmul_i8(self, a, b, dst);
            }
            MatMulArith::F32 if cfg!(feature = "f32") => {
                let (a, b, dst) = memory.split2(a, b, dst)?;
                kernels::matmul_f32(self, a, b, dst);
            }
            MatMulArith::F32 => return Err(Rule::Format),
        }
        Ok(())
    }

    fn output_dtype(&self) -> DType {
        if matches!(self.arith, MatMulArith::F32) { DType::F32 } else { DType::I8 }
    }

    fn macs(&self) -> u64 {
        u64::from(self.batch) * u64::from(self.m) * u64::from(self.k) * u64::from(self.n)
    }

    fn weights(&self) -> u64 {
        0
    }

    fn scratch(&self, _: &[u8]) -> Result<u32, Rule> {
        Ok(0)
    }

    fn in_place(&self, _: &[u8]) -> InPlace {
        InPlace::Apart
    }
}
