//! float32 functions that few networks use: [`Elementary`], [`BinaryMath`].
//!
//! Both work in place, as [`Unary`](offshoot_format::record::Unary) and
//! [`Binary`](offshoot_format::record::Binary), by whose rules they go.

use super::elementwise::BinaryPlaces;
use super::shape::require_f32;
use super::weights::check_clamp;
use crate::operator::{InPlace, Operator};
use offshoot_base::{Limits, Memory, Rule, Span, blob};
use offshoot_format::record::{BinaryMath, DType, Elementary, Operand};
use offshoot_kernels::portable as kernels;

/// Work of one element: the longest of these functions, in steps.
const STEPS: u64 = 64;

fn spans(r: &Elementary) -> Result<[Span; 2], Rule> {
    Ok([Span::new(r.src, r.len.into(), 4)?, Span::new(r.dst, r.len.into(), 4)?])
}

impl Operator for Elementary {
    fn check(&self, limits: &Limits<'_>) -> Result<u64, Rule> {
        require_f32()?;
        let [src, dst] = spans(self)?;
        limits.disjoint_or_same(src, dst)?;
        Ok(dst.len as u64 * STEPS)
    }

    fn output(&self) -> Result<Span, Rule> {
        Ok(spans(self)?[1])
    }

    fn run(&self, memory: &mut Memory<'_>) -> Result<(), Rule> {
        if !cfg!(feature = "f32") {
            return Err(Rule::Format);
        }
        let [src, dst] = spans(self)?;
        kernels::elementary_f32(self.kind, memory.in_place(src, dst)?);
        Ok(())
    }

    fn output_dtype(&self) -> DType {
        DType::F32
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

impl Operator for BinaryMath {
    fn check(&self, limits: &Limits<'_>) -> Result<u64, Rule> {
        require_f32()?;
        check_clamp(self.clamp)?;
        let (settled, _) = self.places().settled();
        let [a, dst] = settled.spans()?;
        limits.disjoint_or_same(a, dst)?;
        match settled.b {
            Operand::Arena(at) => limits.disjoint(Span::new(at, settled.b_elements()?, 4)?, dst)?,
            Operand::Blob(at) => {
                blob::<f32>(limits.blobs, at, settled.b_elements()?)?;
            }
        }
        Ok(dst.len as u64 * STEPS)
    }

    fn output(&self) -> Result<Span, Rule> {
        Ok(self.places().spans()?[1])
    }

    fn run(&self, memory: &mut Memory<'_>) -> Result<(), Rule> {
        if !cfg!(feature = "f32") {
            return Err(Rule::Format);
        }
        let (settled, _) = self.places().settled();
        let record = Self { swapped: settled.swapped, ..*self };
        let (b, dst) = settled.operands(memory)?;
        kernels::binary_math_f32(&record, b, dst);
        Ok(())
    }

    fn output_dtype(&self) -> DType {
        DType::F32
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
