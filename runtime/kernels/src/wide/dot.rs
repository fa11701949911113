//! [`Conv2d`] and [`FullyConnected`]: the weights of a channel are contiguous, like the inputs of a pixel.

use super::gather::copy;
use super::requant::{Bounds, Channels};
use super::{Isa, Job, STACK, block, put};
use crate::geometry::extent;
use crate::portable::taps;
use crate::requant::Requant;
use offshoot_format::record::{Conv2d, Window};

/// Bytes of gathered inputs.
const LINE: usize = STACK / 2;

/// A convolution with one group and undilated columns.
pub(crate) struct Conv<'a> {
    pub(crate) r: &'a Conv2d,
    pub(crate) q: &'a Requant<'a>,
    pub(crate) weights: &'a [i8],
    pub(crate) src: &'a [i8],
    pub(crate) dst: &'a mut [i8],
}

impl Conv<'_> {
    fn inputs(&self) -> usize {
        let [k_h, k_w] = Window::from(self.r.window).kernel.map(usize::from);
        (k_h * k_w).saturating_mul(self.r.c.into())
    }

    /// Whether the record is such a convolution and a pixel fits on the stack.
    pub(crate) fn fits(&self) -> bool {
        let window = Window::from(self.r.window);
        let plain = window.dilation[1] == 1 || window.kernel[1] == 1;
        self.r.groups == 1 && plain && (1..=LINE).contains(&self.inputs())
    }
}

impl Job for Conv<'_> {
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let r = self.r;
        let window = Window::from(r.window);
        let [h, w, c] = [r.h, r.w, r.c].map(usize::from);
        let (out_h, out_w, out_c) = (extent(h, &window, 0), extent(w, &window, 1), usize::from(r.out_c));
        let [k_h, k_w] = window.kernel.map(usize::from);
        let bounds = Bounds::of(isa, self.q);
        let inputs = self.inputs();
        // Padding reads as the zero point.
        let zero = self.q.in_zp as i8;
        let mut line = [zero; LINE];
        let mut pixels = self.dst.chunks_exact_mut(out_c);
        for n in 0..usize::from(r.n) {
            let image = &self.src[n * h * w * c..][..h * w * c];
            for y in 0..out_h {
                let (ky0, ky1, iy0) = taps(y, h, &window, 0);
                for x in 0..out_w {
                    let (kx0, kx1, ix0) = taps(x, w, &window, 1);
                    if (kx0, kx1, ky0, ky1) != (0, k_w, 0, k_h) {
                        line[..inputs].fill(zero);
                    }
                    for ky in ky0..ky1 {
                        let row = (iy0 + (ky - ky0) * usize::from(window.dilation[0])) * w;
                        let run = (kx1 - kx0) * c;
                        copy(&image[(row + ix0) * c..][..run], &mut line[(ky * k_w + kx0) * c..][..run]);
                    }
                    let Some(pixel) = pixels.next() else { return };
                    channels(isa, self.q, &bounds, self.weights, &line[..inputs], pixel);
                }
            }
        }
    }
}

/// A fully connected layer on rows of inputs.
pub(crate) struct FullyConnectedRows<'a> {
    pub(crate) in_c: usize,
    pub(crate) out_c: usize,
    pub(crate) q: &'a Requant<'a>,
    pub(crate) weights: &'a [i8],
    pub(crate) src: &'a [i8],
    pub(crate) dst: &'a mut [i8],
}

impl Job for FullyConnectedRows<'_> {
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let bounds = Bounds::of(isa, self.q);
        for (x, y) in self.src.chunks_exact(self.in_c).zip(self.dst.chunks_exact_mut(self.out_c)) {
            channels(isa, self.q, &bounds, self.weights, x, y);
        }
    }
}

/// All channels of one pixel.
#[inline(always)]
fn channels<I: Isa>(
    isa: I,
    q: &Requant<'_>,
    bounds: &Bounds<I>,
    weights: &[i8],
    inputs: &[i8],
    pixel: &mut [i8],
) {
    let out_c = pixel.len();
    for channel in (0..out_c).step_by(8) {
        // Channels beyond the last repeat the last and are not written.
        let sums = products(isa, weights, inputs, q.in_zp as i16, channel, out_c);
        let out = Channels::at(isa, q, bounds, channel).finish(isa, sums);
        put(out, pixel, channel, out_c);
    }
}

/// Products of rows of weights with one vector, without requantisation: [`crate::portable::products_i8`].
pub(crate) struct Products<'a> {
    pub(crate) weights: &'a [i8],
    pub(crate) x: &'a [i8],
    pub(crate) zero: i8,
    pub(crate) sums: &'a mut [i32],
}

impl Job for Products<'_> {
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let rows = self.sums.len();
        for first in (0..rows).step_by(8) {
            let sums = isa.store(products(isa, self.weights, self.x, self.zero.into(), first, rows));
            let room = &mut self.sums[first..rows.min(first + 8)];
            room.copy_from_slice(&sums[..room.len()]);
        }
    }
}

/// Sums of eight rows of weights with the inputs minus a zero point. Rows beyond the last repeat the last.
#[inline(always)]
fn products<I: Isa>(isa: I, weights: &[i8], inputs: &[i8], zero: i16, first: usize, rows: usize) -> I::I32 {
    let zero = isa.splat_i16(zero);
    let (whole, rest) = inputs.as_chunks::<16>();
    let at: [usize; 8] = core::array::from_fn(|i| (first + i).min(rows - 1) * inputs.len());
    let rows: [&[[i8; 16]]; 8] =
        at.map(|at| &weights[at..][..inputs.len()].as_chunks::<16>().0[..whole.len()]);
    let mut sums = [isa.splat(0); 8];
    for (i, x) in whole.iter().enumerate() {
        let x = isa.sub_i16(isa.widen(x), zero);
        for (sum, row) in sums.iter_mut().zip(rows) {
            *sum = isa.madd_halves(*sum, x, isa.widen(&row[i]));
        }
    }
    if !rest.is_empty() {
        let read = whole.len() * 16;
        let x = isa.sub_i16(isa.widen(&block(inputs, read)), zero);
        for (sum, at) in sums.iter_mut().zip(at) {
            // The row ends with zeros.
            let row: [i8; 16] = block(&weights[at + read..][..rest.len()], 0);
            *sum = isa.madd_halves(*sum, x, isa.widen(&row));
        }
    }
    isa.sums(sums)
}
