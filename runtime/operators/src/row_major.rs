//! [`ConvRowMajor`]: int8 convolution with row-major weights, three output pixels at a time.
//!
//! Rules: those of [`ConvTiled`](offshoot_format::record::ConvTiled), but weights may have any value, and the in-place
//! offset is that of pixels in threes.

use super::tiled::ConvTiledPlaces as _;
use super::tiled::check_requant;
use super::weights::{Layout, check_clamp};
use crate::drivers;
use crate::operator::{InPlace, Operator, area, bytes, outputs};
use easy_ext::ext;
use offshoot_base::{Limits, Memory, Rule, Span, product, require};
use offshoot_format::record::{ConvRowMajor, DType, Traversal};
use offshoot_format::row_major::PIXELS;
use offshoot_kernels::geometry::Tiled;

/// Whether the operator is built. Functions that are not leave at once: further callers would change what the compiler
/// inlines elsewhere.
const BUILT: bool = cfg!(feature = "op-conv-row-major");

#[ext(ConvRowMajorPlaces)]
impl ConvRowMajor {
    pub(crate) fn layout(&self) -> Result<(Tiled, Layout), Rule> {
        if !BUILT {
            return Err(Rule::Format);
        }
        let conv = self.conv();
        let (_, layout) = conv.layout()?;
        let g = Tiled::row_major(&conv);
        let k = product([g.window.kernel[0].into(), g.segment as u64])?;
        let blocks = u64::from(self.out_c.div_ceil(4)) * 4;
        Ok((g, Layout { weights: product([blocks, k])?, ..layout }))
    }

    /// Scratch for the gathered inputs of three pixels; `None` if nothing is gathered.
    pub(crate) fn lanes(&self, g: &Tiled) -> Result<Option<Span>, Rule> {
        if g.vector {
            return Ok(None);
        }
        let at = self.scratch.checked_mul(4).ok_or(Rule::ArenaBounds)?;
        Span::new(at, product([PIXELS as u64, g.k as u64])?, 1).map(Some)
    }
}

impl Operator for ConvRowMajor {
    fn check(&self, limits: &Limits<'_>) -> Result<u64, Rule> {
        if !BUILT {
            return Err(Rule::Format);
        }
        let (g, layout) = self.layout()?;
        limits.arena(&[layout.src, layout.dst])?;
        check_clamp(self.clamp)?;
        require(self.traversal.is_vector() == g.vector, Rule::Format)?;
        if layout.src.overlaps(layout.dst) {
            let (below, above) = g.in_place_offsets_of::<PIXELS>(&self.conv()).ok_or(Rule::Overlap)?;
            let (src, dst) = (layout.src.start as u64, layout.dst.start as u64);
            let far = match self.traversal {
                Traversal::Forwards => src >= dst + below,
                Traversal::Backwards => dst >= src + above,
                Traversal::Vector | Traversal::VectorOneScale => false,
            };
            require(far, Rule::Overlap)?;
        }
        if let Some(lanes) = self.lanes(&g)? {
            limits.disjoint(lanes, layout.src)?;
            limits.disjoint(lanes, layout.dst)?;
        }
        check_requant(&self.conv().requant(limits.blobs, &layout)?.0)?;
        Ok(layout.work)
    }

    fn output(&self) -> Result<Span, Rule> {
        Ok(self.layout()?.1.dst)
    }

    // Not inlined: its stack frame must not add to those of other operators.
    #[inline(never)]
    fn run(&self, memory: &mut Memory<'_>) -> Result<(), Rule> {
        if !BUILT {
            return Err(Rule::Format);
        }
        let (g, layout) = self.layout()?;
        let conv = self.conv();
        let (requant, weights) = conv.requant(memory.blobs(), &layout)?;
        drivers::conv_row_major(&conv, &g, &requant, weights, memory, &layout, self.lanes(&g)?)
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
        Ok(self.lanes(&self.layout()?.0)?.map_or(0, bytes))
    }

    fn in_place(&self, _: &[u8]) -> InPlace {
        if !BUILT {
            return InPlace::Apart;
        }
        let geometry = self.layout().ok().map(|(g, _)| g).filter(|g| !g.vector);
        InPlace::shifted(geometry.and_then(|g| g.in_place_offsets_of::<PIXELS>(&self.conv())))
    }
}
