//! Average pool, eight channels at a time.

use super::{Isa, Job, block};
use crate::geometry::extent;
use crate::portable::taps;
use offshoot_format::record::{Pool, Window};

/// Average over the valid pixels of a window.
pub(crate) struct Average<'a> {
    pub(crate) r: &'a Pool,
    pub(crate) clamp: (i8, i8),
    pub(crate) src: &'a [i8],
    pub(crate) dst: &'a mut [i8],
}

impl Job for Average<'_> {
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let r = self.r;
        let window = Window::from(r.window);
        let [h, w, c] = [r.h, r.w, r.c].map(usize::from);
        let (out_h, out_w) = (extent(h, &window, 0), extent(w, &window, 1));
        let [d_h, d_w] = window.dilation.map(usize::from);
        let mut pixels = self.dst.chunks_exact_mut(c);
        let (low, high) = (i32::from(self.clamp.0), i32::from(self.clamp.1));
        for n in 0..usize::from(r.n) {
            let image = &self.src[n * h * w * c..][..h * w * c];
            for y in 0..out_h {
                let (ky0, ky1, iy0) = taps(y, h, &window, 0);
                for x in 0..out_w {
                    let (kx0, kx1, ix0) = taps(x, w, &window, 1);
                    let Some(pixel) = pixels.next() else { return };
                    let valid = ((ky1 - ky0) * (kx1 - kx0)).max(1) as i32;
                    for (i, out) in pixel.chunks_mut(8).enumerate() {
                        let mut sums = isa.splat(0);
                        for ky in 0..ky1 - ky0 {
                            for kx in 0..kx1 - kx0 {
                                let at = ((iy0 + ky * d_h) * w + ix0 + kx * d_w) * c + 8 * i;
                                sums = isa.add(sums, isa.widen_i32(&block(image, at)));
                            }
                        }
                        let sums = isa.store(sums);
                        for (out, sum) in out.iter_mut().zip(sums) {
                            let half = if sum > 0 { valid / 2 } else { -(valid / 2) };
                            *out = ((sum + half) / valid).clamp(low, high) as i8;
                        }
                    }
                }
            }
        }
    }
}
