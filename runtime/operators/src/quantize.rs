//! Conversions between float32 and int8: [`Quantize`], [`Dequantize`]. They are also built without the feature `f32`,
//! because int8 networks begin and end with them.
//!
//! Rules: at least one element; the scale is finite and above 0; source and destination are disjoint.

use crate::operator::{InPlace, Operator};
use offshoot_base::{Limits, Memory, Rule, Span, require};
use offshoot_format::record::{DType, Dequantize, Quantize};
use offshoot_kernels::portable as kernels;

fn check_scale(scale: f32) -> Result<(), Rule> {
    require(scale.is_finite() && scale > 0.0, Rule::Quantisation)
}

impl Operator for Quantize {
    fn check(&self, limits: &Limits<'_>) -> Result<u64, Rule> {
        limits.disjoint(Span::new(self.src, self.len.into(), 4)?, self.output()?)?;
        check_scale(self.scale)?;
        Ok(self.len.into())
    }

    fn output(&self) -> Result<Span, Rule> {
        Span::new(self.dst, self.len.into(), 1)
    }

    fn run(&self, memory: &mut Memory<'_>) -> Result<(), Rule> {
        let (src, dst) = memory.split(Span::new(self.src, self.len.into(), 4)?, self.output()?)?;
        kernels::quantize(self, src, dst);
        Ok(())
    }

    fn output_dtype(&self) -> DType {
        DType::I8
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

impl Operator for Dequantize {
    fn check(&self, limits: &Limits<'_>) -> Result<u64, Rule> {
        limits.disjoint(Span::new(self.src, self.len.into(), 1)?, self.output()?)?;
        check_scale(self.scale)?;
        Ok(self.len.into())
    }

    fn output(&self) -> Result<Span, Rule> {
        Span::new(self.dst, self.len.into(), 4)
    }

    fn run(&self, memory: &mut Memory<'_>) -> Result<(), Rule> {
        let (src, dst) = memory.split(Span::new(self.src, self.len.into(), 1)?, self.output()?)?;
        kernels::dequantize(self, src, dst);
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
