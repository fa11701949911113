//! Gradients of four neighbouring output channels from planes: see [`crate::gradient::planes`].

use super::correlate::{self, Correlation, Outputs, Pixels};
use crate::gradient::Tensors;
use crate::gradient::grid::PoolingGrid;
use crate::gradient::planes::{LANES, PlaneExtents, columns};
use crate::layer::Order;
use core::ops::Range;

/// The workspace, split as the plan says.
struct Planes<'a> {
    tensors: &'a Tensors<'a>,
    plan: &'a PlaneExtents,
    channel: usize,
    /// 16-bit errors of the cells: of channels 0 and 2, and of 1 and 3.
    cells: &'a mut [[u32; 2]],
    errors: &'a mut [u32],
    inputs: &'a mut [u32],
}

/// See [`crate::add_planes`]. Errors have 16 bits.
#[allow(clippy::too_many_arguments)]
pub fn add_planes(
    tensors: &Tensors<'_>,
    plan: &PlaneExtents,
    channel: usize,
    grid: &PoolingGrid,
    error: impl Fn(usize) -> i32,
    sums: &mut [i32],
    totals: &mut [i32; LANES],
    (room, is_first): (&mut [i32], bool),
) -> bool {
    let (low, high) = tensors.bounds;
    let g = tensors.geometry;
    let cells = grid.cells[0] * grid.cells[1];
    let words = plan.words(g, cells);
    let lie = tensors.x.len() >= g.input[0] * g.input[1] * g.c
        && tensors.h.len() >= g.pixels() * g.out_c
        && grid.extent == g.output
        && channel + LANES <= g.out_c
        && sums.len() >= PlaneExtents::sums(g)
        && i8::try_from(tensors.zero).is_ok()
        && plan.is_of(g);
    let Some(room) = room.get_mut(..words).filter(|_| lie) else { return false };
    if is_first {
        // Padding stays zero.
        room.fill(0);
    }
    // No output is strictly between the bounds.
    if i32::from(high) - i32::from(low) < 2 {
        return true;
    }
    let (of_cells, rest) = bytemuck::cast_slice_mut::<i32, u32>(room).split_at_mut(2 * cells);
    let (errors, inputs) = rest.split_at_mut(LANES * plan.error_words());
    let of_cells: &mut [[u32; 2]] = bytemuck::cast_slice_mut(of_cells);
    let mut any = 0;
    for (cell, pairs) in of_cells.iter_mut().enumerate() {
        let [a, b, c, d] =
            core::array::from_fn(|lane| error(cell * g.out_c + channel + lane) as u32 & 0xffff);
        *pairs = [a | c << 16, b | d << 16];
        any |= pairs[0] | pairs[1];
    }
    if any == 0 {
        return true;
    }
    let mut planes = Planes { tensors, plan, channel, cells: of_cells, errors, inputs };
    let mut first = 0;
    while first < g.output[0] {
        let rows = first..(first + plan.rows()).min(g.output[0]);
        first = rows.end;
        planes.spread(grid, rows.clone(), (low.wrapping_add(1), high.wrapping_sub(1)), totals);
        if matches!(g.order, Order::Depthwise { .. }) {
            planes.gather(rows.start, channel);
            planes.add(rows.len(), 0, sums);
            continue;
        }
        for input in (0..g.c).step_by(plan.inputs()) {
            planes.gather(rows.start, input);
            planes.add(rows.len(), input, sums);
        }
    }
    true
}

impl Planes<'_> {
    /// Writes the errors of output rows, and adds up those of active pixels.
    fn spread(
        &mut self,
        grid: &PoolingGrid,
        rows: Range<usize>,
        (low, high): (i8, i8),
        totals: &mut [i32; LANES],
    ) {
        let g = self.tensors.geometry;
        let bytes = |b: i8| u32::from(b as u8) * 0x0101_0101;
        let lane = 4 * self.plan.error_words();
        let used = rows.len() * self.plan.pitch() / 2;
        if rows.len() < self.plan.rows() {
            // Kernels read whole groups of words, which may still hold rows of the strip before.
            for errors in self.errors.chunks_exact_mut(self.plan.error_words()) {
                errors[used..used.next_multiple_of(4)].fill(0);
            }
        }
        let first = self.errors.as_mut_ptr().cast::<u16>();
        for (cell, errors) in self.cells.iter().enumerate() {
            let (own, columns) = grid.cell(cell);
            let mut count = [0i32; LANES];
            let (mut y, end) = (own.start.max(rows.start), own.end.min(rows.end));
            while y < end {
                // Counts are bytes.
                let lines = (usize::from(u8::MAX) / columns.len().max(1)).min(end - y);
                let at = (y - rows.start) * self.plan.pitch() + columns.start;
                let outputs = Outputs {
                    h: self.tensors.h[(y * g.output[1] + columns.start) * g.out_c + self.channel..].as_ptr(),
                    step: g.out_c,
                    gap: (g.output[1] - columns.len()) * g.out_c,
                    dst: first.wrapping_add(at),
                    row: 2 * columns.len(),
                    dst_gap: 2 * (self.plan.pitch() - columns.len()),
                    lane,
                    low: bytes(low),
                    width: bytes(high.wrapping_sub(low)),
                    errors: *errors,
                    rows: lines,
                };
                // SAFETY: the cell's pixels lie in the output, which has these four channels; it has 1 to 255 columns;
                // the plan has room for the errors of its rows.
                let counts = unsafe { correlate::mask_errors(&outputs) };
                for (count, own) in count.iter_mut().zip(counts.to_le_bytes()) {
                    *count += i32::from(own);
                }
                y += lines;
            }
            let halves = [errors[0], errors[1], errors[0] >> 16, errors[1] >> 16];
            for ((total, half), count) in totals.iter_mut().zip(halves).zip(count) {
                *total = total.wrapping_add(i32::from(half as i16).wrapping_mul(count));
            }
        }
    }

    /// Writes the inputs of a strip that begins at output row `row`, from input channel `input` on.
    fn gather(&mut self, row: usize, input: usize) {
        let (g, plan) = (self.tensors.geometry, self.plan);
        let [stride_h, stride_w] = g.window.stride.map(|s| usize::from(s).max(1));
        let [pad_h, pad_w] = [g.window.pad[0], g.window.pad[1]].map(usize::from);
        let k_h = usize::from(g.window.kernel[0]);
        let plane = 4 * plan.plane_words(g);
        let zeros = u32::from(self.tensors.zero as u16) * 0x1_0001;
        let inputs: &mut [u8] = bytemuck::cast_slice_mut(self.inputs);
        let mut number = 0;
        for phase in 0..plan.phases()[0] {
            let lines = plan.rows() + k_h.saturating_sub(1 + phase) / stride_h;
            for column in 0..plan.phases()[1] {
                let (from, to, _) = columns(g, column);
                for line in (0..lines).filter(|_| from < to) {
                    let y = ((row + line) * stride_h + phase).wrapping_sub(pad_h);
                    // The first word of a plane only holds the first half of the first number.
                    let at = number * plane + 4 * (line * plan.pitch() + from) + 6;
                    if y >= g.input[0] {
                        // Padding, where another strip may have had a row.
                        for own in (0..plan.inputs()).filter(|_| plan.rows() < g.output[0]) {
                            inputs[at + own * plane..][..4 * (to - from)].fill(0);
                        }
                        continue;
                    }
                    let x = from * stride_w + column - pad_w;
                    let dst = inputs[at..].as_mut_ptr();
                    let pixels = Pixels {
                        src: self.tensors.x[(y * g.input[1] + x) * g.c + input..].as_ptr(),
                        step: stride_w * g.c,
                        dst,
                        end: dst.wrapping_add(4 * (to - from)),
                        plane,
                        zeros,
                    };
                    // SAFETY: the columns lie in the input, and so do the channels from this one on; the plan has room
                    // for the rows of a strip under all kernel rows.
                    unsafe {
                        if plan.inputs() == 4 {
                            correlate::widen_four(&pixels)
                        } else {
                            correlate::widen_one(&pixels)
                        }
                    }
                }
                number += plan.inputs();
            }
        }
    }

    /// Adds the sums of `rows` rows: of the inputs from channel `input` on with all lanes, or (depthwise) of each lane
    /// with its own input.
    fn add(&self, rows: usize, input: usize, sums: &mut [i32]) {
        let (g, plan) = (self.tensors.geometry, self.plan);
        let [k_h, k_w] = g.window.kernel.map(usize::from);
        let [stride_h, stride_w] = g.window.stride.map(|s| usize::from(s).max(1));
        let depth = g.depth();
        let (plane, lane) = (4 * plan.plane_words(g), 4 * plan.error_words());
        let (calls, pairs, next) = match g.order {
            Order::Depthwise { .. } => (1, LANES, [plane, lane, 4 * g.taps()]),
            _ => (LANES, plan.inputs(), [plane, 0, 4]),
        };
        let words = (rows * plan.pitch() / 2).next_multiple_of(4);
        for phase in 0..plan.phases()[0] {
            for column in 0..plan.phases()[1] {
                let number = (phase * plan.phases()[1] + column) * plan.inputs();
                let x = self.inputs[number * plan.plane_words(g)..].as_ptr().wrapping_add(2);
                let taps = (k_w - column).div_ceil(stride_w);
                let mut tap = 0;
                while tap < taps {
                    let own = if taps - tap == 3 { 3 } else { (taps - tap).min(2) };
                    let at = (phase * k_w + column + tap * stride_w) * depth + input;
                    for call in 0..calls {
                        let errors = self.errors[call * plan.error_words()..].as_ptr();
                        let mut correlation = Correlation {
                            x: x.wrapping_add(tap),
                            errors,
                            end: errors.wrapping_add(words),
                            line: 4 * plan.pitch(),
                            lines: (k_h - phase).div_ceil(stride_h),
                            sums: sums[call * g.taps() * depth + at..].as_mut_ptr(),
                            tap: 4 * stride_w * depth,
                            row: 4 * stride_h * k_w * depth,
                            pairs,
                            next,
                        };
                        // SAFETY: planes have room for errors under all kernel rows; there is a sum for every tap of
                        // the four channels.
                        unsafe {
                            match own {
                                3 => correlate::three_taps(&mut correlation),
                                2 => correlate::two_taps(&mut correlation),
                                _ => correlate::one_tap(&mut correlation),
                            }
                        }
                    }
                    tap += own;
                }
            }
        }
    }
}
