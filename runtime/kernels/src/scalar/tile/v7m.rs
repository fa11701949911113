//! The loops for Armv7-M without the DSP extension (Cortex-M3): eight sums, two inputs and a weight in registers, and
//! pointers that the loads move. 58 instructions for 32 products.

use super::Sums;
use core::arch::naked_asm;

/// One input of each pixel with the halves `256·B + A` and `256·D + C`. `$next`: bytes from the second half to the next
/// one, and likewise for the inputs.
macro_rules! step {
    ($next:literal) => {
        concat!(
            "ldrsh r2, [r0], #4\n",
            "ldrsh r3, [r0], #",
            $next,
            "\n",
            "ldrsh r12, [r1], #4\n",
            "mla r4, r2, r12, r4\n",
            "mla r8, r3, r12, r8\n",
            "sxtb.w r12, r12\n",
            "mla r5, r2, r12, r5\n",
            "mla r9, r3, r12, r9\n",
            "ldrsh r12, [r1], #",
            $next,
            "\n",
            "mla r6, r2, r12, r6\n",
            "mla r10, r3, r12, r10\n",
            "sxtb.w r12, r12\n",
            "mla r7, r2, r12, r7\n",
            "mla r11, r3, r12, r11\n",
        )
    };
}

/// One input of each pixel with a weight of each channel.
macro_rules! wide_step {
    ($next:literal, $next_weights:literal) => {
        wide_step!($next, $next_weights, "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11")
    };
    ($next:literal, $next_weights:literal, $($sum:literal),*) => {
        wide_products!($next, $next_weights, $($sum),*)
    };
}

macro_rules! wide_products {
    (
        $next:literal,
        $next_weights:literal,
        $a:literal,
        $b:literal,
        $c:literal,
        $d:literal,
        $e:literal,
        $f:literal,
        $g:literal,
        $h:literal
    ) => {
        concat!(
            "ldrsh r2, [r0], #4\n",
            "ldrsh r3, [r0], #",
            $next,
            "\n",
            "ldrsh r12, [r1], #4\n",
            "mla ",
            $a,
            ", r2, r12, ",
            $a,
            "\n",
            "mla ",
            $e,
            ", r3, r12, ",
            $e,
            "\n",
            "ldrsh r12, [r1], #4\n",
            "mla ",
            $b,
            ", r2, r12, ",
            $b,
            "\n",
            "mla ",
            $f,
            ", r3, r12, ",
            $f,
            "\n",
            "ldrsh r12, [r1], #4\n",
            "mla ",
            $c,
            ", r2, r12, ",
            $c,
            "\n",
            "mla ",
            $g,
            ", r3, r12, ",
            $g,
            "\n",
            "ldrsh r12, [r1], #",
            $next_weights,
            "\n",
            "mla ",
            $d,
            ", r2, r12, ",
            $d,
            "\n",
            "mla ",
            $h,
            ", r3, r12, ",
            $h,
            "\n",
        )
    };
}

/// One input with the halves of two blocks. `$next` as in `step`.
macro_rules! vector_step {
    ($next:literal) => {
        concat!(
            "ldrsb r3, [r0], #1\n",
            "ldrsh r12, [r1], #4\n",
            "mla r4, r3, r12, r4\n",
            "sxtb.w r12, r12\n",
            "mla r5, r3, r12, r5\n",
            "ldrsh r12, [r1], #",
            $next,
            "\n",
            "mla r6, r3, r12, r6\n",
            "sxtb.w r12, r12\n",
            "mla r7, r3, r12, r7\n",
            "ldrsh r12, [r2], #4\n",
            "mla r8, r3, r12, r8\n",
            "sxtb.w r12, r12\n",
            "mla r9, r3, r12, r9\n",
            "ldrsh r12, [r2], #",
            $next,
            "\n",
            "mla r10, r3, r12, r10\n",
            "sxtb.w r12, r12\n",
            "mla r11, r3, r12, r11\n",
        )
    };
}

/// A function over pointers to inputs and weights, the end of the inputs, and sums to add to.
macro_rules! tile {
    ($name:ident, $($step:expr),*) => {
        /// # Safety
        /// There is at least one group of four inputs before `end`, with its weights.
        #[unsafe(naked)]
        unsafe extern "C" fn $name(lanes: *const i16, weights: *const i16, end: *const i16, sums: *mut Sums) {
            naked_asm!(
                "push {{r3-r11, lr}}",
                "mov lr, r2",
                "ldmia.w r3, {{r4-r11}}",
                "2:",
                $($step,)*
                "cmp r0, lr",
                "bne 2b",
                "pop {{r3}}",
                "stmia.w r3, {{r4-r11}}",
                "pop {{r4-r11, pc}}",
            )
        }
    };
}

tile!(run, step!("-2"), step!("2"), step!("-2"), step!("2"));
tile!(run_wide, wide_step!("-2", "-10"), wide_step!("2", "2"), wide_step!("-2", "-10"), wide_step!("2", "2"));

/// What [`run_blocks`] and [`run_wide_blocks`] read and move.
#[repr(C)]
struct Blocks {
    /// Words of the next block.
    words: *const i32,
    lanes: *const i16,
    lanes_end: *const i16,
    /// Its outputs of both pixels.
    out: [*mut i8; 2],
    /// Blocks, at least one. Counted down.
    blocks: usize,
}

/// A function over the blocks of a pair. `$begin` sets the sums and leaves r1 at the weights; `$end` leaves 256 times
/// the sums with their biases of A, B, C, D in r5, r4, r7, r6 and r9, r8, r11, r10, and r1 at the multipliers.
macro_rules! blocks {
    ($name:ident, [$($step:expr),*], [$($begin:literal),*], [$($end:literal),*]) => {
        /// # Safety
        /// All pointers are valid for what their records say: there is at least one block and one group of four inputs.
        #[unsafe(naked)]
        unsafe extern "C" fn $name(blocks: *mut Blocks) {
            naked_asm!(
                "push {{r0, r4-r11, lr}}",
                "3:",
                "ldr r2, [sp]",
                "ldmia.w r2, {{r1, r3, lr}}",
                $($begin,)*
                "mov r0, r3",
                "2:",
                $($step,)*
                "cmp r0, lr",
                "bne 2b",
                $($end,)*
                "ldmia.w r1!, {{r0, r2, r3, r12}}",
                "smull lr, r5, r5, r0",
                "smull lr, r9, r9, r0",
                "smull lr, r4, r4, r2",
                "smull lr, r8, r8, r2",
                "smull lr, r7, r7, r3",
                "smull lr, r11, r11, r3",
                "smull lr, r6, r6, r12",
                "smull lr, r10, r10, r12",
                "ldr r0, [sp]",
                "ldrd r2, r3, [r0, #12]",
                "ssat r5, #8, r5, asr #12",
                "ssat r4, #8, r4, asr #12",
                "ssat r7, #8, r7, asr #12",
                "ssat r6, #8, r6, asr #12",
                "ssat r9, #8, r9, asr #12",
                "ssat r8, #8, r8, asr #12",
                "ssat r11, #8, r11, asr #12",
                "ssat r10, #8, r10, asr #12",
                "strb r5, [r2], #1",
                "strb r9, [r3], #1",
                "strb r4, [r2], #1",
                "strb r8, [r3], #1",
                "strb r7, [r2], #1",
                "strb r11, [r3], #1",
                "strb r6, [r2], #1",
                "strb r10, [r3], #1",
                "ldr r12, [r0, #20]",
                "str r1, [r0]",
                "strd r2, r3, [r0, #12]",
                "subs.w r12, r12, #1",
                "str.w r12, [r0, #20]",
                "bne.w 3b",
                "pop {{r0, r4-r11, pc}}",
            )
        }
    };
}

blocks!(
    run_blocks,
    [step!("-2"), step!("2"), step!("-2"), step!("2")],
    [
        // 256 times the upper channel's sum starts at its bias; the lower one's is added after a shift.
        "ldmia r1!, {{r4, r6}}",
        "mov.w r5, #0",
        "mov.w r7, #0",
        "mov r8, r4",
        "mov r9, r5",
        "mov r10, r6",
        "mov r11, r7"
    ],
    [
        "ldmia r1!, {{r2, r3}}",
        "subs r4, r4, r5",
        "sub.w r8, r8, r9",
        "subs r6, r6, r7",
        "sub.w r10, r10, r11",
        "add.w r5, r2, r5, lsl #8",
        "add.w r9, r2, r9, lsl #8",
        "add.w r7, r3, r7, lsl #8",
        "add.w r11, r3, r11, lsl #8"
    ]
);
blocks!(
    run_wide_blocks,
    [
        wide_step!("-2", "-10", "r5", "r4", "r7", "r6", "r9", "r8", "r11", "r10"),
        wide_step!("2", "2", "r5", "r4", "r7", "r6", "r9", "r8", "r11", "r10"),
        wide_step!("-2", "-10", "r5", "r4", "r7", "r6", "r9", "r8", "r11", "r10"),
        wide_step!("2", "2", "r5", "r4", "r7", "r6", "r9", "r8", "r11", "r10")
    ],
    ["ldmia.w r1!, {{r4, r5, r6, r7}}", "mov r8, r4", "mov r9, r5", "mov r10, r6", "mov r11, r7"],
    []
);

/// Inputs are int8; weights of the second block follow the end on the stack.
///
/// # Safety
/// There is at least one group of four inputs before `end`, with its weights of both blocks.
#[unsafe(naked)]
unsafe extern "C" fn run_vector(
    src: *const i8,
    one: *const i16,
    two: *const i16,
    sums: *mut Sums,
    end: *const i8,
) {
    naked_asm!(
        "push {{r3-r11, lr}}",
        "ldmia.w r3, {{r4-r11}}",
        "ldr.w lr, [sp, #40]",
        "2:",
        // Inputs 0, 1, 2, 3; their halves are at 0, 8, 2 and 10.
        vector_step!("4"),
        vector_step!("-10"),
        vector_step!("4"),
        vector_step!("2"),
        "cmp r0, lr",
        "bne.w 2b",
        "pop {{r3}}",
        "stmia.w r3, {{r4-r11}}",
        "pop {{r4-r11, pc}}",
    )
}

/// See [`super::blocks`].
#[inline(always)]
pub(super) fn blocks(
    wide: bool,
    words: &[i32],
    size: usize,
    lanes: &[i16],
    first: &mut [i8],
    second: &mut [i8],
) -> usize {
    let count = first.len() / 4;
    let k = lanes.len() / 2;
    let weights = if wide { 2 * k } else { k };
    let fits = size == weights + 8 && lanes.len().is_multiple_of(8) && !lanes.is_empty();
    if count == 0 || !fits || words.len() / size < count || !(second.is_empty() || second.len() >= 4 * count)
    {
        return 0;
    }
    let out = first.as_mut_ptr();
    // Without a second pixel, its sums are those of the first, and so are its outputs.
    let other = if second.is_empty() { out } else { second.as_mut_ptr() };
    let lanes = lanes.as_ptr_range();
    let mut blocks = Blocks {
        words: words.as_ptr(),
        lanes: lanes.start,
        lanes_end: lanes.end,
        out: [out, other],
        blocks: count,
    };
    // SAFETY: words, inputs and outputs of all blocks lie in their slices.
    unsafe { if wide { run_wide_blocks(&mut blocks) } else { run_blocks(&mut blocks) } }
    count
}

#[inline(always)]
pub(super) fn pair(lanes: &[i16], weights: &[i16], sums: &mut Sums) {
    if lanes.len() >= 8 && weights.len() >= lanes.len() {
        // SAFETY: whole groups, with their weights.
        unsafe { run(lanes.as_ptr(), weights.as_ptr(), lanes.as_ptr_range().end, sums) };
    }
}

#[inline(always)]
pub(super) fn pair_wide(lanes: &[i16], weights: &[i16], sums: &mut Sums) {
    if lanes.len() >= 8 && weights.len() >= 2 * lanes.len() {
        // SAFETY: whole groups, with their weights.
        unsafe { run_wide(lanes.as_ptr(), weights.as_ptr(), lanes.as_ptr_range().end, sums) };
    }
}

#[inline(always)]
pub(super) fn vector(src: &[i8], one: &[i16], two: &[i16], sums: &mut Sums) {
    if src.len() >= 4 && one.len() >= 2 * src.len() && two.len() >= 2 * src.len() {
        // SAFETY: whole groups, with their weights.
        unsafe { run_vector(src.as_ptr(), one.as_ptr(), two.as_ptr(), sums, src.as_ptr_range().end) };
    }
}
