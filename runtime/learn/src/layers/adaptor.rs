//! Adaptors: a few learned parameters beside frozen weights that correct a domain shift. Low-rank: Hu et al.,
//! arXiv:2106.09685. Scales and biases of a normalisation: Frankle, Schwab and Morcos, arXiv:2003.00152.

use offshoot_kernels::layer::Geometry;

/// Applies the lower factor at all pixels: `inner: [rank, pixels]`, `down: [rank, k_h, k_w, c]`. The output channels of
/// `g` are the ranks.
pub fn lower<X: Copy>(g: &Geometry, down: &[f32], x: &[X], real: impl Fn(X) -> f32, inner: &mut [f32]) {
    let [k_h, k_w] = g.window.kernel.map(usize::from);
    let [stride_h, stride_w] = g.window.stride.map(usize::from);
    inner.fill(0.0);
    for (r, plane) in inner.chunks_exact_mut(g.pixels().max(1)).enumerate() {
        for ky in 0..k_h {
            let (y0, y1, iy) = g.reach(0, ky);
            for kx in 0..k_w {
                let (x0, x1, ix) = g.reach(1, kx);
                let weights = &down[g.weight(r, ky * k_w + kx)..][..g.depth()];
                for y in y0..y1 {
                    let row = (iy + (y - y0) * stride_h) * g.input[1] + ix;
                    let Some(pixels) = x.get(row * g.c..) else { break };
                    let sums = &mut plane[y * g.output[1] + x0..y * g.output[1] + x1];
                    for (sum, x) in sums.iter_mut().zip(pixels.chunks(stride_w * g.c)) {
                        *sum = weights.iter().zip(x).fold(*sum, |sum, (w, x)| sum + w * real(*x));
                    }
                }
            }
        }
    }
}

/// Contribution of the upper factor, `up: [out_c, rank]`, to an output channel at a pixel.
#[inline]
pub fn upper(up: &[f32], inner: &[f32], pixels: usize, channel: usize, pixel: usize) -> f32 {
    let rank = inner.len() / pixels.max(1);
    let row = &up[channel * rank..][..rank];
    row.iter().enumerate().fold(0.0, |sum, (r, up)| sum + up * inner[r * pixels + pixel])
}
