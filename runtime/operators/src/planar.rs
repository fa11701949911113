//! [`DepthwisePlanar`]: int8 depthwise convolution, channel-planar.
//!
//! Rules, besides those of the window: no dilation; shifts and biases lie in the ranges given at the record; the
//! scratch holds at least the rows of one window; the output is disjoint from the
//! input, or starts where it starts and never overtakes it; the scratch is disjoint from both.

use super::tiled::{check_requant, scratch};
use super::weights::{Layout, bounds_i8, check_clamp, override_requant, requant_blob};
use crate::drivers;
use crate::operator::{InPlace, Operator, area, bytes, outputs};
use easy_ext::ext;
use offshoot_base::{Limits, Memory, Rule, Span, product, require};
use offshoot_format::record::{DType, DepthwisePlanar};
use offshoot_kernels::Requant;
use offshoot_kernels::geometry::{Planar, window_output};

#[ext(DepthwisePlanarPlaces)]
impl DepthwisePlanar {
    pub(crate) fn layout(&self) -> Result<(Planar, Layout), Rule> {
        let (out_h, out_w) = window_output(&self.window, self.h, self.w)?;
        let geometry = Planar::of(self);
        let [k_h, k_w] = geometry.window.kernel;
        require(geometry.window.dilation == [1, 1], Rule::Window)?;
        require(self.rows >= k_h, Rule::Window)?;
        let output = product([self.n.into(), out_h, out_w, self.c.into()])?;
        let taps = product([k_h, k_w])?;
        let input = product([self.n, self.h, self.w, self.c])?;
        let planes = product([self.n, self.c])?;
        let gathered = product([planes, geometry.padded_h as u64, geometry.pitch as u64])?;
        let layout = Layout {
            src: Span::new(self.src, input, 1)?,
            dst: Span::new(self.dst, output, 1)?,
            channels: self.c.into(),
            weights: product([taps, self.c.into()])?,
            // Rows shared by two bands are moved once more, at most once per output row.
            work: product([output, taps])?.saturating_add(gathered).saturating_add(product([
                planes,
                out_h.into(),
                self.rows.into(),
                geometry.pitch as u64,
            ])?),
        };
        Ok((geometry, layout))
    }

    /// The scratch, int16.
    pub(crate) fn planes(&self, g: &Planar) -> Result<Span, Rule> {
        scratch(self.scratch, g.scratch(self))
    }

    pub(crate) fn requant<'m>(
        &self,
        blobs: &'m [u8],
        layout: &Layout,
    ) -> Result<(Requant<'m>, &'m [i8]), Rule> {
        let (min, max) = bounds_i8(self.clamp);
        requant_blob(blobs, self.blob, layout, true, (self.in_zp.into(), self.out_zp.into(), min, max))
    }
}

/// The checks of the operator's place in the arena.
pub(super) fn check_places(
    r: &DepthwisePlanar,
    limits: &Limits<'_>,
    g: &Planar,
    layout: &Layout,
) -> Result<(), Rule> {
    limits.arena(&[layout.src, layout.dst])?;
    if layout.src.overlaps(layout.dst) {
        require(layout.src.start == layout.dst.start && g.in_place(r), Rule::Overlap)?;
    }
    let planes = r.planes(g)?;
    limits.disjoint(planes, layout.src)?;
    limits.disjoint(planes, layout.dst)
}

impl Operator for DepthwisePlanar {
    fn check(&self, limits: &Limits<'_>) -> Result<u64, Rule> {
        let sized = self.layout();
        let (g, layout) = sized.as_ref().map_err(|&rule| rule)?;
        require(self.is_built(), Rule::Format)?;
        check_clamp(self.clamp)?;
        check_places(self, limits, g, layout)?;
        check_requant(&self.requant(limits.blobs, layout)?.0)?;
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
        let (mut requant, weights) = self.requant(memory.blobs(), layout)?;
        override_requant(memory, &mut requant)?;
        drivers::depthwise_planar(self, g, &requant, weights, memory, layout, self.planes(g)?)
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
        Ok(bytes(self.planes(&self.layout()?.0)?))
    }

    fn in_place(&self, _: &[u8]) -> InPlace {
        if self.layout().is_ok_and(|(g, _)| g.in_place(self)) { InPlace::Same } else { InPlace::Apart }
    }
}
