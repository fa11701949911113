//! Products of int8 rows with a vector: four rows at a time, inputs widened and freed of their zero point once.

use core::arch::naked_asm;

/// What [`four`] works on.
#[repr(C)]
struct Rows {
    /// First of four rows.
    weights: *const i8,
    /// Bytes from a row to the next.
    stride: usize,
    /// Inputs in groups of four, in the order 0 2 1 3.
    x: *const u32,
    /// End of the inputs; there is at least one group.
    end: *const u32,
    /// Four sums, which grow.
    sums: *mut i32,
}

/// Adds the products of four rows of weights with the inputs to their sums.
///
/// # Safety
/// The pointers are valid for what they say; rows for whole groups.
#[unsafe(naked)]
unsafe extern "C" fn four(rows: *const Rows) {
    naked_asm!(
        // r0 to r3 rows, r4 inputs, r5 their end, r6 to r9 sums.
        ".macro offshoot_row p, sum",
        "ldr r12, [\\p], #4",
        "sxtb16 lr, r12",
        "sxtb16 r12, r12, ror #8",
        "smlad \\sum, lr, r10, \\sum",
        "smlad \\sum, r12, r11, \\sum",
        ".endm",
        "push {{r4-r11, lr}}",
        "ldr r6, [r0, #16]",
        "ldr r5, [r0, #12]",
        "ldr r4, [r0, #8]",
        "ldr r3, [r0, #4]",
        "ldr r0, [r0]",
        "push {{r6}}",
        "add r1, r0, r3",
        "add r2, r1, r3",
        "add r3, r2, r3",
        "ldm r6, {{r6, r7, r8, r9}}",
        "2:",
        "ldrd r10, r11, [r4], #8",
        "offshoot_row r0, r6",
        "offshoot_row r1, r7",
        "offshoot_row r2, r8",
        "offshoot_row r3, r9",
        "cmp r4, r5",
        "bne 2b",
        "pop {{r10}}",
        "stm r10, {{r6, r7, r8, r9}}",
        "pop {{r4-r11, pc}}",
        ".purgem offshoot_row",
    )
}

/// Inputs that are widened at once.
const CHUNK: usize = 128;

/// See [`crate::kernels::portable::products_i8`]; `false`, and nothing is done, if slices do not fit.
pub(crate) fn products_i8(weights: &[i8], x: &[i8], zero: i8, sums: &mut [i32]) -> bool {
    let (width, rows) = (x.len(), sums.len());
    if width == 0 || weights.len() != width * rows {
        return false;
    }
    // The last group of a row reads into the next one; the last rows have none to read into.
    let spare = width.next_multiple_of(4) - width;
    let whole = if spare == 0 { rows } else { rows.saturating_sub(spare.div_ceil(width)) };
    let (fast, slow) = sums.split_at_mut(whole / 4 * 4);
    fast.fill(0);
    let mut wide = [0u32; CHUNK / 2];
    for first in (0..width).step_by(CHUNK) {
        let inputs = &x[first..width.min(first + CHUNK)];
        let mut end = 0;
        for (pair, group) in wide.chunks_exact_mut(2).zip(inputs.chunks(4)) {
            // Beyond the last input come zeros.
            let at = |i: usize| group.get(i).map_or(0, |&x| (i16::from(x) - i16::from(zero)) as u16);
            let both = |low: u16, high: u16| u32::from(low) | u32::from(high) << 16;
            (pair[0], pair[1]) = (both(at(0), at(2)), both(at(1), at(3)));
            end += 2;
        }
        let inputs = &wide[..end];
        for (block, sums) in fast.chunks_exact_mut(4).enumerate() {
            let range = inputs.as_ptr_range();
            let weights = weights[4 * block * width + first..].as_ptr();
            let rows =
                Rows { weights, stride: width, x: range.start, end: range.end, sums: sums.as_mut_ptr() };
            // SAFETY: the pointers are those of slices; whole groups of the four rows end inside of the weights.
            unsafe { four(&rows) };
        }
    }
    let done = fast.len() * width;
    crate::kernels::portable::products_i8(&weights[done..], x, zero, slow);
    true
}
