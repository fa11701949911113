//! Gradients of depthwise layers: four neighbouring channels are the bytes of a word.

use crate::learn::grid::Grid;
use crate::learn::integer::gradient::{RowErrors, Tensors};
use core::arch::asm;
use core::mem::MaybeUninit;
use core::ops::Range;

/// Pixels whose errors stand on the stack.
const MOST: usize = 64;

/// Errors of four channels of a pixel, of sixteen bits: of channels 0 and 2, and of 1 and 3.
type Errors = [u32; 2];

/// 0xff for each byte of `h` that lies between the bounds, both included.
#[inline(always)]
fn mask(h: u32, low: u32, high: u32) -> u32 {
    let y;
    // SAFETY: instructions on registers.
    unsafe {
        asm!(
            "ssub8 {t}, {h}, {low}",
            "sel {y}, {ones}, {none}",
            "ssub8 {t}, {high}, {h}",
            "sel {y}, {y}, {none}",
            h = in(reg) h, low = in(reg) low, high = in(reg) high, ones = in(reg) u32::MAX, none = in(reg) 0,
            t = out(reg) _, y = out(reg) y,
            options(pure, nomem, nostack));
    }
    y
}

/// Bytes 0 and 2 of a mask as halves.
#[inline(always)]
fn spread(mask: u32) -> u32 {
    let y;
    // SAFETY: an instruction on registers.
    unsafe {
        asm!("sxtb16 {y}, {mask}", mask = in(reg) mask, y = lateout(reg) y,
            options(pure, nomem, nostack, preserves_flags));
    }
    y
}

/// Positions of an output range whose window has kernel position `k` inside the input: how many are cut off at the
/// front, and where the last ends.
fn inside(range: &Range<usize>, stride: usize, offset: isize, extent: usize) -> Range<usize> {
    let at = |p: usize| ((p * stride) as isize).wrapping_add(offset) as usize;
    let (mut from, mut to) = (range.start, range.end);
    while from < to && at(from) >= extent {
        from += 1;
    }
    while to > from && at(to - 1) >= extent {
        to -= 1;
    }
    from..to
}

/// See [`crate::learn::integer::gradient::add_planes`]. Errors have sixteen bits.
pub(crate) fn add_planes(
    tensors: &Tensors<'_>,
    channel: usize,
    (grid, cell_row): (&Grid, usize),
    errors: &RowErrors,
    sums: &mut [i32],
    totals: &mut [i32; 4],
) -> bool {
    let (low, high) = tensors.bounds;
    let g = tensors.geometry;
    let width = g.output[1];
    let (rows, _) = grid.cell(cell_row * grid.cells[1]);
    let lie = tensors.x.len() >= g.input[0] * g.input[1] * g.c
        && tensors.h.len() >= g.output[0] * width * g.out_c
        && grid.extent == g.output
        && (g.c, g.depth()) == (g.out_c, 1)
        && channel + 4 <= g.c
        && sums.len() >= 4 * g.taps();
    if !lie || width == 0 || width > MOST || low == i8::MAX || high == i8::MIN {
        return false;
    }
    let bytes = |b: i8| u32::from(b as u8) * 0x0101_0101;
    let bounds = (bytes(low + 1), bytes(high - 1));
    let mut place = [const { MaybeUninit::<Errors>::uninit() }; MOST];
    let own = place.as_mut_ptr().cast::<Errors>();
    let height = MOST / width;
    let mut first = rows.start;
    while first < rows.end {
        let part = first..(first + height).min(rows.end);
        for (column, errors) in errors.iter().take(grid.cells[1]).enumerate() {
            let (_, columns) = grid.cell(cell_row * grid.cells[1] + column);
            // SAFETY: the cell lies in the output, four channels from this one on in every pixel; `part` has no more
            // than `MOST`.
            unsafe { spread_errors(tensors, channel, &part, &columns, bounds, errors, own, totals) };
        }
        // SAFETY: as above; all errors of the part have been written.
        unsafe { add_part(tensors, channel, &part, own, sums) };
        first = part.end;
    }
    true
}

/// Writes the errors of a cell's pixels, zero where the output does not count.
///
/// # Safety
/// The pixels lie in the output and have four channels from `channel` on; `own` has room for the rows.
#[allow(clippy::too_many_arguments)]
unsafe fn spread_errors(
    tensors: &Tensors<'_>,
    channel: usize,
    rows: &Range<usize>,
    columns: &Range<usize>,
    bounds: (u32, u32),
    errors: &[i32; 4],
    own: *mut Errors,
    totals: &mut [i32; 4],
) {
    let g = tensors.geometry;
    let pair = |a: i32, b: i32| a as u32 & 0xffff | (b as u32) << 16;
    let pairs = [pair(errors[0], errors[2]), pair(errors[1], errors[3])];
    let mut counts = 0u32;
    for y in rows.clone() {
        let first = y * g.output[1] + columns.start;
        let mut h = tensors.h.as_ptr().wrapping_add(first * g.out_c + channel);
        let mut place = own.wrapping_add(first - rows.start * g.output[1]);
        for _ in columns.clone() {
            // SAFETY: as the function's.
            unsafe {
                let m = mask(h.cast::<u32>().read_unaligned(), bounds.0, bounds.1);
                // Fewer than 128 pixels: no byte is full.
                counts += m & 0x0101_0101;
                *place = [pairs[0] & spread(m), pairs[1] & spread(m.rotate_right(8))];
            }
            (h, place) = (h.wrapping_add(g.out_c), place.wrapping_add(1));
        }
    }
    for ((total, error), n) in totals.iter_mut().zip(errors).zip(counts.to_le_bytes()) {
        *total = total.wrapping_add(error.wrapping_mul(n.into()));
    }
}

/// Sums of the taps over rows of the output.
///
/// # Safety
/// The tensors are as long as the geometry says; `own` has the errors of the rows; `sums` has a word for each tap of
/// the four channels from `channel` on.
unsafe fn add_part(
    tensors: &Tensors<'_>,
    channel: usize,
    rows: &Range<usize>,
    own: *const Errors,
    sums: &mut [i32],
) {
    let g = tensors.geometry;
    let width = g.output[1];
    let taps = g.taps();
    let [k_h, k_w] = g.window.kernel.map(usize::from);
    let [stride_h, stride_w] = g.window.stride.map(usize::from);
    let [dilation_h, dilation_w] = g.window.dilation.map(usize::from);
    let offset = |axis: usize, k: usize| k as isize - g.window.pad[axis] as isize;
    let (step, line) = (stride_w * g.c, g.input[1] * g.c * stride_h);
    let zeros = u32::from(tensors.zero as u16) * 0x1_0001;
    for kx in 0..k_w {
        let column_offset = offset(1, kx * dilation_w);
        let xs = inside(&(0..width), stride_w, column_offset, g.input[1]);
        for ky in 0..k_h {
            let row_offset = offset(0, ky * dilation_h);
            let ys = inside(rows, stride_h, row_offset, g.input[0]);
            if ys.is_empty() || xs.is_empty() {
                continue;
            }
            let column = ((xs.start * stride_w) as isize + column_offset) as usize;
            let row = ((ys.start * stride_h) as isize + row_offset) as usize;
            let x = tensors.x.as_ptr().wrapping_add((row * g.input[1] + column) * g.c + channel);
            let errors = own.wrapping_add((ys.start - rows.start) * width + xs.start);
            let rectangle = Rectangle {
                step,
                line: line - xs.len() * step,
                row: (8 * xs.len()) as u32,
                gap: (8 * (width - xs.len())) as u32,
                end: errors.wrapping_add(ys.len() * width),
            };
            // SAFETY: `inside` has found that these pixels lie in the input; their errors have been written.
            let four = unsafe { products(x, errors, &rectangle, zeros) };
            let places = sums.iter_mut().skip(ky * k_w + kx).step_by(taps);
            for (sum, own) in places.zip(four) {
                *sum = sum.wrapping_add(own);
            }
        }
    }
}

/// Pixels of an input and their errors.
struct Rectangle {
    /// Bytes from a pixel to the next.
    step: usize,
    /// And from behind the last of a row to the first of the next.
    line: usize,
    /// Bytes of errors in a row, and from its end to the next row.
    row: u32,
    gap: u32,
    /// Where the errors of the row behind the last would be.
    end: *const Errors,
}

/// Sums of `error · (x - zero)` of four channels.
///
/// # Safety
/// There is a pixel at least; `x` has four bytes for each, and `errors` its errors.
#[inline(always)]
unsafe fn products(x: *const i8, errors: *const Errors, r: &Rectangle, zeros: u32) -> [i32; 4] {
    let mut sums = [0i32; 4];
    let (mut x, mut errors) = (x, errors);
    while errors != r.end {
        let end = errors.wrapping_byte_add(r.row as usize);
        // SAFETY: as the function's.
        unsafe {
            asm!(
                "2:",
                "ldr {b}, [{x}]",
                "ldr {e}, [{errors}], #4",
                "sxtb16 {a}, {b}",
                "sxtb16 {b}, {b}, ror #8",
                "ssub16 {a}, {a}, {zeros}",
                "ssub16 {b}, {b}, {zeros}",
                "smlabb {s0}, {a}, {e}, {s0}",
                "smlatt {s2}, {a}, {e}, {s2}",
                "ldr {e}, [{errors}], #4",
                "add {x}, {x}, {step}",
                "smlabb {s1}, {b}, {e}, {s1}",
                "smlatt {s3}, {b}, {e}, {s3}",
                "cmp {errors}, {end}",
                "bne 2b",
                x = inout(reg) x, errors = inout(reg) errors, end = in(reg) end, step = in(reg) r.step,
                zeros = in(reg) zeros, a = out(reg) _, b = out(reg) _, e = out(reg) _,
                s0 = inout(reg) sums[0], s1 = inout(reg) sums[1], s2 = inout(reg) sums[2], s3 = inout(reg) sums[3],
                options(nostack, readonly));
        }
        x = x.wrapping_add(r.line);
        errors = errors.wrapping_byte_add(r.gap as usize);
    }
    sums
}
