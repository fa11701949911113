//! [`GridSample`]: an image sampled at computed places, NHWC, float32.
//!
//! Rules: extents are at least 1; the destination is disjoint from image and grid. A place outside the image, or none
//! at all (NaN), reads what `outside` says.

use super::shape::require_f32;
use crate::operator::{InPlace, Operator};
use easy_ext::ext;
use offshoot_base::{Limits, Memory, Rule, Span, product};
use offshoot_format::record::{DType, GridKind, GridSample};
use offshoot_kernels::portable as kernels;

#[ext(GridSamplePlaces)]
impl GridSample {
    /// Places of image, grid and output.
    pub(crate) fn spans(&self) -> Result<[Span; 3], Rule> {
        Ok([
            Span::new(self.src, product([self.n, self.h, self.w, self.c])?, 4)?,
            Span::new(self.grid, product([self.n, self.out_h, self.out_w, 2])?, 4)?,
            Span::new(self.dst, product([self.n, self.out_h, self.out_w, self.c])?, 4)?,
        ])
    }
}

impl Operator for GridSample {
    fn check(&self, limits: &Limits<'_>) -> Result<u64, Rule> {
        let [src, grid, dst] = self.spans()?;
        limits.disjoint(src, dst)?;
        limits.disjoint(grid, dst)?;
        require_f32()?;
        let neighbours = match self.kind {
            GridKind::Nearest => 1,
            GridKind::Bilinear => 4,
            GridKind::Bicubic => 16,
        };
        product([dst.len as u64, neighbours])
    }

    fn output(&self) -> Result<Span, Rule> {
        Ok(self.spans()?[2])
    }

    fn run(&self, memory: &mut Memory<'_>) -> Result<(), Rule> {
        if !cfg!(feature = "f32") {
            return Err(Rule::Format);
        }
        let [src, grid, dst] = self.spans()?;
        let (src, grid, dst) = memory.split2(src, grid, dst)?;
        kernels::grid_sample(self, src, grid, dst);
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
