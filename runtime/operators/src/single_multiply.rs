//! [`ConvSingleMultiply`], [`DepthwiseSingleMultiply`]: convolutions with exact single-multiply requantisation.
//!
//! Rules, besides those of [`ConvTiled`](offshoot_format::record::ConvTiled) and
//! [`DepthwisePlanar`](offshoot_format::record::DepthwisePlanar): strips of at least one pair and several output
//! pixels; depthwise: 3×3 windows with strides of 1 or 2. Biases, multipliers and weights may have any value.

use super::planar;
use super::planar::DepthwisePlanarPlaces as _;
use super::tiled::{ConvTiledPlaces as _, ConvTiledRules as _};
use super::tiled::{padding_is_zero, scratch};
use super::weights::Layout;
use crate::drivers;
use crate::operator::{InPlace, Operator, area, bytes, outputs, total};
use easy_ext::ext;
use offshoot_base::{Limits, Memory, Rule, Span, blob, product, require};
use offshoot_format::record::{ConvSingleMultiply, DType, DepthwiseSingleMultiply, Window};
use offshoot_kernels::Requant;
use offshoot_kernels::geometry::{Planar, Tiled, block_words};

#[ext(ConvSingleMultiplyPlaces)]
impl ConvSingleMultiply {
    /// Sizes. `weights` of the layout counts the words of all blocks.
    #[inline(never)]
    pub(crate) fn layout(&self) -> Result<(Tiled, Layout), Rule> {
        let mut sized = self.conv().layout();
        if let Ok((g, layout)) = &mut sized {
            layout.weights = self.words(g)?;
        }
        sized
    }

    /// Words of all blocks.
    pub(crate) fn words(&self, g: &Tiled) -> Result<u64, Rule> {
        require(!self.wide || cfg!(feature = "single-multiply-wide"), Rule::Format)?;
        require(self.strip > 0, Rule::Format)?;
        product([u64::from(self.out_c.div_ceil(4)), block_words(self, g) as u64])
    }

    /// Scratch for the lanes of a strip, and for a block of weights if `weight_tile` is set.
    pub(crate) fn spans(&self, g: &Tiled) -> Result<(Span, Option<Span>), Rule> {
        let values = product([2 * u64::from(self.strip), g.k as u64])?;
        let lanes = scratch(self.scratch, values)?;
        if !self.weight_tile {
            return Ok((lanes, None));
        }
        let after = u32::try_from(lanes.len / 4).map_err(|_| Rule::ArenaBounds)?;
        let at = self.scratch.checked_add(after).ok_or(Rule::ArenaBounds)?;
        let weight_tile = scratch(at, product([2, block_words(self, g) as u64])?)?;
        Ok((lanes, Some(weight_tile)))
    }
}

impl Operator for ConvSingleMultiply {
    #[inline(never)]
    fn check(&self, limits: &Limits<'_>) -> Result<u64, Rule> {
        // Does not call `layout`, whose stack frame would add to the depth.
        let conv = self.conv();
        let sized = conv.layout();
        let (g, layout) = sized.as_ref().map_err(|&rule| rule)?;
        let words = self.words(g)?;
        limits.arena(&[layout.src, layout.dst])?;
        require(!self.traversal.is_vector(), Rule::Format)?;
        // The rule for pairs also holds for strips, which read more before they write.
        conv.check_overlap(g, layout)?;
        let (lanes, weight_tile) = self.spans(g)?;
        for span in [Some(lanes), weight_tile].into_iter().flatten() {
            limits.disjoint(span, layout.src)?;
            limits.disjoint(span, layout.dst)?;
        }
        let words: &[i32] = blob(limits.blobs, self.blob, words)?;
        let wide = self.wide && cfg!(feature = "single-multiply-wide");
        let (before, width) = if wide { (8, 4) } else { (4, 2) };
        let halves = [2 * block_words(self, g), before, width];
        require(padding_is_zero(g, bytemuck::cast_slice(words), halves), Rule::Padding)?;
        Ok(layout.work)
    }

    fn output(&self) -> Result<Span, Rule> {
        Ok(self.layout()?.1.dst)
    }

    // Not inlined: its stack frame must not add to those of other operators.
    #[inline(never)]
    fn run(&self, memory: &mut Memory<'_>) -> Result<(), Rule> {
        let sized = self.layout();
        let (g, layout) = sized.as_ref().map_err(|&rule| rule)?;
        let words = blob(memory.blobs(), self.blob, layout.weights)?;
        drivers::conv_single_multiply(self, g, words, memory, layout, self.spans(g)?)
    }

    fn output_dtype(&self) -> DType {
        DType::I8
    }

    fn macs(&self) -> u64 {
        outputs(self) * area(self.window) * u64::from(self.c)
    }

    fn weights(&self) -> u64 {
        Operator::weights(&self.conv())
    }

    fn scratch(&self, _: &[u8]) -> Result<u32, Rule> {
        let (lanes, tile) = self.spans(&self.layout()?.0)?;
        total([bytes(lanes), tile.map_or(0, bytes)])
    }

    fn in_place(&self, _: &[u8]) -> InPlace {
        InPlace::shifted(self.layout().ok().and_then(|(g, _)| g.in_place_offsets(&self.conv())))
    }
}

#[ext(DepthwiseSingleMultiplyPlaces)]
impl DepthwiseSingleMultiply {
    pub(crate) fn requant<'m>(
        &self,
        blobs: &'m [u8],
        layout: &Layout,
    ) -> Result<(Requant<'m>, &'m [i8]), Rule> {
        let c = u64::from(self.c);
        let after = |words: u32| {
            let bytes = u32::from(self.c) * 4 * words;
            self.blob.checked_add(bytes).ok_or(Rule::BlobBounds)
        };
        let requant = Requant {
            bias: blob(blobs, self.blob, c)?,
            multiplier: blob(blobs, after(1)?, c)?,
            shift: &[],
            in_zp: self.in_zp.into(),
            out_zp: i8::MIN.into(),
            min: i8::MIN.into(),
            max: i8::MAX.into(),
        };
        Ok((requant, blob(blobs, after(2)?, layout.weights)?))
    }

    pub(crate) fn layout(&self) -> Result<(Planar, Layout), Rule> {
        let window = Window::from(self.window);
        let small = window.kernel == [3, 3] && window.stride.iter().all(|s| matches!(s, 1 | 2));
        require(small, Rule::Window)?;
        self.planar().layout()
    }
}

impl Operator for DepthwiseSingleMultiply {
    #[inline(never)]
    fn check(&self, limits: &Limits<'_>) -> Result<u64, Rule> {
        let sized = self.layout();
        let (g, layout) = sized.as_ref().map_err(|&rule| rule)?;
        planar::check_places(&self.planar(), limits, g, layout)?;
        self.requant(limits.blobs, layout)?;
        Ok(layout.work)
    }

    fn output(&self) -> Result<Span, Rule> {
        Ok(self.layout()?.1.dst)
    }

    // Not inlined: its stack frame must not add to those of other operators.
    #[inline(never)]
    fn run(&self, memory: &mut Memory<'_>) -> Result<(), Rule> {
        let sized = self.layout();
        let (g, layout) = sized.as_ref().map_err(|&rule| rule)?;
        let (requant, weights) = self.requant(memory.blobs(), layout)?;
        let planar = self.planar();
        drivers::depthwise_planar(&planar, g, &requant, weights, memory, layout, planar.planes(g)?)
    }

    fn output_dtype(&self) -> DType {
        DType::I8
    }

    fn macs(&self) -> u64 {
        outputs(self) * area(self.window)
    }

    fn weights(&self) -> u64 {
        u64::from(self.c) * area(self.window)
    }

    fn scratch(&self, _: &[u8]) -> Result<u32, Rule> {
        Ok(bytes(self.planar().planes(&self.layout()?.0)?))
    }

    fn in_place(&self, _: &[u8]) -> InPlace {
        if self.layout().is_ok_and(|(g, _)| g.in_place(&self.planar())) {
            InPlace::Same
        } else {
            InPlace::Apart
        }
    }
}
