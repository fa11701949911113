//! Tiled convolutions and channel-planar depthwise convolutions: see their records for layouts and order.

use super::fixed_point::multiply_by_quantized_multiplier;
use crate::geometry::{Planar, Tiled, block_words, lane_index};
use crate::requant::{Requant, bounded};
use offshoot_format::record::{ConvSingleMultiply, ConvTiled, DepthwisePlanar};
use offshoot_format::single_multiply::SHIFT;

/// Adds the bias to a sum and requantises it. If there are no shifts, see [`offshoot_format::single_multiply`].
pub(crate) fn finish_sum(sum: i32, q: &Requant<'_>, channel: usize) -> i8 {
    if q.shift.is_empty() {
        let scaled = sum.wrapping_mul(256).wrapping_add(q.bias(channel));
        return straight(scaled, q.multiplier.get(channel).copied().unwrap_or(0));
    }
    requantise(sum.wrapping_add(q.bias(channel)), q, channel)
}

/// Output by exact single-multiply requantisation of 256 times the sum with its bias; see
/// [`offshoot_format::single_multiply`].
fn straight(scaled: i32, multiplier: i32) -> i8 {
    let high = (i64::from(scaled) * i64::from(multiplier)) >> (32 + SHIFT);
    high.clamp(i8::MIN.into(), i8::MAX.into()) as i8
}

pub(crate) fn requantise(acc: i32, q: &Requant<'_>, channel: usize) -> i8 {
    let Some((multiplier, shift)) = q.scale_or_none(channel) else { return 0 };
    let v = multiply_by_quantized_multiplier(acc, multiplier, shift).wrapping_add(q.out_zp);
    bounded(v, q.min, q.max)
}

/// Gathers the inputs of output pixels `2 · pair` and `2 · pair + 1` into `lanes`. If the second does not exist,
/// repeats the last pixel.
pub fn gather_pair(r: &ConvTiled, g: &Tiled, pair: usize, src: &[i8], lanes: &mut [i16]) {
    for lane in 0..2 {
        let position = g.position((2 * pair + lane).min(g.pixels.saturating_sub(1)));
        for ky in 0..usize::from(g.window.kernel[0]) {
            let s = g.segment(r, position, ky);
            let base = ky * g.padded;
            for i in 0..g.padded {
                let inside = i.checked_sub(s.before).filter(|&j| j < s.inside);
                let value = inside.map_or(r.in_zp, |j| src[s.at + j]);
                lanes[lane_index(base + i, lane)] = i16::from(value);
            }
        }
    }
}

/// Accumulators of a block of four channels A to D for one pixel: `256·S_B + S_A`, `S_A`, `256·S_D + S_C`, `S_C`.
type Sums = [i32; 4];

/// Adds an input's products with the 16-bit half of each pair of channels.
#[inline(always)]
fn accumulate(sums: &mut Sums, x: i32, ab: i16, cd: i16) {
    let add = |sum: &mut i32, w: i32| *sum = sum.wrapping_add(x.wrapping_mul(w));
    add(&mut sums[0], ab.into());
    add(&mut sums[1], (ab as i8).into());
    add(&mut sums[2], cd.into());
    add(&mut sums[3], (cd as i8).into());
}

/// The outputs of a block's channels.
fn finish(sums: &Sums, q: &Requant<'_>, block: usize, out: &mut [i8]) {
    let upper = |both: i32, lower: i32| both.wrapping_sub(lower) >> 8;
    let all = [sums[1], upper(sums[0], sums[1]), sums[3], upper(sums[2], sums[3])];
    for (i, (out, sum)) in out.iter_mut().zip(all).enumerate() {
        let channel = 4 * block + i;
        *out = requantise(sum.wrapping_add(q.bias[channel]), q, channel);
    }
}

/// Computes a pair's outputs from its lanes, for the blocks in `weights`, which begin at block `first_block`. `dst` is
/// the whole output.
pub fn conv_pair(
    r: &ConvTiled,
    g: &Tiled,
    q: &Requant<'_>,
    (first_block, weights): (usize, &[i16]),
    pair: usize,
    lanes: &[i16],
    dst: &mut [i8],
) {
    let out_c = usize::from(r.out_c);
    let pixels = &mut dst[2 * pair * out_c..];
    let (first, second) = pixels.split_at_mut(out_c);
    let mut second = second.get_mut(..out_c);
    for (block, weights) in (first_block..).zip(weights.chunks_exact((2 * g.k).max(1))) {
        let mut sums = [[0; 4]; 2];
        for (x, w) in lanes.chunks_exact(4).zip(weights.chunks_exact(4)) {
            for (sums, x) in sums.iter_mut().zip(x.chunks_exact(2)) {
                accumulate(sums, x[0].into(), w[0], w[2]);
                accumulate(sums, x[1].into(), w[1], w[3]);
            }
        }
        finish(&sums[0], q, block, &mut first[4 * block..]);
        if let Some(second) = &mut second {
            finish(&sums[1], q, block, &mut second[4 * block..]);
        }
    }
}

/// The sums of a block of four channels for one pixel of the pair with inputs `lanes`.
fn block_sums(lanes: &[i16], pixel: usize, weights: &[i16]) -> Sums {
    let mut sums = [0; 4];
    for (x, w) in lanes.chunks_exact(4).zip(weights.chunks_exact(4)) {
        accumulate(&mut sums, x[2 * pixel].into(), w[0], w[2]);
        accumulate(&mut sums, x[2 * pixel + 1].into(), w[1], w[3]);
    }
    sums
}

/// Computes a pair's outputs from its lanes for [`offshoot_format::record::ConvSingleMultiply`]. `words` holds all
/// blocks; `dst` is the whole output.
pub fn conv_pair_single_multiply(
    r: &ConvSingleMultiply,
    g: &Tiled,
    words: &[i32],
    pair: usize,
    lanes: &[i16],
    dst: &mut [i8],
) {
    let out_c = usize::from(r.out_c);
    let pixels = &mut dst[2 * pair * out_c..];
    for (pixel, out) in pixels.chunks_mut(out_c.max(1)).take(2).enumerate() {
        for (out, words) in out.chunks_mut(4).zip(words.chunks_exact(block_words(r, g))) {
            let (scaled, multipliers) =
                if r.wide { wide_sums(words, pixel, lanes) } else { sums(words, pixel, lanes) };
            for ((out, scaled), &multiplier) in out.iter_mut().zip(scaled).zip(multipliers) {
                *out = straight(scaled, multiplier);
            }
        }
    }
}

/// 256 times the sums of a block with its biases; and its multipliers.
fn sums<'w>(words: &'w [i32], pixel: usize, lanes: &[i16]) -> ([i32; 4], &'w [i32]) {
    let (begin, rest) = words.split_at(2);
    let (weights, end) = rest.split_at(rest.len() - 6);
    let sums = block_sums(lanes, pixel, bytemuck::cast_slice(weights));
    let upper = |both: i32, lower: i32, bias: i32| both.wrapping_sub(lower).wrapping_add(bias);
    let lower = |lower: i32, bias: i32| lower.wrapping_mul(256).wrapping_add(bias);
    let all = [
        lower(sums[1], end[0]),
        upper(sums[0], sums[1], begin[0]),
        lower(sums[3], end[1]),
        upper(sums[2], sums[3], begin[1]),
    ];
    (all, &end[2..])
}

/// Like [`sums`], for a block of wide weights.
fn wide_sums<'w>(words: &'w [i32], pixel: usize, lanes: &[i16]) -> ([i32; 4], &'w [i32]) {
    let (begin, rest) = words.split_at(4);
    let (weights, end) = rest.split_at(rest.len() - 4);
    let mut sums = [begin[1], begin[0], begin[3], begin[2]];
    // Two inputs of each pixel at a time, with two weights of each channel.
    let weights: &[i16] = bytemuck::cast_slice(weights);
    for (x, w) in lanes.chunks_exact(4).zip(weights.chunks_exact(8)) {
        for (sum, w) in sums.iter_mut().zip(w.chunks_exact(2)) {
            for (i, &w) in w.iter().enumerate() {
                *sum = sum.wrapping_add(i32::from(x[2 * pixel + i]).wrapping_mul(w.into()));
            }
        }
    }
    (sums, end)
}

/// Computes the only output pixel of a convolution without gathering; blocks as for [`conv_pair`].
pub fn conv_vector(
    g: &Tiled,
    q: &Requant<'_>,
    (first_block, weights): (usize, &[i16]),
    src: &[i8],
    dst: &mut [i8],
) {
    for (block, weights) in (first_block..).zip(weights.chunks_exact((2 * g.k).max(1))) {
        let mut sums = [0; 4];
        for (x, w) in src.chunks_exact(4).zip(weights.chunks_exact(8)) {
            for (i, &x) in x.iter().enumerate() {
                let at = (i & 1) * 4 + (i >> 1);
                accumulate(&mut sums, x.into(), w[at], w[at + 2]);
            }
        }
        finish(&sums, q, block, &mut dst[4 * block..]);
    }
}

/// Gathers rows `from..to` of the padded plane of one channel of image `n` into the scratch, whose first row is row
/// `origin` of the padded plane.
pub fn gather_band(
    r: &DepthwisePlanar,
    g: &Planar,
    (n, channel): (usize, usize),
    origin: usize,
    rows: core::ops::Range<usize>,
    src: &[i8],
    scratch: &mut [i16],
) {
    let (h, w, c) = (usize::from(r.h), usize::from(r.w), usize::from(r.c));
    let [top, left, ..] = g.window.pad.map(usize::from);
    for row in rows {
        // The scratch holds the rows, and the input its image, of a checked record.
        let line = scratch.get_mut((row - origin) * g.pitch..).and_then(|rest| rest.get_mut(..g.pitch));
        let Some(line) = line else { return };
        line.fill(i16::from(r.in_zp));
        let y = row.wrapping_sub(top);
        if y < h {
            let pixels = src.get((n * h + y) * w * c + channel..).unwrap_or(&[]).iter().step_by(c.max(1));
            for (value, pixel) in line.iter_mut().skip(left).take(w).zip(pixels) {
                *value = i16::from(*pixel);
            }
        }
    }
}

/// Computes output rows `from..to` of one channel of image `n` from the scratch, whose first row is padded row `from ·
/// stride`.
// Out of line: on cores with few registers the loops spill where they share a frame with the driver.
#[inline(never)]
pub fn depthwise_band(
    r: &DepthwisePlanar,
    g: &Planar,
    q: &Requant<'_>,
    weights: &[i8],
    (n, channel): (usize, usize),
    rows: core::ops::Range<usize>,
    scratch: &[i16],
    dst: &mut [i8],
) {
    let c = usize::from(r.c);
    let [k_h, k_w] = g.window.kernel.map(usize::from);
    let [stride_h, stride_w] = g.window.stride.map(usize::from);
    for y in rows.clone() {
        let band = scratch.get((y - rows.start) * stride_h * g.pitch..).unwrap_or(&[]);
        for x in 0..g.out_w {
            let mut acc = 0i32;
            for ky in 0..k_h {
                for kx in 0..k_w {
                    // All are there in a checked record; written so that no panic is linked.
                    let value = band.get(ky * g.pitch + x * stride_w + kx).copied().unwrap_or(0);
                    let weight =
                        weights.get((ky * k_w + kx) * g.weight_pitch + channel).copied().unwrap_or(0);
                    acc = acc.wrapping_add(i32::from(value) * i32::from(weight));
                }
            }
            if let Some(to) = dst.get_mut(((n * g.out_h + y) * g.out_w + x) * c + channel) {
                *to = finish_sum(acc, q, channel);
            }
        }
    }
}
