//! Reductions of the middle axis of `outer × extent × inner`: [`Reduce`], [`ArgMax`].
//!
//! Rules: extents are at least 1; `extent` is at most 2^23, so int32 sums of int8 do not wrap; source and destination
//! are disjoint. [`ArgMax`] reads int8 or float32 and writes int32.

use super::shape::require_f32;
use super::weights::check_multiplier;
use crate::operator::{InPlace, Operator};
use easy_ext::ext;
use offshoot_base::{Limits, Memory, Rule, Span, product, require};
use offshoot_format::record::{ArgMax, DType, Reduce, ReduceArith};
use offshoot_kernels::portable as kernels;

/// Most elements that are reduced to one.
const MAX_EXTENT: u32 = 1 << 23;

#[ext(ReducePlaces)]
impl Reduce {
    /// Places of source and destination.
    pub(crate) fn spans(&self) -> Result<[Span; 2], Rule> {
        let size = match self.arith {
            ReduceArith::I8 { .. } => 1,
            ReduceArith::F32 => 4,
        };
        Ok([
            Span::new(self.src, product([self.outer, self.extent, self.inner])?, size)?,
            Span::new(self.dst, product([self.outer, self.inner])?, size)?,
        ])
    }
}

impl Operator for Reduce {
    fn check(&self, limits: &Limits<'_>) -> Result<u64, Rule> {
        let [src, dst] = self.spans()?;
        limits.disjoint(src, dst)?;
        require(self.extent <= MAX_EXTENT, Rule::Shape)?;
        match self.arith {
            ReduceArith::I8 { multiplier, shift, .. } => check_multiplier(multiplier, shift)?,
            ReduceArith::F32 => require_f32()?,
        }
        Ok(src.len as u64)
    }

    fn output(&self) -> Result<Span, Rule> {
        Ok(self.spans()?[1])
    }

    fn run(&self, memory: &mut Memory<'_>) -> Result<(), Rule> {
        let [src, dst] = self.spans()?;
        match self.arith {
            ReduceArith::I8 { .. } => {
                let (src, dst) = memory.split(src, dst)?;
                kernels::reduce_i8(self, src, dst);
            }
            ReduceArith::F32 if cfg!(feature = "f32") => {
                let (src, dst) = memory.split(src, dst)?;
                kernels::reduce_f32(self, src, dst);
            }
            ReduceArith::F32 => return Err(Rule::Format),
        }
        Ok(())
    }

    fn output_dtype(&self) -> DType {
        if matches!(self.arith, ReduceArith::F32) { DType::F32 } else { DType::I8 }
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

#[ext(ArgMaxPlaces)]
impl ArgMax {
    /// Places of source and destination.
    pub(crate) fn spans(&self) -> Result<[Span; 2], Rule> {
        let elements = product([self.outer, self.extent, self.inner])?;
        Ok([
            Span::new(self.src, elements, self.dtype.size())?,
            Span::new(self.dst, product([self.outer, self.inner])?, DType::I32.size())?,
        ])
    }
}

impl Operator for ArgMax {
    fn check(&self, limits: &Limits<'_>) -> Result<u64, Rule> {
        let [src, dst] = self.spans()?;
        limits.disjoint(src, dst)?;
        require(self.extent <= MAX_EXTENT, Rule::Shape)?;
        match self.dtype {
            DType::I8 => {}
            DType::F32 => require_f32()?,
            _ => return Err(Rule::Format),
        }
        Ok(src.len as u64)
    }

    fn output(&self) -> Result<Span, Rule> {
        Ok(self.spans()?[1])
    }

    fn run(&self, memory: &mut Memory<'_>) -> Result<(), Rule> {
        let [src, dst] = self.spans()?;
        match self.dtype {
            DType::I8 => {
                let (src, dst) = memory.split(src, dst)?;
                kernels::argmax_i8(self, src, dst);
            }
            DType::F32 if cfg!(feature = "f32") => {
                let (src, dst) = memory.split(src, dst)?;
                kernels::argmax_f32(self, src, dst);
            }
            _ => return Err(Rule::Format),
        }
        Ok(())
    }

    fn output_dtype(&self) -> DType {
        DType::I32
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
