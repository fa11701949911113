//! Convolutions with int16 activations: four output channels at a time, by the products of [`super::products`].

use super::products::{Rows, blocks};
use crate::geometry::extent;
use crate::portable::{RequantInt16, products_int16, taps};
use offshoot_format::record::{ConvInt16, Window};

/// Inputs of one call: a sum of so many products fits int32.
const CHUNK: usize = 128;
/// Channels whose sums are on the stack.
const CHANNELS: usize = 32;

/// See [`crate::portable::conv_int16`]; returns `false` and computes nothing for grouped convolutions, which have few products
/// of one channel side by side.
pub(crate) fn conv_int16(
    r: &ConvInt16,
    q: &RequantInt16<'_>,
    weights: &[i8],
    src: &[i16],
    dst: &mut [i16],
) -> bool {
    let window = Window::from(r.window);
    let (h, w, c) = (usize::from(r.h), usize::from(r.w), usize::from(r.c));
    let (out_h, out_w, out_c) = (extent(h, &window, 0), extent(w, &window, 1), usize::from(r.out_c));
    let [k_h, k_w] = window.kernel.map(usize::from);
    let [d_h, d_w] = window.dilation.map(usize::from);
    let filter = k_h * k_w * c;
    if r.groups != 1 || out_c == 0 || weights.len() != filter * out_c {
        return false;
    }
    let mut pixels = dst.chunks_exact_mut(out_c);
    for image in src.chunks_exact((h * w * c).max(1)) {
        for y in 0..out_h {
            let (ky0, ky1, iy0) = taps(y, h, &window, 0);
            for x in 0..out_w {
                let (kx0, kx1, ix0) = taps(x, w, &window, 1);
                let Some(pixel) = pixels.next() else { return true };
                for (block, out) in pixel.chunks_mut(CHANNELS).enumerate() {
                    let first = block * CHANNELS;
                    let mut sums = [0i64; CHANNELS];
                    let sums = sums.get_mut(..out.len()).unwrap_or_default();
                    let mut add = |from: usize, weight: usize, len: usize| {
                        let inputs = image.get(from..).and_then(|x| x.get(..len)).unwrap_or_default();
                        add_run(inputs, weights, first * filter + weight, filter, sums);
                    };
                    for ky in ky0..ky1 {
                        let row = (iy0 + (ky - ky0) * d_h) * w;
                        if d_w == 1 {
                            add((row + ix0) * c, (ky * k_w + kx0) * c, (kx1 - kx0) * c);
                            continue;
                        }
                        for kx in kx0..kx1 {
                            add((row + ix0 + (kx - kx0) * d_w) * c, (ky * k_w + kx) * c, c);
                        }
                    }
                    for (i, (o, sum)) in out.iter_mut().zip(sums).enumerate() {
                        *o = q.output(first + i, *sum);
                    }
                }
            }
        }
    }
    true
}

/// Adds the products of inputs with rows of weights, which begin at `at` and lie `stride` apart, to the rows' sums.
fn add_run(inputs: &[i16], weights: &[i8], at: usize, stride: usize, sums: &mut [i64]) {
    let mut wide = [[0u32; 2]; CHUNK / 4];
    for (i, inputs) in inputs.chunks(CHUNK).enumerate() {
        let at = at + i * CHUNK;
        let groups = inputs.len().div_ceil(4);
        let (whole, rest) = inputs.as_chunks::<4>();
        for (pair, group) in wide.iter_mut().zip(whole) {
            *pair = halves(*group);
        }
        if let Some(last) = wide.get_mut(whole.len()).filter(|_| !rest.is_empty()) {
            // What lies behind the row is multiplied by zero.
            *last = halves(core::array::from_fn(|i| rest.get(i).copied().unwrap_or(0)));
        }
        // Rows whose last group lies within the weights.
        let room = weights.len().saturating_sub(at + 4 * groups);
        let readable = if at + 4 * groups <= weights.len() { room / stride.max(1) + 1 } else { 0 };
        let fast = readable.min(sums.len()) / 4 * 4;
        let (fast, slow) = sums.split_at_mut(fast);
        if !fast.is_empty() {
            let mut parts = [0i32; CHANNELS];
            let ends = parts.get_mut(..fast.len()).unwrap_or_default().as_mut_ptr_range();
            let range = wide.get(..groups).unwrap_or_default().as_flattened().as_ptr_range();
            let mut rows = Rows {
                x: range.start,
                end: range.end,
                weights: weights.get(at..).unwrap_or_default().as_ptr(),
                stride,
                sums: ends.start,
                last: ends.end,
            };
            // SAFETY: the pointers are those of slices; there is a group, and four rows or more, whose groups end inside the
            // weights.
            unsafe { blocks(&mut rows) };
            fast.iter_mut().zip(parts).for_each(|(sum, part)| *sum += i64::from(part));
        }
        for (row, sum) in slow.iter_mut().enumerate() {
            let from = at + (fast.len() + row) * stride;
            let weights = weights.get(from..).and_then(|w| w.get(..inputs.len()));
            *sum += products_int16(inputs, weights.unwrap_or_default());
        }
    }
}

/// Four inputs as 16-bit halves in the order 0 2 1 3.
#[inline(always)]
fn halves([a, b, c, d]: [i16; 4]) -> [u32; 2] {
    let pair = |low: i16, high: i16| u32::from(low as u16) | u32::from(high as u16) << 16;
    [pair(a, c), pair(b, d)]
}
