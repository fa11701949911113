//! [`ConvWinograd`]: tiles of two outputs in a row, two tiles at a time.

use super::requant::{Bounds, Channels};
use super::{Isa, Job, STACK, put};
use crate::geometry::extent;
use crate::requant::Requant;
use offshoot_format::record::{ConvWinograd, Window};

/// Maximum number of transformed values on the stack.
const VALUES: usize = STACK / 2;
/// Maximum number of input channels: a tile has twelve values per channel.
const MOST_CHANNELS: usize = VALUES / 12;

/// The operator.
pub(crate) struct Tiles<'a> {
    pub(crate) r: &'a ConvWinograd,
    pub(crate) q: &'a Requant<'a>,
    pub(crate) weights: &'a [i16],
    pub(crate) src: &'a [i8],
    pub(crate) dst: &'a mut [i8],
}

impl Tiles<'_> {
    /// Whether a tile fits on the stack.
    pub(crate) fn fits(&self) -> bool {
        (1..=MOST_CHANNELS).contains(&usize::from(self.r.c))
    }

    /// Transforms the tile whose outputs begin at a column of an output row; order: component, kernel row, channel.
    #[inline(always)]
    fn transform(&self, (n, y, x): (usize, usize, usize), padding: &[i8], components: &mut [i16]) {
        let r = self.r;
        let [top, left, ..] = Window::from(r.window).pad.map(usize::from);
        let (h, w, c) = (usize::from(r.h), usize::from(r.w), usize::from(r.c));
        for ky in 0..3 {
            let row = (y + ky).wrapping_sub(top);
            let [d0, d1, d2, d3] = [0, 1, 2, 3].map(|column| {
                let column = (x + column).wrapping_sub(left);
                let inside = row < h && column < w;
                if inside { &self.src[((n * h + row) * w + column) * c..][..c] } else { &padding[..c] }
            });
            let mut component = |m: usize, a: &[i8], b: &[i8], sign: i16| {
                let to = &mut components[(3 * m + ky) * c..][..c];
                for ((to, &a), &b) in to.iter_mut().zip(a).zip(b) {
                    *to = i16::from(a) + sign * i16::from(b);
                }
            };
            component(0, d0, d2, -1);
            component(1, d1, d3, -1);
            component(2, d1, d2, 1);
            component(3, d2, d1, -1);
        }
    }

    #[inline(always)]
    fn tiles<I: Isa, const P: usize>(self, isa: I) {
        let window = Window::from(self.r.window);
        let [h, w, c] = [self.r.h, self.r.w, self.r.c].map(usize::from);
        let (out_h, out_w, out_c) = (extent(h, &window, 0), extent(w, &window, 1), usize::from(self.r.out_c));
        let bounds = Bounds::of(isa, self.q);
        let padding = [self.r.in_zp; MOST_CHANNELS];
        let mut components = [0i16; VALUES];
        let across = out_w.div_ceil(2);
        let tiles = usize::from(self.r.n) * out_h * across;
        for first in (0..tiles).step_by(P) {
            let place = |p: usize| {
                let tile = (first + p).min(tiles - 1);
                (tile / across / out_h, tile / across % out_h, tile % across * 2)
            };
            for (p, components) in components.chunks_exact_mut(12 * c).take(P).enumerate() {
                self.transform(place(p), &padding, components);
            }
            let (fours, _) = components.as_chunks::<4>();
            let x: [&[[i16; 4]]; P] = core::array::from_fn(|p| &fours[p * 3 * c..][..3 * c]);
            for channel in (0..out_c).step_by(8) {
                let blocks = &self.weights[channel / 4 * 48 * c..];
                let even = products::<I, P>(isa, &blocks[..48 * c], x);
                let odd = match blocks.get(48 * c..96 * c) {
                    Some(block) => products::<I, P>(isa, block, x),
                    None => even,
                };
                let channels = Channels::at(isa, self.q, &bounds, channel);
                for p in 0..P.min(tiles - first) {
                    let [m0, m1] = [isa.fold(even[p][0], odd[p][0]), isa.fold(even[p][1], odd[p][1])];
                    let [m2, m3] = [isa.fold(even[p][2], odd[p][2]), isa.fold(even[p][3], odd[p][3])];
                    let twice = [isa.add(isa.add(m0, m2), m3), isa.sub(isa.add(m1, m2), m3)];
                    let (n, y, column) = place(p);
                    for (offset, twice) in twice.into_iter().enumerate().take(out_w - column) {
                        let at = ((n * out_h + y) * out_w + column + offset) * out_c;
                        put(channels.finish_twice(isa, twice), self.dst, at + channel, at + out_c);
                    }
                }
            }
        }
    }
}

impl Job for Tiles<'_> {
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        if usize::from(self.r.c) * 24 <= VALUES { self.tiles::<I, 2>(isa) } else { self.tiles::<I, 1>(isa) }
    }
}

/// Sums of a block of four channels for each tile and component; lanes `i` and `i + 4` belong together.
#[inline(always)]
fn products<I: Isa, const P: usize>(isa: I, weights: &[i16], x: [&[[i16; 4]]; P]) -> [[I::I32; 4]; P] {
    let (weights, _) = weights.as_chunks::<16>();
    let steps = weights.len() / 4;
    let mut sums = [[isa.splat(0); 4]; P];
    let weights: [&[[i16; 16]]; 4] = core::array::from_fn(|m| &weights[m * steps..][..steps]);
    let x: [[&[[i16; 4]]; 4]; P] = x.map(|x| core::array::from_fn(|m| &x[m * steps..][..steps]));
    for i in 0..steps {
        for m in 0..4 {
            let w = isa.load_i16(&weights[m][i]);
            for p in 0..P {
                sums[p][m] = isa.madd_halves(sums[p][m], isa.quad(&x[p][m][i]), w);
            }
        }
    }
    sums
}
