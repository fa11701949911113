//! Sums of int8 rows, sixteen columns at a time, for gradients and features. See [`crate::portable::add_rows`].

use crate::gradient::{Inputs, Outputs, Rows, Starts, Windows};
use core::arch::{asm, naked_asm};

/// Arguments of [`blocks_aligned`] and [`blocks`].
#[repr(C)]
struct Blocks {
    /// First element of the tensor plus the offset.
    base: *const i8,
    starts: *const u32,
    starts_end: *const u32,
    factor: i32,
    /// Minus the zero point times the number of rows, as two 16-bit halves.
    init: u32,
    sums: *mut i32,
    /// Blocks of sixteen columns, at least one.
    blocks: u32,
}

/// Defines the kernel; `load`: how two words of a row are read.
macro_rules! kernel {
    ($name:ident, $first:literal, $second:literal, $doc:literal) => {
        #[doc = $doc]
        ///
        /// 13 to 15 instructions for sixteen columns of a row: `sxtab16` adds two bytes of a word to two 16-bit sums,
        /// which are multiplied by the factor after the last row.
        ///
        /// # Safety
        /// The rows `base + start` are valid for `16 · blocks` bytes, `sums` for as many words; there is at least one
        /// row.
        #[unsafe(naked)]
        unsafe extern "C" fn $name(blocks: *const Blocks) {
            naked_asm!(
                extension!(),
                ".macro offshoot_rows_merge even, odd",
                "ldmia.w r1, {{r0, r2, r3, lr}}",
                "smlabb r0, \\even, r12, r0",
                "smlabb r2, \\odd, r12, r2",
                "smlatb r3, \\even, r12, r3",
                "smlatb lr, \\odd, r12, lr",
                "stmia.w r1!, {{r0, r2, r3, lr}}",
                ".endm",
                ".macro offshoot_rows_row",
                "ldr lr, [r1], #4",
                "add lr, r0",
                $first,
                "sxtab16 r4, r4, r2",
                "sxtab16 r5, r5, r2, ror #8",
                "sxtab16 r6, r6, r3",
                "sxtab16 r7, r7, r3, ror #8",
                $second,
                "sxtab16 r8, r8, r2",
                "sxtab16 r9, r9, r2, ror #8",
                "sxtab16 r10, r10, r3",
                "sxtab16 r11, r11, r3, ror #8",
                ".endm",
                "push {{r4-r11, lr}}",
                "sub sp, #28",
                "ldmia r0!, {{r1-r6}}",
                "ldr r7, [r0]",
                "mov r0, sp",
                "stmia r0!, {{r1-r7}}",
                // Stack: base 0, starts 4, their end 8, factor 12, init 16, sums 20, blocks 24.
                "2:",
                "ldr r0, [sp]",
                "ldr r1, [sp, #4]",
                "ldr r12, [sp, #8]",
                "ldr r4, [sp, #16]",
                "mov r5, r4",
                "mov r6, r4",
                "mov r7, r4",
                "mov r8, r4",
                "mov r9, r4",
                "mov r10, r4",
                "mov r11, r4",
                // Two rows per iteration; with an odd number, the first iteration starts at its second row.
                "sub lr, r12, r1",
                "lsls lr, lr, #29",
                "bmi 4f",
                "3:",
                "offshoot_rows_row",
                "4:",
                "offshoot_rows_row",
                "cmp r1, r12",
                "bne 3b",
                "ldr r12, [sp, #12]",
                "ldr r1, [sp, #20]",
                "offshoot_rows_merge r4, r5",
                "offshoot_rows_merge r6, r7",
                "offshoot_rows_merge r8, r9",
                "offshoot_rows_merge r10, r11",
                "str r1, [sp, #20]",
                "ldr r0, [sp]",
                "adds r0, #16",
                "str r0, [sp]",
                "ldr r0, [sp, #24]",
                "subs r0, #1",
                "str r0, [sp, #24]",
                "bne 2b",
                "add sp, #28",
                "pop {{r4-r11, pc}}",
                ".purgem offshoot_rows_merge",
                ".purgem offshoot_rows_row",
            )
        }
    };
}

kernel!(
    blocks_aligned,
    "ldrd r2, r3, [lr]",
    "ldrd r2, r3, [lr, #8]",
    "Rows that begin at multiples of four."
);
kernel!(blocks, "ldr r2, [lr]\nldr r3, [lr, #4]", "ldr r2, [lr, #8]\nldr r3, [lr, #12]", "Rows anywhere.");

/// `sum` with bytes 0 and 2 of `x` added to its halves.
#[inline(always)]
fn add_even(sum: u32, x: u32) -> u32 {
    let y;
    // SAFETY: an instruction on registers.
    unsafe {
        asm!("sxtab16 {y}, {sum}, {x}", sum = in(reg) sum, x = in(reg) x, y = lateout(reg) y,
            options(pure, nomem, nostack, preserves_flags));
    }
    y
}

/// `sum` with bytes 1 and 3 of `x` added to its halves.
#[inline(always)]
fn add_odd(sum: u32, x: u32) -> u32 {
    let y;
    // SAFETY: an instruction on registers.
    unsafe {
        asm!("sxtab16 {y}, {sum}, {x}, ror #8", sum = in(reg) sum, x = in(reg) x, y = lateout(reg) y,
            options(pure, nomem, nostack, preserves_flags));
    }
    y
}

/// The two halves of a word.
#[inline(always)]
fn halves(word: u32) -> (i32, i32) {
    (i32::from(word as i16), word as i32 >> 16)
}

/// See [`crate::portable::add_windows`]. Takes an int8 zero point and a 16-bit factor.
pub fn add_windows(x: &[i8], rows: Rows<'_>, windows: &Windows, zero: i32, factor: i32, sums: &mut [i32]) {
    let starts = rows.starts();
    let (Some(&first), Some(&last)) = (starts.first(), starts.last()) else { return };
    let Windows { offset, down, lines, pitch, from, len } = *windows;
    // Rows ascend, and so do lines.
    let bottom = offset + down * lines.saturating_sub(1) as isize;
    let begins = (first as usize).checked_add_signed(offset).is_some();
    let ends = (last as usize).checked_add_signed(bottom).and_then(|at| at.checked_add(len));
    let lies = begins && down >= 0 && ends.is_some_and(|end| end <= x.len());
    let fits = (lines.saturating_sub(1) * pitch + from).checked_add(len).is_some_and(|end| end <= sums.len());
    let usual = i8::try_from(zero).is_ok() && i16::try_from(factor).is_ok();
    if !(lies && fits && usual) {
        crate::portable::add_windows(x, rows, windows, zero, factor, sums);
        return;
    }
    // At most 64 rows: the sums, and those of the zero points, are below 2^14.
    let zeros = -zero * starts.len() as i32;
    let init = (zeros as u32 & 0xffff) | (zeros as u32) << 16;
    let ends = starts.as_ptr_range();
    let mixed =
        starts.iter().fold(x.as_ptr().addr() | offset as usize | down as usize, |m, &s| m | s as usize);
    let mut base = x.as_ptr().wrapping_offset(offset);
    let mut line = sums.as_mut_ptr().wrapping_add(from);
    for _ in 0..lines {
        let whole = len / 16;
        if whole > 0 {
            let args = Blocks {
                base,
                starts: ends.start,
                starts_end: ends.end,
                factor,
                init,
                sums: line,
                blocks: whole as u32,
            };
            // SAFETY: the rows of all lines lie in `x` and their sums in `sums`, as checked above; there is at least
            // one row.
            unsafe { if mixed % 4 == 0 { blocks_aligned(&args) } else { blocks(&args) } }
        }
        // SAFETY: as above: columns before `len`.
        unsafe { rest(base, starts, (init, zeros), factor, line, 16 * whole, len) };
        base = base.wrapping_offset(down);
        line = line.wrapping_add(pitch);
    }
}

/// Sums the columns from `done` on, four at a time, then one by one.
///
/// # Safety
/// The rows `base + start` are valid for `len` bytes, `sums` for as many words.
#[inline(always)]
unsafe fn rest(
    base: *const i8,
    starts: &[u32],
    (init, zeros): (u32, i32),
    factor: i32,
    sums: *mut i32,
    mut done: usize,
    len: usize,
) {
    // SAFETY: as for the function.
    unsafe {
        let add = |column: usize, own: i32| {
            let sum = sums.add(column);
            *sum = (*sum).wrapping_add(factor.wrapping_mul(own));
        };
        while done + 4 <= len {
            let (mut even, mut odd) = (init, init);
            let base = base.add(done);
            for &start in starts {
                let word = base.add(start as usize).cast::<u32>().read_unaligned();
                even = add_even(even, word);
                odd = add_odd(odd, word);
            }
            let ((a, c), (b, d)) = (halves(even), halves(odd));
            add(done, a);
            add(done + 1, b);
            add(done + 2, c);
            add(done + 3, d);
            done += 4;
        }
        while done < len {
            let mut own = zeros;
            let base = base.add(done);
            for &start in starts {
                own += i32::from(*base.add(start as usize));
            }
            add(done, own);
            done += 1;
        }
    }
}

/// See [`crate::portable::add_errors`]. Takes 16-bit errors.
#[inline]
pub fn add_errors(x: &[i8], rows: Rows<'_>, errors: &[i32], offset: isize, zero: i32, sums: &mut [i32]) {
    let starts = rows.starts();
    let (Some(&first), Some(&last)) = (starts.first(), starts.last()) else { return };
    // Reads whole words.
    let len = sums.len().next_multiple_of(4);
    let begins = (first as usize).checked_add_signed(offset).is_some();
    let ends = (last as usize).checked_add_signed(offset).and_then(|at| at.checked_add(len));
    if !begins || ends.is_none_or(|end| end > x.len()) || errors.len() != starts.len() {
        crate::portable::add_errors(x, rows, errors, offset, zero, sums);
        return;
    }
    let zeros = zero.wrapping_mul(errors.iter().fold(0, |sum: i32, &e| sum.wrapping_add(e)));
    let mut base = x.as_ptr().wrapping_offset(offset);
    for sums in sums.chunks_mut(4) {
        let ends = starts.as_ptr_range();
        let mut four = [0i32; 4];
        // SAFETY: rows ascend, so all of them lie in `x`; there are as many errors as rows, at least one.
        unsafe {
            asm!(
                "2:",
                "ldr {a}, [{starts}], #4",
                "ldr {e}, [{errors}], #4",
                "ldr {b}, [{base}, {a}]",
                "sxtb16 {a}, {b}",
                "sxtb16 {b}, {b}, ror #8",
                "smlabb {s0}, {a}, {e}, {s0}",
                "smlatb {s2}, {a}, {e}, {s2}",
                "smlabb {s1}, {b}, {e}, {s1}",
                "smlatb {s3}, {b}, {e}, {s3}",
                "cmp {starts}, {end}",
                "bne 2b",
                starts = inout(reg) ends.start => _, end = in(reg) ends.end,
                errors = inout(reg) errors.as_ptr() => _, base = in(reg) base,
                a = out(reg) _, b = out(reg) _, e = out(reg) _,
                s0 = inout(reg) four[0], s1 = inout(reg) four[1], s2 = inout(reg) four[2], s3 = inout(reg) four[3],
                options(nostack, readonly));
        }
        for (sum, own) in sums.iter_mut().zip(four) {
            *sum = sum.wrapping_add(own.wrapping_sub(zeros));
        }
        base = base.wrapping_add(4);
    }
}

/// Arguments of [`select_rectangle`].
#[repr(C)]
struct Rectangle {
    h: *const i8,
    /// Bytes from one output to the next, and from the end of a row to the next row.
    step: usize,
    gap: usize,
    /// Position of the first input, distance to the next, and from the end of a row to the next row.
    start: u32,
    start_step: u32,
    start_gap: u32,
    /// List of positions to write.
    list: *mut u32,
    /// Smallest active output, and how many larger ones are active too.
    low: i32,
    width: u32,
    /// Outputs per row, and number of rows.
    count: usize,
    lines: usize,
}

/// Writes the input positions of active outputs; returns the end of the list.
///
/// # Safety
/// There is at least one output; all of them are valid, and the list has room for all.
#[unsafe(naked)]
unsafe extern "C" fn select_rectangle(rectangle: *const Rectangle) -> *mut u32 {
    naked_asm!(
        extension!(),
        "push {{r4-r11, lr}}",
        "sub sp, #4",
        // r1 h, r2 step, r3 gap, r4 start, r5 its step, r6 its gap, r7 list, r8 low, r9 width, r10 count, r11 lines.
        "add r0, #4",
        "ldm r0, {{r2, r3, r4, r5, r6, r7, r8, r9, r10, r11}}",
        "ldr r1, [r0, #-4]",
        "2:",
        "mov r0, r10",
        "3:",
        "ldrsb lr, [r1]",
        "add r1, r2",
        "str r4, [r7]",
        "sub lr, r8",
        "cmp lr, r9",
        "it ls",
        "addls r7, #4",
        "add r4, r5",
        "subs r0, #1",
        "bne 3b",
        "add r1, r3",
        "add r4, r6",
        "subs r11, #1",
        "bne 2b",
        "mov r0, r7",
        "add sp, #4",
        "pop {{r4-r11, pc}}",
    )
}

/// See [`crate::portable::select`].
#[inline]
pub fn select(h: &[i8], outputs: Outputs, bounds: (i8, i8), inputs: Inputs, starts: &mut Starts) {
    let Outputs { at, step, count, line, lines } = outputs;
    // Extents come from a record, so these sums are far from overflow.
    let last = at + step * count.saturating_sub(1) + line * lines.saturating_sub(1);
    let end = inputs.start + inputs.step * count.saturating_sub(1) + inputs.line * lines.saturating_sub(1);
    let (low, width) = (i32::from(bounds.0) + 1, i32::from(bounds.1) - i32::from(bounds.0) - 2);
    let ascends = lines <= 1 || inputs.line >= inputs.step * count.saturating_sub(1);
    let some = count > 0 && lines > 0 && count * lines <= starts.free();
    if !some || !ascends || last >= h.len() || width < 0 || end > i32::MAX as usize {
        crate::portable::select(h, outputs, bounds, inputs, starts);
        return;
    }
    let write = |list: &mut [u32]| {
        let begin = list.as_mut_ptr();
        let rectangle = Rectangle {
            h: h.as_ptr().wrapping_add(at),
            step,
            gap: line.wrapping_sub(step * count),
            start: inputs.start as u32,
            start_step: inputs.step as u32,
            start_gap: inputs.line.wrapping_sub(inputs.step * count) as u32,
            list: begin,
            low,
            width: width as u32,
            count,
            lines,
        };
        // SAFETY: the last output lies in `h`; the list has room for all, and the returned end lies in or just after
        // it.
        unsafe { select_rectangle(&rectangle).offset_from(begin) as usize }
    };
    if !starts.append(write) {
        crate::portable::select(h, outputs, bounds, inputs, starts);
    }
}

/// See [`crate::portable::select_errors`].
#[inline]
#[allow(clippy::too_many_arguments)]
pub fn select_errors(
    h: &[i8],
    outputs: Outputs,
    bounds: (i8, i8),
    start: usize,
    step: usize,
    errors: &[i32],
    starts: &mut Starts,
    own: &mut [i32],
) -> i32 {
    let Outputs { at, step: of_h, count, .. } = outputs;
    let last = at + of_h * count.saturating_sub(1);
    let (low, width) = (i32::from(bounds.0) + 1, i32::from(bounds.1) - i32::from(bounds.0) - 2);
    let room = starts.free().min(own.len()).min(errors.len());
    if count == 0 || count > room || last >= h.len() || width < 0 {
        return crate::portable::select_errors(h, outputs, bounds, start, step, errors, starts, own);
    }
    let mut total = 0i32;
    let write = |list: &mut [u32]| {
        let mut value = h.as_ptr().wrapping_add(at);
        let (mut place, mut own, mut start) = (0, own.as_mut_ptr(), start as u32);
        let list = list.as_mut_ptr();
        for &error in errors.iter().take(count) {
            // SAFETY: `last` lies in `h`; there is room for `count` starts and errors, and no more are written.
            unsafe {
                if (i32::from(*value) - low) as u32 <= width as u32 {
                    *list.add(place) = start;
                    *own = error;
                    own = own.add(1);
                    place += 1;
                    total = total.wrapping_add(error);
                }
            }
            value = value.wrapping_add(of_h);
            start += step as u32;
        }
        place
    };
    starts.append(write);
    total
}

/// `Σ (x - zero)²` over at least one group of sixteen bytes; the caller must limit their number so that the sum fits 32
/// bits.
///
/// # Safety
/// The groups are valid.
unsafe fn squares(x: *const i8, groups: usize, zeros: u32) -> u32 {
    macro_rules! word {
        () => {
            "ldr {a}, [{x}], #4\n\
             sxtb16 {b}, {a}, ror #8\n\
             sxtb16 {a}, {a}\n\
             ssub16 {b}, {b}, {zeros}\n\
             ssub16 {a}, {a}, {zeros}\n\
             smlad {sum}, {b}, {b}, {sum}\n\
             smlad {sum}, {a}, {a}, {sum}"
        };
    }
    let sum;
    // SAFETY: as for the function.
    unsafe {
        asm!(
            "2:",
            word!(),
            word!(),
            word!(),
            word!(),
            "cmp {x}, {end}",
            "bne 2b",
            x = inout(reg) x => _, end = in(reg) x.wrapping_add(16 * groups), zeros = in(reg) zeros,
            a = out(reg) _, b = out(reg) _, sum = inout(reg) 0u32 => sum,
            options(nostack, readonly));
    }
    sum
}

/// See [`crate::portable::energy`].
pub fn energy(x: &[i8], zero: i8) -> u64 {
    let zeros = u32::from(zero as i16 as u16);
    let zeros = zeros | zeros << 16;
    let mut total = 0;
    // The sum of 2^15 squares of 9-bit numbers fits 32 bits.
    for part in x.chunks(1 << 15) {
        let groups = part.len() / 16;
        if groups > 0 {
            // SAFETY: `groups` groups lie in the part.
            total += u64::from(unsafe { squares(part.as_ptr(), groups, zeros) });
        }
        let rest = part.get(16 * groups..).unwrap_or(&[]);
        total += crate::portable::energy(rest, zero);
    }
    total
}
