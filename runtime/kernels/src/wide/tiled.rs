//! [`ConvTiled`]: a weight word holds two channels (see the record). One sum of products with whole words and one with
//! their low bytes give both channels, as in `portable`.

use super::gather::{copy, copy_beyond};
use super::requant::{Bounds, Channels};
use super::{Isa, Job, STACK, Tensors, block, put};
use crate::geometry::Tiled;
use crate::requant::Requant;
use offshoot_format::record::{ConvTiled, Traversal};
use offshoot_format::single_multiply::WORDS;

/// Maximum number of vectors of gathered inputs.
const VECTORS: usize = STACK / 32;
/// Bytes of gathered inputs of one pixel.
const LINE: usize = VECTORS * 8 / 2;
/// Bytes after them that copies may touch.
const SLACK: usize = 16;

/// Location of biases and multipliers.
#[derive(Clone, Copy)]
pub(crate) enum Params<'a> {
    /// In arrays of their own.
    Rounded(&'a Requant<'a>),
    /// Among the weights, see [`offshoot_format::single_multiply::ConvSingleMultiply`].
    SingleMultiply,
    /// As [`Self::SingleMultiply`], with wide weights.
    Wide,
}

impl Params<'_> {
    /// 16-bit halves from one block to the next, if its weights take `halves`; and the halves before its weights.
    #[inline(always)]
    pub(super) fn pitch(&self, halves: usize) -> (usize, usize) {
        match self {
            Self::Rounded(_) => (halves, 0),
            Self::SingleMultiply => (halves + 2 * WORDS, 4),
            Self::Wide => (2 * halves + 2 * WORDS, 8),
        }
    }

    #[inline(always)]
    pub(super) fn bounds<I: Isa>(&self, isa: I) -> Bounds<I> {
        match self {
            Self::Rounded(q) => Bounds::of(isa, q),
            Self::SingleMultiply | Self::Wide => Bounds::new(isa, 0, -128, 127),
        }
    }
}

/// The convolution with gathered inputs.
pub(crate) struct ConvPairs<'a, T> {
    pub(crate) r: &'a ConvTiled,
    pub(crate) g: &'a Tiled,
    pub(crate) channels: Params<'a>,
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

    /// Gathers and spreads the inputs of the pixel at image `n`, row `y`, column `x`, as pixel `p` in `to`.
    #[inline(always)]
    fn gather<I: Isa, const P: usize>(
        &self,
        isa: I,
        (n, y, x): (usize, usize, usize),
        p: usize,
        line: &mut [i8; LINE + SLACK],
        to: &mut [[I::I16; P]],
    ) {
        let src = self.tensors.input();
        let (padded, k) = (self.g.padded, self.g.k);
        let k_h = usize::from(self.g.window.kernel[0]);
        let [h, w, c] = [self.r.h, self.r.w, self.r.c].map(usize::from);
        let [top, left, ..] = self.g.window.pad.map(usize::from);
        let [stride_h, stride_w] = self.g.window.stride.map(usize::from);
        let column = (x * stride_w).wrapping_sub(left);
        let inside = column < w && w - column >= usize::from(self.g.window.kernel[1]);
        for ky in 0..k_h {
            let row = (y * stride_h + ky * usize::from(self.g.window.dilation[0])).wrapping_sub(top);
            let vectors = ky * padded / 8;
            if inside && row < h {
                let from = &src[((n * h + row) * w + column) * c..];
                if padded.is_multiple_of(8) && padded == self.g.segment {
                    let (eights, _) = from[..padded].as_chunks::<8>();
                    for (to, x) in to[vectors..].iter_mut().zip(eights) {
                        to[p] = isa.spread(x);
                    }
                    continue;
                }
                let line = &mut line[ky * padded..][..padded + SLACK];
                copy_beyond(from, self.g.segment, line);
                for value in &mut line[self.g.segment..padded] {
                    *value = self.r.in_zp;
                }
            } else {
                let s = self.g.segment(self.r, (n, y, x), ky);
                let line = &mut line[ky * padded..][..padded];
                line.fill(self.r.in_zp);
                copy(&src[s.at..][..s.inside], &mut line[s.before..][..s.inside]);
            }
            if padded.is_multiple_of(8) {
                let (eights, _) = line[ky * padded..][..padded].as_chunks::<8>();
                for (to, x) in to[vectors..].iter_mut().zip(eights) {
                    to[p] = isa.spread(x);
                }
            }
        }
        if !padded.is_multiple_of(8) {
            // Rows share vectors.
            line[k..k + 8].fill(0);
            for (to, x) in to.iter_mut().zip(line.as_chunks::<8>().0) {
                to[p] = isa.spread(x);
            }
        }
    }

    /// Computes pixels from `first` on: gathers all before it writes any. An output over the input allows this as long
    /// as pairs stay whole.
    #[inline(always)]
    fn pixels<I: Isa, const P: usize>(
        &mut self,
        isa: I,
        bounds: &Bounds<I>,
        first: usize,
        line: &mut [i8; LINE + SLACK],
        x: &mut [I::I16; VECTORS],
    ) {
        let vectors = self.vectors();
        let x = &mut x.as_chunks_mut::<P>().0[..vectors];
        let (mut n, mut y, mut column) = self.g.position(first);
        for p in 0..P {
            self.gather(isa, (n, y, column), p, line, x);
            // Pixels beyond the last repeat the last.
            if first + p + 1 < self.g.pixels {
                column += 1;
                if column == self.g.out_w {
                    (y, column) = (y + 1, 0);
                }
                if y == self.g.out_h {
                    (n, y) = (n + 1, 0);
                }
            }
        }
        let out_c = usize::from(self.r.out_c);
        let halves = 2 * self.g.k;
        let (pitch, before) = self.channels.pitch(halves);
        for channel in (0..out_c).step_by(8) {
            let at = channel / 4 * pitch + before;
            if let Params::Wide = self.channels {
                let even = wide_sums::<I, P>(isa, self.weights, at, self.g.k, x);
                let second = if channel + 4 < out_c { at + pitch } else { at };
                let odd = wide_sums::<I, P>(isa, self.weights, second, self.g.k, x);
                let channels = self.wide(isa, [at, second]);
                for p in 0..P.min(self.g.pixels - first) {
                    let sums = isa.fold(even[p], odd[p]);
                    let at = (first + p) * out_c;
                    put(channels.finish_scaled(isa, sums), self.tensors.output(), at + channel, at + out_c);
                }
                continue;
            }
            let even = block_sums::<I, P>(isa, self.weights, at, halves, x);
            let odd = if channel + 4 < out_c {
                block_sums::<I, P>(isa, self.weights, at + pitch, halves, x)
            } else {
                even
            };
            let channels = match self.channels {
                Params::Rounded(q) => Channels::at(isa, q, bounds, channel),
                Params::SingleMultiply | Params::Wide => linear(isa, self.weights, self.g.k, at, pitch),
            };
            for p in 0..P.min(self.g.pixels - first) {
                let sums = isa.tiled_sums([even[p], odd[p]]);
                let at = (first + p) * out_c;
                put(channels.finish(isa, sums), self.tensors.output(), at + channel, at + out_c);
            }
        }
    }

    /// Biases and multipliers of two blocks with wide weights, which begin at the halves `at`.
    #[inline(always)]
    fn wide<I: Isa>(&self, isa: I, at: [usize; 2]) -> Channels<I> {
        let (mut bias, mut multiplier) = ([0; 8], [0; 8]);
        for (block, at) in at.into_iter().enumerate() {
            for i in 0..4 {
                bias[4 * block + i] = word(self.weights, at - 8 + 2 * (i ^ 1));
                multiplier[4 * block + i] = word(self.weights, at + 4 * self.g.k + 2 * i);
            }
        }
        Channels::linear(isa, &bias, &multiplier)
    }

    #[inline(always)]
    fn groups<I: Isa, const P: usize>(&mut self, isa: I, x: &mut [I::I16; VECTORS]) {
        let bounds = self.channels.bounds(isa);
        let mut line = [0i8; LINE + SLACK];
        let groups = self.g.pixels.div_ceil(P);
        for i in 0..groups {
            let group = if self.r.traversal == Traversal::Backwards { groups - 1 - i } else { i };
            self.pixels::<I, P>(isa, &bounds, group * P, &mut line, x);
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

/// The word whose first half is at an index; zero beyond the end.
#[inline(always)]
fn word(halves: &[i16], at: usize) -> i32 {
    let half = |i: usize| halves.get(at + i).map_or(0, |&half| u32::from(half as u16));
    (half(0) | half(1) << 16) as i32
}

/// Biases and multipliers of two blocks ([`Params::SingleMultiply`]) with weights of `k` inputs; the weights of the
/// first begin at half `at`, those of the second `pitch` halves later.
#[inline(always)]
pub(super) fn linear<I: Isa>(isa: I, halves: &[i16], k: usize, at: usize, pitch: usize) -> Channels<I> {
    let word = |at: usize| word(halves, at);
    let (mut bias, mut multiplier) = ([0; 8], [0; 8]);
    for block in 0..2 {
        let at = at + block * pitch;
        let end = at + 2 * k;
        bias[4 * block..][..4].copy_from_slice(&[word(end), word(at - 4), word(end + 2), word(at - 2)]);
        for (i, m) in multiplier[4 * block..][..4].iter_mut().enumerate() {
            *m = word(end + 4 + 2 * i);
        }
    }
    Channels::linear(isa, &bias, &multiplier)
}

/// The sums of one block of four channels for each pixel, as [`Isa::tiled_sums`] takes them.
#[inline(always)]
fn block_sums<I: Isa, const P: usize>(
    isa: I,
    weights: &[i16],
    at: usize,
    halves: usize,
    x: &[[I::I16; P]],
) -> [[I::I32; 2]; P] {
    let mut sums = [[isa.splat(0); 2]; P];
    let (whole, rest) = weights[at..][..halves].as_chunks::<16>();
    for (w, x) in whole.iter().zip(x) {
        sums = multiply(isa, sums, isa.load_i16(w), x);
    }
    if let ([_, ..], Some(x)) = (rest, x.get(whole.len())) {
        // A last group of four inputs; those after it are zeros.
        sums = multiply(isa, sums, isa.load_i16(&block(weights, at + whole.len() * 16)), x);
    }
    sums
}

/// The sums of one block of four channels with wide weights for each pixel; lanes `i` and `i + 4` belong together.
#[inline(always)]
fn wide_sums<I: Isa, const P: usize>(
    isa: I,
    weights: &[i16],
    at: usize,
    k: usize,
    x: &[[I::I16; P]],
) -> [I::I32; P] {
    let mut sums = [isa.splat(0); P];
    let (fours, _) = weights[at..][..4 * k].as_chunks::<16>();
    for (i, w) in fours.iter().enumerate() {
        let w = isa.load_i16(w);
        for (sum, &x) in sums.iter_mut().zip(&x[i / 2]) {
            // Inputs are in the order `0 2 0 2 1 3 1 3`, then the next four.
            *sum = isa.madd_halves(*sum, isa.half_twice(x, i % 2 == 1), w);
        }
    }
    sums
}

#[inline(always)]
fn multiply<I: Isa, const P: usize>(
    isa: I,
    mut sums: [[I::I32; 2]; P],
    w: I::I16,
    x: &[I::I16; P],
) -> [[I::I32; 2]; P] {
    let low = isa.low_bytes(w);
    for (sums, &x) in sums.iter_mut().zip(x) {
        *sums = [isa.madd_halves(sums[0], x, w), isa.madd_halves(sums[1], x, low)];
    }
    sums
}

/// The convolution without gathering: one pixel, or one row of a fully connected layer.
pub(crate) struct ConvVector<'a> {
    pub(crate) g: &'a Tiled,
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
            let out = Channels::at(isa, self.q, &bounds, channel).finish(isa, isa.tiled_sums([even, odd]));
            put(out, self.dst, channel, out_c);
        }
    }
}

impl ConvVector<'_> {
    /// Like [`block_sums`], but spreads the inputs on the fly.
    #[inline(always)]
    fn block_sums<I: Isa>(&self, isa: I, at: usize) -> [I::I32; 2] {
        let mut sums = [isa.splat(0); 2];
        let (eights, _) = self.src.as_chunks::<8>();
        let (words, _) = self.weights[at..][..2 * self.g.k].as_chunks::<16>();
        for (x, w) in eights.iter().zip(words) {
            let (x, w) = (isa.spread(x), isa.load_i16(w));
            sums = [isa.madd_halves(sums[0], x, w), isa.madd_halves(sums[1], x, isa.low_bytes(w))];
        }
        if !self.g.k.is_multiple_of(8) {
            // A last group of four inputs; those after it are zeros.
            let x = isa.spread(&block(self.src, eights.len() * 8));
            let w = isa.load_i16(&block(self.weights, at + words.len() * 16));
            sums = [isa.madd_halves(sums[0], x, w), isa.madd_halves(sums[1], x, isa.low_bytes(w))];
        }
        sums
    }
}
