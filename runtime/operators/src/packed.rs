//! [`ConvPacked`]: convolution with weights of 4 or 2 bits.
//!
//! Rules, besides those of [`ConvTiled`](offshoot_format::record::ConvTiled): 4 or 2 bits; no level of -128; at least
//! one block per weight tile; the output overlaps the input only if one weight tile holds all blocks.

use super::tiled::{ConvTiledPlaces as _, ConvTiledRules as _};
use super::tiled::{check_requant, scratch};
use super::weights::Layout;
use crate::drivers;
use crate::drivers::Codes;
use crate::operator::{InPlace, Operator, area, bytes, outputs, total};
use easy_ext::ext;
use offshoot_base::{Limits, Memory, Rule, Span, product, require};
use offshoot_format::record::{ConvPacked, DType};
use offshoot_format::tiled::MOST_WEIGHT;
use offshoot_kernels::Requant;
use offshoot_kernels::geometry::Tiled;

#[ext(ConvPackedPlaces)]
impl ConvPacked {
    /// Number of levels.
    pub(crate) fn levels(&self) -> usize {
        1 << self.bits.min(4)
    }

    /// Sizes. `weights` of the layout counts the bytes after the shifts: levels and codes.
    pub(crate) fn layout(&self) -> Result<(Tiled, Layout), Rule> {
        require(matches!(self.bits, 2 | 4) && self.weight_tile > 0, Rule::Format)?;
        let (g, mut layout) = self.conv().layout()?;
        // A half holds two weights.
        let codes = product([layout.weights / 8, self.bits.into()])?;
        layout.weights = self.levels() as u64 + codes;
        Ok((g, layout))
    }

    /// Number of blocks of four channels.
    pub(crate) fn blocks(&self) -> usize {
        usize::from(self.out_c).div_ceil(4)
    }

    /// Whether one weight tile holds all blocks, so that the input is read only once.
    pub(crate) fn one_weight_tile(&self) -> bool {
        usize::from(self.weight_tile) >= self.blocks()
    }

    /// Scratch for the table of halves, and for the unpacked weights of a tile.
    pub(crate) fn weight_tile(&self, g: &Tiled) -> Result<[Span; 2], Rule> {
        let lanes = self.conv().lanes(g)?.map_or(0, |lanes| lanes.len);
        let before = u32::try_from(lanes.div_ceil(4)).map_err(|_| Rule::ArenaBounds)?;
        let at = self.scratch.checked_add(before).ok_or(Rule::ArenaBounds)?;
        let halves = 1u64 << (2 * self.bits.min(4));
        let table = scratch(at, halves)?;
        let blocks = usize::from(self.weight_tile).min(self.blocks());
        // 16 or 256 halves are a whole number of words.
        let after = at.checked_add(halves as u32 / 2).ok_or(Rule::ArenaBounds)?;
        Ok([table, scratch(after, product([2 * blocks as u64, g.k as u64])?)?])
    }

    pub(crate) fn requant<'m>(
        &self,
        blobs: &'m [u8],
        layout: &Layout,
    ) -> Result<(Requant<'m>, Codes<'m>), Rule> {
        let (requant, rest) = self.conv().requant(blobs, layout)?;
        let (levels, codes) = rest.split_at_checked(self.levels()).ok_or(Rule::BlobBounds)?;
        Ok((requant, Codes { levels, codes: bytemuck::cast_slice(codes) }))
    }
}

impl Operator for ConvPacked {
    fn check(&self, limits: &Limits<'_>) -> Result<u64, Rule> {
        let (g, layout) = self.layout()?;
        self.conv().check_places(limits, &g, &layout)?;
        require(self.one_weight_tile() || !layout.src.overlaps(layout.dst), Rule::Overlap)?;
        for span in self.weight_tile(&g)? {
            limits.disjoint(span, layout.src)?;
            limits.disjoint(span, layout.dst)?;
        }
        let (requant, codes) = self.requant(limits.blobs, &layout)?;
        check_requant(&requant)?;
        require(!codes.levels.contains(&i8::MIN), Rule::Quantisation)?;
        let most = codes.levels.iter().map(|l| u64::from(l.unsigned_abs())).max();
        let light = most.is_some_and(|most| most * (g.k as u64) <= MOST_WEIGHT);
        require(light || codes.channels_are_light(&g, MOST_WEIGHT), Rule::Quantisation)?;
        require(codes.padding_is_zero(&g), Rule::Padding)?;
        Ok(layout.work)
    }

    fn output(&self) -> Result<Span, Rule> {
        Ok(self.layout()?.1.dst)
    }

    fn run(&self, memory: &mut Memory<'_>) -> Result<(), Rule> {
        let (g, layout) = self.layout()?;
        let (requant, codes) = self.requant(memory.blobs(), &layout)?;
        let scratch = (self.conv().lanes(&g)?, self.weight_tile(&g)?);
        drivers::conv_packed(self, &g, &requant, &codes, memory, &layout, scratch)
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
        let [table, tile] = self.weight_tile(&g)?;
        total([lanes, bytes(table), bytes(tile)])
    }

    fn in_place(&self, _: &[u8]) -> InPlace {
        if self.one_weight_tile() { self.conv().in_place(&[]) } else { InPlace::Apart }
    }
}
