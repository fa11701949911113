//! The loops for Armv6-M (Cortex-M0, M0+). Only eight registers take part in arithmetic and a product overwrites a
//! factor, so a second pixel would save a load and cost a copy: one pixel at a time, with the sums in the upper
//! registers.

use super::Sums;
use core::arch::naked_asm;

/// The products of two inputs, r3 and r2, with the word of two halves in r4.
macro_rules! word {
    ($both:literal, $low:literal) => {
        concat!(
            "ldmia r1!, {{r4}}\n",
            "sxth r5, r4\n",
            "asrs r4, r4, #16\n",
            "sxtb r6, r5\n",
            "sxtb r7, r4\n",
            "muls r5, r3, r5\n",
            "add ",
            $both,
            ", r5\n",
            "muls r6, r3, r6\n",
            "add ",
            $low,
            ", r6\n",
            "muls r4, r2, r4\n",
            "add ",
            $both,
            ", r4\n",
            "muls r7, r2, r7\n",
            "add ",
            $low,
            ", r7\n",
        )
    };
}

/// The products of two inputs, r3 and r2, with two weights of a channel.
macro_rules! wide_word {
    ($sum:literal) => {
        concat!(
            "ldmia r1!, {{r4}}\n",
            "sxth r5, r4\n",
            "asrs r4, r4, #16\n",
            "muls r5, r3, r5\n",
            "add ",
            $sum,
            ", r5\n",
            "muls r4, r2, r4\n",
            "add ",
            $sum,
            ", r4\n",
        )
    };
}

/// Two inputs of a pixel.
macro_rules! inputs {
    ($at:literal) => {
        concat!("ldr r2, [r0, #", $at, "]\n", "sxth r3, r2\n", "asrs r2, r2, #16\n")
    };
}

/// Two inputs of a vector.
macro_rules! bytes {
    ($first:literal, $second:literal) => {
        concat!(
            "ldrb r3, [r0, #",
            $first,
            "]\n",
            "ldrb r2, [r0, #",
            $second,
            "]\n",
            "sxtb r3, r3\n",
            "sxtb r2, r2\n",
        )
    };
}

/// A function over pointers to inputs and weights, the end of the weights, and four sums to add to. `$bytes`: of a
/// group of inputs.
macro_rules! tile {
    ($name:ident, $bytes:literal, $($step:expr),*) => {
        /// # Safety
        /// There is at least one group of four inputs, with its weights before `end`. All but bytes are aligned to 4.
        #[unsafe(naked)]
        unsafe extern "C" fn $name(inputs: *const u8, weights: *const i16, end: *const i16, sums: *mut [i32; 4]) {
            naked_asm!(
                "push {{r3-r7, lr}}",
                "mov r4, r8",
                "mov r5, r9",
                "mov r6, r10",
                "mov r7, r11",
                "push {{r4-r7}}",
                "mov r12, r2",
                "ldmia r3!, {{r4-r7}}",
                "mov r8, r4",
                "mov r9, r5",
                "mov r10, r6",
                "mov r11, r7",
                "2:",
                $($step,)*
                concat!("adds r0, #", $bytes),
                "cmp r1, r12",
                "bne 2b",
                "mov r0, r8",
                "mov r1, r9",
                "mov r2, r10",
                "mov r3, r11",
                "pop {{r4-r7}}",
                "mov r8, r4",
                "mov r9, r5",
                "mov r10, r6",
                "mov r11, r7",
                "pop {{r4}}",
                "stmia r4!, {{r0-r3}}",
                "pop {{r4-r7, pc}}",
            )
        }
    };
}

tile!(
    run,
    16,
    inputs!(0),
    word!("r8", "r9"),
    word!("r10", "r11"),
    inputs!(8),
    word!("r8", "r9"),
    word!("r10", "r11")
);
tile!(
    run_wide,
    16,
    inputs!(0),
    wide_word!("r8"),
    wide_word!("r9"),
    wide_word!("r10"),
    wide_word!("r11"),
    inputs!(8),
    wide_word!("r8"),
    wide_word!("r9"),
    wide_word!("r10"),
    wide_word!("r11")
);
tile!(
    run_vector,
    4,
    bytes!(0, 2),
    word!("r8", "r9"),
    word!("r10", "r11"),
    bytes!(1, 3),
    word!("r8", "r9"),
    word!("r10", "r11")
);

/// What [`run_blocks`] reads and moves.
#[repr(C)]
struct Blocks {
    /// Words of the next block.
    words: *const i32,
    /// The pixel's first input.
    lanes: *const i16,
    /// Bytes of a block's weights.
    bytes: usize,
    out: *mut i8,
    /// Blocks, at least one. Counted down.
    blocks: usize,
}

/// Outputs of a pixel with exact single-multiply requantisation. The high word of a product comes from products of
/// halves (Warren, Hacker's Delight, 8-2).
///
/// # Safety
/// All pointers are valid for what their record says, and aligned to words but for the output; there is at least one
/// block and one group of four inputs.
#[unsafe(naked)]
unsafe extern "C" fn run_blocks(blocks: *mut Blocks) {
    naked_asm!(
        "push {{r4-r7, lr}}",
        "mov r4, r8",
        "mov r5, r9",
        "mov r6, r10",
        "mov r7, r11",
        "push {{r4-r7}}",
        "push {{r0}}",
        "2:",
        "ldr r4, [sp]",
        "ldr r1, [r4]",
        "ldr r0, [r4, #4]",
        "ldr r2, [r4, #8]",
        // 256 times the upper channel's sum starts at its bias; the lower one's is added after a shift.
        "ldmia r1!, {{r5, r6}}",
        "mov r8, r5",
        "mov r10, r6",
        "movs r5, #0",
        "mov r9, r5",
        "mov r11, r5",
        "adds r2, r2, r1",
        "mov r12, r2",
        "3:",
        inputs!(0),
        word!("r8", "r9"),
        word!("r10", "r11"),
        inputs!(8),
        word!("r8", "r9"),
        word!("r10", "r11"),
        "adds r0, #16",
        "cmp r1, r12",
        "bne 3b",
        "ldr r4, [sp]",
        "ldr r0, [r4, #12]",
        "mov r2, r9",
        "lsls r2, r2, #8",
        "ldr r3, [r1]",
        "adds r2, r2, r3",
        "ldr r3, [r1, #8]",
        "bl 5f",
        "mov r2, r8",
        "mov r3, r9",
        "subs r2, r2, r3",
        "ldr r3, [r1, #12]",
        "bl 5f",
        "mov r2, r11",
        "lsls r2, r2, #8",
        "ldr r3, [r1, #4]",
        "adds r2, r2, r3",
        "ldr r3, [r1, #16]",
        "bl 5f",
        "mov r2, r10",
        "mov r3, r11",
        "subs r2, r2, r3",
        "ldr r3, [r1, #20]",
        "bl 5f",
        "adds r1, #24",
        "ldr r4, [sp]",
        "str r1, [r4]",
        "str r0, [r4, #12]",
        "ldr r5, [r4, #16]",
        "subs r5, #1",
        "str r5, [r4, #16]",
        "bne 2b",
        "add sp, #4",
        "pop {{r4-r7}}",
        "mov r8, r4",
        "mov r9, r5",
        "mov r10, r6",
        "mov r11, r7",
        "pop {{r4-r7, pc}}",
        // Requantises r2 by the multiplier in r3 and stores it at r0, which moves on.
        "5:",
        "asrs r4, r2, #16",
        "uxth r2, r2",
        "asrs r5, r3, #16",
        "uxth r3, r3",
        "movs r6, r2",
        "muls r6, r3, r6",
        "lsrs r6, r6, #16",
        "muls r3, r4, r3",
        "adds r3, r3, r6",
        "muls r2, r5, r2",
        "muls r4, r5, r4",
        "uxth r5, r3",
        "adds r2, r2, r5",
        "asrs r2, r2, #16",
        "asrs r3, r3, #16",
        "adds r4, r4, r3",
        "adds r4, r4, r2",
        "asrs r4, r4, #12",
        "sxtb r5, r4",
        "cmp r5, r4",
        "beq 6f",
        "asrs r4, r4, #31",
        "movs r5, #127",
        "eors r4, r5",
        "6:",
        "strb r4, [r0]",
        "adds r0, #1",
        "bx lr",
    )
}

/// See [`super::blocks`]. Wide weights are left to the caller.
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
    let fits = !wide && size == k + 8 && lanes.len().is_multiple_of(8) && k > 0 && is_word(lanes.as_ptr());
    if count == 0 || !fits || words.len() / size < count || !(second.is_empty() || second.len() >= 4 * count)
    {
        return 0;
    }
    for (pixel, out) in [first, second].into_iter().enumerate().filter(|(_, out)| !out.is_empty()) {
        let lanes = lanes[2 * pixel..].as_ptr();
        let (words, out) = (words.as_ptr(), out.as_mut_ptr());
        // SAFETY: words, inputs and outputs of all blocks lie in their slices.
        unsafe { run_blocks(&mut Blocks { words, lanes, bytes: 4 * k, out, blocks: count }) };
    }
    count
}

/// Whether words can be read from here: always, because operators have checked it of the scratch and the file.
fn is_word<T>(at: *const T) -> bool {
    (at as usize).is_multiple_of(4)
}

#[inline(always)]
pub(super) fn pair(lanes: &[i16], weights: &[i16], sums: &mut Sums) {
    if lanes.len() >= 8
        && weights.len() >= lanes.len()
        && is_word(lanes.as_ptr())
        && is_word(weights.as_ptr())
    {
        let end = weights[..lanes.len()].as_ptr_range().end;
        for (pixel, sums) in sums.iter_mut().enumerate() {
            // SAFETY: whole groups, with their weights; the second pixel's inputs follow the first's.
            unsafe { run(lanes[2 * pixel..].as_ptr().cast(), weights.as_ptr(), end, sums) };
        }
    }
}

#[inline(always)]
pub(super) fn pair_wide(lanes: &[i16], weights: &[i16], sums: &mut Sums) {
    if lanes.len() >= 8
        && weights.len() >= 2 * lanes.len()
        && is_word(lanes.as_ptr())
        && is_word(weights.as_ptr())
    {
        let end = weights[..2 * lanes.len()].as_ptr_range().end;
        for (pixel, sums) in sums.iter_mut().enumerate() {
            // SAFETY: as in `pair`.
            unsafe { run_wide(lanes[2 * pixel..].as_ptr().cast(), weights.as_ptr(), end, sums) };
        }
    }
}

#[inline(always)]
pub(super) fn vector(src: &[i8], one: &[i16], two: &[i16], sums: &mut Sums) {
    for (weights, sums) in [one, two].into_iter().zip(sums) {
        if src.len() >= 4 && weights.len() >= 2 * src.len() && is_word(weights.as_ptr()) {
            let end = weights[..2 * src.len()].as_ptr_range().end;
            // SAFETY: whole groups, with their weights.
            unsafe { run_vector(src.as_ptr().cast(), weights.as_ptr(), end, sums) };
        }
    }
}
