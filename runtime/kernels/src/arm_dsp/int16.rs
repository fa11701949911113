//! Convolutions with int16 activations: four output channels at a time, by the products of [`super::products`].

use super::products::{Rows, blocks};
use crate::geometry::extent;
use crate::portable::{RequantInt16, products_int16, taps};
use offshoot_format::record::{ConvInt16, Window};

/// Inputs of one call: a sum of so many products fits int32.
const CHUNK: usize = 256;
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
                    let mut gathered = Gathered { values: Values([0; CHUNK]), len: 0, at: first * filter };
                    for ky in 0..k_h {
                        if !(ky0..ky1).contains(&ky) {
                            gathered.skip(k_w * c, weights, filter, sums);
                            continue;
                        }
                        let row = (iy0 + (ky - ky0) * d_h) * w;
                        gathered.skip(kx0 * c, weights, filter, sums);
                        if d_w == 1 {
                            let run = image.get((row + ix0) * c..).and_then(|x| x.get(..(kx1 - kx0) * c));
                            gathered.push(run.unwrap_or_default(), weights, filter, sums);
                        } else {
                            for kx in kx0..kx1 {
                                let at = (row + ix0 + (kx - kx0) * d_w) * c;
                                let run = image.get(at..).and_then(|x| x.get(..c));
                                gathered.push(run.unwrap_or_default(), weights, filter, sums);
                            }
                        }
                        gathered.skip((k_w - kx1) * c, weights, filter, sums);
                    }
                    gathered.flush(weights, filter, sums);
                    for (i, (o, sum)) in out.iter_mut().zip(sums).enumerate() {
                        *o = q.output(first + i, *sum);
                    }
                }
            }
        }
    }
    true
}

/// Aligned to words.
#[repr(align(4))]
struct Values([i16; CHUNK]);

/// Inputs of a window in the order of its weights, of which the first is at `at` in the first row.
struct Gathered {
    values: Values,
    len: usize,
    at: usize,
}

impl Gathered {
    /// Appends inputs. Whenever there are [`CHUNK`], they are multiplied.
    fn push(&mut self, mut run: &[i16], weights: &[i8], stride: usize, sums: &mut [i64]) {
        while !run.is_empty() {
            let free = self.values.0.get_mut(self.len..).unwrap_or_default();
            let (now, later) = run.split_at(run.len().min(free.len()));
            if let Some(to) = free.get_mut(..now.len()) {
                to.copy_from_slice(now);
            }
            self.len += now.len();
            run = later;
            if self.len == CHUNK {
                self.flush(weights, stride, sums);
            }
        }
    }

    /// Leaves out inputs in the padding: nothing if there are none before, zeros otherwise.
    fn skip(&mut self, mut count: usize, weights: &[i8], stride: usize, sums: &mut [i64]) {
        if self.len == 0 {
            self.at += count;
            return;
        }
        while count > 0 {
            let now = count.min(CHUNK);
            self.push(ZEROS.get(..now).unwrap_or_default(), weights, stride, sums);
            count -= now;
        }
    }

    /// Adds the products with all rows of weights, which lie `stride` apart, to the rows' sums.
    fn flush(&mut self, weights: &[i8], stride: usize, sums: &mut [i64]) {
        add_products(&mut self.values.0, self.len, weights, self.at, stride, sums);
        self.at += self.len;
        self.len = 0;
    }
}

/// Padding.
static ZEROS: [i16; CHUNK] = [0; CHUNK];

/// Adds the products of the first `len` inputs with rows of weights, which begin at `at` and lie `stride` apart, to the rows'
/// sums. Changes the inputs.
fn add_products(
    inputs: &mut [i16; CHUNK],
    len: usize,
    weights: &[i8],
    at: usize,
    stride: usize,
    sums: &mut [i64],
) {
    let groups = len.div_ceil(4);
    // What lies behind the row is multiplied by zero.
    inputs.get_mut(len..4 * groups).unwrap_or_default().fill(0);
    let mut rest = [0; 4];
    let (whole, behind) = (len / 4, 4 * (len / 4));
    let last = inputs.get(behind..len).unwrap_or_default();
    rest.iter_mut().zip(last).for_each(|(to, x)| *to = *x);
    let rest = rest.get(..last.len()).unwrap_or_default();
    let all_groups = inputs.as_chunks_mut::<4>().0.get_mut(..groups).unwrap_or_default();
    // The kernel takes halves in the order 0 2 1 3.
    all_groups.iter_mut().for_each(|group| group.swap(1, 2));
    // Rows whose last group lies within the weights.
    let readable = match weights.len().checked_sub(at + 4 * groups) {
        Some(room) => room / stride.max(1) + 1,
        None => 0,
    };
    let fast = readable.min(sums.len()) / 4 * 4;
    let mut parts = [0i32; CHANNELS];
    let (all, padded) = (sums.len(), &*all_groups);
    if let Some(parts) = parts.get_mut(..fast) {
        multiply(padded, weights, at, stride, parts);
        sums.iter_mut().zip(parts).for_each(|(sum, part)| *sum += i64::from(*part));
    }
    // Of the others, groups of four rows from the end, without what is left of a row; rows that are done are left out.
    let exact = padded.get(..whole).unwrap_or_default();
    let mut done = fast;
    while done < all {
        let first = done.min(all.saturating_sub(4));
        let mut parts = [0i32; 4];
        if all >= 4 {
            multiply(exact, weights, at + first * stride, stride, &mut parts);
        }
        for row in done..(first + 4).min(all) {
            let part = parts.get(row - first).copied().unwrap_or(0);
            let row_weights = weights.get(at + row * stride..).and_then(|w| w.get(..len)).unwrap_or_default();
            let Some(sum) = sums.get_mut(row) else { continue };
            *sum += i64::from(part);
            if all < 4 {
                let (groups, _) = row_weights.as_chunks::<4>();
                let products =
                    exact.iter().zip(groups).map(|([a, c, b, d], w)| products_int16(&[*a, *b, *c, *d], w));
                *sum += products.sum::<i64>();
            }
            *sum += products_int16(rest, row_weights.get(behind..).unwrap_or_default());
        }
        done = (first + 4).min(all);
    }
}

/// Adds the products of groups of inputs with rows of weights from `at` on to sums, which are a multiple of four, unless the
/// groups of a row would end behind the weights.
fn multiply(groups: &[[i16; 4]], weights: &[i8], at: usize, stride: usize, sums: &mut [i32]) {
    let last = at + sums.len().saturating_sub(1) * stride + 4 * groups.len();
    if groups.is_empty() || sums.is_empty() || !sums.len().is_multiple_of(4) || last > weights.len() {
        return;
    }
    let (range, ends) = (groups.as_ptr_range(), sums.as_mut_ptr_range());
    let weights = weights.get(at..).unwrap_or_default().as_ptr();
    // The groups are those of [`Values`], which are aligned.
    let (x, end) = (range.start.cast(), range.end.cast());
    let mut rows = Rows { x, end, weights, stride, sums: ends.start, last: ends.end };
    // SAFETY: the pointers are those of slices; there is a group, and a block of four rows, whose groups end inside the weights.
    unsafe { blocks(&mut rows) };
}
