//! Products with sparse matrices, row by row: four or eight entries at a time, with one word of steps or weights per
//! four.

use super::{saturates, zero_and_half};
use crate::requant::Requant;
use crate::sparse::Sparse;
use core::arch::{asm, naked_asm};
use offshoot_format::sparse::Form;

/// Arguments of the kernels, which advance `counts`, `weights` and `steps`.
#[repr(C)]
struct Rows {
    src: *const i8,
    steps: *const u8,
    weights: *const i8,
    counts: *const u16,
    sums: *mut i32,
    /// End of the sums; there is at least one.
    end: *mut i32,
}

/// Defines a kernel: only the code for the entries of a row differs between the forms. `entries` is that code; it
/// handles the `lr` entries of a row and adds their products to `r7`.
///
/// r0 source, r1 steps, r2 weights, r3 counts, r4 sums, r6 position of the entry, r7 sum, lr entries.
macro_rules! kernel {
    ($name:ident, $place:literal, $doc:literal, [$($entries:expr),* $(,)?]) => {
        #[doc = $doc]
        ///
        /// # Safety
        /// The pointers of `rows` are valid for what the counts say, and the steps lead to no position beyond the
        /// source.
        #[unsafe(naked)]
        unsafe extern "C" fn $name(rows: *mut Rows) {
            naked_asm!(
                "push {{r0, r4-r11, lr}}",
                "ldr r4, [r0, #20]",
                "push {{r4}}",
                "ldmia r0, {{r0, r1, r2, r3, r4}}",
                "2:",
                "ldrh lr, [r3], #2",
                "ldr r7, [r4]",
                $place,
                $($entries,)*
                "9:",
                "str r7, [r4], #4",
                "ldr r8, [sp]",
                "cmp r4, r8",
                "bne.w 2b",
                "pop {{r4, r8}}",
                "str.w r1, [r8, #4]",
                "str.w r2, [r8, #8]",
                "str.w r3, [r8, #12]",
                "pop {{r4-r11, pc}}",
            )
        }
    };
}

// Four entries: their steps are the bytes of the named register, their weights those of r9.
#[rustfmt::skip]
macro_rules! four {
    ($steps:literal) => {
        concat!(
            "uxtab r6, r6, ", $steps, "\n",
            "ldrsb r10, [r6]\n",
            "uxtab r6, r6, ", $steps, ", ror #8\n",
            "ldrsb r11, [r6]\n",
            "sxtb16 r12, r9\n",
            "sxtb16 r9, r9, ror #8\n",
            "smlabb r7, r10, r12, r7\n",
            "smlabb r7, r11, r9, r7\n",
            "uxtab r6, r6, ", $steps, ", ror #16\n",
            "ldrsb r10, [r6]\n",
            "uxtab r6, r6, ", $steps, ", ror #24\n",
            "ldrsb r11, [r6]\n",
            "smlabt r7, r10, r12, r7\n",
            "smlabt r7, r11, r9, r7\n",
        )
    };
}

// One entry whose step has been added already.
macro_rules! one {
    () => {
        "ldrsb r10, [r6]\nldrsb r9, [r2], #1\nsmlabb r7, r10, r9, r7\n"
    };
}

// One block of four inputs: its step is a byte of r8, its weights are in the named register.
#[rustfmt::skip]
macro_rules! block {
    ($step:literal, $weights:literal) => {
        concat!(
            "uxtab r6, r6, r8", $step, "\n",
            "ldr.w r10, [r0, r6, lsl #2]\n",
            "sxtb16 r11, ", $weights, "\n",
            "sxtb16 ", $weights, ", ", $weights, ", ror #8\n",
            "sxtb16 r12, r10\n",
            "sxtb16 r10, r10, ror #8\n",
            "smlad r7, r12, r11, r7\n",
            "smlad r7, r10, ", $weights, ", r7\n",
        )
    };
}

kernel!(
    bytes,
    "mov r6, r0",
    "Steps of a byte: 17 instructions for four entries.",
    [
        "subs lr, #8",
        "blo.w 4f",
        "3:",
        "ldr.w r8, [r1], #4",
        "ldr.w r9, [r2], #4",
        four!("r8"),
        "ldr.w r8, [r1], #4",
        "ldr.w r9, [r2], #4",
        four!("r8"),
        "subs lr, #8",
        "bhs.w 3b",
        "4:",
        "lsls r10, lr, #30",
        "bpl 5f",
        "ldrb r8, [r1], #1",
        "add r6, r8",
        one!(),
        "ldrb r8, [r1], #1",
        "add r6, r8",
        one!(),
        "5:",
        "lsls r10, lr, #31",
        "beq 6f",
        "ldrb r8, [r1], #1",
        "add r6, r8",
        one!(),
        "6:",
        "lsls r10, lr, #29",
        "bpl.w 9f",
        "ldr.w r8, [r1], #4",
        "ldr.w r9, [r2], #4",
        four!("r8"),
    ]
);

kernel!(
    nibbles,
    "mov r6, r0",
    "Steps of four bits: 38 instructions for eight entries.",
    [
        "subs lr, #8",
        "blo.w 4f",
        "3:",
        "ldr.w r8, [r1], #4",
        "ldr.w r9, [r2], #4",
        "lsr.w r5, r8, #4",
        "and r8, r8, #0x0f0f0f0f",
        "and r5, r5, #0x0f0f0f0f",
        four!("r8"),
        "ldr.w r9, [r2], #4",
        four!("r5"),
        "subs lr, #8",
        "bhs.w 3b",
        "4:",
        // Two entries per byte; fewer than eight are left, and lr is their number minus eight.
        "adds lr, #6",
        "bmi 6f",
        "5:",
        "ldrb r8, [r1], #1",
        "and r5, r8, #15",
        "add r6, r5",
        one!(),
        "add r6, r6, r8, lsr #4",
        one!(),
        "subs lr, #2",
        "bpl 5b",
        "6:",
        "lsls r10, lr, #31",
        "beq 9f",
        "ldrb r8, [r1], #1",
        "and r5, r8, #15",
        "add r6, r5",
        one!(),
    ]
);

kernel!(
    blocks,
    "movs r6, #0",
    "Blocks of four: 37 instructions for 16 products.",
    [
        "subs lr, #4",
        "blo.w 4f",
        "3:",
        "ldr.w r8, [r1], #4",
        "ldrd r5, r9, [r2], #8",
        block!("", "r5"),
        block!(", ror #8", "r9"),
        "ldrd r5, r9, [r2], #8",
        block!(", ror #16", "r5"),
        block!(", ror #24", "r9"),
        "subs lr, #4",
        "bhs.w 3b",
        "4:",
        "adds lr, #4",
        "beq 9f",
        "5:",
        "ldrb r8, [r1], #1",
        "ldr.w r5, [r2], #4",
        block!("", "r5"),
        "subs lr, #1",
        "bne 5b",
    ]
);

/// See [`crate::portable::add_sparse`]. The matrix has been checked against the length of `src`.
pub fn add_sparse(matrix: &mut Sparse<'_>, src: &[i8], sums: &mut [i32]) {
    if sums.is_empty() || sums.len() > matrix.counts.len() {
        return;
    }
    let ends = sums.as_mut_ptr_range();
    let mut rows = Rows {
        src: src.as_ptr(),
        steps: matrix.steps.as_ptr(),
        weights: matrix.weights.as_ptr(),
        counts: matrix.counts.as_ptr(),
        sums: ends.start,
        end: ends.end,
    };
    // SAFETY: `Sparse::check` has compared the rows with weights, steps and columns; at least `sums.len()` rows are
    // left. The weights of blocks begin at a multiple of four, after the counts.
    unsafe {
        match matrix.form {
            Form::Bytes if cfg!(feature = "sparse-bytes") => bytes(&mut rows),
            Form::Nibbles if cfg!(feature = "sparse-nibbles") => nibbles(&mut rows),
            Form::Blocks if cfg!(feature = "sparse-blocks") => blocks(&mut rows),
            _ => return,
        }
        let used = |now: *const u8, then: *const u8| now.offset_from(then) as usize;
        let (steps, weights) = (
            used(rows.steps, matrix.steps.as_ptr()),
            used(rows.weights.cast(), matrix.weights.as_ptr().cast()),
        );
        matrix.counts = matrix.counts.get(sums.len()..).unwrap_or_default();
        matrix.steps = matrix.steps.get(steps..).unwrap_or_default();
        matrix.weights = matrix.weights.get(weights..).unwrap_or_default();
    }
}

/// See [`crate::portable::requantise_sums`]. Shifts are in -22..=-1, sums below 2^30.
pub fn requantise_sums(q: &Requant<'_>, first: usize, sums: &[i32], dst: &mut [i8]) {
    let numbers = (zero_and_half(q), (!saturates(q)).then_some((q.min, q.max)));
    let outputs = dst.iter_mut().zip(sums);
    if let (&[multiplier], &[shift]) = (q.multiplier, q.shift) {
        outputs.for_each(|(out, &sum)| *out = requantise(sum, multiplier, shift, numbers));
        return;
    }
    let multipliers = q.multiplier.get(first..).unwrap_or_default();
    let scales = multipliers.iter().zip(q.shift.get(first..).unwrap_or_default());
    for ((out, &sum), (&multiplier, &shift)) in outputs.zip(scales) {
        *out = requantise(sum, multiplier, shift, numbers);
    }
}

/// Requantises a sum; `numbers`: zero point and half, and the bounds if they are not those of int8.
#[inline(always)]
fn requantise(sum: i32, multiplier: i32, shift: i8, (half, bounds): (i32, Option<(i32, i32)>)) -> i8 {
    // One less than the right shift: saturation shifts by one.
    let right = !i32::from(shift) as u32 & 31;
    let result: i32;
    // SAFETY: instructions on registers.
    unsafe {
        asm!(
            "smmulr {p}, {p}, {m}",
            "add {p}, {p}, {p}, asr #31",
            "add {p}, {p}, {half}",
            "asr {p}, {p}, {right}",
            "ssat {p}, #8, {p}, asr #1",
            p = inout(reg) sum << 1 => result, m = in(reg) multiplier, half = in(reg) half << right,
            right = in(reg) right, options(pure, nomem, nostack));
    }
    bounds.map_or(result, |(min, max)| result.clamp(min, max)) as i8
}
