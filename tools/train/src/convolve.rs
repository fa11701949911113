//! Convolutions and their gradients without a matrix of windows, using the geometry of [`crate::kernels`].
//!
//! Images are NHWC and padded once, so that no tap needs bounds checks. The gradient of the input is a convolution of
//! the output's gradient with the reversed filters; a stride s divides it into one convolution per position modulo s,
//! each with the taps that fall on it.

use std::borrow::Cow;

use offshoot_ir::Window;
use pulp::Arch;

use crate::kernels::{Channels, Depthwise, Gather, Outer};

/// A convolution over images `[n, h, w, c]` with `rows × columns` output positions each.
#[derive(Clone, Copy)]
pub(crate) struct Convolution<'a> {
    pub(crate) image: [usize; 4],
    pub(crate) places: [usize; 2],
    pub(crate) window: &'a Window,
}

/// The reads from a padded image: starts of windows, offsets of runs, elements per run.
struct Reads {
    starts: Vec<usize>,
    runs: Vec<usize>,
    len: usize,
}

impl Convolution<'_> {
    fn count(&self) -> usize {
        self.image[0] * self.places[0] * self.places[1]
    }

    fn kernel(&self) -> [usize; 2] {
        self.window.kernel.map(usize::from)
    }

    /// Kernel, stride, dilation and padding before, along an axis.
    fn axis(&self, axis: usize) -> (usize, usize, usize, usize) {
        let w = self.window;
        let [k, s, d, p] = [w.kernel[axis], w.stride[axis], w.dilation[axis], w.pad[axis]].map(usize::from);
        (k, s, d, p)
    }

    /// Height and width of the padded image: everything that windows reach, and at least the whole image.
    fn padded(&self) -> [usize; 2] {
        std::array::from_fn(|a| {
            let (k, s, d, p) = self.axis(a);
            let reach = self.places[a].saturating_sub(1) * s + k.saturating_sub(1) * d + 1;
            reach.max(p + self.image[a + 1])
        })
    }

    /// The image with its padding.
    fn pad<'x>(&self, x: &'x [f32]) -> Cow<'x, [f32]> {
        let [n, h, w, c] = self.image;
        let before = [self.axis(0).3, self.axis(1).3];
        framed(x, [n, h, w, c], before, self.padded())
    }

    /// The windows over the padded image; with `split` every tap is a run of its own.
    fn reads(&self, split: bool) -> Reads {
        let [_, wide] = self.padded();
        let c = self.image[3];
        let ((kh, sh, dh, _), (kw, sw, dw, _)) = (self.axis(0), self.axis(1));
        let starts = self.starts(self.padded(), [sh, sw]);
        if dw == 1 && !split {
            return Reads { starts, runs: (0..kh).map(|k| k * dh * wide * c).collect(), len: kw * c };
        }
        let taps = (0..kh).flat_map(|y| (0..kw).map(move |x| (y * dh * wide + x * dw) * c));
        Reads { starts, runs: taps.collect(), len: c }
    }

    fn starts(&self, [high, wide]: [usize; 2], [sh, sw]: [usize; 2]) -> Vec<usize> {
        let ([n, _, _, c], [rows, columns]) = (self.image, self.places);
        let mut starts = Vec::with_capacity(self.count());
        for i in 0..n {
            for y in 0..rows {
                let row = (i * high + y * sh) * wide;
                starts.extend((0..columns).map(|x| (row + x * sw) * c));
            }
        }
        starts
    }

    /// `w` `[o, taps, c]`, `bias` `[o]` or empty → output `[positions, o]`.
    pub(crate) fn forward(&self, x: &[f32], w: &[f32], bias: &[f32], o: usize) -> Vec<f32> {
        let reads = self.reads(false);
        let weights = turned(w, o);
        let mut out = vec![0.0; self.count() * o];
        let outs: Vec<usize> = (0..self.count()).map(|p| p * o).collect();
        Arch::new().dispatch(Gather {
            source: &self.pad(x),
            starts: &reads.starts,
            runs: &reads.runs,
            len: reads.len,
            weights: &weights,
            bias,
            width: o,
            outs: &outs,
            out: &mut out,
        });
        out
    }

    /// Gradient `[o, taps, c]` of the weights.
    pub(crate) fn weights(&self, x: &[f32], dy: &[f32], o: usize) -> Vec<f32> {
        let reads = self.reads(false);
        let mut out = vec![0.0; reads.runs.len() * reads.len * o];
        Arch::new().dispatch(Outer {
            source: &self.pad(x),
            starts: &reads.starts,
            runs: &reads.runs,
            len: reads.len,
            gradient: dy,
            width: o,
            out: &mut out,
        });
        let rows = out.len() / o.max(1);
        turned(&out, rows)
    }

    /// Gradient of the image.
    pub(crate) fn input(&self, w: &[f32], dy: &[f32], o: usize) -> Vec<f32> {
        let [n, h, width, c] = self.image;
        let axes = [self.axis(0), self.axis(1)];
        // The furthest that a tap reaches back, in output positions.
        let back = axes.map(|(k, s, d, _)| k.saturating_sub(1) * d / s);
        let size: [usize; 2] = std::array::from_fn(|a| {
            let (_, s, _, p) = axes[a];
            ((self.image[a + 1] + p).saturating_sub(1) / s + back[a] + 1).max(back[a] + self.places[a])
        });
        let source = framed(dy, [n, self.places[0], self.places[1], o], back, size);
        let mut dx = vec![0.0; n * h * width * c];
        let (kw, taps) = (self.kernel()[1], self.kernel()[0] * self.kernel()[1]);
        for residues in 0..axes[0].1 * axes[1].1 {
            let residue = [residues / axes[1].1, residues % axes[1].1];
            // The taps of an axis that fall on this remainder, with their distance back in output positions, furthest
            // first.
            let met: [Vec<(usize, usize)>; 2] = std::array::from_fn(|a| {
                let (k, s, d, _) = axes[a];
                let taps = (0..k).rev().filter(|k| k * d % s == residue[a]);
                taps.map(|k| (k, k * d / s)).collect()
            });
            let together = met[1].windows(2).all(|m| m[0].1 == m[1].1 + 1);
            let mut weights = Vec::with_capacity(met[0].len() * met[1].len() * o * c);
            let mut runs = Vec::new();
            for &(ky, jy) in &met[0] {
                for (i, &(kx, jx)) in met[1].iter().enumerate() {
                    if i == 0 || !together {
                        runs.push(((back[0] - jy) * size[1] + back[1] - jx) * o);
                    }
                    for filter in w.chunks_exact((taps * c).max(1)) {
                        weights.extend_from_slice(&filter[(ky * kw + kx) * c..][..c]);
                    }
                }
            }
            // Positions with this remainder, and the output position at which the first tap would read them.
            let at: [Vec<(usize, usize)>; 2] = std::array::from_fn(|a| {
                let (_, s, _, p) = axes[a];
                let met = (0..self.image[a + 1]).filter(|q| (q + p) % s == residue[a]);
                met.map(|q| (q, (q + p) / s)).collect()
            });
            if runs.is_empty() {
                continue;
            }
            let (mut starts, mut outs) = (Vec::new(), Vec::new());
            for i in 0..n {
                for &(y, my) in &at[0] {
                    starts.extend(at[1].iter().map(|(_, mx)| ((i * size[0] + my) * size[1] + mx) * o));
                    outs.extend(at[1].iter().map(|(x, _)| ((i * h + y) * width + x) * c));
                }
            }
            let len = if together { met[1].len() * o } else { o };
            Arch::new().dispatch(Gather {
                source: &source,
                starts: &starts,
                runs: &runs,
                len,
                weights: &weights,
                bias: &[],
                width: c,
                outs: &outs,
                out: &mut dx,
            });
        }
        dx
    }

    /// Depthwise convolution: `w` `[c, taps]`, `bias` `[c]` or empty.
    pub(crate) fn depthwise(&self, x: &[f32], w: &[f32], bias: &[f32]) -> Vec<f32> {
        let c = self.image[3];
        let mut y = vec![0.0; self.count() * c];
        if !bias.is_empty() {
            y.chunks_exact_mut(c).for_each(|y| y.copy_from_slice(bias));
        }
        self.channels(Depthwise::Forward { x: &self.pad(x), w: &turned(w, c), y: &mut y });
        y
    }

    /// Gradient of a depthwise convolution's input.
    pub(crate) fn depthwise_input(&self, w: &[f32], dy: &[f32]) -> Vec<f32> {
        let [n, h, width, c] = self.image;
        let [high, wide] = self.padded();
        let mut padded = vec![0.0; n * high * wide * c];
        self.channels(Depthwise::Input { w: &turned(w, c), dy, dx: &mut padded });
        let (top, left) = (self.axis(0).3, self.axis(1).3);
        let mut dx = Vec::with_capacity(n * h * width * c);
        for i in 0..n {
            for y in 0..h {
                dx.extend_from_slice(&padded[((i * high + y + top) * wide + left) * c..][..width * c]);
            }
        }
        dx
    }

    /// Gradient `[c, taps]` of a depthwise convolution's weights.
    pub(crate) fn depthwise_weights(&self, x: &[f32], dy: &[f32]) -> Vec<f32> {
        let (c, [kh, kw]) = (self.image[3], self.kernel());
        let mut dw = vec![0.0; kh * kw * c];
        self.channels(Depthwise::Weights { x: &self.pad(x), dy, dw: &mut dw });
        turned(&dw, kh * kw)
    }

    fn channels(&self, what: Depthwise<'_>) {
        let reads = self.reads(true);
        let channels = self.image[3];
        Arch::new().dispatch(Channels { starts: &reads.starts, taps: &reads.runs, channels, what });
    }
}

/// Images `[n, h, w, c]` in zero frames of `size`, at offset `before` rows and columns.
fn framed<'x>(
    x: &'x [f32],
    [n, h, w, c]: [usize; 4],
    before: [usize; 2],
    size: [usize; 2],
) -> Cow<'x, [f32]> {
    if size == [h, w] {
        return x.into();
    }
    let mut out = vec![0.0; n * size[0] * size[1] * c];
    for i in 0..n {
        for y in 0..h {
            let to = ((i * size[0] + y + before[0]) * size[1] + before[1]) * c;
            out[to..to + w * c].copy_from_slice(&x[(i * h + y) * w * c..][..w * c]);
        }
    }
    out.into()
}

/// The transpose of a matrix with `rows` rows.
fn turned(matrix: &[f32], rows: usize) -> Vec<f32> {
    let columns = matrix.len() / rows.max(1);
    let mut out = vec![0.0; matrix.len()];
    for (r, row) in matrix.chunks_exact(columns.max(1)).enumerate() {
        for (c, v) in row.iter().enumerate() {
            out[c * rows + r] = *v;
        }
    }
    out
}
