//! Normalisation of rows: [`Softmax`], [`LayerNorm`]. Both work in place.
//!
//! Rules: extents are at least 1; source and destination are the same or disjoint; int8 softmax: rows of at most 4095
//! elements (TFLite's fixed-point sum has 12 integer bits), shift 0 to 30, `diff_min` at most 0; layer normalisation:
//! `epsilon` is finite and not negative.

use super::shape::require_f32;
use super::weights::check_multiplier;
use crate::operator::{InPlace, Operator};
use easy_ext::ext;
use offshoot_base::{Limits, Memory, Rule, Span, blob, product, require};
use offshoot_format::record::{DType, LayerNorm, Softmax, SoftmaxArith};
use offshoot_kernels::portable as kernels;

#[ext(SoftmaxPlaces)]
impl Softmax {
    /// Places of source and destination.
    pub(crate) fn spans(&self) -> Result<[Span; 2], Rule> {
        let size = match self.arith {
            SoftmaxArith::I8 { .. } => 1,
            SoftmaxArith::F32 => 4,
        };
        let elements = product([self.rows, self.depth])?;
        Ok([Span::new(self.src, elements, size)?, Span::new(self.dst, elements, size)?])
    }
}

impl Operator for Softmax {
    fn check(&self, limits: &Limits<'_>) -> Result<u64, Rule> {
        let [src, dst] = self.spans()?;
        limits.disjoint_or_same(src, dst)?;
        match self.arith {
            SoftmaxArith::I8 { multiplier, shift, diff_min } => {
                check_multiplier(multiplier, shift)?;
                require(shift >= 0 && diff_min <= 0, Rule::Quantisation)?;
                require(self.depth < 4096, Rule::Shape)?;
            }
            SoftmaxArith::F32 => require_f32()?,
        }
        // Three passes: maximum, sum, quotient.
        product([dst.len as u64, 3])
    }

    fn output(&self) -> Result<Span, Rule> {
        Ok(self.spans()?[1])
    }

    fn run(&self, memory: &mut Memory<'_>) -> Result<(), Rule> {
        let [src, dst] = self.spans()?;
        match self.arith {
            SoftmaxArith::I8 { .. } => kernels::softmax_i8(self, memory.in_place(src, dst)?),
            SoftmaxArith::F32 if cfg!(feature = "f32") => {
                kernels::softmax_f32(self, memory.in_place(src, dst)?);
            }
            SoftmaxArith::F32 => return Err(Rule::Format),
        }
        Ok(())
    }

    fn output_dtype(&self) -> DType {
        if matches!(self.arith, SoftmaxArith::F32) { DType::F32 } else { DType::I8 }
    }

    fn macs(&self) -> u64 {
        0
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

#[ext(LayerNormPlaces)]
impl LayerNorm {
    /// Places of source and destination.
    pub(crate) fn spans(&self) -> Result<[Span; 2], Rule> {
        let elements = product([self.rows, self.depth])?;
        Ok([Span::new(self.src, elements, 4)?, Span::new(self.dst, elements, 4)?])
    }

    pub(crate) fn gamma_beta<'m>(&self, blobs: &'m [u8]) -> Result<(&'m [f32], &'m [f32]), Rule> {
        let all: &[f32] = blob(blobs, self.blob, 2 * u64::from(self.depth))?;
        all.split_at_checked(self.depth as usize).ok_or(Rule::BlobBounds)
    }
}

impl Operator for LayerNorm {
    fn check(&self, limits: &Limits<'_>) -> Result<u64, Rule> {
        require_f32()?;
        let [src, dst] = self.spans()?;
        limits.disjoint_or_same(src, dst)?;
        self.gamma_beta(limits.blobs)?;
        require(self.epsilon.is_finite() && self.epsilon >= 0.0, Rule::Quantisation)?;
        product([dst.len as u64, 3])
    }

    fn output(&self) -> Result<Span, Rule> {
        Ok(self.spans()?[1])
    }

    fn run(&self, memory: &mut Memory<'_>) -> Result<(), Rule> {
        let [src, dst] = self.spans()?;
        if !cfg!(feature = "f32") {
            return Err(Rule::Format);
        }
        let (gamma, beta) = self.gamma_beta(memory.blobs())?;
        kernels::layer_norm_f32(self, gamma, beta, memory.in_place(src, dst)?);
        Ok(())
    }

    fn output_dtype(&self) -> DType {
        DType::F32
    }

    fn macs(&self) -> u64 {
        0
    }

    fn weights(&self) -> u64 {
        self.depth.into()
    }

    fn scratch(&self, _: &[u8]) -> Result<u32, Rule> {
        Ok(0)
    }

    fn in_place(&self, _: &[u8]) -> InPlace {
        InPlace::Apart
    }
}
