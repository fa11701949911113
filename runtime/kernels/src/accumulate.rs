//! Gradients of an output channel's weights: `Σ error · (x - zero)` over the active pixels, those with an output
//! strictly inside its bounds.
//!
//! All pixels of a cell of the pooling grid have the same error. So the inputs of a cell's active pixels are summed
//! first, and the sum is multiplied once; inactive pixels are left out of the sum instead of multiplied by zero.

use crate::dispatch as kernels;
use crate::gradient::grid::{MAX_GRID, PoolingGrid};
use crate::gradient::planes::SHORT_ROW;
use crate::gradient::{Inputs, Outputs, Rows, Starts, Tensors, Windows};
use crate::layer::Geometry;
use core::ops::Range;

impl Tensors<'_> {
    /// Reference: number of active pixels of a cell in `channel`.
    #[cfg(test)]
    fn active(&self, channel: usize, (rows, columns): (Range<usize>, Range<usize>)) -> i32 {
        let pixel = |y: usize, x: usize| (y * self.geometry.output[1] + x) * self.geometry.out_c + channel;
        let active = |at: usize| self.h.get(at).is_some_and(|&h| h > self.bounds.0 && h < self.bounds.1);
        let of_row = |y: usize| columns.clone().filter(|&x| active(pixel(y, x))).count();
        rows.map(of_row).sum::<usize>() as i32
    }

    /// Adds the contributions of all pixels to `sums`, `[k_h, k_w, depth]`; returns the sum of the errors of active
    /// pixels.
    pub fn add_channel(
        &self,
        channel: usize,
        grid: &PoolingGrid,
        error: impl Fn(usize) -> i32,
        sums: &mut [i32],
        starts: &mut Starts,
    ) -> i32 {
        if self.is_thin() {
            return self.add_thin(channel, grid, error, sums, starts);
        }
        let g = self.geometry;
        let [_, stride_w] = g.window.stride.map(usize::from);
        let mut total = 0i32;
        for column in 0..grid.cells[1] {
            let mut errors = [0i32; MAX_GRID as usize];
            for (row, own) in errors.iter_mut().enumerate().take(grid.cells[0]) {
                *own = error(row * grid.cells[1] + column);
            }
            let (_, columns) = grid.cell(column);
            let mut first = columns.start;
            // Columns with complete windows are processed together.
            while first < columns.end {
                let cut = Cut::at(g, first);
                let is_whole = first >= self.whole.0 && first < self.whole.1;
                let end = if is_whole { self.whole.1.min(columns.end) } else { first + 1 };
                let left = g.first_input(channel) + (first * stride_w + cut.skipped_columns(g)) * g.c;
                let left = left.saturating_sub(usize::from(g.window.pad[1]) * g.c);
                for (row, &own) in errors.iter().enumerate().take(grid.cells[0]).filter(|(_, e)| **e != 0) {
                    let (rows, _) = grid.cell(row * grid.cells[1]);
                    let active = self.add_part(channel, (rows, first..end), (&cut, left), own, sums, starts);
                    total = total.wrapping_add(own.wrapping_mul(active));
                }
                first = end;
            }
        }
        total
    }

    /// Adds the contributions of pixels with this error to `sums`, `[k_h, k_w, depth]`; returns the number of active
    /// ones. The windows of their columns are cut alike, and the first one's windows begin at `left` in the input rows.
    fn add_part(
        &self,
        channel: usize,
        (rows, columns): (Range<usize>, Range<usize>),
        (cut, left): (&Cut, usize),
        error: i32,
        sums: &mut [i32],
        starts: &mut Starts,
    ) -> i32 {
        starts.clear();
        let g = self.geometry;
        let [stride_h, stride_w] = g.window.stride.map(usize::from);
        let (first, width) = (columns.start, columns.len());
        let mut active = 0;
        let (mut y, mut x) = (rows.start, 0);
        while y < rows.end {
            // As many rows as fit the list, or as much of one row as fits.
            let lines = if x == 0 { (starts.free() / width).min(rows.end - y) } else { 0 };
            let count = if lines > 0 { width } else { (width - x).min(starts.free()) };
            let at = (y * g.output[1] + first + x) * g.out_c + channel;
            let of_h = Outputs { at, step: g.out_c, count, line: g.output[1] * g.out_c, lines: lines.max(1) };
            let start = y * stride_h * g.input[1] * g.c + left + x * stride_w * g.c;
            let of_x = Inputs { start, step: stride_w * g.c, line: stride_h * g.input[1] * g.c };
            kernels::select(self.h, of_h, self.bounds, of_x, starts);
            (y, x) = if x + count < width { (y, x + count) } else { (y + lines.max(1), 0) };
            if starts.free() == 0 {
                active += Starts::MOST as i32;
                self.add(cut, starts.rows(), error, sums);
                starts.clear();
            }
        }
        active += (Starts::MOST - starts.free()) as i32;
        self.add(cut, starts.rows(), error, sums);
        active
    }

    /// Whether kernel rows cover few, contiguous inputs; then [`Self::add_thin`] is used.
    fn is_thin(&self) -> bool {
        let g = self.geometry;
        let few = usize::from(g.window.kernel[1]) * g.c < SHORT_ROW && g.output[1] <= Starts::MOST;
        few && g.depth() == g.c && g.window.dilation[1] == 1
    }

    /// Adds the contributions of all pixels to `sums`, `[k_h, k_w, depth]`; returns the sum of the errors of active
    /// pixels.
    fn add_thin(
        &self,
        channel: usize,
        grid: &PoolingGrid,
        error: impl Fn(usize) -> i32,
        sums: &mut [i32],
        starts: &mut Starts,
    ) -> i32 {
        let g = self.geometry;
        let [stride_h, stride_w] = g.window.stride.map(usize::from);
        let mut errors = [0i32; Starts::MOST];
        let mut total = 0i32;
        let mut first = 0;
        while first < g.output[1] {
            let cut = Cut::at(g, first);
            let is_whole = first >= self.whole.0 && first < self.whole.1;
            let end = if is_whole { self.whole.1 } else { first + 1 };
            let column = (first * stride_w + cut.skipped_columns(g)).saturating_sub(g.window.pad[1].into());
            starts.clear();
            let mut flush = |starts: &mut Starts, errors: &[i32]| {
                let count = Starts::MOST - starts.free();
                self.add_errors(&cut, starts.rows(), errors.get(..count).unwrap_or(&[]), sums);
                starts.clear();
            };
            for cell_row in 0..grid.cells[0] {
                let first_cell = cell_row * grid.cells[1];
                let mut of_columns = [0i32; Starts::MOST];
                for cell in 0..grid.cells[1] {
                    let (_, columns) = grid.cell(cell);
                    let columns = columns.start.max(first)..columns.end.min(end);
                    if !columns.is_empty() {
                        let own = error(first_cell + cell);
                        let columns = columns.start - first..columns.end - first;
                        of_columns.get_mut(columns).unwrap_or(&mut []).fill(own);
                    }
                }
                let of_columns = of_columns.get(..end - first).unwrap_or(&[]);
                if of_columns.iter().all(|&e| e == 0) {
                    continue;
                }
                let (rows, _) = grid.cell(first_cell);
                for y in rows {
                    if starts.free() < end - first {
                        flush(starts, &errors);
                    }
                    let at = (y * g.output[1] + first) * g.out_c + channel;
                    let row = Outputs { at, step: g.out_c, count: end - first, line: 0, lines: 1 };
                    let start = (y * stride_h * g.input[1] + column) * g.c;
                    let before = Starts::MOST - starts.free();
                    let own = errors.get_mut(before..).unwrap_or(&mut []);
                    let step = stride_w * g.c;
                    let added = kernels::select_errors(
                        self.h,
                        row,
                        self.bounds,
                        start,
                        step,
                        of_columns,
                        starts,
                        own,
                    );
                    total = total.wrapping_add(added);
                }
            }
            flush(starts, &errors);
            first = end;
        }
        total
    }

    /// Adds the windows whose first rows begin at `rows`, each with its own error.
    fn add_errors(&self, cut: &Cut, rows: Rows<'_>, errors: &[i32], sums: &mut [i32]) {
        let g = self.geometry;
        let line = (g.input[1] * g.c) as isize;
        let end = g.input[0] as isize * line;
        let mut offset = -(g.window.pad[0] as isize) * line;
        for sums in sums.chunks_exact_mut((usize::from(g.window.kernel[1]) * g.c).max(1)) {
            let range = rows.inside(offset, end);
            let errors = errors.get(range.clone()).unwrap_or(&[]);
            let sums = sums.get_mut(cut.first * g.c..).and_then(|s| s.get_mut(..cut.taps * g.c));
            kernels::add_errors(self.x, rows.part(range), errors, offset, self.zero, sums.unwrap_or(&mut []));
            offset += usize::from(g.window.dilation[0]) as isize * line;
        }
    }

    /// Adds the windows whose first rows begin at `rows`, all with the same error.
    fn add(&self, cut: &Cut, rows: Rows<'_>, error: i32, sums: &mut [i32]) {
        let g = self.geometry;
        let (Some(&first), Some(&last)) = (rows.starts().first(), rows.starts().last()) else { return };
        let [k_h, k_w] = g.window.kernel.map(usize::from);
        let line = (g.input[1] * g.c) as isize;
        let end = g.input[0] as isize * line;
        let depth = g.depth();
        // If the layer reads all channels, the taps of a kernel row are contiguous in the input.
        let joined = depth == g.c && (g.window.dilation[1] == 1 || cut.taps == 1);
        let down = usize::from(g.window.dilation[0]) as isize * line;
        let mut offset = -(g.window.pad[0] as isize) * line;
        let pitch = (k_w * depth).max(1);
        let bottom = offset + (k_h as isize - 1) * down;
        if joined && first as isize + offset >= 0 && last as isize + bottom < end {
            let windows =
                Windows { offset, down, lines: k_h, pitch, from: cut.first * depth, len: cut.taps * depth };
            kernels::add_windows(self.x, rows, &windows, self.zero, error, sums);
            return;
        }
        for sums in sums.chunks_exact_mut(pitch) {
            let rows = rows.part(rows.inside(offset, end));
            if joined {
                let line = Windows {
                    offset,
                    down: 0,
                    lines: 1,
                    pitch,
                    from: cut.first * depth,
                    len: cut.taps * depth,
                };
                kernels::add_windows(self.x, rows, &line, self.zero, error, sums);
            } else {
                let step = (usize::from(g.window.dilation[1]) * g.c) as isize;
                for tap in 0..cut.taps {
                    let offset = offset + tap as isize * step;
                    let from = (cut.first + tap) * depth;
                    let line = Windows { offset, down: 0, lines: 1, pitch, from, len: depth };
                    kernels::add_windows(self.x, rows, &line, self.zero, error, sums);
                }
            }
            offset += down;
        }
    }
}

/// Kernel columns inside the input.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gradient::whole_columns;
    use crate::layer::Order;
    use crate::random::Random;
    use offshoot_format::record::Window;
    use std::vec;
    use std::vec::Vec;

    /// Reference by definition: every output pixel and tap, with bounds checks.
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
            (16, Order::Tiled { row: 64 }, 5, window(3, 1, 1, 2)),
            (3, Order::Depthwise { multiplier: 2 }, 6, window(3, 1, 1, 2)),
            (8, Order::Depthwise { multiplier: 1 }, 8, window(3, 1, 1, 1)),
        ];
        let mut thin = 0;
        for (c, order, out_c, window) in cases {
            let (out_h, out_w) = crate::geometry::window_output(&window.into(), 19, 12).unwrap();
            let output = [out_h as usize, out_w as usize];
            let g = Geometry { input: [19, 12], c, output, out_c, window, order };
            let x: Vec<i8> = (0..19 * 12 * c).map(|_| random.next_u32() as i8).collect();
            let h: Vec<i8> = (0..g.pixels() * out_c).map(|_| random.next_u32() as i8).collect();
            let whole = whole_columns(&g);
            let t = Tensors { geometry: &g, x: &x, h: &h, bounds: (-10, 100), zero: 7, whole };
            let grid = PoolingGrid::new(3, output, out_c);
            let of_cell = |cell: usize| [3, -300, 11, 0, 5, 6, -7, 8, 9][cell];
            let error = |y: usize, x: usize| {
                let inside = |&cell: &usize| {
                    let (rows, columns) = grid.cell(cell);
                    rows.contains(&y) && columns.contains(&x)
                };
                of_cell((0..9).find(inside).unwrap())
            };
            for channel in 0..out_c {
                let expected = by_definition(&t, channel, error);
                let mut sums = vec![0; g.taps() * g.depth()];
                let mut total = 0;
                for cell in 0..9 {
                    total += of_cell(cell) * t.active(channel, grid.cell(cell));
                }
                if !t.is_thin() {
                    let found = t.add_channel(channel, &grid, of_cell, &mut sums, &mut Starts::new());
                    assert_eq!((found, &sums), (total, &expected), "{g:?} {channel}");
                }
                if t.is_thin() {
                    let mut sums = vec![0; g.taps() * g.depth()];
                    let found = t.add_channel(channel, &grid, of_cell, &mut sums, &mut Starts::new());
                    assert_eq!((found, &sums), (total, &expected));
                    thin += 1;
                }
            }
        }
        assert!(thin > 0);
    }
}
