//! [`ConvWinograd`]: int8 convolution by 3×3 windows through F(2, 3) (Lavin and Gray, arXiv:1509.09308).
//!
//! Rules, besides those of the window: 3×3, stride 1, no dilation; a multiple of four input channels; shifts, biases
//! and weights lie in the ranges given at the record; strips of 1 to 8 pairs; input, output and scratch are disjoint.

use super::tiled::{check_requant, halves, scratch};
use super::weights::{Layout, bounds_i8, check_clamp, requant_blob};
use crate::drivers;
use crate::operator::{InPlace, Operator, area, bytes, outputs};
use easy_ext::ext;
use offshoot_base::{Limits, Memory, Rule, Span, product, require};
use offshoot_format::record::{ConvWinograd, DType, Window};
use offshoot_format::tiled::MOST_TILE_PAIRS;
use offshoot_kernels::Requant;
use offshoot_kernels::geometry::window_output;

/// Limit on the sum of the magnitudes of a channel's transformed weights.
const MOST_WEIGHT: u64 = 1 << 22;

#[ext(ConvWinogradPlaces)]
impl ConvWinograd {
    pub(crate) fn layout(&self) -> Result<Layout, Rule> {
        let (out_h, out_w) = window_output(&self.window, self.h, self.w)?;
        let window = Window::from(self.window);
        let form = window.kernel == [3, 3] && window.stride == [1, 1] && window.dilation == [1, 1];
        require(form && self.c.is_multiple_of(4), Rule::Window)?;
        let output = product([self.n.into(), out_h, out_w, self.out_c.into()])?;
        let blocks = u64::from(self.out_c.div_ceil(4)) * 4;
        // Four components of three kernel rows, two bytes each.
        let weights = product([24, blocks, self.c.into()])?;
        let tiles = product([self.n.into(), out_h, out_w.div_ceil(2)])?;
        Ok(Layout {
            src: Span::new(self.src, product([self.n, self.h, self.w, self.c])?, 1)?,
            dst: Span::new(self.dst, output, 1)?,
            channels: self.out_c.into(),
            weights,
            work: product([tiles + 1, weights])?,
        })
    }

    /// Scratch: the components of a strip's tile pairs, a pixel of padding, and a block of weights if a strip has
    /// several pairs.
    pub(crate) fn lanes(&self) -> Result<Span, Rule> {
        require((1..=MOST_TILE_PAIRS).contains(&self.strip), Rule::Format)?;
        let block = if self.strip > 1 { 96 } else { 0 };
        let bytes = product([48 * u64::from(self.strip) + 1 + block, u64::from(self.c)])?;
        scratch(self.scratch, bytes.div_ceil(2))
    }

    pub(crate) fn requant<'m>(
        &self,
        blobs: &'m [u8],
        layout: &Layout,
    ) -> Result<(Requant<'m>, &'m [i16]), Rule> {
        let (min, max) = bounds_i8(self.clamp);
        let numbers = (self.in_zp.into(), self.out_zp.into(), min, max);
        let (requant, weights) = requant_blob(blobs, self.blob, layout, true, numbers)?;
        Ok((requant, halves(weights)?))
    }
}

impl Operator for ConvWinograd {
    fn check(&self, limits: &Limits<'_>) -> Result<u64, Rule> {
        let layout = self.layout()?;
        limits.disjoint(layout.src, layout.dst)?;
        check_clamp(self.clamp)?;
        let lanes = self.lanes()?;
        limits.disjoint(lanes, layout.src)?;
        limits.disjoint(lanes, layout.dst)?;
        let (requant, weights) = self.requant(limits.blobs, &layout)?;
        check_requant(&requant)?;
        // Values alternate in twos between the channels of a block.
        let light = weights.chunks_exact(48 * usize::from(self.c)).all(|block| {
            let mut sums = [0u64; 4];
            for (i, w) in block.iter().enumerate() {
                sums[i / 2 % 4] += u64::from(w.unsigned_abs());
            }
            sums.iter().all(|&sum| sum < MOST_WEIGHT)
        });
        require(light, Rule::Quantisation)?;
        Ok(layout.work)
    }

    fn output(&self) -> Result<Span, Rule> {
        Ok(self.layout()?.dst)
    }

    fn run(&self, memory: &mut Memory<'_>) -> Result<(), Rule> {
        let layout = self.layout()?;
        let (requant, weights) = self.requant(memory.blobs(), &layout)?;
        drivers::conv_winograd(self, &requant, weights, memory, &layout, self.lanes()?)
    }

    fn output_dtype(&self) -> DType {
        DType::I8
    }

    fn macs(&self) -> u64 {
        outputs(self) * area(self.window) * u64::from(self.c)
    }

    fn weights(&self) -> u64 {
        u64::from(self.out_c) * area(self.window) * u64::from(self.c)
    }

    fn scratch(&self, _: &[u8]) -> Result<u32, Rule> {
        self.layout()?;
        Ok(bytes(self.lanes()?))
    }

    fn in_place(&self, _: &[u8]) -> InPlace {
        InPlace::Apart
    }
}
