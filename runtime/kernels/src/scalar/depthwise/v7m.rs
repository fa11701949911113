//! 3×3 windows with exact single-multiply requantisation on Armv7-M: four outputs at a time in registers, with one load
//! for each input and each row of weights. 86 instructions for the 36 products and the four outputs of a stride of one.

use super::Windows;
use core::arch::naked_asm;

/// An input of the window's row in r0, at a byte, and its products: a sum and the weight's register for each.
macro_rules! input {
    ($at:literal, $($op:literal $sum:literal $weight:literal $plus:literal),*) => {
        concat!(
            "ldrsh.w r3, [r0, #", $at, "]\n",
            $($op, " ", $sum, ", r3, ", $weight, $plus, "\n",)*
        )
    };
}

/// The first row of windows at a stride of one; then those that add to it.
macro_rules! row_1 {
    (first) => {
        concat!(
            "ldmia r11!, {{r8, r9, r10}}\n",
            input!(0, "mul" "r4" "r8" ""),
            input!(2, "mla" "r4" "r9" ", r4", "mul" "r5" "r8" ""),
            input!(4, "mla" "r4" "r10" ", r4", "mla" "r5" "r9" ", r5", "mul" "r6" "r8" ""),
            input!(6, "mla" "r5" "r10" ", r5", "mla" "r6" "r9" ", r6", "mul" "r7" "r8" ""),
            input!(8, "mla" "r6" "r10" ", r6", "mla" "r7" "r9" ", r7"),
            input!(10, "mla" "r7" "r10" ", r7"),
        )
    };
    (next) => {
        concat!(
            "add r0, r1\n",
            "ldmia r11!, {{r8, r9, r10}}\n",
            input!(0, "mla" "r4" "r8" ", r4"),
            input!(2, "mla" "r4" "r9" ", r4", "mla" "r5" "r8" ", r5"),
            input!(4, "mla" "r4" "r10" ", r4", "mla" "r5" "r9" ", r5", "mla" "r6" "r8" ", r6"),
            input!(6, "mla" "r5" "r10" ", r5", "mla" "r6" "r9" ", r6", "mla" "r7" "r8" ", r7"),
            input!(8, "mla" "r6" "r10" ", r6", "mla" "r7" "r9" ", r7"),
            input!(10, "mla" "r7" "r10" ", r7"),
        )
    };
}

/// As `row_1`, at a stride of two.
macro_rules! row_2 {
    (first) => {
        concat!(
            "ldmia r11!, {{r8, r9, r10}}\n",
            input!(0, "mul" "r4" "r8" ""),
            input!(2, "mla" "r4" "r9" ", r4"),
            input!(4, "mla" "r4" "r10" ", r4", "mul" "r5" "r8" ""),
            input!(6, "mla" "r5" "r9" ", r5"),
            input!(8, "mla" "r5" "r10" ", r5", "mul" "r6" "r8" ""),
            input!(10, "mla" "r6" "r9" ", r6"),
            input!(12, "mla" "r6" "r10" ", r6", "mul" "r7" "r8" ""),
            input!(14, "mla" "r7" "r9" ", r7"),
            input!(16, "mla" "r7" "r10" ", r7"),
        )
    };
    (next) => {
        concat!(
            "add r0, r1\n",
            "ldmia r11!, {{r8, r9, r10}}\n",
            input!(0, "mla" "r4" "r8" ", r4"),
            input!(2, "mla" "r4" "r9" ", r4"),
            input!(4, "mla" "r4" "r10" ", r4", "mla" "r5" "r8" ", r5"),
            input!(6, "mla" "r5" "r9" ", r5"),
            input!(8, "mla" "r5" "r10" ", r5", "mla" "r6" "r8" ", r6"),
            input!(10, "mla" "r6" "r9" ", r6"),
            input!(12, "mla" "r6" "r10" ", r6", "mla" "r7" "r8" ", r7"),
            input!(14, "mla" "r7" "r9" ", r7"),
            input!(16, "mla" "r7" "r10" ", r7"),
        )
    };
}

/// A row of one window.
macro_rules! window_row {
    ($op:literal, $plus:literal) => {
        concat!(
            "ldmia r11!, {{r8, r9, r10}}\n",
            input!(0, $op "r4" "r8" $plus),
            input!(2, "mla" "r4" "r9" ", r4"),
            input!(4, "mla" "r4" "r10" ", r4"),
        )
    };
}

/// Requantises a sum and stores the output, with the bias in r8, the multiplier in r9 and the step in r10.
macro_rules! output {
    ($sum:literal) => {
        concat!(
            "add ",
            $sum,
            ", r8, ",
            $sum,
            ", lsl #8\n",
            "smull r3, ",
            $sum,
            ", ",
            $sum,
            ", r9\n",
            "ssat ",
            $sum,
            ", #8, ",
            $sum,
            ", asr #12\n",
            "strb ",
            $sum,
            ", [r2]\n",
            "add r2, r10\n",
        )
    };
}

macro_rules! plane {
    ($name:ident, $row:ident, $four:literal, $one:literal) => {
        /// # Safety
        /// The pointers are valid for the elements that rows, columns and steps reach; there is at least one row.
        #[unsafe(naked)]
        unsafe extern "C" fn $name(windows: *mut Windows) {
            naked_asm!(
                "push {{r4-r11, lr}}",
                "mov lr, r0",
                "ldr.w r1, [lr, #4]",
                "ldr.w r2, [lr, #20]",
                "2:",
                "ldr.w r0, [lr]",
                "ldr.w r12, [lr, #16]",
                "subs.w r12, r12, #4",
                "blo.w 4f",
                "3:",
                "add.w r11, lr, #40",
                $row!(first),
                $row!(next),
                $row!(next),
                "sub.w r0, r0, r1, lsl #1",
                concat!("adds r0, #", $four),
                "ldrd r8, r9, [lr, #32]",
                "ldr.w r10, [lr, #24]",
                output!("r4"),
                output!("r5"),
                output!("r6"),
                output!("r7"),
                "subs.w r12, r12, #4",
                "bhs.w 3b",
                "4:",
                "adds.w r12, r12, #4",
                "beq.w 6f",
                "5:",
                "add.w r11, lr, #40",
                window_row!("mul", ""),
                "add r0, r1",
                window_row!("mla", ", r4"),
                "add r0, r1",
                window_row!("mla", ", r4"),
                "sub.w r0, r0, r1, lsl #1",
                concat!("adds r0, #", $one),
                "ldrd r8, r9, [lr, #32]",
                "ldr.w r10, [lr, #24]",
                output!("r4"),
                "subs.w r12, r12, #1",
                "bne.w 5b",
                "6:",
                "ldr.w r3, [lr, #28]",
                "add r2, r3",
                "ldr.w r0, [lr]",
                "ldr.w r3, [lr, #8]",
                "add r0, r3",
                "str.w r0, [lr]",
                "ldr.w r3, [lr, #12]",
                "subs r3, #1",
                "str.w r3, [lr, #12]",
                "bne.w 2b",
                "pop {{r4-r11, pc}}",
            )
        }
    };
}

plane!(run_1, row_1, 8, 2);
plane!(run_2, row_2, 16, 4);

/// All outputs of 3×3 windows at a stride of `STEP`, one or two.
///
/// # Safety
/// As for [`super::Plane::small`].
#[inline(always)]
pub(super) unsafe fn run<const STEP: usize>(mut windows: Windows) {
    // SAFETY: as for this function.
    unsafe { if STEP == 1 { run_1(&mut windows) } else { run_2(&mut windows) } }
}
