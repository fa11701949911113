//! Loop drivers: the order in which tiled and channel-planar convolutions visit their tensors. They borrow slices of
//! the arena for one kernel call at a time; the operator provides the scratch. If an instruction set has a kernel for
//! the whole convolution, a driver calls that instead.

#[cfg(all(test, any(target_arch = "x86_64", target_arch = "aarch64")))]
mod tests;
mod unpack;

pub(crate) use unpack::{Codes, Part, conv_packed, conv_tiled, conv_weight_shared};

use crate::weights::Layout;
use offshoot_base::{Memory, Rule, Span};
use offshoot_format::record::{ConvSingleMultiply, ConvTiled, ConvWinograd, DepthwisePlanar, Traversal};
use offshoot_format::row_major::PIXELS;
use offshoot_kernels::geometry::{Planar, Tiled};
use offshoot_kernels::tiles::{Blocks, Halves, Operands};
use offshoot_kernels::{self as kernels, ARM_DSP, ARM_MVE, DEPTHWISE_COMPLETE, Requant, portable};

/// For each pair of pixels in the record's order: gather its inputs, compute its outputs.
#[inline(always)]
pub(crate) fn conv_blocks(
    r: &ConvTiled,
    g: &Tiled,
    q: &Requant<'_>,
    blocks: Blocks<'_>,
    memory: &mut Memory<'_>,
    layout: &Layout,
    lanes: Option<Span>,
) -> Result<(), Rule> {
    if !kernels::conv_blocks(r, g, q, blocks, &mut operands(memory, layout), lanes)? && !ARM_DSP {
        conv_pairs(r, g, q, blocks, memory, layout, lanes)?;
    }
    lanes.map_or(Ok(()), |lanes| memory.clear(lanes))
}

fn operands<'r>(memory: &'r mut Memory<'_>, layout: &Layout) -> Operands<'r> {
    Operands { arena: memory.arena_mut(), src: layout.src, dst: layout.dst }
}

/// [`conv_blocks`] with the portable kernels.
fn conv_pairs(
    r: &ConvTiled,
    g: &Tiled,
    q: &Requant<'_>,
    blocks: Blocks<'_>,
    memory: &mut Memory<'_>,
    layout: &Layout,
    lanes: Option<Span>,
) -> Result<(), Rule> {
    let first = blocks.first;
    let Some(lanes) = lanes else {
        match blocks.weights {
            Halves::Stored(weights) => {
                let (src, dst) = memory.split(layout.src, layout.dst)?;
                kernels::conv_vector(g, q, (first, weights), src, dst);
            }
            Halves::Expanded(weight_tile) => {
                let (src, weights, dst) = memory.split2::<u8, i8>(layout.src, weight_tile, layout.dst)?;
                let weights = blocks.of(g, bytemuck::try_cast_slice(weights).map_err(|_| Rule::Alignment)?);
                kernels::conv_vector(g, q, (first, weights), bytemuck::cast_slice(src), dst);
            }
        }
        return Ok(());
    };
    let pairs = g.pairs();
    for i in 0..pairs {
        let pair = if r.traversal == Traversal::Backwards { pairs - 1 - i } else { i };
        let (src, gathered) = memory.split(layout.src, lanes)?;
        kernels::gather_pair(r, g, pair, src, gathered);
        match blocks.weights {
            Halves::Stored(weights) => {
                let (gathered, dst) = memory.split(lanes, layout.dst)?;
                kernels::conv_pair(r, g, q, (first, weights), pair, gathered, dst);
            }
            Halves::Expanded(weight_tile) => {
                let (gathered, weights, dst) = memory.split2(lanes, weight_tile, layout.dst)?;
                kernels::conv_pair(r, g, q, (first, blocks.of(g, weights)), pair, gathered, dst);
            }
        }
    }
    Ok(())
}

/// For each strip of pairs in the record's order: gather all inputs, compute all outputs.
pub(crate) fn conv_single_multiply(
    r: &ConvSingleMultiply,
    g: &Tiled,
    words: &[i32],
    memory: &mut Memory<'_>,
    layout: &Layout,
    spans: (Span, Option<Span>),
) -> Result<(), Rule> {
    if !kernels::conv_single_multiply(r, g, words, &mut operands(memory, layout), spans)? && !ARM_DSP {
        strips_single_multiply(r, g, words, memory, layout, spans)?;
    }
    let (lanes, weight_tile) = spans;
    let end = weight_tile.unwrap_or(lanes).end();
    memory.clear(Span { start: lanes.start, len: end - lanes.start })
}

/// [`conv_single_multiply`] with the portable kernels.
fn strips_single_multiply(
    r: &ConvSingleMultiply,
    g: &Tiled,
    words: &[i32],
    memory: &mut Memory<'_>,
    layout: &Layout,
    spans: (Span, Option<Span>),
) -> Result<(), Rule> {
    let (lanes, conv) = (spans.0, r.conv());
    let (pairs, strip) = (g.pairs(), usize::from(r.strip));
    let strips = pairs.div_ceil(strip);
    for i in 0..strips {
        let first = strip * if r.traversal == Traversal::Backwards { strips - 1 - i } else { i };
        let all = || first..(first + strip).min(pairs);
        let (src, gathered) = memory.split::<i8, i16>(layout.src, lanes)?;
        for (pair, lanes) in all().zip(gathered.chunks_exact_mut(2 * g.k)) {
            kernels::gather_pair(&conv, g, pair, src, lanes);
        }
        let (gathered, dst) = memory.split::<i16, i8>(lanes, layout.dst)?;
        for (pair, lanes) in all().zip(gathered.chunks_exact(2 * g.k)) {
            kernels::conv_pair_single_multiply(r, g, words, pair, lanes, dst);
        }
    }
    Ok(())
}

/// Convolution with row-major weights.
pub(crate) fn conv_row_major(
    r: &ConvTiled,
    g: &Tiled,
    q: &Requant<'_>,
    weights: &[i8],
    memory: &mut Memory<'_>,
    layout: &Layout,
    lanes: Option<Span>,
) -> Result<(), Rule> {
    if !kernels::conv_row_major(r, g, q, weights, &mut operands(memory, layout), lanes)? && !ARM_MVE {
        pixels_row_major(r, g, q, weights, memory, layout, lanes)?;
    }
    lanes.map_or(Ok(()), |lanes| memory.clear(lanes))
}

/// [`conv_row_major`] with the portable kernels.
fn pixels_row_major(
    r: &ConvTiled,
    g: &Tiled,
    q: &Requant<'_>,
    weights: &[i8],
    memory: &mut Memory<'_>,
    layout: &Layout,
    lanes: Option<Span>,
) -> Result<(), Rule> {
    let Some(lanes) = lanes else {
        let (src, dst) = memory.split(layout.src, layout.dst)?;
        portable::conv_row_major(g, q, weights, 0, src, dst);
        return Ok(());
    };
    let threes = g.pixels.div_ceil(PIXELS);
    for i in 0..threes {
        let first = PIXELS * if r.traversal == Traversal::Backwards { threes - 1 - i } else { i };
        let (src, gathered) = memory.split::<i8, i8>(layout.src, lanes)?;
        portable::gather_row_major(r, g, first, src, gathered);
        let (gathered, dst) = memory.split::<i8, i8>(lanes, layout.dst)?;
        portable::conv_row_major(g, q, weights, first, gathered, dst);
    }
    Ok(())
}

/// Winograd convolution by F(2, 3).
pub(crate) fn conv_winograd(
    r: &ConvWinograd,
    q: &Requant<'_>,
    weights: &[i16],
    memory: &mut Memory<'_>,
    layout: &Layout,
    lanes: Span,
) -> Result<(), Rule> {
    kernels::conv_winograd(r, q, weights, &mut operands(memory, layout), lanes)?;
    memory.clear(lanes)
}

/// Channel-planar depthwise convolution.
#[inline(always)]
pub(crate) fn depthwise_planar(
    r: &DepthwisePlanar,
    g: &Planar,
    q: &Requant<'_>,
    weights: &[i8],
    memory: &mut Memory<'_>,
    layout: &Layout,
    planes: Span,
) -> Result<(), Rule> {
    let done = kernels::depthwise_planar(r, g, q, weights, &mut operands(memory, layout), planes)?;
    if !done && !DEPTHWISE_COMPLETE {
        depthwise_bands(r, g, q, weights, memory, layout, planes)?;
    }
    memory.clear(planes)
}

/// For each channel and band of rows: gather the inputs, compute the outputs.
// Not inlined: its stack frame must not add to that of the fast path.
#[inline(never)]
fn depthwise_bands(
    r: &DepthwisePlanar,
    g: &Planar,
    q: &Requant<'_>,
    weights: &[i8],
    memory: &mut Memory<'_>,
    layout: &Layout,
    planes: Span,
) -> Result<(), Rule> {
    let (k_h, stride) = (usize::from(g.window.kernel[0]), usize::from(g.window.stride[0]));
    for n in 0..usize::from(r.n) {
        for channel in 0..usize::from(r.c) {
            let mut gathered = 0;
            for from in (0..g.out_h).step_by(g.band.max(1)) {
                let to = (from + g.band).min(g.out_h);
                let (origin, end) = (from * stride, (to - 1) * stride + k_h);
                let (src, scratch) = memory.split::<i8, i16>(layout.src, planes)?;
                let kept = gathered.max(origin) - origin;
                if kept > 0 && from > 0 {
                    let before = (from - g.band) * stride;
                    let first = (origin - before) * g.pitch;
                    if let Some(rows) = scratch.get_mut(..first + kept * g.pitch)
                        && first <= rows.len()
                    {
                        rows.copy_within(first.., 0);
                    }
                }
                portable::gather_band(r, g, (n, channel), origin, origin + kept..end, src, scratch);
                gathered = end;
                let (scratch, dst) = memory.split::<i16, i8>(planes, layout.dst)?;
                portable::depthwise_band(r, g, q, weights, (n, channel), from..to, scratch, dst);
            }
        }
    }
    Ok(())
}
