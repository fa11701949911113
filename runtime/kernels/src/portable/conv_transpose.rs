//! Transposed convolution, NHWC, as a gather: each output pixel sums the input pixels that reach it. The sum starts at
//! the bias and adds products in the order kernel row, kernel column, input channel.
use super::fixed_point::multiply_by_quantized_multiplier;
use super::float::within;
use crate::requant::{Requant, bounded};
use offshoot_format::record::{ConvTranspose, Window};

/// int8. `weights` OHWI, I = c / groups.
pub fn conv_transpose_i8(r: &ConvTranspose, q: &Requant<'_>, weights: &[i8], src: &[i8], dst: &mut [i8]) {
    gather(
        r,
        src,
        weights,
        dst,
        |o| q.bias[o],
        |s, x, w| s.wrapping_add((i32::from(x) - q.in_zp).wrapping_mul(i32::from(w))),
        |o, s| {
            let (multiplier, shift) = q.scale(o);
            let v = multiply_by_quantized_multiplier(s, multiplier, shift).wrapping_add(q.out_zp);
            bounded(v, q.min, q.max)
        },
    );
}

/// float32. `weights` OHWI, I = c / groups.
pub fn conv_transpose_f32(
    r: &ConvTranspose,
    clamp: (f32, f32),
    bias: &[f32],
    weights: &[f32],
    src: &[f32],
    dst: &mut [f32],
) {
    gather(r, src, weights, dst, |o| bias[o], |s, x, w| s + x * w, |_, s| within(s, clamp));
}

/// Input index that kernel position `k` maps to output `out`, if there is one.
fn source(out: usize, k: usize, input: usize, window: &Window, axis: usize) -> Option<usize> {
    let at = (out + usize::from(window.pad[axis])).checked_sub(k * usize::from(window.dilation[axis]))?;
    let stride = usize::from(window.stride[axis]).max(1);
    (at % stride == 0 && at / stride < input).then_some(at / stride)
}

#[inline(always)]
fn gather<T: Copy, A: Copy>(
    r: &ConvTranspose,
    src: &[T],
    weights: &[T],
    dst: &mut [T],
    begin: impl Fn(usize) -> A,
    mac: impl Fn(A, T, T) -> A,
    end: impl Fn(usize, A) -> T,
) {
    let window = Window::from(r.window);
    let (h, w, c, out_c) = (usize::from(r.h), usize::from(r.w), usize::from(r.c), usize::from(r.out_c));
    let groups = usize::from(r.groups).max(1);
    let (in_g, out_g) = (c / groups, (out_c / groups).max(1));
    let [k_h, k_w] = window.kernel.map(usize::from);
    let mut out = dst.iter_mut();
    for n in 0..usize::from(r.n) {
        let image = &src[n * h * w * c..][..h * w * c];
        for y in 0..usize::from(r.out_h) {
            for x in 0..usize::from(r.out_w) {
                for o in 0..out_c {
                    let filter = &weights[o * k_h * k_w * in_g..][..k_h * k_w * in_g];
                    let mut acc = begin(o);
                    for ky in 0..k_h {
                        let Some(iy) = source(y, ky, h, &window, 0) else {
                            continue;
                        };
                        for kx in 0..k_w {
                            let Some(ix) = source(x, kx, w, &window, 1) else {
                                continue;
                            };
                            let a = &image[(iy * w + ix) * c + (o / out_g) * in_g..][..in_g];
                            let b = &filter[(ky * k_w + kx) * in_g..][..in_g];
                            acc = a.iter().zip(b).fold(acc, |s, (x, w)| mac(s, *x, *w));
                        }
                    }
                    let Some(v) = out.next() else { return };
                    *v = end(o, acc);
                }
            }
        }
    }
}
