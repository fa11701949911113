//! [`ConvWinograd`]: transforms a pair of tiles, then computes blocks of four output channels from it.

use super::fixed_point::Scale;
use super::gather::put;
use super::tile;
use crate::geometry::extent;
use crate::requant::Requant;
use crate::tiles::Operands;
use offshoot_base::{Memory, Rule, Span};
use offshoot_format::record::{ConvWinograd, Window};

/// See [`crate::portable::conv_winograd`].
///
/// # Errors
/// [`Rule::ArenaBounds`] for spans beyond the arena; [`Rule::Overlap`] if two of them overlap.
#[inline(never)]
pub(crate) fn conv_winograd(
    r: &ConvWinograd,
    q: &Requant<'_>,
    weights: &[i16],
    operands: &mut Operands<'_>,
    lanes: Span,
) -> Result<(), Rule> {
    let tiles = Tiles::of(r);
    let (src, dst) = (operands.src, operands.dst);
    let mut memory = Memory::new(operands.arena, &[]);
    let count = usize::from(r.n) * tiles.out_h * tiles.columns;
    for first in (0..count).step_by(2) {
        // The last tile may have no partner: it is computed twice.
        let pair = [first, (first + 1).min(count - 1)].map(|tile| tiles.position(tile));
        let (src, lanes_mut) = memory.split::<i8, i16>(src, lanes)?;
        for (lane, tile) in pair.into_iter().enumerate() {
            tiles.transform(tile, src, lane, lanes_mut.as_chunks_mut().0);
        }
        let (lanes, dst) = memory.split::<i16, i8>(lanes, dst)?;
        tiles.outputs(q, weights, pair, lanes, dst);
    }
    Ok(())
}

/// Row of all images' outputs, and first column.
type Position = (usize, usize);

struct Tiles {
    h: usize,
    w: usize,
    c: usize,
    out_h: usize,
    out_w: usize,
    out_c: usize,
    /// Tiles in a row.
    columns: usize,
    top: usize,
    left: usize,
    zero: i8,
}

impl Tiles {
    fn of(r: &ConvWinograd) -> Self {
        let window = Window::from(r.window);
        let (h, w) = (usize::from(r.h), usize::from(r.w));
        let (out_h, out_w) = (extent(h, &window, 0), extent(w, &window, 1));
        let [top, left, ..] = window.pad.map(usize::from);
        let (c, out_c) = (r.c.into(), r.out_c.into());
        Self { h, w, c, out_h, out_w, out_c, columns: out_w.div_ceil(2), top, left, zero: r.in_zp }
    }

    fn position(&self, tile: usize) -> Position {
        (tile / self.columns.max(1), 2 * (tile % self.columns.max(1)))
    }

    /// Writes the four components of a tile of the pair.
    fn transform(&self, (row, x): Position, src: &[i8], lane: usize, groups: &mut [[i16; 8]]) {
        let (n, y) = (row / self.out_h.max(1), row % self.out_h.max(1));
        let component = 3 * (self.c / 4);
        for ky in 0..3 {
            let iy = (y + ky).wrapping_sub(self.top);
            // A column of the tile, or nothing if it lies in the padding.
            let column = |i: usize| {
                let ix = (x + i).wrapping_sub(self.left);
                let inside = iy < self.h && ix < self.w;
                if inside { &src[((n * self.h + iy) * self.w + ix) * self.c..][..self.c] } else { &[] }
            };
            let columns = [column(0), column(1), column(2), column(3)];
            for group in 0..self.c / 4 {
                let four = |column: &[i8]| match column.get(4 * group..4 * group + 4) {
                    Some(x) => [x[0], x[1], x[2], x[3]].map(i16::from),
                    None => [self.zero.into(); 4],
                };
                let d = columns.map(four);
                let at = ky * (self.c / 4) + group;
                let components = [
                    [0, 1, 2, 3].map(|i| d[0][i] - d[2][i]),
                    [0, 1, 2, 3].map(|i| d[1][i] - d[3][i]),
                    [0, 1, 2, 3].map(|i| d[1][i] + d[2][i]),
                    [0, 1, 2, 3].map(|i| d[2][i] - d[1][i]),
                ];
                for (i, values) in components.into_iter().enumerate() {
                    put(&mut groups[i * component + at], lane, values);
                }
            }
        }
    }

    /// Writes the outputs of two tiles from their components.
    #[inline(always)]
    fn outputs(&self, q: &Requant<'_>, weights: &[i16], pair: [Position; 2], lanes: &[i16], dst: &mut [i8]) {
        let component = 6 * self.c;
        for (block, weights) in weights.chunks_exact((48 * self.c).max(1)).enumerate() {
            let m = [0, 1, 2, 3].map(|i| {
                let weights = &weights[2 * i * component..][..2 * component];
                tile::pair_wide(&lanes[i * component..][..component], weights)
            });
            for (tile, &(row, x)) in pair.iter().enumerate() {
                let first = &mut dst[(row * self.out_w + x) * self.out_c..];
                for i in 0..4 {
                    let channel = 4 * block + i;
                    let Some(bias) = q.bias.get(channel).map(|b| b << 1) else { break };
                    let scale = Scale::of(q, channel);
                    let [m0, m1, m2, m3] = [0, 1, 2, 3].map(|component: usize| m[component][tile][i]);
                    first[channel] = scale.of_twice(bias.wrapping_add(m0).wrapping_add(m2).wrapping_add(m3));
                    if x + 1 < self.out_w {
                        first[self.out_c + channel] =
                            scale.of_twice(bias.wrapping_add(m1).wrapping_add(m2).wrapping_sub(m3));
                    }
                }
            }
        }
    }
}
