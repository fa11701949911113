//! Operators that move elements and compute nothing: [`Copy`], [`Fill`], [`Pad`], [`Constant`].
//!
//! Elements take 1 or 4 bytes and are not interpreted. Rules: extents are at least 1; the ranges read and written, from
//! first to last byte, are disjoint; a copy writes at most as many elements as its destination range has, so strides of
//! 0 cannot prolong it; reflected padding is less than the extent.

use crate::operator::{InPlace, Operator};
use easy_ext::ext;
use offshoot_base::{Element, Limits, Memory, Rule, Span, blob, product, require};
use offshoot_format::record::{Axis, Constant, Copy, DType, Fill, Pad, PadMode};
use offshoot_kernels::portable as kernels;

/// Checks that elements take 1 or 4 bytes.
fn element_size(size: u8) -> Result<usize, Rule> {
    require(size == 1 || size == 4, Rule::Format)?;
    Ok(usize::from(size))
}

/// The range of elements that strides reach from a base, and the base's index within it.
fn reach(at: u32, size: usize, axes: &[Axis], stride: fn(&Axis) -> i32) -> Result<(Span, usize), Rule> {
    let (mut below, mut above) = (0i64, 0i64);
    for axis in axes {
        // The product fits in a signed 64-bit number; the sum may overflow.
        let far = (i64::from(axis.extent) - 1) * i64::from(stride(axis));
        let side = if far < 0 { &mut below } else { &mut above };
        *side = side.checked_add(far).ok_or(Rule::ArenaBounds)?;
    }
    let elements = above.checked_sub(below).and_then(|n| n.checked_add(1)).ok_or(Rule::ArenaBounds)?;
    let elements = u64::try_from(elements).map_err(|_| Rule::ArenaBounds)?;
    let base = below.unsigned_abs();
    let start = base.checked_mul(size as u64).and_then(|bytes| u64::from(at).checked_sub(bytes));
    let start = start.and_then(|s| u32::try_from(s).ok()).ok_or(Rule::ArenaBounds)?;
    let base = usize::try_from(base).map_err(|_| Rule::ArenaBounds)?;
    Ok((Span::new(start, elements, size)?, base))
}

#[ext(CopyPlaces)]
impl Copy {
    /// Ranges of source and destination, each with the index of its base.
    pub(crate) fn reaches(&self) -> Result<[(Span, usize); 2], Rule> {
        let size = element_size(self.size)?;
        let axes = self.axes.as_slice();
        Ok([reach(self.src, size, axes, |a| a.src_stride)?, reach(self.dst, size, axes, |a| a.dst_stride)?])
    }

    pub(crate) fn run_as<T: Element>(&self, memory: &mut Memory<'_>) -> Result<(), Rule> {
        let [(src, src_base), (dst, dst_base)] = self.reaches()?;
        let (src, dst) = memory.split::<T, T>(src, dst)?;
        kernels::copy_strided(self.axes.as_slice(), src, src_base, dst, dst_base);
        Ok(())
    }
}

impl Operator for Copy {
    fn check(&self, limits: &Limits<'_>) -> Result<u64, Rule> {
        let elements = product(self.axes.as_slice().iter().map(|a| a.extent))?;
        let [(src, _), (dst, _)] = self.reaches()?;
        limits.disjoint(src, dst)?;
        require(elements <= (dst.len / usize::from(self.size)) as u64, Rule::Shape)?;
        Ok(elements)
    }

    fn output(&self) -> Result<Span, Rule> {
        Ok(self.reaches()?[1].0)
    }

    fn run(&self, memory: &mut Memory<'_>) -> Result<(), Rule> {
        if self.size == 1 { self.run_as::<u8>(memory) } else { self.run_as::<u32>(memory) }
    }

    fn output_dtype(&self) -> DType {
        if self.size == 1 { DType::I8 } else { DType::F32 }
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

impl Operator for Fill {
    fn check(&self, limits: &Limits<'_>) -> Result<u64, Rule> {
        limits.arena(&[self.output()?])?;
        Ok(self.len.into())
    }

    fn output(&self) -> Result<Span, Rule> {
        Span::new(self.dst, self.len.into(), element_size(self.size)?)
    }

    fn run(&self, memory: &mut Memory<'_>) -> Result<(), Rule> {
        let dst = self.output()?;
        if self.size == 1 {
            memory.write::<i8>(dst)?.fill(self.value as i8);
        } else {
            memory.write::<i32>(dst)?.fill(self.value);
        }
        Ok(())
    }

    fn output_dtype(&self) -> DType {
        if self.size == 1 { DType::I8 } else { DType::F32 }
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

#[ext(PadPlaces)]
impl Pad {
    /// Places of source and destination.
    pub(crate) fn spans(&self) -> Result<[Span; 2], Rule> {
        let size = element_size(self.size)?;
        let padded =
            |(&d, &[before, after]): (&u16, &[u16; 2])| u32::from(d) + u32::from(before) + u32::from(after);
        Ok([
            Span::new(self.src, product(self.dims)?, size)?,
            Span::new(self.dst, product(self.dims.iter().zip(&self.pad).map(padded))?, size)?,
        ])
    }
}

impl Operator for Pad {
    fn check(&self, limits: &Limits<'_>) -> Result<u64, Rule> {
        let [src, dst] = self.spans()?;
        limits.disjoint(src, dst)?;
        if self.mode == PadMode::Reflect {
            let less = self.dims.iter().zip(&self.pad).all(|(&d, p)| p.iter().all(|&p| p < d));
            require(less, Rule::Window)?;
        }
        Ok(dst.len as u64)
    }

    fn output(&self) -> Result<Span, Rule> {
        Ok(self.spans()?[1])
    }

    fn run(&self, memory: &mut Memory<'_>) -> Result<(), Rule> {
        let [src, dst] = self.spans()?;
        if self.size == 1 {
            let (src, dst) = memory.split::<u8, u8>(src, dst)?;
            kernels::pad(self, src, dst);
        } else {
            let (src, dst) = memory.split::<u32, u32>(src, dst)?;
            kernels::pad(self, src, dst);
        }
        Ok(())
    }

    fn output_dtype(&self) -> DType {
        if self.size == 1 { DType::I8 } else { DType::F32 }
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

impl Operator for Constant {
    fn check(&self, limits: &Limits<'_>) -> Result<u64, Rule> {
        limits.arena(&[self.output()?])?;
        blob::<u8>(limits.blobs, self.blob, self.len.into())?;
        Ok(self.len.into())
    }

    fn output(&self) -> Result<Span, Rule> {
        Span::new(self.dst, self.len.into(), 1)
    }

    fn run(&self, memory: &mut Memory<'_>) -> Result<(), Rule> {
        let bytes: &[u8] = blob(memory.blobs(), self.blob, self.len.into())?;
        let dst = memory.write::<u8>(self.output()?)?;
        require(bytes.len() == dst.len(), Rule::Shape)?;
        dst.copy_from_slice(bytes);
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
