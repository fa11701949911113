//! [`ConvBlocked`]: a word of weights holds two channels (see the record); one sum of products with it and one with its
//! low bytes give both, as in `portable`.

use super::gather::copy;
use super::requant::{Bounds, Channels};
use super::{Isa, Job, STACK, Tensors, block, put};
use crate::format::record::{ConvBlocked, Walk};
use crate::kernels::Requant;
use crate::kernels::geometry::Blocked;

/// Vectors of gathered inputs that there is room for.
const VECTORS: usize = STACK / 32;
/// Bytes of gathered inputs of one pixel.
const LINE: usize = VECTORS * 8 / 2;

/// The form that gathers.
pub(crate) struct ConvPairs<'a, T> {
    pub(crate) r: &'a ConvBlocked,
    pub(crate) g: &'a Blocked,
    pub(crate) q: &'a Requant<'a>,
    pub(crate) weights: &'a [i16],
    pub(crate) tensors: T,
}

impl<T: Tensors> ConvPairs<'_, T> {
    /// Whether two pixels fit on the stack.
    pub(crate) fn fits(&self) -> bool {
        self.g.k > 0 && 2 * self.vectors() <= VECTORS
    }

    #[inline(always)]
    fn vectors(&self) -> usize {
        self.g.k.div_ceil(8)
    }

    /// The inputs of a pixel, kernel row by kernel row; a pixel beyond the last is the last.
    #[inline(always)]
    fn gather(&self, pixel: usize, line: &mut [i8]) {
        let position = self.g.position(pixel.min(self.g.pixels - 1));
        for (ky, row) in line.chunks_exact_mut(self.g.padded).enumerate() {
            let s = self.g.segment(self.r, position, ky);
            let (before, rest) = row.split_at_mut(s.before);
            let (inside, after) = rest.split_at_mut(s.inside);
            before.fill(self.r.in_zp);
            copy(&self.tensors.input()[s.at..][..s.inside], inside);
            after.fill(self.r.in_zp);
        }
    }

    /// Pixels from `first`: all are gathered before one is written, which an output over the input allows as long as
    /// pairs stay whole.
    #[inline(always)]
    fn pixels<I: Isa, const P: usize>(
        &mut self,
        isa: I,
        bounds: &Bounds<I>,
        first: usize,
        x: &mut [I::I16; VECTORS],
    ) {
        let vectors = self.vectors();
        let mut line = [0i8; LINE];
        for p in 0..P {
            self.gather(first + p, &mut line[..self.g.k]);
            let (eights, _) = line[..vectors * 8].as_chunks::<8>();
            for (to, eight) in x[p * vectors..].iter_mut().zip(eights) {
                *to = isa.spread(eight);
            }
        }
        let x: [&[I::I16]; P] = core::array::from_fn(|p| &x[p * vectors..][..vectors]);
        let out_c = usize::from(self.r.out_c);
        let halves = 2 * self.g.k;
        for channel in (0..out_c).step_by(8) {
            let at = channel / 4 * halves;
            let even = block_sums::<I, P>(isa, self.weights, at, halves, x);
            let odd = if channel + 4 < out_c {
                block_sums::<I, P>(isa, self.weights, at + halves, halves, x)
            } else {
                even
            };
            let channels = Channels::at(isa, self.q, bounds, channel);
            for p in 0..P.min(self.g.pixels - first) {
                let sums = isa.blocked_sums([even[p], odd[p]]);
                let at = (first + p) * out_c;
                put(channels.finish(isa, sums), self.tensors.output(), at + channel, at + out_c);
            }
        }
    }

    #[inline(always)]
    fn groups<I: Isa, const P: usize>(&mut self, isa: I, x: &mut [I::I16; VECTORS]) {
        let bounds = Bounds::of(isa, self.q);
        let groups = self.g.pixels.div_ceil(P);
        for i in 0..groups {
            let group = if self.r.walk == Walk::Backwards { groups - 1 - i } else { i };
            self.pixels::<I, P>(isa, &bounds, group * P, x);
        }
    }
}

impl<T: Tensors> Job for ConvPairs<'_, T> {
    #[inline(always)]
    fn run<I: Isa>(mut self, isa: I) {
        let mut x = [isa.splat_i16(0); VECTORS];
        if 4 * self.vectors() <= VECTORS {
            self.groups::<I, 4>(isa, &mut x);
        } else {
            self.groups::<I, 2>(isa, &mut x);
        }
    }
}

/// The sums of one block of four channels for each pixel, in [`Isa::blocked_sums`]' form.
#[inline(always)]
fn block_sums<I: Isa, const P: usize>(
    isa: I,
    weights: &[i16],
    at: usize,
    halves: usize,
    x: [&[I::I16]; P],
) -> [[I::I32; 2]; P] {
    let mut sums = [[isa.splat(0); 2]; P];
    let (whole, _) = weights[at..][..halves].as_chunks::<16>();
    let x = x.map(|x| &x[..halves.div_ceil(16)]);
    for (i, w) in whole.iter().enumerate() {
        let w = isa.load_i16(w);
        let low = isa.low_bytes(w);
        for (sums, x) in sums.iter_mut().zip(x) {
            *sums = [isa.madd(sums[0], x[i], w), isa.madd(sums[1], x[i], low)];
        }
    }
    if !halves.is_multiple_of(16) {
        // A group of four inputs; those after it are zeros.
        let w = isa.load_i16(&block(weights, at + whole.len() * 16));
        let low = isa.low_bytes(w);
        for (sums, x) in sums.iter_mut().zip(x) {
            let x = x[whole.len()];
            *sums = [isa.madd(sums[0], x, w), isa.madd(sums[1], x, low)];
        }
    }
    sums
}

/// The form that gathers nothing: one pixel, or one row of a fully connected layer.
pub(crate) struct ConvVector<'a> {
    pub(crate) g: &'a Blocked,
    pub(crate) q: &'a Requant<'a>,
    pub(crate) weights: &'a [i16],
    pub(crate) src: &'a [i8],
    pub(crate) dst: &'a mut [i8],
}

impl Job for ConvVector<'_> {
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let bounds = Bounds::of(isa, self.q);
        let out_c = self.dst.len();
        let halves = 2 * self.g.k;
        for channel in (0..out_c).step_by(8) {
            let at = channel / 4 * halves;
            let even = self.block_sums(isa, at);
            let odd = if channel + 4 < out_c { self.block_sums(isa, at + halves) } else { even };
            let out = Channels::at(isa, self.q, &bounds, channel).finish(isa, isa.blocked_sums([even, odd]));
            put(out, self.dst, channel, out_c);
        }
    }
}

impl ConvVector<'_> {
    /// As [`block_sums`], the inputs spread as they are met.
    #[inline(always)]
    fn block_sums<I: Isa>(&self, isa: I, at: usize) -> [I::I32; 2] {
        let mut sums = [isa.splat(0); 2];
        let (eights, _) = self.src.as_chunks::<8>();
        let (words, _) = self.weights[at..][..2 * self.g.k].as_chunks::<16>();
        for (x, w) in eights.iter().zip(words) {
            let (x, w) = (isa.spread(x), isa.load_i16(w));
            sums = [isa.madd(sums[0], x, w), isa.madd(sums[1], x, isa.low_bytes(w))];
        }
        if !self.g.k.is_multiple_of(8) {
            // A group of four inputs; those after it are zeros.
            let x = isa.spread(&block(self.src, eights.len() * 8));
            let w = isa.load_i16(&block(self.weights, at + words.len() * 16));
            sums = [isa.madd(sums[0], x, w), isa.madd(sums[1], x, isa.low_bytes(w))];
        }
        sums
    }
}
