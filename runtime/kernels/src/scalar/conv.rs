//! Tiled convolutions, a pair of output pixels and a block of four channels at a time.

use super::fixed_point::{Scale, straight};
use super::tile::{self, Sums};
use crate::geometry::{Tiled, block_words};
use crate::requant::Requant;
use offshoot_format::record::{ConvSingleMultiply, ConvTiled};

/// Sums of the four channels, from a block's sums as [`tile`] leaves them.
#[inline(always)]
fn channels([both, a, others, c]: [i32; 4]) -> [i32; 4] {
    [a, both.wrapping_sub(a) >> 8, c, others.wrapping_sub(c) >> 8]
}

/// 256 times the sums of the four channels.
#[inline(always)]
fn scaled_channels([both, a, others, c]: [i32; 4]) -> [i32; 4] {
    [a << 8, both.wrapping_sub(a), c << 8, others.wrapping_sub(c)]
}

/// Outputs of the two pixels of a pair.
#[inline(always)]
fn pixels(dst: &mut [i8], pair: usize, out_c: usize) -> (&mut [i8], &mut [i8]) {
    let both = &mut dst[2 * pair * out_c..];
    let (first, second) = both.split_at_mut(out_c);
    // The last pair may have one pixel: the second pixel's outputs go nowhere.
    let end = second.len().min(out_c);
    (first, &mut second[..end])
}

/// Outputs of a second pixel from `channel` on; those of one that does not exist go to `nowhere`.
#[inline(always)]
fn rest<'a>(second: &'a mut [i8], channel: usize, nowhere: &'a mut [i8; 4]) -> &'a mut [i8] {
    second.get_mut(channel..).filter(|rest| !rest.is_empty()).unwrap_or(nowhere)
}

/// See [`crate::portable::conv_pair`].
#[inline(never)]
pub fn conv_pair(
    r: &ConvTiled,
    g: &Tiled,
    q: &Requant<'_>,
    (first_block, weights): (usize, &[i16]),
    pair: usize,
    lanes: &[i16],
    dst: &mut [i8],
) {
    let (first, second) = pixels(dst, pair, r.out_c.into());
    let mut nowhere = [0; 4];
    for (block, weights) in (first_block..).zip(weights.chunks_exact((2 * g.k).max(1))) {
        let channel = 4 * block;
        let sums = tile::pair(lanes, weights);
        let second = rest(second, channel, &mut nowhere);
        finish(&sums, q, channel, &mut first[channel..], second);
    }
}

/// Requantises a block's sums for two pixels, whose outputs are in `first` and `second` from `channel` on.
#[inline(always)]
fn finish(sums: &Sums, q: &Requant<'_>, channel: usize, first: &mut [i8], second: &mut [i8]) {
    let [p, s] = [channels(sums[0]), channels(sums[1])];
    let scales = q.multiplier[channel..].iter().zip(&q.shift[channel..]);
    let outputs = first.iter_mut().zip(second);
    for (((sum, bias), scale), (first, second)) in
        p.iter().zip(s).zip(&q.bias[channel..]).zip(scales).zip(outputs)
    {
        let scale = Scale::new(q, *scale.0, *scale.1);
        *first = scale.of_twice(sum.0.wrapping_add(*bias) << 1);
        *second = scale.of_twice(sum.1.wrapping_add(*bias) << 1);
    }
}

/// See [`crate::portable::conv_pair_single_multiply`].
#[inline(never)]
pub fn conv_pair_single_multiply(
    r: &ConvSingleMultiply,
    g: &Tiled,
    words: &[i32],
    pair: usize,
    lanes: &[i16],
    dst: &mut [i8],
) {
    let (first, second) = pixels(dst, pair, r.out_c.into());
    let size = block_words(r, g);
    let done = tile::blocks(r.wide, words, size, lanes, first, second);
    let mut nowhere = [0; 4];
    for (block, words) in words.chunks_exact(size).enumerate().skip(done) {
        let (sums, biases, multipliers): (Sums, [i32; 4], &[i32]) = if r.wide {
            let (begin, rest) = words.split_at(4);
            let (weights, end) = rest.split_at(rest.len() - 4);
            let sums = tile::pair_wide(lanes, bytemuck::cast_slice(weights));
            (sums, [begin[1], begin[0], begin[3], begin[2]], end)
        } else {
            let (begin, rest) = words.split_at(2);
            let (weights, end) = rest.split_at(rest.len() - 6);
            let sums = tile::pair(lanes, bytemuck::cast_slice(weights)).map(scaled_channels);
            (sums, [end[0], begin[0], end[1], begin[1]], &end[2..])
        };
        let second = rest(second, 4 * block, &mut nowhere);
        let outputs = first[4 * block..].iter_mut().zip(second);
        let sums = sums[0].iter().zip(sums[1]);
        for (((sum, bias), &multiplier), (first, second)) in sums.zip(biases).zip(multipliers).zip(outputs) {
            *first = straight(sum.0.wrapping_add(bias), multiplier);
            *second = straight(sum.1.wrapping_add(bias), multiplier);
        }
    }
}

/// See [`crate::portable::conv_vector`].
#[inline(never)]
pub(crate) fn conv_vector(
    g: &Tiled,
    q: &Requant<'_>,
    (first_block, weights): (usize, &[i16]),
    src: &[i8],
    dst: &mut [i8],
) {
    let block = (2 * g.k).max(1);
    for (i, weights) in weights.chunks(2 * block).enumerate() {
        let mut sums = [[0; 4]; 2];
        let (one, two) = weights.split_at(block.min(weights.len()));
        // The last block may be alone: it is computed twice.
        let (two, count) = if two.len() == block { (two, 2) } else { (one, 1) };
        tile::vector(src, one, two, &mut sums);
        for (j, sums) in sums.into_iter().enumerate().take(count) {
            let first = 4 * (first_block + 2 * i + j);
            for (channel, sum) in (first..).zip(channels(sums)) {
                let (Some(out), Some(&bias)) = (dst.get_mut(channel), q.bias.get(channel)) else { break };
                *out = Scale::of(q, channel).of_twice(sum.wrapping_add(bias) << 1);
            }
        }
    }
}
