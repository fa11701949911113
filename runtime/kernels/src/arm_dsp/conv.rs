//! [`ConvTiled`]: gathers the inputs of a pair of pixels, then computes their outputs.

use super::window::Windows;
use super::{drops_negatives, gather, pair, saturates, vector, zero_and_half};
use crate::geometry::Tiled;
use crate::requant::{Requant, bounded};
use crate::tiles::{Blocks, Halves, Operands};
use core::ops::Range;
use offshoot_base::Rule;
use offshoot_base::Span;
use offshoot_format::record::{ConvTiled, Traversal};

/// Whether this build has kernels for pairs, and for vectors.
const PAIRS: bool = cfg!(any(feature = "pairs-positive", feature = "pairs-signed"));
const VECTORS: bool =
    cfg!(any(feature = "vector", feature = "vector-one-scale-positive", feature = "vector-one-scale-signed"));

/// See [`crate::conv_blocks`].
// Inlined: a call would pass its arguments in memory, and copying them costs 500 instructions.
#[inline(always)]
pub(crate) fn conv_blocks(
    r: &ConvTiled,
    g: &Tiled,
    q: &Requant<'_>,
    blocks: Blocks<'_>,
    operands: &mut Operands<'_>,
    lanes: Option<Span>,
) -> Result<(), Rule> {
    let kernels = if lanes.is_some() { PAIRS } else { VECTORS };
    if !kernels || !r.is_built() {
        return Err(Rule::Format);
    }
    let weight_tile = match blocks.weights {
        Halves::Stored(_) => operands.dst,
        Halves::Expanded(weight_tile) => weight_tile,
    };
    let (input, output) = (operands.src, operands.dst);
    let arena = operands.region(&[weight_tile, lanes.unwrap_or(weight_tile)])?;
    let readable = arena.len() - input.start;
    let arena = arena.as_mut_ptr();
    // SAFETY: `region` has checked that all spans lie in the arena.
    let place = |span: Span| unsafe { arena.add(span.start) };
    let (src, dst) = (place(input), place(output));
    let weights = match blocks.weights {
        Halves::Stored(weights) => weights.as_ptr(),
        Halves::Expanded(weight_tile) => place(weight_tile).cast::<i16>().cast_const(),
    };
    let channels = 4 * blocks.first..usize::from(r.out_c).min(4 * (blocks.first + blocks.count));
    let Some(lanes) = lanes.filter(|_| PAIRS) else {
        if !VECTORS {
            return Err(Rule::Format);
        }
        // SAFETY: the record's input; the output of these channels, which shares no byte with it.
        let (src, out) = unsafe {
            (
                core::slice::from_raw_parts(src.cast::<i8>(), input.len),
                core::slice::from_raw_parts_mut(dst.add(channels.start).cast::<i8>(), channels.len()),
            )
        };
        conv_vector(r, g, q, weights, channels.start, src, out);
        return Ok(());
    };
    let lanes = place(lanes).cast::<i16>();
    let windows = Windows::new(r, g, src.cast(), readable, lanes);
    // SAFETY: the first of these channels.
    let dst = unsafe { dst.add(channels.start) };
    let computer = Computer::new(g, q, weights, lanes, usize::from(r.out_c), channels);
    let (pairs, out_c) = (g.pairs(), usize::from(r.out_c));
    let backwards = r.traversal == Traversal::Backwards;
    let mut done = 0;
    while done < pairs {
        let index = if backwards { pairs - 1 - done } else { done };
        let site = windows.site(2 * index);
        // SAFETY: the pixels lie in the output, whose length the record gives.
        let out = |pixel: usize| unsafe { dst.add(pixel * out_c).cast::<i8>() };
        let run = windows.run(&site, backwards).min(pairs - done);
        if run > 0 && 2 * index + 1 < g.pixels {
            let rows = windows.rows(&site);
            strip(rows, &computer, [out(2 * index), out(2 * index + 1)], run, windows.pair_step(), backwards);
            done += run;
            continue;
        }
        let second = (2 * index + 1).min(g.pixels - 1);
        windows.gather([site, windows.site(second)]);
        // SAFETY: as above.
        unsafe { computer.pair([out(2 * index), out(second)]) };
        done += 1;
    }
    Ok(())
}

/// Computes a run of pairs whose windows are at equal distances.
#[inline(never)]
fn strip(
    mut rows: gather::Rows,
    computer: &Computer<'_>,
    mut out: [*mut i8; 2],
    pairs: usize,
    step: usize,
    backwards: bool,
) {
    let out_step = 2 * computer.pitch;
    let (step, out_step) =
        if backwards { (step.wrapping_neg(), out_step.wrapping_neg()) } else { (step, out_step) };
    for _ in 0..pairs {
        // SAFETY: `run` has found that the windows lie in the input; the outputs lie in theirs.
        unsafe {
            gather::both(&rows);
            computer.pair(out);
        }
        rows.src = rows.src.map(|p| p.wrapping_add(step));
        out = out.map(|p| p.wrapping_add(out_step));
    }
}

/// Computes the outputs of pairs.
struct Computer<'r> {
    q: &'r Requant<'r>,
    kernel: unsafe extern "C" fn(*const pair::Pair),
    /// Pointers to the first block.
    first: pair::Pair,
    /// Channels of a pixel.
    pitch: usize,
    /// Number of channels to compute.
    channels: usize,
}

impl<'r> Computer<'r> {
    fn new(
        g: &Tiled,
        q: &'r Requant<'r>,
        weights: *const i16,
        lanes: *const i16,
        pitch: usize,
        channels: Range<usize>,
    ) -> Self {
        let first = pair::Pair {
            weights,
            // SAFETY: two lanes of `k` inputs.
            lanes: [lanes, unsafe { lanes.add(2 * g.k) }],
            entry: pair::entry(g.k / 4),
            bias: q.bias[channels.start..].as_ptr(),
            multiplier: q.multiplier[channels.start..].as_ptr(),
            shift: q.shift[channels.start..].as_ptr(),
            out: [core::ptr::null_mut(); 2],
            blocks: (channels.len() / 4) as u32,
            zero_and_half: zero_and_half(q),
        };
        // A record without a kernel in this build has been refused.
        let positive = cfg!(feature = "pairs-positive");
        let signed = cfg!(feature = "pairs-signed");
        let kernel = if positive && (drops_negatives(q) || !signed) { pair::run_positive } else { pair::run };
        Self { q, kernel, first, pitch, channels: channels.len() }
    }

    /// Computes the outputs of the pair in the lanes.
    ///
    /// # Safety
    /// `out` is valid for the channels of two pixels; weights, lanes, biases, multipliers and shifts are as long as the
    /// record says.
    #[inline(always)]
    unsafe fn pair(&self, out: [*mut i8; 2]) {
        // SAFETY: as above.
        unsafe {
            if self.first.blocks > 0 {
                (self.kernel)(&pair::Pair { out, ..self.first });
            }
            if !self.channels.is_multiple_of(4) {
                self.tail(out);
            }
            if !saturates(self.q) {
                for out in out {
                    clamp(self.q, core::slice::from_raw_parts_mut(out, self.channels));
                }
            }
        }
    }

    /// Computes the last block, which has fewer than four channels.
    ///
    /// # Safety
    /// As for [`Self::pair`]. Reads up to three biases, multipliers and shifts too many: a block of weights of at least
    /// 16 bytes follows them.
    unsafe fn tail(&self, out: [*mut i8; 2]) {
        let (first, tail) = (&self.first, self.channels % 4);
        let done = self.channels - tail;
        let mut block = [[0i8; 4]; 2];
        // SAFETY: as above.
        unsafe {
            let length = first.lanes[1].offset_from(first.lanes[0]) as usize;
            (self.kernel)(&pair::Pair {
                weights: first.weights.add(done / 4 * length),
                bias: first.bias.add(done),
                multiplier: first.multiplier.add(done),
                shift: first.shift.add(done),
                out: [block[0].as_mut_ptr(), block[1].as_mut_ptr()],
                blocks: 1,
                ..*first
            });
            for (out, block) in out.iter().zip(&block) {
                core::ptr::copy_nonoverlapping(block.as_ptr(), out.add(done), tail);
            }
        }
    }
}

fn clamp(q: &Requant<'_>, out: &mut [i8]) {
    for v in out {
        *v = bounded((*v).into(), q.min, q.max);
    }
}

fn conv_vector(
    r: &ConvTiled,
    g: &Tiled,
    q: &Requant<'_>,
    weights: *const i16,
    first: usize,
    src: &[i8],
    dst: &mut [i8],
) {
    let out_c = dst.len();
    // All channels may share one multiplier.
    let scales = if r.traversal == Traversal::VectorOneScale { 0 } else { first };
    // No check fails on a checked record.
    let (Some(src), Some(bias)) = (src.get(..g.k), q.bias.get(first..)) else { return };
    let (Some(multiplier), Some(shift)) = (q.multiplier.get(scales..), q.shift.get(scales..)) else { return };
    let mut args = vector::Vector {
        src: src.as_ptr(),
        weights,
        bias: bias.as_ptr(),
        multiplier: multiplier.as_ptr(),
        shift: shift.as_ptr(),
        out: dst.as_mut_ptr(),
        blocks: (out_c / 4) as u32,
        end: src.as_ptr_range().end,
        entry: vector::entry(g.k / 4),
        zero_and_half: zero_and_half(q),
    };
    let tail = out_c % 4;
    // A record without a kernel in this build has been refused.
    let (all_scales, positive) = (cfg!(feature = "vector"), cfg!(feature = "vector-one-scale-positive"));
    let signed = cfg!(feature = "vector-one-scale-signed");
    let kernel = if all_scales && (r.traversal == Traversal::Vector || !(positive || signed)) {
        vector::run
    } else if positive && (drops_negatives(q) || !signed) {
        vector::run_one_scale_positive
    } else {
        vector::run_one_scale
    };
    // SAFETY: as in `Computer::pair`.
    unsafe {
        if args.blocks > 0 {
            kernel(&mut args);
        }
        if tail > 0 {
            let mut block = [0i8; 4];
            args.out = block.as_mut_ptr();
            args.blocks = 1;
            kernel(&mut args);
            dst[out_c - tail..].copy_from_slice(&block[..tail]);
        }
    }
    if !saturates(q) {
        clamp(q, dst);
    }
}
