//! [`ConvLinear`], [`DepthwiseLinear`]: convolutions whose requantisation is one product and one shift.
//!
//! Rules, beyond those of [`ConvBlocked`](crate::format::record::ConvBlocked) and
//! [`DepthwisePlanar`](crate::format::record::DepthwisePlanar): strips of at least one pair, several output pixels; 3×3 windows
//! with strides of 1 or 2. Biases, multipliers and weights may be any.

use super::blocked::scratch;
use super::planar;
use super::shape::{blob, product, require};
use super::weights::Layout;
use super::{Limits, Memory, Operator, Span};
use crate::error::Rule;
use crate::format::linear::WORDS;
use crate::format::record::{ConvLinear, DepthwiseLinear, Window};
use crate::kernels::geometry::{Blocked, Planar};
use crate::kernels::{self, Requant};

impl ConvLinear {
    /// Sizes; `weights` of the layout is the words of all blocks.
    #[inline(never)]
    pub(crate) fn layout(&self) -> Result<(Blocked, Layout), Rule> {
        let mut sized = self.conv().layout();
        if let Ok((g, layout)) = &mut sized {
            layout.weights = self.words(g)?;
        }
        sized
    }

    /// Words of all blocks.
    fn words(&self, g: &Blocked) -> Result<u64, Rule> {
        require(!self.wide || cfg!(feature = "linear-wide"), Rule::Format)?;
        require(self.strip > 0, Rule::Format)?;
        product([u64::from(self.out_c.div_ceil(4)), self.block_words(g) as u64])
    }

    /// Words of a block.
    pub(crate) fn block_words(&self, g: &Blocked) -> usize {
        let weights = if self.wide { g.k.saturating_mul(2) } else { g.k };
        weights.saturating_add(WORDS)
    }

    /// Lanes of a strip, and room for a block if there is any.
    pub(crate) fn spans(&self, g: &Blocked) -> Result<(Span, Option<Span>), Rule> {
        let values = product([2 * u64::from(self.strip), g.k as u64])?;
        let lanes = scratch(self.scratch, values)?;
        if !self.panel {
            return Ok((lanes, None));
        }
        let after = u32::try_from(lanes.len / 4).map_err(|_| Rule::ArenaBounds)?;
        let at = self.scratch.checked_add(after).ok_or(Rule::ArenaBounds)?;
        let panel = scratch(at, product([2, self.block_words(g) as u64])?)?;
        Ok((lanes, Some(panel)))
    }
}

impl Operator for ConvLinear {
    #[inline(never)]
    fn check(&self, limits: &Limits<'_>) -> Result<u64, Rule> {
        // Not by way of `layout`, whose frame would lie between.
        let conv = self.conv();
        let sized = conv.layout();
        let (g, layout) = sized.as_ref().map_err(|&rule| rule)?;
        let words = self.words(g)?;
        limits.arena(&[layout.src, layout.dst])?;
        require(!self.walk.is_vector(), Rule::Format)?;
        // What pairs may do, strips may: they read more before they write.
        conv.check_overlap(g, layout)?;
        let (lanes, panel) = self.spans(g)?;
        for span in [Some(lanes), panel].into_iter().flatten() {
            limits.disjoint(span, layout.src)?;
            limits.disjoint(span, layout.dst)?;
        }
        blob::<i32>(limits.blobs, self.blob, words)?;
        Ok(layout.work)
    }

    fn output(&self) -> Result<Span, Rule> {
        Ok(self.layout()?.1.dst)
    }

    // Out of line: its frame does not lie below those of other operators.
    #[inline(never)]
    fn run(&self, memory: &mut Memory<'_>) -> Result<(), Rule> {
        let sized = self.layout();
        let (g, layout) = sized.as_ref().map_err(|&rule| rule)?;
        let words = blob(memory.blobs(), self.blob, layout.weights)?;
        kernels::conv_linear(self, g, words, memory, layout)
    }
}

impl DepthwiseLinear {
    fn requant<'m>(&self, blobs: &'m [u8], layout: &Layout) -> Result<(Requant<'m>, &'m [i8]), Rule> {
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

impl Operator for DepthwiseLinear {
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

    // Out of line: its frame does not lie below those of other operators.
    #[inline(never)]
    fn run(&self, memory: &mut Memory<'_>) -> Result<(), Rule> {
        let sized = self.layout();
        let (g, layout) = sized.as_ref().map_err(|&rule| rule)?;
        let (requant, weights) = self.requant(memory.blobs(), layout)?;
        kernels::depthwise_planar(&self.planar(), g, &requant, weights, memory, layout)
    }
}
