//! [`ConvWeightOnly`]: float32 convolution with weights of 8, 4 or 2 bits and a scale for each block of them.
//!
//! Rules: those of [`Conv2d`](offshoot_format::record::Conv2d); 8, 4 or 2 bits; at least one weight in a block; scales
//! are finite; the scratch shares no byte with input and output.

use super::conv::group_channels;
use super::shape::require_f32;
use super::tiled::scratch;
use super::weights::{bounds_f32, check_clamp};
use crate::operator::{InPlace, Operator, area, bytes, outputs};
use easy_ext::ext;
use offshoot_base::{Limits, Memory, Rule, Span, blob, product, require};
use offshoot_format::BLOB_ALIGNMENT;
use offshoot_format::record::{ConvWeightOnly, DType, Window};
use offshoot_kernels::geometry::window_output;
use offshoot_kernels::portable as kernels;

/// Places and sizes.
pub(crate) struct Places {
    src: Span,
    dst: Span,
    /// Scratch for the weights of one channel.
    row: Span,
    /// Weights of a channel, and its blocks and bytes of codes.
    taps: u64,
    blocks: u64,
    width: u64,
}

/// The blob.
pub(crate) struct Stored<'m> {
    bias: &'m [f32],
    scales: &'m [f32],
    offsets: &'m [i8],
    codes: &'m [u8],
}

#[ext(ConvWeightOnlyPlaces)]
impl ConvWeightOnly {
    pub(crate) fn places(&self) -> Result<Places, Rule> {
        require(matches!(self.bits, 2 | 4 | 8) && self.block > 0, Rule::Format)?;
        let (out_h, out_w) = window_output(&self.window, self.h, self.w)?;
        let [k_h, k_w] = Window::from(self.window).kernel;
        let in_c = group_channels(self.c, self.out_c, self.groups)?;
        let taps = product([k_h, k_w, in_c])?;
        let output = product([self.n.into(), out_h, out_w, self.out_c.into()])?;
        Ok(Places {
            src: Span::new(self.src, product([self.n, self.h, self.w, self.c])?, 4)?,
            dst: Span::new(self.dst, output, 4)?,
            row: scratch(self.scratch, product([taps, 2])?)?,
            taps,
            blocks: taps.div_ceil(self.block.into()),
            width: product([taps, self.bits.into()])?.div_ceil(8),
        })
    }

    pub(crate) fn stored<'m>(&self, blobs: &'m [u8], places: &Places) -> Result<Stored<'m>, Rule> {
        let channels = u64::from(self.out_c);
        let count = product([channels, places.blocks])?;
        let after = |at: u32, bytes: u64| {
            let end = u64::from(at).checked_add(bytes);
            let end = end.and_then(|end| end.checked_next_multiple_of(BLOB_ALIGNMENT as u64));
            end.and_then(|end| u32::try_from(end).ok()).ok_or(Rule::BlobBounds)
        };
        let scales_at = after(self.blob, 4 * channels)?;
        let offsets_at = after(scales_at, product([count, 4])?)?;
        let offsets = if self.offsets { count } else { 0 };
        let codes_at = after(offsets_at, offsets)?;
        Ok(Stored {
            bias: blob(blobs, self.blob, channels)?,
            scales: blob(blobs, scales_at, count)?,
            offsets: blob(blobs, offsets_at, offsets)?,
            codes: blob(blobs, codes_at, product([channels, places.width])?)?,
        })
    }
}

impl Operator for ConvWeightOnly {
    fn check(&self, limits: &Limits<'_>) -> Result<u64, Rule> {
        require_f32()?;
        check_clamp(self.clamp)?;
        let places = self.places()?;
        limits.disjoint(places.src, places.dst)?;
        limits.disjoint(places.src, places.row)?;
        limits.disjoint(places.dst, places.row)?;
        let stored = self.stored(limits.blobs, &places)?;
        require(stored.scales.iter().all(|scale| scale.is_finite()), Rule::Quantisation)?;
        // Each weight is unpacked once, and used once for each pixel.
        product([outputs(self).saturating_add(self.out_c.into()), places.taps])
    }

    fn output(&self) -> Result<Span, Rule> {
        Ok(self.places()?.dst)
    }

    fn run(&self, memory: &mut Memory<'_>) -> Result<(), Rule> {
        if !cfg!(feature = "f32") {
            return Err(Rule::Format);
        }
        let places = self.places()?;
        let stored = self.stored(memory.blobs(), &places)?;
        let bias = memory.bias(stored.bias)?;
        let (blocks, width) = (places.blocks as usize, places.width as usize);
        for (o, (scales, codes)) in
            stored.scales.chunks_exact(blocks).zip(stored.codes.chunks_exact(width)).enumerate()
        {
            let offsets = stored.offsets.get(o * blocks..).and_then(|rest| rest.get(..blocks));
            let offsets = offsets.unwrap_or(&[]);
            let from = kernels::Codes { bits: self.bits, block: self.block as usize, scales, offsets, codes };
            kernels::unpack_weights(from, memory.write(places.row)?);
            let (src, row, dst) = memory.split2(places.src, places.row, places.dst)?;
            let bias = bias.get(o).copied().unwrap_or(0.0);
            kernels::conv_channel_f32(self, o, bounds_f32(self.clamp), bias, row, src, dst);
        }
        Ok(())
    }

    fn output_dtype(&self) -> DType {
        DType::F32
    }

    fn macs(&self) -> u64 {
        outputs(self) * area(self.window) * u64::from(self.c / self.groups.max(1))
    }

    fn weights(&self) -> u64 {
        u64::from(self.out_c) * area(self.window) * u64::from(self.c / self.groups.max(1))
    }

    fn scratch(&self, _: &[u8]) -> Result<u32, Rule> {
        Ok(bytes(self.places()?.row))
    }

    fn in_place(&self, _: &[u8]) -> InPlace {
        InPlace::Apart
    }
}
