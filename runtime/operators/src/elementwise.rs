//! Operators on one element at a time: [`Binary`], [`Unary`], [`Lut`], [`PRelu`], [`Requantize`].
//!
//! All work in place: the first operand is copied to the destination unless it lies there, and then changed.
//!
//! Rules: extents are at least 1; source and destination are the same or disjoint; bounds are ordered; multipliers and
//! shifts pass [`check_multiplier`]. [`Binary`]: `b` is disjoint from the destination; there is no int8 Div; only
//! the four lowest bits of `broadcast` may be set.

use super::shape::require_f32;
use super::weights::{check_clamp, check_multiplier};
use crate::operator::{InPlace, Operator};
use easy_ext::ext;
use offshoot_base::{Element, Limits, Memory, Rule, Span, blob, product, require};
use offshoot_format::record::{
    Binary, BinaryArith, BinaryKind, DType, Lut, Operand, PRelu, PReluArith, Requantize, Unary, UnaryKind,
};
use offshoot_kernels::portable as kernels;

#[ext(BinaryPlaces)]
impl Binary {
    pub(crate) fn size(&self) -> usize {
        match self.arith {
            BinaryArith::I8 { .. } => 1,
            BinaryArith::F32 { .. } => 4,
        }
    }

    /// Places of `a` and the destination.
    pub(crate) fn spans(&self) -> Result<[Span; 2], Rule> {
        let elements = product(self.dims)?;
        Ok([Span::new(self.a, elements, self.size())?, Span::new(self.dst, elements, self.size())?])
    }

    /// Number of elements of `b`.
    pub(crate) fn b_elements(&self) -> Result<u64, Rule> {
        require(self.broadcast < 16, Rule::Shape)?;
        let kept = |axis: usize| self.broadcast >> axis & 1 == 0;
        product(self.dims.into_iter().enumerate().filter(|&(axis, _)| kept(axis)).map(|(_, d)| d))
    }

    /// Multipliers and shifts of `a`, `b` and the output; zeros if the kind uses none.
    pub(crate) fn scales(&self, blobs: &[u8]) -> Result<([i32; 3], [i8; 3]), Rule> {
        match (self.arith, self.kind) {
            (BinaryArith::I8 { blob: at, .. }, BinaryKind::Add | BinaryKind::Sub | BinaryKind::Mul) => {
                let multipliers = blob(blobs, at, 3)?.try_into().map_err(|_| Rule::BlobBounds)?;
                let shifts_at = at.checked_add(12).ok_or(Rule::BlobBounds)?;
                let shifts = blob(blobs, shifts_at, 3)?.try_into().map_err(|_| Rule::BlobBounds)?;
                Ok((multipliers, shifts))
            }
            _ => Ok(([0; 3], [0; 3])),
        }
    }

    /// The record, with its operands swapped if it overwrites `b`, so that `a` is always the one overwritten; and
    /// whether they were swapped.
    pub(crate) fn settled(&self) -> (Binary, bool) {
        if self.b != Operand::Arena(self.dst) || self.a == self.dst || self.broadcast != 0 {
            return (*self, false);
        }
        let arith = match self.arith {
            BinaryArith::I8 { a_zp, b_zp, out_zp, clamp, blob } => {
                BinaryArith::I8 { a_zp: b_zp, b_zp: a_zp, out_zp, clamp, blob }
            }
            float => float,
        };
        let exchanged =
            Self { a: self.dst, b: Operand::Arena(self.a), swapped: !self.swapped, arith, ..*self };
        (exchanged, true)
    }

    /// Copies `a` to the destination and returns it with `b`.
    pub(crate) fn operands<'r, T: Element>(
        &self,
        memory: &'r mut Memory<'_>,
    ) -> Result<(&'r [T], &'r mut [T]), Rule> {
        let [a, dst] = self.spans()?;
        memory.bring(a, dst)?;
        match self.b {
            Operand::Arena(at) => memory.split(Span::new(at, self.b_elements()?, self.size())?, dst),
            Operand::Blob(at) => Ok((blob(memory.blobs(), at, self.b_elements()?)?, memory.write(dst)?)),
        }
    }
}

impl Operator for Binary {
    fn check(&self, limits: &Limits<'_>) -> Result<u64, Rule> {
        let (settled, _) = self.settled();
        let [a, dst] = settled.spans()?;
        limits.disjoint_or_same(a, dst)?;
        match settled.b {
            Operand::Arena(at) => limits.disjoint(Span::new(at, self.b_elements()?, self.size())?, dst)?,
            Operand::Blob(at) => {
                let b = Span::new(at, self.b_elements()?, self.size()).map_err(|_| Rule::BlobBounds)?;
                blob::<u8>(limits.blobs, at, b.len as u64)?;
            }
        }
        match self.arith {
            BinaryArith::I8 { clamp, .. } => {
                require(self.kind != BinaryKind::Div, Rule::Format)?;
                check_clamp(clamp)?;
                let (multipliers, shifts) = self.scales(limits.blobs)?;
                multipliers.into_iter().zip(shifts).try_for_each(|(m, s)| check_multiplier(m, s))?;
            }
            BinaryArith::F32 { clamp } => {
                require_f32()?;
                check_clamp(clamp)?;
            }
        }
        Ok(dst.len as u64)
    }

    fn output(&self) -> Result<Span, Rule> {
        Ok(self.spans()?[1])
    }

    fn run(&self, memory: &mut Memory<'_>) -> Result<(), Rule> {
        match self.arith {
            BinaryArith::I8 { .. } => {
                let (mut multiplier, mut shift) = self.scales(memory.blobs())?;
                let (settled, exchanged) = self.settled();
                if exchanged {
                    multiplier.swap(0, 1);
                    shift.swap(0, 1);
                }
                let (b, dst) = settled.operands(memory)?;
                offshoot_kernels::binary_i8(&settled, multiplier, shift, b, dst);
            }
            BinaryArith::F32 { .. } if cfg!(feature = "f32") => {
                let (settled, _) = self.settled();
                let (b, dst) = settled.operands(memory)?;
                kernels::binary_f32(&settled, b, dst);
            }
            BinaryArith::F32 { .. } => return Err(Rule::Format),
        }
        Ok(())
    }

    fn output_dtype(&self) -> DType {
        if matches!(self.arith, BinaryArith::F32 { .. }) { DType::F32 } else { DType::I8 }
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

/// Source and destination of an operator that changes `elements` in place.
fn pair(src: u32, dst: u32, elements: u64, size: usize) -> Result<[Span; 2], Rule> {
    Ok([Span::new(src, elements, size)?, Span::new(dst, elements, size)?])
}

#[ext(UnaryPlaces)]
impl Unary {
    pub(crate) fn spans(&self) -> Result<[Span; 2], Rule> {
        pair(self.src, self.dst, self.len.into(), 4)
    }
}

impl Operator for Unary {
    fn check(&self, limits: &Limits<'_>) -> Result<u64, Rule> {
        require_f32()?;
        let [src, dst] = self.spans()?;
        limits.disjoint_or_same(src, dst)?;
        if let UnaryKind::Clip { min, max } = self.kind {
            check_clamp(Some((min, max)))?;
        }
        // A transcendental function takes tens of steps.
        Ok(dst.len as u64 * 16)
    }

    fn output(&self) -> Result<Span, Rule> {
        Ok(self.spans()?[1])
    }

    fn run(&self, memory: &mut Memory<'_>) -> Result<(), Rule> {
        if !cfg!(feature = "f32") {
            return Err(Rule::Format);
        }
        let [src, dst] = self.spans()?;
        kernels::unary_f32(self.kind, memory.in_place(src, dst)?);
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

#[ext(LutPlaces)]
impl Lut {
    pub(crate) fn spans(&self) -> Result<[Span; 2], Rule> {
        pair(self.src, self.dst, self.len.into(), 1)
    }
}

impl Operator for Lut {
    fn check(&self, limits: &Limits<'_>) -> Result<u64, Rule> {
        let [src, dst] = self.spans()?;
        limits.disjoint_or_same(src, dst)?;
        blob::<i8>(limits.blobs, self.blob, 256)?;
        Ok(dst.len as u64)
    }

    fn output(&self) -> Result<Span, Rule> {
        Ok(self.spans()?[1])
    }

    fn run(&self, memory: &mut Memory<'_>) -> Result<(), Rule> {
        let [src, dst] = self.spans()?;
        offshoot_kernels::lut_i8(blob(memory.blobs(), self.blob, 256)?, memory.in_place(src, dst)?);
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

#[ext(PReluPlaces)]
impl PRelu {
    pub(crate) fn spans(&self) -> Result<[Span; 2], Rule> {
        let size = match self.arith {
            PReluArith::I8 { .. } => 1,
            PReluArith::F32 => 4,
        };
        pair(self.src, self.dst, product([self.rows, self.c])?, size)
    }
}

impl Operator for PRelu {
    fn check(&self, limits: &Limits<'_>) -> Result<u64, Rule> {
        let [src, dst] = self.spans()?;
        limits.disjoint_or_same(src, dst)?;
        match self.arith {
            PReluArith::I8 { pos, neg, .. } => {
                check_multiplier(pos.0, pos.1)?;
                check_multiplier(neg.0, neg.1)?;
                blob::<i8>(limits.blobs, self.blob, self.c.into())?;
            }
            PReluArith::F32 => {
                require_f32()?;
                blob::<f32>(limits.blobs, self.blob, self.c.into())?;
            }
        }
        Ok(dst.len as u64)
    }

    fn output(&self) -> Result<Span, Rule> {
        Ok(self.spans()?[1])
    }

    fn run(&self, memory: &mut Memory<'_>) -> Result<(), Rule> {
        let [src, dst] = self.spans()?;
        let c = self.c.into();
        match self.arith {
            PReluArith::I8 { .. } => {
                kernels::prelu_i8(self, blob(memory.blobs(), self.blob, c)?, memory.in_place(src, dst)?);
            }
            PReluArith::F32 if cfg!(feature = "f32") => {
                kernels::prelu_f32(self, blob(memory.blobs(), self.blob, c)?, memory.in_place(src, dst)?);
            }
            PReluArith::F32 => return Err(Rule::Format),
        }
        Ok(())
    }

    fn output_dtype(&self) -> DType {
        if matches!(self.arith, PReluArith::F32) { DType::F32 } else { DType::I8 }
    }

    fn macs(&self) -> u64 {
        0
    }

    fn weights(&self) -> u64 {
        self.c.into()
    }

    fn scratch(&self, _: &[u8]) -> Result<u32, Rule> {
        Ok(0)
    }

    fn in_place(&self, _: &[u8]) -> InPlace {
        InPlace::Apart
    }
}

#[ext(RequantizePlaces)]
impl Requantize {
    pub(crate) fn spans(&self) -> Result<[Span; 2], Rule> {
        pair(self.src, self.dst, self.len.into(), 1)
    }
}

impl Operator for Requantize {
    fn check(&self, limits: &Limits<'_>) -> Result<u64, Rule> {
        let [src, dst] = self.spans()?;
        limits.disjoint_or_same(src, dst)?;
        check_multiplier(self.multiplier, self.shift)?;
        check_clamp(self.clamp)?;
        Ok(dst.len as u64)
    }

    fn output(&self) -> Result<Span, Rule> {
        Ok(self.spans()?[1])
    }

    fn run(&self, memory: &mut Memory<'_>) -> Result<(), Rule> {
        let [src, dst] = self.spans()?;
        offshoot_kernels::requantize(self, memory.in_place(src, dst)?);
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
