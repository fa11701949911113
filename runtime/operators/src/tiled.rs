//! [`ConvTiled`]: int8 convolution with tiled weights, two output pixels at a time.
//!
//! Rules, besides those of the window: kernel columns are not dilated; shifts, biases and weights lie in the ranges
//! given at the record; the output is disjoint from the input or lies at the record's in-place offset; the scratch is
//! disjoint from both.

use super::weights::{Layout, bounds_i8, check_clamp, override_requant, requant_blob};
use crate::drivers;
use crate::operator::{InPlace, Operator, area, bytes, outputs};
use easy_ext::ext;
use offshoot_base::{Limits, Memory, Rule, Span, product, require};
use offshoot_format::record::{ConvTiled, DType, Traversal};
use offshoot_format::tiled::{MOST_BIAS, MOST_WEIGHT, SHIFTS};
use offshoot_kernels::Requant;
use offshoot_kernels::geometry::{Tiled, tiled_weight, window_output};

/// With at most this many inputs, a sum never leaves the 24 bits that a block of channels gives it.
const SAFE_INPUTS: usize = 511;

/// Whether this build includes kernels for pairs of pixels.
const PAIRS: bool = cfg!(any(feature = "pairs-positive", feature = "pairs-signed"));

#[ext(ConvTiledPlaces)]
impl ConvTiled {
    pub(crate) fn layout(&self) -> Result<(Tiled, Layout), Rule> {
        let (out_h, out_w) = window_output(&self.window, self.h, self.w)?;
        let geometry = Tiled::of(self);
        require(geometry.window.dilation[1] == 1 || geometry.window.kernel[1] == 1, Rule::Window)?;
        let pixels = product([self.n.into(), out_h, out_w])?;
        let output = product([pixels, self.out_c.into()])?;
        let blocks = u64::from(self.out_c.div_ceil(4)) * 4;
        let k = product([geometry.window.kernel[0].into(), geometry.padded as u64])?;
        let layout = Layout {
            src: Span::new(self.src, product([self.n, self.h, self.w, self.c])?, 1)?,
            dst: Span::new(self.dst, output, 1)?,
            channels: self.out_c.into(),
            weights: product([blocks, k])?,
            work: product([pixels + 1, blocks, k])?,
        };
        Ok((geometry, layout))
    }

    /// Scratch for the gathered inputs of a pair, int16; `None` if nothing is gathered.
    pub(crate) fn lanes(&self, g: &Tiled) -> Result<Option<Span>, Rule> {
        if g.vector { Ok(None) } else { scratch(self.scratch, product([2, g.k as u64])?).map(Some) }
    }

    pub(crate) fn requant<'m>(
        &self,
        blobs: &'m [u8],
        layout: &Layout,
    ) -> Result<(Requant<'m>, &'m [i8]), Rule> {
        let (min, max) = bounds_i8(self.clamp);
        let numbers = (self.in_zp.into(), self.out_zp.into(), min, max);
        requant_blob(blobs, self.blob, layout, self.traversal != Traversal::VectorOneScale, numbers)
    }
}

/// A span of `values` int16 values from a word of the arena.
pub(super) fn scratch(word: u32, values: u64) -> Result<Span, Rule> {
    Span::new(word.checked_mul(4).ok_or(Rule::ArenaBounds)?, values, 2)
}

/// Weights as halves of words, int16.
pub(super) fn halves(weights: &[i8]) -> Result<&[i16], Rule> {
    bytemuck::try_cast_slice(weights).map_err(|_| Rule::Alignment)
}

/// Whether the weights that pad the kernel rows to a multiple of four inputs are zero. Kernels are free in what they
/// multiply them with. `halves` are the 16-bit halves of all blocks, of `pitch` each, whose weights begin at `before`;
/// an input takes `width` of them.
#[inline(never)]
pub(super) fn padding_is_zero(g: &Tiled, halves: &[i16], [pitch, before, width]: [usize; 3]) -> bool {
    let used = g.segment % 4;
    let rows = usize::from(g.window.kernel[0]);
    used == 0
        || halves.chunks_exact(pitch.max(1)).all(|block| {
            (1..=rows).all(|row| {
                // The last group of four inputs under a kernel row: inputs 0 and 2 in turn, then 1 and 3.
                let end = before + row * g.padded * width;
                let group = block.get(end - 4 * width..end).unwrap_or(&[]);
                let input = |i: usize| usize::from(i >= 2 * width) + 2 * (i & 1);
                group.iter().enumerate().all(|(i, &half)| half == 0 || input(i) < used)
            })
        })
}

/// Whether all sums of products fit in 24 bits.
pub(super) fn exact(g: &Tiled, out_c: usize, weights: &[i16]) -> bool {
    g.k <= SAFE_INPUTS
        || (0..out_c).all(|o| {
            let magnitudes = (0..g.k).map(|k| u64::from(tiled_weight(weights, g.k, o, k).unsigned_abs()));
            magnitudes.sum::<u64>() <= MOST_WEIGHT
        })
}

#[ext(ConvTiledRules)]
impl ConvTiled {
    /// Checks that input and output are disjoint, or lie at the in-place offset for the record's order of pairs.
    pub(crate) fn check_overlap(&self, g: &Tiled, layout: &Layout) -> Result<(), Rule> {
        if !layout.src.overlaps(layout.dst) {
            return Ok(());
        }
        let (below, above) = g.in_place_offsets(self).ok_or(Rule::Overlap)?;
        let (src, dst) = (layout.src.start as u64, layout.dst.start as u64);
        let far = match self.traversal {
            Traversal::Forwards => src >= dst + below,
            Traversal::Backwards => dst >= src + above,
            Traversal::Vector | Traversal::VectorOneScale => false,
        };
        require(far, Rule::Overlap)
    }

    /// The checks that do not concern weights.
    pub(crate) fn check_places(&self, limits: &Limits<'_>, g: &Tiled, layout: &Layout) -> Result<(), Rule> {
        limits.arena(&[layout.src, layout.dst])?;
        check_clamp(self.clamp)?;
        let vector = self.traversal.is_vector();
        require(self.is_built() && vector == g.vector, Rule::Format)?;
        if layout.src.overlaps(layout.dst) {
            require(PAIRS, Rule::Overlap)?;
            self.check_overlap(g, layout)?;
        }
        if let Some(lanes) = self.lanes(g)? {
            limits.disjoint(lanes, layout.src)?;
            limits.disjoint(lanes, layout.dst)?;
        }
        Ok(())
    }
}

impl Operator for ConvTiled {
    fn check(&self, limits: &Limits<'_>) -> Result<u64, Rule> {
        let (g, layout) = self.layout()?;
        self.check_places(limits, &g, &layout)?;
        let (requant, weights) = self.requant(limits.blobs, &layout)?;
        check_requant(&requant)?;
        let weights = halves(weights)?;
        // A vector has no padding.
        require(!PAIRS || padding_is_zero(&g, weights, [2 * g.k, 0, 2]), Rule::Padding)?;
        require(exact(&g, usize::from(self.out_c), weights), Rule::Quantisation)?;
        Ok(layout.work)
    }

    fn output(&self) -> Result<Span, Rule> {
        Ok(self.layout()?.1.dst)
    }

    // Not inlined: its stack frame must not add to those of other operators.
    #[inline(never)]
    fn run(&self, memory: &mut Memory<'_>) -> Result<(), Rule> {
        let (g, layout) = self.layout()?;
        let (mut requant, weights) = self.requant(memory.blobs(), &layout)?;
        override_requant(memory, &mut requant)?;
        let lanes = self.lanes(&g)?;
        drivers::conv_tiled(self, &g, &requant, halves(weights)?, memory, &layout, lanes)
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
        let geometry = self.layout().ok().map(|(g, _)| g).filter(|g| !g.vector);
        InPlace::shifted(geometry.and_then(|g| g.in_place_offsets(self)))
    }
}

/// Checks that multipliers, shifts and biases lie in the ranges that the fast kernels need.
pub(super) fn check_requant(q: &Requant<'_>) -> Result<(), Rule> {
    let fits = q.multiplier.iter().all(|&m| m >= 0)
        && q.shift.iter().all(|s| SHIFTS.contains(s))
        && q.bias.iter().all(|b| b.unsigned_abs() <= MOST_BIAS);
    require(fits, Rule::Quantisation)
}
