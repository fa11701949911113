//! Chooses which output channels of a tiled convolution are computed together, and provides their weights: read from
//! the file as stored, or unpacked into the arena one weight tile at a time.

use super::conv_blocks;
use crate::weights::Layout;
use offshoot_base::{Memory, Rule, Span};
use offshoot_format::record::{ConvPacked, ConvTiled, ConvWeightShared};
use offshoot_kernels::geometry::Tiled;
use offshoot_kernels::tiles::{Blocks, Halves};
use offshoot_kernels::{Requant, portable};

/// Packed weights of 4 or 2 bits; see [`offshoot_format::packed`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Codes<'a> {
    /// 16 or 4 levels.
    pub(crate) levels: &'a [i8],
    pub(crate) codes: &'a [u8],
}

impl Codes<'_> {
    /// Bytes of a block of four channels with `k` inputs each.
    pub(crate) fn block(&self, k: usize) -> usize {
        // 2 k halves of 8 or 4 bits.
        if self.levels.len() == 16 { 2 * k } else { k }
    }

    /// For each half, the indices of the levels of its two channels, lower first.
    fn indices(&self) -> impl Iterator<Item = [usize; 2]> + '_ {
        let wide = self.levels.len() == 16;
        self.codes.iter().flat_map(move |&byte| {
            let byte = usize::from(byte);
            let both = if wide { [byte, 0] } else { [byte & 15, byte >> 4] };
            let (bits, halves) = if wide { (4, 1) } else { (2, 2) };
            both.into_iter().take(halves).map(move |code| [code & ((1 << bits) - 1), code >> bits])
        })
    }

    /// Whether the weights that pad the kernel rows are zero.
    pub(crate) fn padding_is_zero(&self, g: &Tiled) -> bool {
        let is_zero = |index: usize| self.levels.get(index) == Some(&0);
        g.segment == g.padded
            || self.indices().enumerate().all(|(i, [lower, upper])| {
                // A group of four inputs takes eight halves: 0 2 0 2 1 3 1 3.
                let input = i / 8 * 4 + (i & 1) * 2 + (i >> 2 & 1);
                input % g.padded < g.segment || is_zero(lower) && is_zero(upper)
            })
    }

    /// Whether the magnitudes of each channel's weights add up to at most `most`.
    pub(crate) fn channels_are_light(&self, g: &Tiled, most: u64) -> bool {
        let mut sums = [0u64; 4];
        self.indices().enumerate().all(|(i, pair)| {
            let at = i % (2 * g.k).max(1);
            if at == 0 {
                sums = [0; 4];
            }
            // Halves alternate in twos between the channels (A, B) and (C, D).
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
    /// Halves of the words of all the whole's blocks.
    pub(crate) weights: &'a [i16],
    /// Inputs per output of the whole.
    pub(crate) whole_k: usize,
    /// Inputs per output of the part.
    pub(crate) k: usize,
    /// Segments of the part's inputs within the whole's: their number, length and distance.
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
                // The record is checked: a segment is no longer than the distance.
                if let Some(from) = from.get(..to.len()) {
                    to.copy_from_slice(from);
                }
            }
        }
    }
}

/// For each weight tile: copy the weights, compute its outputs.
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

/// Computes all channels at once, with weights as stored.
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

/// For each weight tile: unpack the weights, compute its outputs.
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
