//! Gradients of an output channel's weights: `Σ error · (x - zero)` over the pixels whose output is inside its bounds.
//!
//! An error is the same for all pixels of a cell of the raster. So the inputs of a cell's pixels are summed first, and
//! the sum is multiplied once; what the activation holds is left out of the sum, not multiplied by zero.

use core::ops::Range;

use crate::kernels;
use crate::learn::layers::geometry::{Geometry, Order};

/// Rows of a tensor, by ascending place of their first element.
#[derive(Debug)]
pub(crate) struct Starts {
    at: [u32; Self::MOST],
    len: usize,
}

impl Starts {
    /// So many sums of int8 less their zero point stay within sixteen bits.
    pub(crate) const MOST: usize = 64;

    pub(crate) fn new() -> Self {
        Self { at: [0; Self::MOST], len: 0 }
    }

    /// Appends a row; says whether there is no room for another. A full list takes no more.
    #[inline(always)]
    pub(crate) fn push(&mut self, start: usize) -> bool {
        if let Some(place) = self.at.get_mut(self.len) {
            *place = start as u32;
            self.len += 1;
        }
        self.len == Self::MOST
    }

    pub(crate) fn clear(&mut self) {
        self.len = 0;
    }

    pub(crate) fn all(&self) -> &[u32] {
        self.at.get(..self.len).unwrap_or(&[])
    }
}

/// What gradients are made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tensors<'a> {
    pub(crate) geometry: &'a Geometry,
    /// Input.
    pub(crate) x: &'a [i8],
    /// Output.
    pub(crate) h: &'a [i8],
    /// Outputs strictly between these count.
    pub(crate) bounds: (i8, i8),
    /// Zero point of the input.
    pub(crate) zero: i32,
}

impl Tensors<'_> {
    /// Number of pixels of a cell whose output in `channel` counts.
    pub(super) fn active(&self, channel: usize, (rows, columns): (Range<usize>, Range<usize>)) -> i32 {
        let pixel = |y: usize, x: usize| (y * self.geometry.output[1] + x) * self.geometry.out_c + channel;
        let active = |at: usize| self.h.get(at).is_some_and(|&h| h > self.bounds.0 && h < self.bounds.1);
        let of_row = |y: usize| columns.clone().filter(|&x| active(pixel(y, x))).count();
        rows.map(of_row).sum::<usize>() as i32
    }

    /// Adds what the pixels of a cell with this error bring to `sums`, `[k_h, k_w, depth]`; gives the number of pixels
    /// that count.
    pub(crate) fn add_cell(
        &self,
        channel: usize,
        (rows, columns): (Range<usize>, Range<usize>),
        error: i32,
        sums: &mut [i32],
    ) -> i32 {
        let g = self.geometry;
        let [stride_h, stride_w] = g.window.stride.map(usize::from);
        let mut active = 0;
        let mut first = columns.start;
        // Columns whose windows are cut off alike go together.
        while first < columns.end {
            let cut = Cut::at(g, first);
            let mut end = first + 1;
            while end < columns.end && Cut::at(g, end) == cut {
                end += 1;
            }
            let left = g.first_input(channel) + (first * stride_w + cut.skipped_columns(g)) * g.c;
            let left = left.saturating_sub(usize::from(g.window.pad[1]) * g.c);
            let mut starts = Starts::new();
            for y in rows.clone() {
                let at = (y * g.output[1] + first) * g.out_c + channel;
                let outputs = self.h.get(at..).unwrap_or(&[]).iter().step_by(g.out_c.max(1));
                let mut start = y * stride_h * g.input[1] * g.c + left;
                for &h in outputs.take(end - first) {
                    if h > self.bounds.0 && h < self.bounds.1 {
                        active += 1;
                        if starts.push(start) {
                            self.add(&cut, starts.all(), error, sums);
                            starts.clear();
                        }
                    }
                    start += stride_w * g.c;
                }
            }
            self.add(&cut, starts.all(), error, sums);
            first = end;
        }
        active
    }

    /// Adds the windows whose first row begins at `starts`.
    fn add(&self, cut: &Cut, starts: &[u32], error: i32, sums: &mut [i32]) {
        let g = self.geometry;
        let (Some(&first), Some(&last)) = (starts.first(), starts.last()) else { return };
        let [k_h, k_w] = g.window.kernel.map(usize::from);
        let line = (g.input[1] * g.c) as isize;
        let end = g.input[0] as isize * line;
        let depth = g.depth();
        // Taps of a kernel row lie one behind the other in the input if the layer reads all channels.
        let joined = depth == g.c && (g.window.dilation[1] == 1 || cut.taps == 1);
        for ky in 0..k_h {
            let row = (ky * usize::from(g.window.dilation[0])) as isize - g.window.pad[0] as isize;
            let offset = row * line;
            let mut starts = starts;
            if first as isize + offset < 0 || last as isize + offset >= end {
                let from = starts.partition_point(|&s| (s as isize + offset) < 0);
                let to = starts.partition_point(|&s| (s as isize + offset) < end);
                starts = starts.get(from..to).unwrap_or(&[]);
            }
            if starts.is_empty() {
                continue;
            }
            let sums = &mut sums[(ky * k_w + cut.first) * depth..][..cut.taps * depth];
            if joined {
                kernels::add_rows(self.x, starts, offset, self.zero, error, sums);
            } else {
                let step = usize::from(g.window.dilation[1]) * g.c;
                for (tap, sums) in sums.chunks_exact_mut(depth.max(1)).enumerate() {
                    let offset = offset + (tap * step) as isize;
                    kernels::add_rows(self.x, starts, offset, self.zero, error, sums);
                }
            }
        }
    }
}

/// Kernel columns that lie inside the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cut {
    first: usize,
    taps: usize,
}

impl Cut {
    fn at(g: &Geometry, column: usize) -> Self {
        let (k_w, dilation) = (usize::from(g.window.kernel[1]), usize::from(g.window.dilation[1]));
        let at = |tap: usize| {
            (column * usize::from(g.window.stride[1]) + tap * dilation).wrapping_sub(g.window.pad[1].into())
        };
        let (mut first, mut end) = (0, k_w);
        while first < end && at(first) >= g.input[1] {
            first += 1;
        }
        while end > first && at(end - 1) >= g.input[1] {
            end -= 1;
        }
        Self { first, taps: end - first }
    }

    fn skipped_columns(&self, g: &Geometry) -> usize {
        self.first * usize::from(g.window.dilation[1])
    }
}

/// Adds what the pixels of four neighbouring output channels of a depthwise layer bring to `sums`, `[4, k_h, k_w]`.
/// `errors(row, column, lane)` are those of the cell of an output pixel. Gives the sums of errors of the pixels that
/// count.
pub(super) fn add_planes(
    tensors: &Tensors<'_>,
    channel: usize,
    cells: impl Iterator<Item = ((Range<usize>, Range<usize>), [i32; 4])>,
    sums: &mut [i32],
) -> [i32; 4] {
    let g = tensors.geometry;
    let taps = g.taps();
    let lanes = (g.out_c - channel).min(4);
    let whole = lanes == 4 && g.order == Order::Depthwise { multiplier: 1 };
    let mut totals = [0i32; 4];
    for (cell, errors) in cells {
        if errors == [0; 4] {
            continue;
        }
        if whole && kernels::add_planes(tensors, channel, &cell, errors, sums, &mut totals) {
            continue;
        }
        for (lane, sums) in sums.chunks_exact_mut(taps.max(1)).take(lanes).enumerate() {
            if errors[lane] != 0 {
                let active = tensors.add_cell(channel + lane, cell.clone(), errors[lane], sums);
                totals[lane] = totals[lane].wrapping_add(errors[lane].wrapping_mul(active));
            }
        }
    }
    totals
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::record::Window;
    use crate::learn::Random;
    use std::vec;
    use std::vec::Vec;

    /// Straight from the definition: every output pixel, every tap, bounds looked at.
    fn by_definition(t: &Tensors<'_>, channel: usize, error: impl Fn(usize, usize) -> i32) -> Vec<i32> {
        let (g, w) = (t.geometry, t.geometry.window);
        let mut all = Vec::new();
        for ky in 0..usize::from(w.kernel[0]) {
            for kx in 0..usize::from(w.kernel[1]) {
                for i in 0..g.depth() {
                    let mut sum = 0;
                    for y in 0..g.output[0] {
                        for x in 0..g.output[1] {
                            let h = t.h[(y * g.output[1] + x) * g.out_c + channel];
                            let at = |axis: usize, p: usize, k: usize| {
                                (p * usize::from(w.stride[axis]) + k * usize::from(w.dilation[axis])) as isize
                                    - w.pad[axis] as isize
                            };
                            let (iy, ix) = (at(0, y, ky), at(1, x, kx));
                            let inside = (0..g.input[0] as isize).contains(&iy)
                                && (0..g.input[1] as isize).contains(&ix);
                            if inside && h > t.bounds.0 && h < t.bounds.1 {
                                let at = (iy as usize * g.input[1] + ix as usize) * g.c;
                                let x_q = i32::from(t.x[at + g.first_input(channel) + i]);
                                sum += error(y, x) * (x_q - t.zero);
                            }
                        }
                    }
                    all.push(sum);
                }
            }
        }
        all
    }

    #[test]
    fn gradients_are_those_of_the_definition() {
        let mut random = Random::new(11);
        let window = |k: u16, s: u16, d: u16, p: u16| Window {
            kernel: [k, k + 1],
            stride: [s, 1],
            dilation: [d, 1],
            pad: [p, p, p, p],
        };
        let cases = [
            (5, Order::Grouped { groups: 1 }, 3, window(3, 1, 1, 1)),
            (8, Order::Grouped { groups: 2 }, 4, window(2, 2, 2, 1)),
            (1, Order::Grouped { groups: 1 }, 2, window(4, 2, 1, 0)),
            (16, Order::Blocked { row: 64 }, 5, window(3, 1, 1, 2)),
            (3, Order::Depthwise { multiplier: 2 }, 6, window(3, 1, 1, 2)),
            (8, Order::Depthwise { multiplier: 1 }, 8, window(3, 1, 1, 1)),
        ];
        for (c, order, out_c, window) in cases {
            let (out_h, out_w) = crate::ops::window_output(&window.into(), 19, 12).unwrap();
            let output = [out_h as usize, out_w as usize];
            let g = Geometry { input: [19, 12], c, output, out_c, window, order };
            let x: Vec<i8> = (0..19 * 12 * c).map(|_| random.next_u32() as i8).collect();
            let h: Vec<i8> = (0..g.pixels() * out_c).map(|_| random.next_u32() as i8).collect();
            let t = Tensors { geometry: &g, x: &x, h: &h, bounds: (-10, 100), zero: 7 };
            let cells = || {
                let middle = (output[0] / 2, output[1] / 3);
                [
                    ((0..middle.0, 0..middle.1), 3),
                    ((0..middle.0, middle.1..output[1]), -300),
                    ((middle.0..output[0], 0..output[1]), 11),
                ]
            };
            let error = |y: usize, x: usize| {
                cells().into_iter().find(|((r, c), _)| r.contains(&y) && c.contains(&x)).unwrap().1
            };
            for channel in 0..out_c {
                let expected = by_definition(&t, channel, error);
                let mut sums = vec![0; g.taps() * g.depth()];
                for (cell, error) in cells() {
                    let active = t.add_cell(channel, cell.clone(), error, &mut sums);
                    assert_eq!(active, t.active(channel, cell));
                }
                assert_eq!(sums, expected, "{g:?} {channel}");
                if let (Order::Depthwise { .. }, 0) = (order, channel % 4) {
                    let mut sums = vec![0; 4 * g.taps()];
                    add_planes(&t, channel, cells().map(|(c, e)| (c, [e; 4])).into_iter(), &mut sums);
                    assert_eq!(sums[..g.taps()], expected);
                }
            }
        }
    }
}
