//! Convolution by Winograd F(2, 3): see [`ConvWinograd`].

use super::fixed_point::rounding_divide_by_pot;
use crate::geometry::extent;
use crate::requant::{Requant, bounded};
use offshoot_format::record::{ConvWinograd, Window};

/// int8 convolution by F(2, 3). Does not use the scratch.
// Out of line: on cores with few registers the loops spill where they share a frame with the driver.
#[inline(never)]
pub fn conv_winograd(r: &ConvWinograd, q: &Requant<'_>, weights: &[i16], src: &[i8], dst: &mut [i8]) {
    let window = Window::from(r.window);
    let (h, w, c) = (usize::from(r.h), usize::from(r.w), usize::from(r.c));
    let (out_h, out_w, out_c) = (extent(h, &window, 0), extent(w, &window, 1), usize::from(r.out_c));
    let [top, left, ..] = window.pad.map(usize::from);
    for (index, row) in dst.chunks_exact_mut((out_w * out_c).max(1)).enumerate() {
        let (n, y) = (index / out_h.max(1), index % out_h.max(1));
        for x in (0..out_w).step_by(2) {
            // Input at (kernel row, column of the tile, channel).
            let input = |ky: usize, column: usize, channel: usize| {
                let (iy, ix) = ((y + ky).wrapping_sub(top), (x + column).wrapping_sub(left));
                let inside = iy < h && ix < w;
                i32::from(if inside { src[((n * h + iy) * w + ix) * c + channel] } else { r.in_zp })
            };
            for (block, weights) in weights.chunks_exact((48 * c).max(1)).enumerate() {
                let mut sums = [[0i32; 4]; 4];
                for ky in 0..3 {
                    for channel in 0..c {
                        let d = [0, 1, 2, 3].map(|column| input(ky, column, channel));
                        let components = [d[0] - d[2], d[1] - d[3], d[1] + d[2], d[2] - d[1]];
                        let group = (ky * c + channel) / 4;
                        let at = 16 * group + 8 * (channel & 1) + (channel >> 1 & 1);
                        for ((sums, t), weights) in
                            sums.iter_mut().zip(components).zip(weights.chunks(12 * c))
                        {
                            for (i, sum) in sums.iter_mut().enumerate() {
                                *sum = sum.wrapping_add(t * i32::from(weights[at + 2 * i]));
                            }
                        }
                    }
                }
                for i in 0..4.min(out_c - 4 * block) {
                    let channel = 4 * block + i;
                    let [m0, m1, m2, m3] = sums.map(|m| m[i]);
                    let bias = q.bias[channel].wrapping_mul(2);
                    let twice = [
                        bias.wrapping_add(m0).wrapping_add(m2).wrapping_add(m3),
                        bias.wrapping_add(m1).wrapping_add(m2).wrapping_sub(m3),
                    ];
                    for (offset, twice) in twice.into_iter().enumerate().take(out_w - x) {
                        row[(x + offset) * out_c + channel] = requantise_twice(twice, q, channel);
                    }
                }
            }
        }
    }
}

/// Requantises half of an accumulator: TFLite's rounding of `acc = twice / 2`, right shifts only.
fn requantise_twice(twice: i32, q: &Requant<'_>, channel: usize) -> i8 {
    let (multiplier, shift) = q.scale(channel);
    let product = i64::from(twice) * i64::from(multiplier);
    let high = ((product + (1 << 31)) >> 32) as i32;
    let rounded = rounding_divide_by_pot(high, u32::from(shift.unsigned_abs()));
    bounded(rounded.wrapping_add(q.out_zp), q.min, q.max)
}
