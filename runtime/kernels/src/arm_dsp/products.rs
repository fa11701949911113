//! Products of int8 rows with a vector: four rows at a time; inputs are widened and their zero point subtracted once.

use core::arch::{asm, naked_asm};

/// Arguments of [`blocks`], which advances `weights` and `sums`.
#[repr(C)]
pub(super) struct Rows {
    /// Inputs in groups of four, in the order 0 2 1 3.
    pub(super) x: *const u32,
    /// End of the inputs; there is at least one group.
    pub(super) end: *const u32,
    /// First of four rows.
    pub(super) weights: *const i8,
    /// Bytes from one row to the next.
    pub(super) stride: usize,
    /// Four sums per block, which are added to.
    pub(super) sums: *mut i32,
    /// End of the sums; there is at least one block.
    pub(super) last: *mut i32,
}

/// Adds the products of rows of weights, four at a time, with the inputs to their sums: 44 instructions for 32
/// products.
///
/// # Safety
/// The pointers are valid for what they say; rows are readable for whole groups.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn blocks(rows: *mut Rows) {
    naked_asm!(
        extension!(),
        // r0 to r3 rows, r4 inputs, r5 their end, r6 to r9 sums.
        ".macro offshoot_row p, sum",
        "ldr r12, [\\p], #4",
        "sxtb16 lr, r12",
        "sxtb16 r12, r12, ror #8",
        "smlad \\sum, lr, r10, \\sum",
        "smlad \\sum, r12, r11, \\sum",
        ".endm",
        ".macro offshoot_group",
        "ldrd r10, r11, [r4], #8",
        "offshoot_row r0, r6",
        "offshoot_row r1, r7",
        "offshoot_row r2, r8",
        "offshoot_row r3, r9",
        ".endm",
        "push {{r0, r4-r11, lr}}",
        "2:",
        "ldr lr, [sp]",
        "ldrd r4, r5, [lr]",
        "ldrd r0, r3, [lr, #8]",
        "ldr r12, [lr, #16]",
        "add r1, r0, r3",
        "add r2, r1, r3",
        "add r3, r2, r3",
        "add r10, r1, r3",
        "sub r10, r10, r0",
        "ldm r12, {{r6, r7, r8, r9}}",
        // Rows are at equal distances, so the fifth begins at that distance after the fourth.
        "str r10, [lr, #8]",
        // Two groups per iteration; with an odd number, the first iteration starts at its second group.
        "sub r10, r5, r4",
        "lsls r10, r10, #28",
        "bmi 4f",
        "3:",
        "offshoot_group",
        "4:",
        "offshoot_group",
        "cmp r4, r5",
        "bne 3b",
        "ldr lr, [sp]",
        "ldrd r12, r10, [lr, #16]",
        "stm r12!, {{r6, r7, r8, r9}}",
        "str r12, [lr, #16]",
        "cmp r12, r10",
        "bne 2b",
        "pop {{r0, r4-r11, pc}}",
        ".purgem offshoot_group",
        ".purgem offshoot_row",
    )
}

/// Inputs that are widened at once.
const CHUNK: usize = 128;

/// Four inputs minus their zero point, as 16-bit halves in the order 0 2 1 3.
#[inline(always)]
fn widened(group: [i8; 4], zeros: u32) -> [u32; 2] {
    let word = u32::from_le_bytes(group.map(|x| x as u8));
    let (even, odd);
    // SAFETY: instructions on registers.
    unsafe {
        asm!(
            "sxtb16 {even}, {word}",
            "sxtb16 {odd}, {word}, ror #8",
            "ssub16 {even}, {even}, {zeros}",
            "ssub16 {odd}, {odd}, {zeros}",
            word = in(reg) word, zeros = in(reg) zeros, even = out(reg) even, odd = out(reg) odd,
            options(pure, nomem, nostack));
    }
    [even, odd]
}

/// See [`crate::portable::products_i8`]; returns `false` and computes nothing if the slices do not fit.
pub(crate) fn products_i8(weights: &[i8], x: &[i8], zero: i8, sums: &mut [i32]) -> bool {
    let (width, rows) = (x.len(), sums.len());
    if width == 0 || weights.len() != width * rows {
        return false;
    }
    // The last group of a row reads into the next row; the last rows have none after them.
    let spare = width.next_multiple_of(4) - width;
    let whole = if spare == 0 { rows } else { rows.saturating_sub(spare.div_ceil(width)) };
    let (fast, slow) = sums.split_at_mut(whole / 4 * 4);
    fast.fill(0);
    let zeros = u32::from(i16::from(zero) as u16) * 0x1_0001;
    let mut wide = [[0u32; 2]; CHUNK / 4];
    let chunks = if fast.is_empty() { 0 } else { width };
    for first in (0..chunks).step_by(CHUNK) {
        let inputs = &x[first..width.min(first + CHUNK)];
        let (groups, rest) = inputs.as_chunks::<4>();
        let mut end = groups.len();
        for (pair, group) in wide.iter_mut().zip(groups) {
            *pair = widened(*group, zeros);
        }
        if !rest.is_empty() {
            // Pads with the zero point, which counts as zero.
            let mut last = [zero; 4];
            last[..rest.len()].copy_from_slice(rest);
            wide[end] = widened(last, zeros);
            end += 1;
        }
        let range = wide[..end].as_flattened().as_ptr_range();
        let sums = fast.as_mut_ptr_range();
        let mut rows = Rows {
            x: range.start,
            end: range.end,
            weights: weights[first..].as_ptr(),
            stride: width,
            sums: sums.start,
            last: sums.end,
        };
        // SAFETY: the pointers are those of slices; whole groups of the fast rows end inside the weights.
        unsafe { blocks(&mut rows) };
    }
    let done = fast.len() * width;
    crate::portable::products_i8(&weights[done..], x, zero, slow);
    true
}
