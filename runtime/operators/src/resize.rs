//! [`Resize`]: resampling, NHWC, nearest or bilinear, by tables of source positions.
//!
//! Bilinear: rows first, then columns, with the record's weights. Rules: extents are at least 1; every table entry
//! points inside the source; weights lie in 0 to 1 (0 to 1024 for int8); nearest takes elements of any type, bilinear
//! int8 and float32; source and destination are disjoint.

use super::shape::require_f32;
use crate::operator::{InPlace, Operator};
use easy_ext::ext;
use offshoot_base::{Element, Limits, Memory, Rule, Span, blob, product, require};
use offshoot_format::record::{DType, Resize};
use offshoot_kernels::portable as kernels;

#[ext(ResizePlaces)]
impl Resize {
    /// Places of source and destination.
    pub(crate) fn spans(&self) -> Result<[Span; 2], Rule> {
        let size = self.dtype.size();
        Ok([
            Span::new(self.src, product([self.n, self.h, self.w, self.c])?, size)?,
            Span::new(self.dst, product([self.n, self.out_h, self.out_w, self.c])?, size)?,
        ])
    }

    /// Nearest: a source index for each output row, then for each column.
    pub(crate) fn indices<'m>(&self, blobs: &'m [u8]) -> Result<&'m [u16], Rule> {
        blob(blobs, self.blob, u64::from(self.out_h) + u64::from(self.out_w))
    }

    /// Bilinear: `low | high << 16` and the weight, for each output row, then for each column.
    pub(crate) fn entries<'m>(&self, blobs: &'m [u8]) -> Result<&'m [u32], Rule> {
        blob(blobs, self.blob, 2 * (u64::from(self.out_h) + u64::from(self.out_w)))
    }

    /// Extent of the source axis that table entry `i` points into.
    pub(crate) fn extent(&self, i: usize) -> u16 {
        if i < usize::from(self.out_h) { self.h } else { self.w }
    }

    pub(crate) fn nearest<T: Element>(&self, memory: &mut Memory<'_>) -> Result<(), Rule> {
        let [src, dst] = self.spans()?;
        let table = self.indices(memory.blobs())?;
        let (src, dst) = memory.split::<T, T>(src, dst)?;
        kernels::resize_nearest(self, table, src, dst);
        Ok(())
    }
}

impl Operator for Resize {
    fn check(&self, limits: &Limits<'_>) -> Result<u64, Rule> {
        let [src, dst] = self.spans()?;
        limits.disjoint(src, dst)?;
        if !self.bilinear {
            let indices = self.indices(limits.blobs)?;
            let inside = indices.iter().enumerate().all(|(i, &at)| at < self.extent(i));
            require(inside, Rule::Table)?;
            return Ok(dst.len as u64);
        }
        let weight_fits: fn(u32) -> bool = match self.dtype {
            DType::I8 => |w| w <= 1 << 10,
            DType::F32 => {
                require_f32()?;
                |w| (0.0..=1.0).contains(&f32::from_bits(w))
            }
            _ => return Err(Rule::Format),
        };
        let mut entries = self.entries(limits.blobs)?.chunks_exact(2).enumerate();
        let inside = entries.all(|(i, entry)| match *entry {
            [at, weight] => {
                let (low, high) = (at as u16, (at >> 16) as u16);
                low < self.extent(i) && high < self.extent(i) && weight_fits(weight)
            }
            _ => false,
        });
        require(inside, Rule::Table)?;
        product([dst.len as u64, 4])
    }

    fn output(&self) -> Result<Span, Rule> {
        Ok(self.spans()?[1])
    }

    fn run(&self, memory: &mut Memory<'_>) -> Result<(), Rule> {
        match (self.bilinear, self.dtype) {
            (false, DType::I8) => self.nearest::<u8>(memory)?,
            (false, DType::F32 | DType::I32) => self.nearest::<u32>(memory)?,
            #[cfg(feature = "int16")]
            (false, DType::I16) => self.nearest::<u16>(memory)?,
            (true, DType::I8) => {
                let [src, dst] = self.spans()?;
                let table = self.entries(memory.blobs())?;
                let (src, dst) = memory.split(src, dst)?;
                kernels::resize_bilinear_i8(self, table, src, dst);
            }
            (true, DType::F32) if cfg!(feature = "f32") => {
                let [src, dst] = self.spans()?;
                let table = self.entries(memory.blobs())?;
                let (src, dst) = memory.split(src, dst)?;
                kernels::resize_bilinear_f32(self, table, src, dst);
            }
            (true, _) => return Err(Rule::Format),
        }
        Ok(())
    }

    fn output_dtype(&self) -> DType {
        self.dtype
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
