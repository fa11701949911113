//! Convolutions with int16 activations. Pixels are computed four at a time ([`super::int16_quad`]); those that remain, and fully
//! connected layers of a single row, with four rows of weights at a time, by the products of [`super::products`].

use super::products::{Rows, blocks};
use super::{int16_depthwise, int16_quad};
use crate::geometry::extent;
use crate::portable::{RequantInt16, products_int16, taps, wide_output};
use offshoot_format::record::{ConvInt16, Window};

/// Inputs of a single pixel that are multiplied at once: a sum of so many products fits int32.
const CHUNK: usize = 256;
/// Channels of a single pixel whose sums are on the stack.
const CHANNELS: usize = 32;
/// From this many pixels on, the kernel for four is the faster one.
const WORTH: usize = 3;

/// See [`crate::portable::conv_int16`]; returns `false` and computes nothing for grouped convolutions other than depthwise ones,
/// which have few products of one channel side by side.
pub(crate) fn conv_int16(
    r: &ConvInt16,
    q: &RequantInt16<'_>,
    weights: &[i8],
    src: &[i16],
    dst: &mut [i16],
) -> bool {
    let shape = Shape::of(r);
    let image = shape.h * shape.w * shape.c;
    let depthwise = r.groups != 1;
    let filter = if depthwise { shape.taps() } else { shape.filter };
    if image == 0 || shape.out_c == 0 || weights.len() != filter * shape.out_c {
        return false;
    }
    if depthwise {
        if r.groups != r.c || r.c != r.out_c || !int16_depthwise::takes(&shape) {
            return false;
        }
        for (at, pixel) in dst.chunks_exact_mut(shape.out_c).enumerate() {
            int16_depthwise::pixel(&shape, q, weights, &shape.place(src, at), pixel);
        }
        return true;
    }
    let pixels = dst.len() / shape.out_c;
    let fours = (pixels + int16_quad::PIXELS - WORTH) / int16_quad::PIXELS * int16_quad::PIXELS;
    let fours = fours.min(pixels);
    let (most, rest) = dst.split_at_mut(fours * shape.out_c);
    if fours > 0 {
        int16_quad::pixels(&shape, q, weights, src, most);
    }
    for (i, pixel) in rest.chunks_exact_mut(shape.out_c).enumerate() {
        single(&shape, q, weights, &shape.place(src, fours + i), pixel);
    }
    true
}

/// Extents of a convolution.
pub(super) struct Shape {
    window: Window,
    h: usize,
    w: usize,
    /// Input channels.
    pub(super) c: usize,
    out_h: usize,
    out_w: usize,
    /// Output channels.
    pub(super) out_c: usize,
    /// Height and width of the kernel.
    pub(super) kernel: [usize; 2],
    /// Inputs from one row of the kernel to the next, and from one column to the next.
    pub(super) strides: [usize; 2],
    /// Weights of an output channel that reads all input channels.
    pub(super) filter: usize,
    /// Whether a window is its pixel.
    pointwise: bool,
}

/// Where a pixel's window lies.
pub(super) struct Place<'a> {
    /// The image.
    pub(super) image: &'a [i16],
    /// Index of the first input of the window that is inside the image.
    pub(super) origin: usize,
    /// First and end of the kernel's rows that are inside, and of its columns.
    pub(super) ends: [usize; 4],
}

impl Shape {
    fn of(r: &ConvInt16) -> Self {
        let window = Window::from(r.window);
        let (h, w, c) = (usize::from(r.h), usize::from(r.w), usize::from(r.c));
        let kernel = window.kernel.map(usize::from);
        let [d_h, d_w] = window.dilation.map(usize::from);
        Self {
            h,
            w,
            c,
            out_h: extent(h, &window, 0),
            out_w: extent(w, &window, 1),
            out_c: r.out_c.into(),
            kernel,
            strides: [d_h * w * c, d_w * c],
            filter: kernel[0] * kernel[1] * c,
            pointwise: kernel == [1; 2] && window.stride == [1; 2] && window.pad == [0; 4],
            window,
        }
    }

    /// Positions of the kernel.
    pub(super) fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    /// The window of an output pixel, counted through all images.
    pub(super) fn place<'a>(&self, src: &'a [i16], pixel: usize) -> Place<'a> {
        if self.pointwise {
            return Place { image: src, origin: pixel * self.c, ends: [0, 1, 0, 1] };
        }
        let pixels = (self.out_h * self.out_w).max(1);
        let (image, pixel) = (pixel / pixels, pixel % pixels);
        let (y, x) = (pixel / self.out_w.max(1), pixel % self.out_w.max(1));
        let (ky0, ky1, iy) = taps(y, self.h, &self.window, 0);
        let (kx0, kx1, ix) = taps(x, self.w, &self.window, 1);
        let size = self.h * self.w * self.c;
        let image = src.get(image * size..).and_then(|x| x.get(..size)).unwrap_or_default();
        Place { image, origin: (iy * self.w + ix) * self.c, ends: [ky0, ky1, kx0, kx1] }
    }

    /// Whether the whole window is inside the image.
    pub(super) fn is_inside(&self, place: &Place<'_>) -> bool {
        place.ends == [0, self.kernel[0], 0, self.kernel[1]]
    }

    /// Calls `f` for runs of neighbouring inputs of a window, in the order of its weights, of which those from `from` to
    /// `from + len` count: with the position behind `from`, and the inputs.
    pub(super) fn runs(&self, place: &Place<'_>, from: usize, len: usize, mut f: impl FnMut(usize, &[i16])) {
        let [ky0, ky1, kx0, kx1] = place.ends;
        let columns = kx1 - kx0;
        // Columns without dilation are neighbours.
        let (count, width) =
            if self.strides[1] == self.c { (1, columns * self.c) } else { (columns, self.c) };
        let mut row = place.origin;
        for ky in ky0..ky1 {
            let mut at = row;
            let mut first = (ky * self.kernel[1] + kx0) * self.c;
            for _ in 0..count {
                let (start, end) = (first.max(from), (first + width).min(from + len));
                if start < end {
                    let run = place.image.get(at + start - first..at + end - first);
                    f(start - from, run.unwrap_or_default());
                }
                at += self.strides[1];
                first += self.c;
            }
            row += self.strides[0];
        }
    }
}

/// Writes the outputs of channels from `first` on, from their sums, for pixels that are `out_c` apart in `dst`.
pub(super) fn finish<const PIXELS: usize>(
    q: &RequantInt16<'_>,
    first: usize,
    out_c: usize,
    sums: &[[i32; PIXELS]],
    dst: &mut [i16],
) {
    let end = first + sums.len();
    let bias = q.bias.as_chunks::<2>().0.get(first..end);
    let scales = q.multiplier.get(first..end).zip(q.shift.get(first..end));
    let (true, Some(bias), Some((multiplier, shift))) = (q.wide && q.multiplier.len() > 1, bias, scales)
    else {
        for (i, sums) in sums.iter().enumerate() {
            let of = q.channel(first + i);
            for (out, sum) in dst.get_mut(first + i..).unwrap_or_default().iter_mut().step_by(out_c).zip(sums)
            {
                *out = of.output((*sum).into());
            }
        }
        return;
    };
    let bounds = q.bounds;
    let channels = sums.iter().zip(bias).zip(multiplier.iter().zip(shift)).enumerate();
    for (i, ((sums, bias), (multiplier, shift))) in channels {
        let mut at = first + i;
        for sum in sums {
            let Some(out) = dst.get_mut(at) else { break };
            *out = wide_output(*sum, *bias, *multiplier, *shift, bounds);
            at += out_c;
        }
    }
}

/// Computes the outputs of one pixel.
#[inline(never)]
fn single(shape: &Shape, q: &RequantInt16<'_>, weights: &[i8], place: &Place<'_>, out: &mut [i16]) {
    let mut values = Values([0; CHUNK]);
    let inside = shape.is_inside(place);
    for (block, out) in out.chunks_mut(CHANNELS).enumerate() {
        let first = block * CHANNELS;
        let mut sums = [0i64; CHANNELS];
        let sums = sums.get_mut(..out.len()).unwrap_or_default();
        for from in (0..shape.filter).step_by(CHUNK) {
            let len = (shape.filter - from).min(CHUNK);
            if !inside {
                values.0.fill(0);
            }
            shape.runs(place, from, len, |at, run| {
                if let Some(to) = values.0.get_mut(at..).and_then(|to| to.get_mut(..run.len())) {
                    to.copy_from_slice(run);
                }
            });
            add_products(&mut values.0, len, weights, first * shape.filter + from, shape.filter, sums);
        }
        for (i, (o, sum)) in out.iter_mut().zip(sums).enumerate() {
            *o = q.channel(first + i).output(*sum);
        }
    }
}

/// Aligned to words.
#[repr(align(4))]
struct Values([i16; CHUNK]);

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
