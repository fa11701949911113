//! Sums of products over runs of an image, vectorised for the machine.
//!
//! A convolution needs no matrix of windows: in a channels-last image, each row of a window is contiguous. Every
//! output position is therefore a start in the image, and every row of the window an offset from it ([`Gather`]). The
//! gradient of the weights is the same sum with roles exchanged ([`Outer`]). Both keep a tile of six rows by two
//! vectors in registers: what fits into sixteen registers together with the operands.

use std::borrow::Cow;

use pulp::{Simd, WithSimd};

/// Rows of a tile.
const ROWS: usize = 6;

/// Positions that [`Outer`] processes before moving to the next tile, so that their gradients stay in the L1 cache.
const CHUNK: usize = 128;

/// `out[outs[p]..][..width] = bias + Σ_r Σ_k source[starts[p] + runs[r] + k] · weights[r · len + k]`.
pub(crate) struct Gather<'a> {
    /// The image.
    pub(crate) source: &'a [f32],
    /// For each position, the start of its window.
    pub(crate) starts: &'a [usize],
    /// Offsets of the runs within a window.
    pub(crate) runs: &'a [usize],
    /// Elements of each run.
    pub(crate) len: usize,
    /// `[runs · len, width]`.
    pub(crate) weights: &'a [f32],
    /// `[width]`, or nothing.
    pub(crate) bias: &'a [f32],
    /// Outputs per position.
    pub(crate) width: usize,
    /// For each position, the offset of its outputs.
    pub(crate) outs: &'a [usize],
    /// The output.
    pub(crate) out: &'a mut [f32],
}

impl WithSimd for Gather<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let lanes = S::F32_LANES;
        let vectors = self.width.div_ceil(lanes);
        let rows = self.runs.len() * self.len;
        let mut bias = self.bias.to_vec();
        bias.resize(vectors * lanes, 0.0);
        let mut panel = vec![0.0f32; rows * 2 * lanes];
        let mut first = 0;
        while first < vectors {
            let v = (vectors - first).min(2);
            let (at, columns) = (first * lanes, (self.width - first * lanes).min(v * lanes));
            // Packs two vectors of every row of weights.
            for (to, from) in panel.chunks_exact_mut(v * lanes).zip(self.weights.chunks_exact(self.width)) {
                to[..columns].copy_from_slice(&from[at..at + columns]);
                to[columns..].fill(0.0);
            }
            let panel = S::as_simd_f32s(&panel[..rows * v * lanes]).0;
            let bias = S::as_simd_f32s(&bias).0;
            let columns = at..at + columns;
            match v {
                2 => gather::<S, 2>(
                    simd,
                    self.source,
                    self.starts,
                    self.runs,
                    self.len,
                    panel,
                    [bias[first], bias[first + 1]],
                    columns,
                    self.outs,
                    self.out,
                ),
                _ => gather::<S, 1>(
                    simd,
                    self.source,
                    self.starts,
                    self.runs,
                    self.len,
                    panel,
                    [bias[first]],
                    columns,
                    self.outs,
                    self.out,
                ),
            }
            first += v;
        }
    }
}

/// All positions, `V` vectors wide.
#[inline(always)]
fn gather<S: Simd, const V: usize>(
    simd: S,
    source: &[f32],
    starts: &[usize],
    runs: &[usize],
    len: usize,
    panel: &[S::f32s],
    bias: [S::f32s; V],
    columns: std::ops::Range<usize>,
    outs: &[usize],
    out: &mut [f32],
) {
    let whole = starts.len() / ROWS * ROWS;
    for (starts, outs) in starts[..whole].chunks_exact(ROWS).zip(outs.chunks_exact(ROWS)) {
        let sums = gather_tile::<S, ROWS, V>(simd, source, starts, runs, len, panel, bias);
        for (sums, &to) in sums.iter().zip(outs) {
            store(simd, sums, &mut out[to + columns.start..to + columns.end]);
        }
    }
    for (start, &to) in starts[whole..].iter().zip(&outs[whole..]) {
        let [sums] =
            gather_tile::<S, 1, V>(simd, source, std::slice::from_ref(start), runs, len, panel, bias);
        store(simd, &sums, &mut out[to + columns.start..to + columns.end]);
    }
}

#[inline(always)]
fn gather_tile<S: Simd, const R: usize, const V: usize>(
    simd: S,
    source: &[f32],
    starts: &[usize],
    runs: &[usize],
    len: usize,
    panel: &[S::f32s],
    bias: [S::f32s; V],
) -> [[S::f32s; V]; R] {
    let mut sums = [bias; R];
    for (&run, weights) in runs.iter().zip(panel.chunks_exact((len * V).max(1))) {
        let mut rows = [&source[..0]; R];
        for r in 0..R {
            rows[r] = &source[starts[r] + run..][..len];
        }
        for k in 0..len {
            let w = &weights[k * V..][..V];
            for r in 0..R {
                let x = simd.splat_f32s(rows[r][k]);
                for v in 0..V {
                    sums[r][v] = simd.mul_add_e_f32s(x, w[v], sums[r][v]);
                }
            }
        }
    }
    sums
}

/// Stores as many of the vectors' elements as fit into `to`.
#[inline(always)]
fn store<S: Simd, const V: usize>(simd: S, sums: &[S::f32s; V], to: &mut [f32]) {
    for (sum, to) in sums.iter().zip(to.chunks_mut(S::F32_LANES)) {
        simd.partial_store_f32s(to, *sum);
    }
}

/// `out[r · len + k][..width] += Σ_p source[starts[p] + runs[r] + k] · gradient[p][..width]`.
pub(crate) struct Outer<'a> {
    /// The image.
    pub(crate) source: &'a [f32],
    /// For each position, the start of its window.
    pub(crate) starts: &'a [usize],
    /// Offsets of the runs within a window.
    pub(crate) runs: &'a [usize],
    /// Elements of each run.
    pub(crate) len: usize,
    /// `[positions, width]`.
    pub(crate) gradient: &'a [f32],
    /// Outputs per position.
    pub(crate) width: usize,
    /// `[runs · len, width]`.
    pub(crate) out: &'a mut [f32],
}

impl WithSimd for Outer<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let lanes = S::F32_LANES;
        let (width, len) = (self.width, self.len);
        let vectors = width.div_ceil(lanes);
        let gradient = widened(self.gradient, width, vectors * lanes);
        let gradient = S::as_simd_f32s(&gradient).0;
        let mut sums = vec![0.0f32; self.runs.len() * len * vectors * lanes];
        {
            let sums = S::as_mut_simd_f32s(&mut sums).0;
            for (starts, gradient) in self.starts.chunks(CHUNK).zip(gradient.chunks(CHUNK * vectors)) {
                for (r, &run) in self.runs.iter().enumerate() {
                    for k in (0..len).step_by(ROWS) {
                        let mut first = 0;
                        while first < vectors {
                            let at = (r * len + k) * vectors + first;
                            let sums = &mut sums[at..];
                            let place = (run + k, vectors, first);
                            macro_rules! tile {
                                ($rows:literal) => {
                                    if vectors - first > 1 {
                                        outer::<S, $rows, 2>(simd, self.source, starts, gradient, place, sums)
                                    } else {
                                        outer::<S, $rows, 1>(simd, self.source, starts, gradient, place, sums)
                                    }
                                };
                            }
                            match len - k {
                                1 => tile!(1),
                                2 => tile!(2),
                                3 => tile!(3),
                                4 => tile!(4),
                                5 => tile!(5),
                                _ => tile!(6),
                            }
                            first += 2;
                        }
                    }
                }
            }
        }
        for (to, from) in self.out.chunks_exact_mut(width).zip(sums.chunks_exact(vectors * lanes)) {
            to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
        }
    }
}

/// One tile for a chunk of positions. `place` gives the offset of the tile's first row from a window's start, the
/// vectors per row, and the tile's first vector.
#[inline(always)]
fn outer<S: Simd, const R: usize, const V: usize>(
    simd: S,
    source: &[f32],
    starts: &[usize],
    gradient: &[S::f32s],
    (offset, vectors, first): (usize, usize, usize),
    to: &mut [S::f32s],
) {
    let mut sums = [[simd.splat_f32s(0.0); V]; R];
    for (start, d) in starts.iter().zip(gradient.chunks_exact(vectors)) {
        let x = &source[start + offset..][..R];
        let d = &d[first..][..V];
        for r in 0..R {
            let x = simd.splat_f32s(x[r]);
            for v in 0..V {
                sums[r][v] = simd.mul_add_e_f32s(x, d[v], sums[r][v]);
            }
        }
    }
    for r in 0..R {
        for v in 0..V {
            to[r * vectors + v] = simd.add_f32s(to[r * vectors + v], sums[r][v]);
        }
    }
}

/// Rows of `width` elements, zero-padded to `to`.
fn widened(rows: &[f32], width: usize, to: usize) -> Cow<'_, [f32]> {
    if width == to {
        return rows.into();
    }
    let mut out = vec![0.0; rows.len() / width.max(1) * to];
    for (to, from) in out.chunks_exact_mut(to.max(1)).zip(rows.chunks_exact(width.max(1))) {
        to[..width].copy_from_slice(from);
    }
    out.into()
}

/// Depthwise sums: each tap of a window is a vector of all `channels`, at an offset from the window's start.
pub(crate) struct Channels<'a> {
    /// For each position, the start of its window in the image.
    pub(crate) starts: &'a [usize],
    /// Offset of each tap.
    pub(crate) taps: &'a [usize],
    /// Channels of the image.
    pub(crate) channels: usize,
    /// The sum to compute.
    pub(crate) what: Depthwise<'a>,
}

/// The three sums of a depthwise convolution; weights are `[taps, channels]`, `y` and `dy` `[positions, channels]`.
pub(crate) enum Depthwise<'a> {
    /// Adds to the output `y`.
    Forward { x: &'a [f32], w: &'a [f32], y: &'a mut [f32] },
    /// Adds to the gradient `dx` of the image.
    Input { w: &'a [f32], dy: &'a [f32], dx: &'a mut [f32] },
    /// Adds to the gradient `dw` of the weights.
    Weights { x: &'a [f32], dy: &'a [f32], dw: &'a mut [f32] },
}

impl WithSimd for Channels<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        // Plain loops, vectorised for `S` where this is inlined.
        let c = self.channels;
        let places = self.starts.iter().enumerate();
        match self.what {
            Depthwise::Forward { x, w, y } => places.for_each(|(p, start)| {
                let y = &mut y[p * c..][..c];
                for (tap, w) in self.taps.iter().zip(w.chunks_exact(c)) {
                    multiply_add(y, &x[start + tap..][..c], w);
                }
            }),
            Depthwise::Input { w, dy, dx } => places.for_each(|(p, start)| {
                let dy = &dy[p * c..][..c];
                for (tap, w) in self.taps.iter().zip(w.chunks_exact(c)) {
                    multiply_add(&mut dx[start + tap..][..c], dy, w);
                }
            }),
            Depthwise::Weights { x, dy, dw } => places.for_each(|(p, start)| {
                let dy = &dy[p * c..][..c];
                for (tap, dw) in self.taps.iter().zip(dw.chunks_exact_mut(c)) {
                    multiply_add(dw, &x[start + tap..][..c], dy);
                }
            }),
        }
    }
}

/// `to += a · b`, element by element.
#[inline(always)]
fn multiply_add(to: &mut [f32], a: &[f32], b: &[f32]) {
    for ((to, a), b) in to.iter_mut().zip(a).zip(b) {
        *to += a * b;
    }
}
