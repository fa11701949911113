//! [`ConvTiled`] and [`offshoot_format::single_multiply::ConvSingleMultiply`] by dot products of bytes ([`Dot`]):
//! weight words that hold two channels are split again, and four inputs are multiplied with eight channels at once.
//! Inputs stay bytes, so gathering is copying.
//!
//! Gives the same bits as `portable`: a channel in the upper byte of a word is known modulo 2²⁴ ([`Dot::wrap_odd`]),
//! and words whose upper byte exceeds an int8 are left to [`super::ConvPairs`].

use super::requant::{Bounds, Channels};
use super::tiled::{Params, linear};
use super::{Isa, STACK, Tensors, block, put};
use crate::geometry::{Segment, Tiled};
use offshoot_format::record::{ConvTiled, Traversal};

/// What dot products of bytes need: VNNI, or Armv8.2's `sdot`.
pub(crate) trait Dot: Isa {
    /// Thirty-two int8: four inputs for each of eight channels.
    type I8: Copy;
    /// XOR mask for inputs: turns int8 into uint8 offset by 128 where one operand of the products is unsigned.
    const FLIP: i8;
    /// Whether there are enough registers for the sums of sixteen pixels.
    const MANY: bool;

    /// Flips inputs.
    fn flip(self, x: &[i8; 16], to: &mut [i8; 16]);
    /// Weights of eight inputs, from one block of four channels and another: those of the first four inputs, and of the
    /// others.
    fn bytes(self, even: &[i16; 16], odd: &[i16; 16]) -> [Self::I8; 2];
    /// `acc` plus, for each channel, the products of its weights with four flipped inputs.
    fn dot(self, acc: Self::I32, weights: Self::I8, inputs: &[i8; 4]) -> Self::I32;
    /// Sign-extends the low 24 bits of odd elements.
    fn wrap_odd(self, x: Self::I32) -> Self::I32;
}

/// Work for an instruction set with dot products of bytes. Returns `false` and computes nothing if it does not take the
/// job.
pub(crate) trait DotJob {
    /// Runs the job.
    fn run<I: Dot>(self, isa: I) -> bool;
}

/// Pixels computed at once, many or few: weights are split once for all of them. Both are even, because an output over
/// the input needs whole pairs.
const MANY: usize = 16;
const FEW: usize = 8;
/// Bytes of gathered inputs of one pixel. Not a power of two, so that pixels do not compete for the same cache sets.
const LINE: usize = 1344;
/// The same for pixels with few inputs.
const SHORT_LINE: usize = 592;
/// Bytes after them that a vector may touch.
const SLACK: usize = 16;
/// Gathered inputs and slack.
type Line<const L: usize> = [i8; L];
/// Maximum number of blocks of eight channels.
const EIGHTS: usize = 64;
/// Words from here on have an upper byte of 128.
const TOO_LARGE: i16 = 0x7f80;

const _: () = assert!(FEW * (LINE + SLACK) + EIGHTS * 32 <= STACK);
const _: () = assert!(MANY * (SHORT_LINE + SLACK) + EIGHTS * 32 <= STACK);

/// The convolution with gathered inputs.
pub(crate) struct ConvBytes<'a, T> {
    pub(crate) r: &'a ConvTiled,
    pub(crate) g: &'a Tiled,
    /// Not [`Params::Wide`].
    pub(crate) channels: Params<'a>,
    pub(crate) weights: &'a [i16],
    pub(crate) tensors: T,
}

impl<T: Tensors> ConvBytes<'_, T> {
    /// Whether weights are bytes, and the inputs of a pixel and the sums of the channels fit on the stack.
    pub(crate) fn fits(&self) -> bool {
        !matches!(self.channels, Params::Wide)
            && (1..=LINE).contains(&self.g.k)
            && usize::from(self.r.out_c) <= 8 * EIGHTS
    }

    /// Gathers and flips the inputs of the pixel at image `n`, row `y`, column `x`.
    #[inline(always)]
    fn gather<I: Dot, const L: usize>(&self, isa: I, (n, y, x): (usize, usize, usize), line: &mut Line<L>) {
        let src = self.tensors.input();
        let padded = self.g.padded;
        let k_h = usize::from(self.g.window.kernel[0]);
        let [h, w, c] = [self.r.h, self.r.w, self.r.c].map(usize::from);
        let [top, left, ..] = self.g.window.pad.map(usize::from);
        let [stride_h, stride_w] = self.g.window.stride.map(usize::from);
        let column = (x * stride_w).wrapping_sub(left);
        let inside = column < w && w - column >= usize::from(self.g.window.kernel[1]);
        for ky in 0..k_h {
            let row = (y * stride_h + ky * usize::from(self.g.window.dilation[0])).wrapping_sub(top);
            // Vectors may overwrite the start of the next row, which comes later, or the slack.
            let to = &mut line[ky * padded..][..padded + SLACK];
            let s = if inside && row < h {
                let at = ((n * h + row) * w + column) * c;
                Segment { before: 0, inside: self.g.segment, at }
            } else {
                self.g.segment(self.r, (n, y, x), ky)
            };
            let end = s.before + s.inside;
            copy_flipped(isa, &src[s.at..], s.inside, &mut to[s.before..]);
            for outside in [0..s.before, end..padded] {
                for value in &mut to[outside] {
                    *value = self.r.in_zp ^ I::FLIP;
                }
            }
        }
    }

    /// Weights of eight channels from `channel` on: two blocks of four, or the first one twice if there is no second.
    #[inline(always)]
    fn blocks(&self, channel: usize) -> [&[i16]; 2] {
        let halves = 2 * self.g.k;
        let (pitch, before) = self.channels.pitch(halves);
        let at = channel / 4 * pitch + before;
        let even = &self.weights[at..][..halves];
        let odd = self.weights.get(at + pitch..).and_then(|rest| rest.get(..halves));
        [even, odd.filter(|_| channel + 4 < usize::from(self.r.out_c)).unwrap_or(even)]
    }

    /// Computes pixels from `first` on: gathers all before it writes any.
    #[inline(always)]
    fn pixels<I: Dot, const P: usize, const L: usize>(
        &mut self,
        isa: I,
        bounds: &Bounds<I>,
        bases: &[I::I32],
        first: usize,
        lines: &mut [Line<L>; P],
    ) {
        let (mut n, mut y, mut column) = self.g.position(first);
        let count = P.min(self.g.pixels - first);
        for line in &mut lines[..count] {
            self.gather(isa, (n, y, column), line);
            column += 1;
            if column == self.g.out_w {
                (y, column) = (y + 1, 0);
            }
            if y == self.g.out_h {
                (n, y) = (n + 1, 0);
            }
        }
        let out_c = usize::from(self.r.out_c);
        for (channel, base) in (0..out_c).step_by(8).zip(bases) {
            let sums = products(isa, [*base; P], self.blocks(channel), lines);
            let channels = match self.channels {
                Params::Rounded(q) => Channels::at(isa, q, bounds, channel),
                Params::SingleMultiply | Params::Wide => {
                    let (pitch, before) = self.channels.pitch(2 * self.g.k);
                    linear(isa, self.weights, self.g.k, channel / 4 * pitch + before, pitch)
                }
            };
            for (p, sums) in sums.into_iter().enumerate().take(count) {
                let at = (first + p) * out_c;
                let out = channels.finish(isa, isa.wrap_odd(sums));
                put(out, self.tensors.output(), at + channel, at + out_c);
            }
        }
    }
}

impl<T: Tensors> ConvBytes<'_, T> {
    #[inline(always)]
    fn groups<I: Dot, const P: usize, const L: usize>(&mut self, isa: I) {
        let bounds = self.channels.bounds(isa);
        let mut bases = [isa.splat(0); EIGHTS];
        let eights = usize::from(self.r.out_c).div_ceil(8);
        let mut lines = [[I::FLIP; L]; P];
        if I::FLIP != 0 {
            // The initial sums: minus the products with the flip alone.
            let zero = isa.splat(0);
            let flips = lines[0];
            for (i, base) in bases[..eights].iter_mut().enumerate() {
                let [sums] = products(isa, [zero], self.blocks(8 * i), &[flips]);
                *base = isa.sub(zero, sums);
            }
        }
        let groups = self.g.pixels.div_ceil(P);
        for i in 0..groups {
            let group = if self.r.traversal == Traversal::Backwards { groups - 1 - i } else { i };
            self.pixels(isa, &bounds, &bases[..eights], group * P, &mut lines);
        }
    }
}

impl<T: Tensors> DotJob for ConvBytes<'_, T> {
    #[inline(always)]
    fn run<I: Dot>(mut self, isa: I) -> bool {
        let (pitch, before) = self.channels.pitch(2 * self.g.k);
        let words = self.weights.chunks(pitch).flat_map(|block| block.iter().skip(before).take(2 * self.g.k));
        let largest = words.fold(i16::MIN, |most, &word| most.max(word));
        if largest >= TOO_LARGE {
            return false;
        }
        match I::MANY && self.g.k <= SHORT_LINE {
            true => self.groups::<I, MANY, { SHORT_LINE + SLACK }>(isa),
            false => self.groups::<I, FEW, { LINE + SLACK }>(isa),
        }
        true
    }
}

/// Sums of eight channels for each pixel.
#[inline(always)]
fn products<I: Dot, const P: usize, const L: usize>(
    isa: I,
    mut sums: [I::I32; P],
    [even, odd]: [&[i16]; 2],
    lines: &[Line<L>; P],
) -> [I::I32; P] {
    let (evens, even_rest) = even.as_chunks::<16>();
    let (odds, odd_rest) = odd.as_chunks::<16>();
    for (i, (even, odd)) in evens.iter().zip(odds).enumerate() {
        sums = step(isa, sums, isa.bytes(even, odd), lines, i);
    }
    if !even_rest.is_empty() {
        // A last group of four inputs; the weights after it are zeros.
        let weights = isa.bytes(&block(even_rest, 0), &block(odd_rest, 0));
        sums = step(isa, sums, weights, lines, evens.len());
    }
    sums
}

#[inline(always)]
fn step<I: Dot, const P: usize, const L: usize>(
    isa: I,
    mut sums: [I::I32; P],
    [low, high]: [I::I8; 2],
    lines: &[Line<L>; P],
    i: usize,
) -> [I::I32; P] {
    for (sum, line) in sums.iter_mut().zip(lines) {
        let fours = &line.as_chunks::<4>().0[2 * i..][..2];
        *sum = isa.dot(isa.dot(*sum, low, &fours[0]), high, &fours[1]);
    }
    sums
}

/// Copies and flips the first `len` bytes of `from`, and up to fifteen after them if they exist; the bytes of `to`
/// after `len` are then undefined. `to` must have room for them.
#[inline(always)]
fn copy_flipped<I: Dot>(isa: I, from: &[i8], len: usize, to: &mut [i8]) {
    let mut at = 0;
    while at < len {
        match (from.get(at..).and_then(|f| f.first_chunk::<16>()), to[at..].first_chunk_mut::<16>()) {
            (Some(from), Some(to)) => isa.flip(from, to),
            _ => {
                for (to, from) in to[at..len].iter_mut().zip(&from[at..len]) {
                    *to = from ^ I::FLIP;
                }
                return;
            }
        }
        at += 16;
    }
}
