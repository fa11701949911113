//! Depthwise convolutions, sixteen channels at a time, from a ring of rows. An output row is written once all rows of
//! its windows are in the ring, so it may overwrite them: the order of [`offshoot_format::record::DepthwisePlanar`].

use super::requant::{Bounds, Channels};
use super::{Isa, Job, STACK, Tensors, block, put};
use crate::requant::Requant;
use offshoot_format::record::Window;

/// Channels at a time.
const LANES: usize = 16;
/// Positions in the ring.
const POSITIONS: usize = STACK / LANES;
/// Maximum number of pairs of taps.
const PAIRS: usize = 32;

/// A depthwise convolution, multiplier 1.
pub(crate) struct DepthwiseRing<'a, T> {
    /// Images, height, width, channels.
    pub(crate) extents: [usize; 4],
    pub(crate) out: [usize; 2],
    pub(crate) window: Window,
    /// Value of the padding.
    pub(crate) padding: i8,
    /// Zero point that is subtracted from every input.
    pub(crate) zero: i32,
    pub(crate) q: &'a Requant<'a>,
    pub(crate) weights: &'a [i8],
    /// Distance in elements between the weights of neighbouring taps of a channel.
    pub(crate) weight_pitch: usize,
    pub(crate) tensors: T,
}

impl<T: Tensors> DepthwiseRing<'_, T> {
    /// Whether the window is not dilated and its rows fit on the stack.
    pub(crate) fn fits(&self) -> bool {
        let [k_h, k_w] = self.window.kernel.map(usize::from);
        self.window.dilation == [1, 1]
            && k_h.saturating_mul(self.pitch()) <= POSITIONS
            && k_h * k_w <= 2 * PAIRS
    }

    /// Positions in a row of the padded input.
    #[inline(always)]
    fn pitch(&self) -> usize {
        self.extents[2] + usize::from(self.window.pad[1]) + usize::from(self.window.pad[3])
    }

    /// Gathers row `row` of the padded input, `width` channels from `channel` on.
    #[inline(always)]
    fn gather(&self, n: usize, row: usize, channel: usize, width: usize, line: &mut [[i8; LANES]]) {
        let [_, h, w, c] = self.extents;
        let [top, left, ..] = self.window.pad.map(usize::from);
        let y = row.wrapping_sub(top);
        line.fill([self.padding; LANES]);
        if y >= h {
            return;
        }
        let src = self.tensors.input();
        for (x, to) in line[left..][..w].iter_mut().enumerate() {
            let at = ((n * h + y) * w + x) * c + channel;
            match src[at..].first_chunk() {
                Some(whole) => *to = *whole,
                None => to[..width].copy_from_slice(&src[at..][..width]),
            }
        }
    }

    /// Interleaved weights of pairs of taps, and the weight sum of each channel.
    #[inline(always)]
    fn pairs<I: Isa>(&self, isa: I, channel: usize, pairs: &mut [[I::I16; 2]]) -> [I::I32; 2] {
        let pitch = self.weight_pitch;
        let taps = self.window.kernel.map(usize::from).into_iter().product();
        let weight =
            |tap: usize| if tap < taps { block(self.weights, tap * pitch + channel) } else { [0; LANES] };
        let mut totals = [isa.splat(0); 2];
        for (i, pair) in pairs.iter_mut().enumerate() {
            *pair = isa.zip(isa.widen(&weight(2 * i)), isa.widen(&weight(2 * i + 1)));
            let one = isa.splat_i16(1);
            totals = [isa.madd(totals[0], one, pair[0]), isa.madd(totals[1], one, pair[1])];
        }
        isa.in_order(totals)
    }
}

impl<T: Tensors> Job for DepthwiseRing<'_, T> {
    #[inline(always)]
    fn run<I: Isa>(mut self, isa: I) {
        let [images, .., c] = self.extents;
        let [out_h, out_w] = self.out;
        let [k_h, k_w] = self.window.kernel.map(usize::from);
        let [stride_h, stride_w] = self.window.stride.map(usize::from);
        let (pitch, taps) = (self.pitch(), k_h * k_w);
        let bounds = Bounds::of(isa, self.q);
        let mut ring = [[0i8; LANES]; POSITIONS];
        let mut pairs = [[isa.splat_i16(0); 2]; PAIRS];
        let pairs = &mut pairs[..taps.div_ceil(2)];
        // Ring positions of the taps of the window at column 0.
        let mut at = [0usize; 2 * PAIRS];
        for channel in (0..c).step_by(LANES) {
            let width = LANES.min(c - channel);
            let totals = self.pairs(isa, channel, pairs);
            let zero = isa.splat(self.zero);
            let mut channels = [
                Channels::at(isa, self.q, &bounds, channel),
                Channels::at(isa, self.q, &bounds, channel + 8),
            ];
            for (channels, total) in channels.iter_mut().zip(totals) {
                channels.bias = isa.sub(channels.bias, isa.mul(zero, total));
            }
            for n in 0..images {
                let mut gathered = 0;
                for y in 0..out_h {
                    let first = y * stride_h;
                    for row in gathered.max(first)..first + k_h {
                        let line = &mut ring[row % k_h * pitch..][..pitch];
                        self.gather(n, row, channel, width, line);
                    }
                    gathered = first + k_h;
                    for tap in 0..taps {
                        at[tap] = (first + tap / k_w) % k_h * pitch + tap % k_w;
                    }
                    // With an odd number of taps, the last is read twice, the second time with zero weights.
                    at[taps.next_multiple_of(2) - 1] = at[taps - 1];
                    let (at, _) = at.as_chunks::<2>();
                    for x in 0..out_w {
                        let ring = &ring[x * stride_w..];
                        let mut sums = [isa.splat(0); 2];
                        for (pair, at) in pairs.iter().zip(at) {
                            let x = isa.zip(isa.widen(&ring[at[0]]), isa.widen(&ring[at[1]]));
                            sums = [isa.madd(sums[0], x[0], pair[0]), isa.madd(sums[1], x[1], pair[1])];
                        }
                        let sums = isa.in_order(sums);
                        let place = ((n * out_h + y) * out_w + x) * c + channel;
                        let out = self.tensors.output();
                        put(channels[0].finish(isa, sums[0]), out, place, place + width);
                        if width > 8 {
                            put(channels[1].finish(isa, sums[1]), out, place + 8, place + width);
                        }
                    }
                }
            }
        }
    }
}
