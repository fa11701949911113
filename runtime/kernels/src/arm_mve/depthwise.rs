//! [`DepthwisePlanar`]: depthwise convolutions with windows up to 3×3 and strides of 1 or 2.
//!
//! Eight channels at a time, rows of the padded input are gathered in pairs, so that the two bytes of a channel and
//! column lie together. One gather load then reads four columns of two pairs, a patch of 4×4 bytes. With stride 1 it
//! holds the inputs of 2×2 outputs: four dot products with the weights of the window in four places. With stride 2 it
//! holds those of one output.

use super::band::{self, Band, Load, interleave};
use super::gather::copy;
use super::requantise::saturates_at_zero_point;
use crate::geometry::{Planar, RowPairs};
use crate::requant::Requant;
use crate::tiles::Operands;
use offshoot_base::{Rule, Span};
use offshoot_format::record::DepthwisePlanar;

/// Channels that are gathered together.
const GROUP: usize = RowPairs::CHANNELS;
/// Bytes of a column of a pair of rows.
const COLUMN: usize = RowPairs::COLUMN;

/// See [`crate::depthwise_planar`].
///
/// # Errors
/// [`Rule::ArenaBounds`] for spans beyond the arena.
#[inline(never)]
pub(crate) fn depthwise_planar(
    r: &DepthwisePlanar,
    g: &Planar,
    q: &Requant<'_>,
    weights: &[i8],
    operands: &mut Operands<'_>,
    planes: Span,
) -> Result<bool, Rule> {
    let c = usize::from(r.c);
    let taps = g.window.kernel.map(usize::from).iter().product::<usize>();
    let known = [q.bias.len(), q.multiplier.len(), q.shift.len()].iter().all(|&len| len == c)
        && taps > 0
        && weights.len() >= (taps - 1) * g.weight_pitch + c;
    if known && super::line::depthwise(r, g, q, weights, operands, planes)? {
        return Ok(true);
    }
    let Some(pairs) = g.row_pairs(r).filter(|_| known) else { return Ok(false) };
    // A step needs two pairs.
    let slots = (planes.len / pairs.bytes()).min(pairs.steps + 1);
    if slots < 2 {
        return Ok(false);
    }
    let (src, dst) = (operands.src, operands.dst);
    let image = usize::from(r.h) * usize::from(r.w) * c;
    let result = g.out_h * g.out_w * c;
    let n = usize::from(r.n);
    if src.len < n * image || dst.len < n * result {
        return Err(Rule::ArenaBounds);
    }
    let arena = operands.region(&[planes])?.as_mut_ptr().cast::<i8>();
    // SAFETY: the spans lie in the arena and hold all images, and the scratch all slots of the pairs.
    unsafe {
        let walk = Walk {
            r,
            g,
            q,
            weights,
            pairs,
            slots,
            zeros: [r.in_zp; GROUP],
            scratch: arena.add(planes.start),
        };
        walk.pad();
        for i in 0..n {
            walk.image(arena.add(src.start + i * image), arena.add(dst.start + i * result));
        }
    }
    Ok(true)
}

struct Walk<'w> {
    r: &'w DepthwisePlanar,
    g: &'w Planar,
    q: &'w Requant<'w>,
    weights: &'w [i8],
    pairs: RowPairs,
    /// Pairs of rows that the scratch holds.
    slots: usize,
    /// Inputs of a column in the padding.
    zeros: [i8; GROUP],
    scratch: *mut i8,
}

impl Walk<'_> {
    /// The columns of the padding, which stay as they are.
    ///
    /// # Safety
    /// The scratch holds all slots.
    unsafe fn pad(&self) {
        let left = usize::from(self.g.window.pad[1]);
        let right = left + usize::from(self.r.w);
        let zeros = self.zeros.as_ptr();
        for slot in 0..self.slots {
            for (from, to) in [(0, left), (right, self.pairs.columns)] {
                if from < to {
                    let load = Load {
                        rows: [zeros; 2],
                        columns: (to - from) as u32,
                        steps: [0; 2],
                        channels: GROUP as u32,
                    };
                    // SAFETY: these columns lie in the slot.
                    unsafe { interleave(&load, self.scratch.add(slot * self.pairs.bytes() + from * COLUMN)) };
                }
            }
        }
    }

    /// All channels of an image.
    ///
    /// # Safety
    /// `src` and `dst` are an image's input and output.
    unsafe fn image(&self, src: *const i8, dst: *mut i8) {
        let c = usize::from(self.r.c);
        let most = self.slots - 1;
        for channel in (0..c).step_by(GROUP) {
            let count = (c - channel).min(GROUP);
            for first in (0..self.pairs.steps).step_by(most) {
                let steps = (self.pairs.steps - first).min(most);
                // SAFETY: all places are those of the pairs.
                unsafe {
                    if first > 0 {
                        // The last pair of the band before is the first of this one.
                        let slot = self.pairs.bytes();
                        copy(self.scratch.add(most * slot), self.scratch, slot);
                    }
                    for slot in usize::from(first > 0)..=steps {
                        self.load(src.add(channel), slot, 2 * (first + slot), count);
                    }
                    self.band(dst, (channel, count), first, steps);
                }
            }
        }
    }

    /// Gathers the rows from `row` of the padded input into a slot.
    ///
    /// # Safety
    /// `src` is the first input of `channels` channels.
    #[inline(always)]
    unsafe fn load(&self, src: *const i8, slot: usize, row: usize, channels: usize) {
        let (h, w, c) = (usize::from(self.r.h), usize::from(self.r.w), usize::from(self.r.c));
        let [top, left, ..] = self.g.window.pad.map(usize::from);
        let mut load = Load {
            rows: [self.zeros.as_ptr(); 2],
            columns: w as u32,
            steps: [0; 2],
            channels: channels as u32,
        };
        for i in 0..2 {
            let y = (row + i).wrapping_sub(top);
            if y < h {
                // SAFETY: a row of the image.
                load.rows[i] = unsafe { src.add(y * w * c) };
                load.steps[i] = c as u32;
            }
        }
        // SAFETY: the columns of the image lie in the slot.
        unsafe { interleave(&load, self.scratch.add(slot * self.pairs.bytes() + left * COLUMN)) };
    }

    /// Computes `steps` steps of `count` channels from the slots.
    ///
    /// # Safety
    /// `dst` is the image's output; the slots hold the rows of these steps.
    unsafe fn band(&self, dst: *mut i8, (channel, count): (usize, usize), first: usize, steps: usize) {
        let (g, q, pairs) = (self.g, self.q, &self.pairs);
        let (c, pitch) = (usize::from(self.r.c), g.weight_pitch);
        let [k_h, k_w] = g.window.kernel.map(usize::from);
        let row = g.out_w * c;
        let rows = if pairs.unit { 2 } else { 1 };
        let across = if pairs.unit { 2 } else { 4 };
        let rest = g.out_w % across;
        // Two or four bits of the predicate belong to a lane of two or four bytes.
        let tap =
            |ky: usize, kx: usize| if ky < k_h && kx < k_w { 3 << (2 * (4 * (kx % 2) + ky)) } else { 0 };
        let mask = |columns: &[usize]| {
            columns
                .iter()
                .flat_map(|&kx| (0..3).map(move |ky| (ky, kx)))
                .fold(0, |m, (ky, kx)| m | tap(ky, kx))
        };
        let last = first + steps == pairs.steps && pairs.unit && g.out_h % 2 == 1;
        let mut band = Band {
            patch: self.scratch,
            // SAFETY: the first output of these channels and steps.
            out: unsafe { dst.add(first * rows * row + channel) },
            // SAFETY: as checked.
            weights: unsafe { self.weights.as_ptr().add(channel) },
            bias: q.bias[channel..].as_ptr(),
            multiplier: q.multiplier[channel..].as_ptr(),
            shift: q.shift[channel..].as_ptr(),
            channels: count as u32,
            steps: (steps - usize::from(last)) as u32,
            slot: pairs.bytes() as u32,
            out_step: (rows * row) as u32,
            column: (across * c) as u32,
            vectors: (g.out_w / across) as u32,
            tail: match (pairs.unit, rest) {
                (_, 0) => 0,
                (true, _) => 0x0f0f,
                (false, rest) => (1 << (4 * rest)) - 1,
            },
            last: if last { 0xff } else { 0 },
            zero: q.out_zp,
            min: q.min,
            max: q.max,
            third: 2 * pitch as u32,
            taps: [mask(&[0, 1]), mask(&[2])],
            patch_offsets: core::array::from_fn(|i| (i / 2 * COLUMN + i % 2 * pairs.bytes()) as u16),
            out_offsets: core::array::from_fn(|i| {
                (if pairs.unit { i % 2 * c + i / 2 * row } else { i * c }) as u32
            }),
            weight_offsets: core::array::from_fn(|i| ((i % 4).min(k_h - 1) * k_w + i / 4) * pitch)
                .map(|o| o as u16),
        };
        let saturates = saturates_at_zero_point(q.out_zp, q.min, q.max);
        let run = match (pairs.unit, saturates) {
            (true, true) => band::unit_positive,
            (true, false) => band::unit_signed,
            (false, true) => band::double_positive,
            (false, false) => band::double_signed,
        };
        // SAFETY: all that the band names exists.
        unsafe { run(&mut band) };
    }
}
