//! Convolutions with row-major weights: see [`offshoot_format::record::ConvRowMajor`] for layout and order.

use super::tiled::requantise;
use crate::geometry::Tiled;
use crate::requant::Requant;
use offshoot_format::record::ConvTiled;

/// Gathers the inputs of the output pixels from `first` on into `lanes`, `k` for each. Beyond the last pixel, repeats it.
pub fn gather_row_major(r: &ConvTiled, g: &Tiled, first: usize, src: &[i8], lanes: &mut [i8]) {
    for (i, lane) in lanes.chunks_exact_mut(g.k.max(1)).enumerate() {
        let position = g.position((first + i).min(g.pixels.saturating_sub(1)));
        for (ky, row) in lane.chunks_exact_mut(g.segment.max(1)).enumerate() {
            let s = g.segment(r, position, ky);
            row.fill(r.in_zp);
            row[s.before..][..s.inside].copy_from_slice(&src[s.at..][..s.inside]);
        }
    }
}

/// Computes the output pixels from `first` on from their inputs in `lanes`. `dst` is the whole output.
pub fn conv_row_major(
    g: &Tiled,
    q: &Requant<'_>,
    weights: &[i8],
    first: usize,
    lanes: &[i8],
    dst: &mut [i8],
) {
    let (k, channels) = (g.k.max(1), q.bias.len());
    let pixels = dst[first * channels..].chunks_exact_mut(channels.max(1));
    for (x, out) in lanes.chunks_exact(k).zip(pixels) {
        for (o, (out, w)) in out.iter_mut().zip(weights.chunks_exact(k)).enumerate() {
            let products = x.iter().zip(w).map(|(&x, &w)| i32::from(x) * i32::from(w));
            let sum = products.fold(0i32, i32::wrapping_add);
            *out = requantise(sum.wrapping_add(q.bias[o]), q, o);
        }
    }
}
