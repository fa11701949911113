//! [`ConvWeightShared`] and [`DepthwiseWeightShared`]: operators of a weight-shared sub-network.
//!
//! Rules, besides those of [`ConvTiled`](offshoot_format::record::ConvTiled) and
//! [`DepthwisePlanar`](offshoot_format::record::DepthwisePlanar): at most the channels of the whole; channel counts of
//! a convolution equal the whole's or are both multiples of four; the whole's blob holds all its weights; the output
//! overlaps the input only if one weight tile holds all blocks.

use super::planar::DepthwisePlanarPlaces as _;
use super::tiled::{ConvTiledPlaces as _, ConvTiledRules as _};
use super::tiled::{check_requant, exact, halves, padding_is_zero, scratch};
use super::weights::{Layout, bounds_i8, check_clamp, requant_blob};
use crate::drivers;
use crate::drivers::Part;
use crate::operator::{InPlace, Operator, area, bytes, outputs, total};
use easy_ext::ext;
use offshoot_base::{Limits, Memory, Rule, Span, blob, product, require};
use offshoot_format::BLOB_ALIGNMENT;
use offshoot_format::record::{ConvWeightShared, DType, DepthwiseWeightShared, Traversal};
use offshoot_kernels::Requant;
use offshoot_kernels::geometry::{Planar, Tiled};

/// Reads the operator's own biases, and its own multipliers and shifts if there are any; the rest is the whole's.
fn own_blob<'m>(
    blobs: &'m [u8],
    at: u32,
    channels: u64,
    scales: Option<u64>,
    whole: &Requant<'m>,
) -> Result<Requant<'m>, Rule> {
    let layout = Layout {
        src: Span { start: 0, len: 0 },
        dst: Span { start: 0, len: 0 },
        channels,
        weights: 0,
        work: 0,
    };
    let numbers = (whole.in_zp, whole.out_zp, whole.min, whole.max);
    match scales {
        Some(scales) => Ok(requant_blob(blobs, at, &layout, scales > 1, numbers)?.0),
        None => Ok(Requant { bias: blob(blobs, at, channels)?, ..*whole }),
    }
}

#[ext(ConvWeightSharedPlaces)]
impl ConvWeightShared {
    /// Number of blocks of four channels.
    pub(crate) fn blocks(&self) -> usize {
        usize::from(self.out_c).div_ceil(4)
    }

    /// Whether one weight tile holds all blocks, so that the input is read only once.
    pub(crate) fn one_weight_tile(&self) -> bool {
        usize::from(self.weight_tile) >= self.blocks()
    }

    /// Blocks per weight tile.
    pub(crate) fn weight_tile_blocks(&self) -> usize {
        usize::from(self.weight_tile).min(self.blocks())
    }

    /// Scratch for the weights of a tile.
    pub(crate) fn weight_tile(&self, g: &Tiled) -> Result<Span, Rule> {
        require(self.weight_tile > 0, Rule::Format)?;
        let lanes = self.conv().lanes(g)?.map_or(0, |lanes| lanes.len);
        let before = u32::try_from(lanes.div_ceil(4)).map_err(|_| Rule::ArenaBounds)?;
        let at = self.scratch.checked_add(before).ok_or(Rule::ArenaBounds)?;
        scratch(at, product([2 * self.weight_tile_blocks() as u64, g.k as u64])?)
    }

    /// Layout of the convolution with all channels, which sizes its weights.
    pub(crate) fn whole_layout(&self) -> Result<(Tiled, Layout), Rule> {
        let mut whole = self.conv();
        (whole.c, whole.out_c) = (self.whole_c, self.whole_out_c);
        whole.layout()
    }

    /// Requantisation parameters, and this operator's part of the whole's weights.
    pub(crate) fn read<'m>(&self, blobs: &'m [u8], g: &Tiled) -> Result<(Requant<'m>, Part<'m>), Rule> {
        let part = |own: u16, whole: u16| {
            own == whole || own < whole && own.is_multiple_of(4) && whole.is_multiple_of(4)
        };
        require(part(self.c, self.whole_c) && part(self.out_c, self.whole_out_c), Rule::Shape)?;
        let (whole_g, layout) = self.whole_layout()?;
        let mut conv = self.conv();
        conv.blob = self.whole;
        let (whole, weights) = conv.requant(blobs, &layout)?;
        // Kernels may read up to three numbers beyond the last channel.
        let channels = u64::from(self.out_c).next_multiple_of(4);
        let scales = if self.traversal == Traversal::VectorOneScale { 1 } else { channels };
        let requant = own_blob(blobs, self.blob, channels, self.own_scales.then_some(scales), &whole)?;
        let weights = halves(weights)?;
        Ok((requant, Part { weights, whole_k: whole_g.k, k: g.k, segments: self.segments(g, &whole_g) }))
    }

    /// Segments of the part's inputs within the whole's: their number, length and distance.
    pub(crate) fn segments(&self, g: &Tiled, whole: &Tiled) -> (usize, usize, usize) {
        if self.c == self.whole_c {
            (1, g.k, whole.k)
        } else {
            let [k_h, k_w] = g.window.kernel.map(usize::from);
            (k_h * k_w, self.c.into(), self.whole_c.into())
        }
    }
}

impl Operator for ConvWeightShared {
    fn check(&self, limits: &Limits<'_>) -> Result<u64, Rule> {
        let conv = self.conv();
        let (g, layout) = conv.layout()?;
        conv.check_places(limits, &g, &layout)?;
        require(self.one_weight_tile() || !layout.src.overlaps(layout.dst), Rule::Overlap)?;
        let weight_tile = self.weight_tile(&g)?;
        limits.disjoint(weight_tile, layout.src)?;
        limits.disjoint(weight_tile, layout.dst)?;
        let (requant, part) = self.read(limits.blobs, &g)?;
        check_requant(&requant)?;
        // If the sums are exact for all inputs, they are exact for a part of them.
        let (whole_g, _) = self.whole_layout()?;
        require(padding_is_zero(&whole_g, part.weights, [2 * whole_g.k, 0, 2]), Rule::Padding)?;
        require(exact(&whole_g, self.out_c.into(), part.weights), Rule::Quantisation)?;
        Ok(layout.work)
    }

    fn output(&self) -> Result<Span, Rule> {
        Ok(self.conv().layout()?.1.dst)
    }

    fn run(&self, memory: &mut Memory<'_>) -> Result<(), Rule> {
        let (g, layout) = self.conv().layout()?;
        let (requant, part) = self.read(memory.blobs(), &g)?;
        let scratch = (self.conv().lanes(&g)?, self.weight_tile(&g)?, self.weight_tile_blocks());
        drivers::conv_weight_shared(self, &g, &requant, &part, memory, &layout, scratch)
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
        let g = self.conv().layout()?.0;
        let lanes = self.conv().lanes(&g)?.map_or(0, |lanes| bytes(lanes).next_multiple_of(4));
        total([lanes, bytes(self.weight_tile(&g)?)])
    }

    fn in_place(&self, _: &[u8]) -> InPlace {
        if self.one_weight_tile() { self.conv().in_place(&[]) } else { InPlace::Apart }
    }
}

#[ext(DepthwiseWeightSharedPlaces)]
impl DepthwiseWeightShared {
    /// Geometry with the weight pitch of the whole.
    pub(crate) fn layout(&self) -> Result<(Planar, Layout), Rule> {
        require(self.c <= self.whole_c, Rule::Shape)?;
        let (mut g, mut layout) = self.planar().layout()?;
        g.weight_pitch = self.whole_c.into();
        let taps = product(g.window.kernel)?;
        layout.channels = self.whole_c.into();
        layout.weights = product([taps, self.whole_c.into()])?;
        Ok((g, layout))
    }

    pub(crate) fn read<'m>(&self, blobs: &'m [u8], layout: &Layout) -> Result<(Requant<'m>, &'m [i8]), Rule> {
        let (min, max) = bounds_i8(self.clamp);
        let numbers = (self.in_zp.into(), self.out_zp.into(), min, max);
        let (whole, weights) = requant_blob(blobs, self.whole, layout, true, numbers)?;
        let channels = u64::from(self.c);
        let scales = self.own_scales.then_some(channels);
        let mut requant = own_blob(blobs, self.blob, channels, scales, &whole)?;
        // A blob of one channel is read as a single scale for all, which is the same.
        let all = usize::from(self.c);
        requant.multiplier = requant.multiplier.get(..all).ok_or(Rule::BlobBounds)?;
        requant.shift = requant.shift.get(..all).ok_or(Rule::BlobBounds)?;
        Ok((requant, weights))
    }
}

impl Operator for DepthwiseWeightShared {
    fn check(&self, limits: &Limits<'_>) -> Result<u64, Rule> {
        let (g, layout) = self.layout()?;
        let planar = self.planar();
        limits.arena(&[layout.src, layout.dst])?;
        check_clamp(self.clamp)?;
        if layout.src.overlaps(layout.dst) {
            require(layout.src.start == layout.dst.start && g.in_place(&planar), Rule::Overlap)?;
        }
        let planes = planar.planes(&g)?;
        limits.disjoint(planes, layout.src)?;
        limits.disjoint(planes, layout.dst)?;
        check_requant(&self.read(limits.blobs, &layout)?.0)?;
        Ok(layout.work)
    }

    fn output(&self) -> Result<Span, Rule> {
        Ok(self.planar().layout()?.1.dst)
    }

    fn run(&self, memory: &mut Memory<'_>) -> Result<(), Rule> {
        let (g, layout) = self.layout()?;
        let (requant, weights) = self.read(memory.blobs(), &layout)?;
        let planar = self.planar();
        drivers::depthwise_planar(&planar, &g, &requant, weights, memory, &layout, planar.planes(&g)?)
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
        self.planar().scratch(&[])
    }

    fn in_place(&self, _: &[u8]) -> InPlace {
        self.planar().in_place(&[])
    }
}

const _: () = assert!(BLOB_ALIGNMENT == 4, "own numbers are followed by none that are not aligned");
