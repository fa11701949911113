//! Which output channels of a tiled convolution are computed together, and where their weights come from: from the
//! file as they are, or expanded into the arena a weight tile at a time.

use super::conv_blocks;
use crate::weights::Layout;
use offshoot_base::{Memory, Rule, Span};
use offshoot_format::record::{ConvPacked, ConvTiled, ConvWeightShared};
use offshoot_kernels::geometry::Tiled;
use offshoot_kernels::tiles::{Blocks, Halves};
use offshoot_kernels::{Requant, portable};

/// Weights of 4 or 2 bits, see [`offshoot_format::packed`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Codes<'a> {
    /// 16 or 4.
    pub(crate) levels: &'a [i8],
    pub(crate) codes: &'a [u8],
}

impl Codes<'_> {
    /// Bytes of a block of four channels with `k` inputs.
    pub(crate) fn block(&self, k: usize) -> usize {
        // 2 k halves of 8 or 4 bits.
        if self.levels.len() == 16 { 2 * k } else { k }
    }

    /// Indices of the levels of the two channels of each half, lower first.
    fn indices(&self) -> impl Iterator<Item = [usize; 2]> + '_ {
        let wide = self.levels.len() == 16;
        self.codes.iter().flat_map(move |&byte| {
            let byte = usize::from(byte);
            let both = if wide { [byte, 0] } else { [byte & 15, byte >> 4] };
            let (bits, halves) = if wide { (4, 1) } else { (2, 2) };
            both.into_iter().take(halves).map(move |code| [code & ((1 << bits) - 1), code >> bits])
        })
    }

    /// Whether the magnitudes of each channel's weights add up to `most` at most.
    pub(crate) fn channels_are_light(&self, g: &Tiled, most: u64) -> bool {
        let mut sums = [0u64; 4];
        self.indices().enumerate().all(|(i, pair)| {
            let at = i % (2 * g.k).max(1);
            if at == 0 {
                sums = [0; 4];
            }
            // Halves of channels (A, B) and (C, D) take turns of two.
            let first = i >> 1 & 1;
            for (j, index) in pair.into_iter().enumerate() {
                let level = self.levels.get(index).map_or(0, |l| l.unsigned_abs());
                sums[2 * first + j] += u64::from(level);
            }
            sums.iter().all(|&sum| sum <= most)
        })
    }
}

/// A part of the tiled weights of a larger convolution.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part<'a> {
    /// Halves of the words of all blocks of the whole.
    pub(crate) weights: &'a [i16],
    /// Inputs of one of its outputs.
    pub(crate) whole_k: usize,
    /// Inputs of an output of the part.
    pub(crate) k: usize,
    /// Stretches of inputs that the part has of each channel's, their length, and the distance between them.
    pub(crate) segments: (usize, usize, usize),
}

impl Part<'_> {
    /// Copies the weights of the blocks from `first` on into a weight tile.
    fn copy(&self, first: usize, weight_tile: &mut [i16]) {
        let (count, length, distance) = self.segments;
        let blocks = self.weights.chunks_exact((2 * self.whole_k).max(1)).skip(first);
        for (to, from) in weight_tile.chunks_exact_mut((2 * self.k).max(1)).zip(blocks) {
            let whole = from.chunks((2 * distance).max(1));
            for (to, from) in to.chunks_exact_mut((2 * length).max(1)).zip(whole).take(count) {
                // Validated: a stretch is no longer than their distance.
                if let Some(from) = from.get(..to.len()) {
                    to.copy_from_slice(from);
                }
            }
        }
    }
}

/// Tile by tile: copy, compute.
pub(crate) fn conv_weight_shared(
    r: &ConvWeightShared,
    g: &Tiled,
    q: &Requant<'_>,
    part: &Part<'_>,
    memory: &mut Memory<'_>,
    layout: &Layout,
    (lanes, weight_tile, each): (Option<Span>, Span, usize),
) -> Result<(), Rule> {
    let conv = r.conv();
    let (all, each) = (usize::from(r.out_c).div_ceil(4), each.max(1));
    for first in (0..all).step_by(each) {
        part.copy(first, memory.write(weight_tile)?);
        let blocks = Blocks { first, count: each.min(all - first), weights: Halves::Expanded(weight_tile) };
        conv_blocks(&conv, g, q, blocks, memory, layout, lanes)?;
    }
    Ok(())
}

/// All channels at once, their weights as they are stored.
pub(crate) fn conv_tiled(
    r: &ConvTiled,
    g: &Tiled,
    q: &Requant<'_>,
    weights: &[i16],
    memory: &mut Memory<'_>,
    layout: &Layout,
    lanes: Option<Span>,
) -> Result<(), Rule> {
    let count = usize::from(r.out_c).div_ceil(4);
    conv_blocks(r, g, q, Blocks { first: 0, count, weights: Halves::Stored(weights) }, memory, layout, lanes)
}

/// Tile by tile: expand, compute.
pub(crate) fn conv_packed(
    r: &ConvPacked,
    g: &Tiled,
    q: &Requant<'_>,
    codes: &Codes<'_>,
    memory: &mut Memory<'_>,
    layout: &Layout,
    (lanes, [table, weight_tile]): (Option<Span>, [Span; 2]),
) -> Result<(), Rule> {
    portable::fill_halves(codes.levels, memory.write(table)?);
    let conv = r.conv();
    let block = codes.block(g.k).max(1);
    let mut first = 0;
    for codes in codes.codes.chunks(block.saturating_mul(usize::from(r.weight_tile).max(1))) {
        let (table, halves) = memory.split::<i16, i16>(table, weight_tile)?;
        portable::expand(codes, table, halves);
        let count = codes.len() / block;
        let blocks = Blocks { first, count, weights: Halves::Expanded(weight_tile) };
        conv_blocks(&conv, g, q, blocks, memory, layout, lanes)?;
        first += count;
    }
    Ok(())
}
