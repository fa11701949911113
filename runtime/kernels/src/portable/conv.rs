//! Convolutions, NHWC. int8 follows TFLite's reference (`acc = bias + Σ (x - in_zp)·w`, requantise, add out_zp, clamp).
//! float32 starts at the bias and adds products in the order kernel row, kernel column, input channel.

use super::float::within;
use crate::geometry::extent;
use crate::requant::{Requant, bounded};
use offshoot_format::record::{Conv2d, Depthwise, Window};

use super::fixed_point::multiply_by_quantized_multiplier;

/// Kernel positions of output index `out` that lie inside the input: (first, end, input index of the first).
#[cfg_attr(not(any(wide, arm_dsp, scalar)), allow(unreachable_pub))]
#[inline]
pub fn taps(out: usize, input: usize, window: &Window, axis: usize) -> (usize, usize, usize) {
    let dilation = usize::from(window.dilation[axis]).max(1);
    let origin = (out * usize::from(window.stride[axis])) as isize - usize::from(window.pad[axis]) as isize;
    let first = if origin < 0 { origin.unsigned_abs().div_ceil(dilation) } else { 0 };
    let room = input as isize - origin;
    let end = if room <= 0 { 0 } else { (room as usize).div_ceil(dilation) };
    let end = end.min(usize::from(window.kernel[axis]));
    if first >= end {
        // The whole window lies in the padding: must not return an index beyond the input.
        return (0, 0, 0);
    }
    (first, end, (origin + (first * dilation) as isize).max(0) as usize)
}

#[inline]
fn requantise(acc: i32, q: &Requant<'_>, channel: usize) -> i8 {
    let (multiplier, shift) = q.scale(channel);
    let v = multiply_by_quantized_multiplier(acc, multiplier, shift).wrapping_add(q.out_zp);
    bounded(v, q.min, q.max)
}

#[inline]
fn dot(x: &[i8], w: &[i8], zp: i32) -> i32 {
    x.iter().zip(w).fold(0i32, |s, (&x, &w)| s.wrapping_add((i32::from(x) - zp).wrapping_mul(i32::from(w))))
}

/// int8 convolution. `weights` OHWI, I = c / groups.
pub fn conv2d_i8(r: &Conv2d, q: &Requant<'_>, weights: &[i8], src: &[i8], dst: &mut [i8]) {
    conv2d_i8_with(r, q, weights, src, dst, |_, _| 0);
}

/// Like [`conv2d_i8`], adding `add(channel, pixel)` to every accumulator before requantisation.
pub fn conv2d_i8_with(
    r: &Conv2d,
    q: &Requant<'_>,
    weights: &[i8],
    src: &[i8],
    dst: &mut [i8],
    add: impl Fn(usize, usize) -> i32,
) {
    let window = Window::from(r.window);
    let (h, w, c) = (usize::from(r.h), usize::from(r.w), usize::from(r.c));
    let (out_h, out_w, out_c) = (extent(h, &window, 0), extent(w, &window, 1), usize::from(r.out_c));
    let groups = usize::from(r.groups).max(1);
    let (in_g, out_g) = (c / groups, out_c / groups);
    let [k_h, k_w] = window.kernel.map(usize::from);
    let [d_h, d_w] = window.dilation.map(usize::from);
    let mut pixels = dst.chunks_exact_mut(out_c.max(1));
    for n in 0..usize::from(r.n) {
        let image = &src[n * h * w * c..][..h * w * c];
        for y in 0..out_h {
            let (ky0, ky1, iy0) = taps(y, h, &window, 0);
            for x in 0..out_w {
                let (kx0, kx1, ix0) = taps(x, w, &window, 1);
                let Some(pixel) = pixels.next() else { return };
                for (o, out) in pixel.iter_mut().enumerate() {
                    let group = o / out_g.max(1);
                    let filter = &weights[o * k_h * k_w * in_g..][..k_h * k_w * in_g];
                    let mut acc = q.bias[o].wrapping_add(add(o, (n * out_h + y) * out_w + x));
                    for ky in ky0..ky1 {
                        let row = (iy0 + (ky - ky0) * d_h) * w;
                        if groups == 1 && d_w == 1 {
                            // Kernel columns are contiguous in input and weights: one run.
                            let run = (kx1 - kx0) * c;
                            let a = &image[(row + ix0) * c..][..run];
                            let b = &filter[(ky * k_w + kx0) * c..][..run];
                            acc = acc.wrapping_add(dot(a, b, q.in_zp));
                            continue;
                        }
                        for kx in kx0..kx1 {
                            let a = &image[(row + ix0 + (kx - kx0) * d_w) * c + group * in_g..][..in_g];
                            let b = &filter[(ky * k_w + kx) * in_g..][..in_g];
                            acc = acc.wrapping_add(dot(a, b, q.in_zp));
                        }
                    }
                    *out = requantise(acc, q, o);
                }
            }
        }
    }
}

/// float32 convolution. `weights` OHWI, I = c / groups.
pub fn conv2d_f32(
    r: &Conv2d,
    clamp: (f32, f32),
    bias: &[f32],
    weights: &[f32],
    src: &[f32],
    dst: &mut [f32],
) {
    let window = Window::from(r.window);
    let (h, w, c) = (usize::from(r.h), usize::from(r.w), usize::from(r.c));
    let (out_h, out_w, out_c) = (extent(h, &window, 0), extent(w, &window, 1), usize::from(r.out_c));
    let groups = usize::from(r.groups).max(1);
    let (in_g, out_g) = (c / groups, out_c / groups);
    let [k_h, k_w] = window.kernel.map(usize::from);
    let [d_h, d_w] = window.dilation.map(usize::from);
    let mut pixels = dst.chunks_exact_mut(out_c.max(1));
    for n in 0..usize::from(r.n) {
        let image = &src[n * h * w * c..][..h * w * c];
        for y in 0..out_h {
            let (ky0, ky1, iy0) = taps(y, h, &window, 0);
            for x in 0..out_w {
                let (kx0, kx1, ix0) = taps(x, w, &window, 1);
                let Some(pixel) = pixels.next() else { return };
                for (o, out) in pixel.iter_mut().enumerate() {
                    let group = o / out_g.max(1);
                    let filter = &weights[o * k_h * k_w * in_g..][..k_h * k_w * in_g];
                    let mut acc = bias[o];
                    for ky in ky0..ky1 {
                        let row = (iy0 + (ky - ky0) * d_h) * w;
                        for kx in kx0..kx1 {
                            let a = &image[(row + ix0 + (kx - kx0) * d_w) * c + group * in_g..][..in_g];
                            let b = &filter[(ky * k_w + kx) * in_g..][..in_g];
                            acc = a.iter().zip(b).fold(acc, |s, (x, w)| s + x * w);
                        }
                    }
                    *out = within(acc, clamp);
                }
            }
        }
    }
}

/// Channels that a depthwise kernel keeps in accumulators at once.
const TILE: usize = 16;

/// int8 depthwise convolution. `weights` `[k_h, k_w, c * multiplier]`.
pub fn depthwise_i8(r: &Depthwise, q: &Requant<'_>, weights: &[i8], src: &[i8], dst: &mut [i8]) {
    depthwise(
        r,
        src,
        weights,
        dst,
        |base, acc: &mut [i32; TILE]| {
            for (a, b) in acc.iter_mut().zip(&q.bias[base..]) {
                *a = *b;
            }
        },
        |acc, x, w| acc.wrapping_add((i32::from(x) - q.in_zp).wrapping_mul(i32::from(w))),
        |channel, acc| requantise(acc, q, channel),
    );
}

/// float32 depthwise convolution. `weights` `[k_h, k_w, c * multiplier]`.
pub fn depthwise_f32(
    r: &Depthwise,
    clamp: (f32, f32),
    bias: &[f32],
    weights: &[f32],
    src: &[f32],
    dst: &mut [f32],
) {
    depthwise(
        r,
        src,
        weights,
        dst,
        |base, acc: &mut [f32; TILE]| {
            for (a, b) in acc.iter_mut().zip(&bias[base..]) {
                *a = *b;
            }
        },
        |acc, x, w| acc + x * w,
        |_, acc| within(acc, clamp),
    );
}

#[inline(always)]
fn depthwise<T: Copy, A: Copy + Default>(
    r: &Depthwise,
    src: &[T],
    weights: &[T],
    dst: &mut [T],
    begin: impl Fn(usize, &mut [A; TILE]),
    accumulate: impl Fn(A, T, T) -> A,
    finish: impl Fn(usize, A) -> T,
) {
    let window = Window::from(r.window);
    let (h, w, c) = (usize::from(r.h), usize::from(r.w), usize::from(r.c));
    let (out_h, out_w) = (extent(h, &window, 0), extent(w, &window, 1));
    let multiplier = usize::from(r.multiplier);
    let out_c = c * multiplier;
    let k_w = usize::from(window.kernel[1]);
    let [d_h, d_w] = window.dilation.map(usize::from);
    let mut pixels = dst.chunks_exact_mut(out_c.max(1));
    for n in 0..usize::from(r.n) {
        let image = &src[n * h * w * c..][..h * w * c];
        for y in 0..out_h {
            let (ky0, ky1, iy0) = taps(y, h, &window, 0);
            for x in 0..out_w {
                let (kx0, kx1, ix0) = taps(x, w, &window, 1);
                let Some(pixel) = pixels.next() else { return };
                for base in (0..out_c).step_by(TILE) {
                    let width = TILE.min(out_c - base);
                    let mut acc = [A::default(); TILE];
                    begin(base, &mut acc);
                    for ky in ky0..ky1 {
                        let row = (iy0 + (ky - ky0) * d_h) * w;
                        for kx in kx0..kx1 {
                            let input = &image[(row + ix0 + (kx - kx0) * d_w) * c..][..c];
                            let filter = &weights[(ky * k_w + kx) * out_c + base..][..width];
                            if multiplier == 1 {
                                let input = &input[base..][..width];
                                for ((a, &x), &w) in acc.iter_mut().zip(input).zip(filter) {
                                    *a = accumulate(*a, x, w);
                                }
                            } else {
                                for (i, (a, &w)) in acc.iter_mut().zip(filter).enumerate() {
                                    *a = accumulate(*a, input[(base + i) / multiplier], w);
                                }
                            }
                        }
                    }
                    for (i, out) in pixel[base..base + width].iter_mut().enumerate() {
                        *out = finish(base + i, acc[i]);
                    }
                }
            }
        }
    }
}
