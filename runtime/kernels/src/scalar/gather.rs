//! Inputs of a pair of output pixels, in the order in which [`super::tile`] reads them.

use crate::geometry::Tiled;
use offshoot_format::record::ConvTiled;

/// See [`crate::portable::gather_pair`].
#[inline(never)]
pub fn gather_pair(r: &ConvTiled, g: &Tiled, pair: usize, src: &[i8], lanes: &mut [i16]) {
    let (n, y, x) = g.position(2 * pair);
    // The next pixel, without divisions; the last pixel again if there is none.
    let next = if 2 * pair + 1 >= g.pixels {
        (n, y, x)
    } else if x + 1 < g.out_w {
        (n, y, x + 1)
    } else if y + 1 < g.out_h {
        (n, y + 1, 0)
    } else {
        (n + 1, 0, 0)
    };
    for (lane, position) in [(n, y, x), next].into_iter().enumerate() {
        pixel(r, g, position, src, lane, lanes);
    }
}

/// Gathers the inputs of a pixel of the pair.
// As `Tiled::segment`, but what is the same for all kernel rows is computed once.
fn pixel(
    r: &ConvTiled,
    g: &Tiled,
    (n, y, x): (usize, usize, usize),
    src: &[i8],
    lane: usize,
    lanes: &mut [i16],
) {
    let (h, w, c) = (usize::from(r.h), usize::from(r.w), usize::from(r.c));
    let [stride_h, stride_w] = g.window.stride.map(usize::from);
    let (k_w, left) = (usize::from(g.window.kernel[1]), usize::from(g.window.pad[1]));
    let column = x * stride_w;
    let first = left.saturating_sub(column).min(k_w);
    let start = (column + first).saturating_sub(left);
    let inside = (k_w - first).min(w.saturating_sub(start)) * c;
    let mut row = (y * stride_h).wrapping_sub(usize::from(g.window.pad[0]));
    for lanes in lanes.as_chunks_mut().0.chunks_exact_mut((g.padded / 4).max(1)) {
        let elements =
            if row < h && inside > 0 { &src[((n * h + row) * w + start) * c..][..inside] } else { &[] };
        kernel_row(lanes, lane, r.in_zp, first * c, elements);
        row = row.wrapping_add(usize::from(g.window.dilation[0]));
    }
}

/// Fills a kernel row of a pixel of the pair: `before` elements of padding, then `inside`, then padding.
#[inline(always)]
fn kernel_row(groups: &mut [[i16; 8]], lane: usize, padding: i8, before: usize, inside: &[i8]) {
    if before > 0 {
        return ragged(groups, lane, padding, before, inside);
    }
    let (fours, rest) = inside.as_chunks::<4>();
    let (whole, others) = groups.split_at_mut(fours.len().min(groups.len()));
    for (x, group) in fours.iter().zip(whole) {
        put(group, lane, x.map(i16::from));
    }
    if !others.is_empty() {
        ragged(others, lane, padding, 0, rest);
    }
}

/// As [`kernel_row`], element by element.
#[inline(never)]
fn ragged(groups: &mut [[i16; 8]], lane: usize, padding: i8, before: usize, inside: &[i8]) {
    // Elements before the input wrap to indices beyond it.
    let mut next = 0usize.wrapping_sub(before);
    for group in groups {
        let x = [0, 1, 2, 3].map(|i| inside.get(next.wrapping_add(i)).copied().unwrap_or(padding).into());
        put(group, lane, x);
        next = next.wrapping_add(4);
    }
}

/// Stores four inputs of a pixel of the pair: see [`crate::geometry::lane_index`].
#[inline(always)]
pub(super) fn put(group: &mut [i16; 8], lane: usize, x: [i16; 4]) {
    let at = 2 * (lane & 1);
    [group[at], group[at + 1], group[at + 4], group[at + 5]] = [x[0], x[2], x[1], x[3]];
}
