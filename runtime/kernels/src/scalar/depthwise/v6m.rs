//! 3×3 windows with exact single-multiply requantisation on Armv6-M: one output at a time, because a product overwrites
//! a factor. 83 instructions an output, 45 of them for its nine products.

use super::Windows;
use core::arch::naked_asm;

/// An input at a byte of the window's row in r0, times a weight; `$end` puts the product into the sum in r2.
macro_rules! tap {
    ($at:literal, $weight:literal, $end:literal) => {
        concat!(
            "ldrh r3, [r0, #",
            $at,
            "]\n",
            "sxth r3, r3\n",
            "ldr r4, [r7, #",
            $weight,
            "]\n",
            "muls r4, r3, r4\n",
            $end,
            "\n",
        )
    };
}

/// # Safety
/// The pointers are valid for the elements that rows, columns and steps reach; there is at least one of both.
#[unsafe(naked)]
unsafe extern "C" fn run_any(windows: *mut Windows) {
    naked_asm!(
        "push {{r4-r7, lr}}",
        "mov r4, r8",
        "mov r5, r9",
        "mov r6, r10",
        "push {{r4-r6}}",
        "mov r7, r0",
        // Halves of the multiplier.
        "ldr r4, [r7, #36]",
        "uxth r5, r4",
        "mov r8, r5",
        "asrs r4, r4, #16",
        "mov r9, r4",
        "ldr r1, [r7, #4]",
        "ldr r6, [r7, #20]",
        "2:",
        "ldr r0, [r7]",
        "ldr r4, [r7, #16]",
        "mov r10, r4",
        "3:",
        tap!(0, 40, "movs r2, r4"),
        tap!(2, 44, "adds r2, r2, r4"),
        tap!(4, 48, "adds r2, r2, r4"),
        "adds r0, r0, r1",
        tap!(0, 52, "adds r2, r2, r4"),
        tap!(2, 56, "adds r2, r2, r4"),
        tap!(4, 60, "adds r2, r2, r4"),
        "adds r0, r0, r1",
        tap!(0, 64, "adds r2, r2, r4"),
        tap!(2, 68, "adds r2, r2, r4"),
        tap!(4, 72, "adds r2, r2, r4"),
        // The next window.
        "lsls r4, r1, #1",
        "subs r0, r0, r4",
        "ldr r4, [r7, #76]",
        "adds r0, r0, r4",
        // 256 times the sum with its bias, times the multiplier: the high word, from products of halves.
        "lsls r2, r2, #8",
        "ldr r3, [r7, #32]",
        "adds r2, r2, r3",
        "asrs r3, r2, #16",
        "uxth r2, r2",
        "mov r4, r8",
        "movs r5, r2",
        "muls r5, r4, r5",
        "lsrs r5, r5, #16",
        "muls r4, r3, r4",
        "adds r4, r4, r5",
        "mov r5, r9",
        "muls r2, r5, r2",
        "muls r3, r5, r3",
        "uxth r5, r4",
        "adds r2, r2, r5",
        "asrs r2, r2, #16",
        "asrs r4, r4, #16",
        "adds r3, r3, r4",
        "adds r3, r3, r2",
        "asrs r3, r3, #12",
        // Saturates to int8.
        "sxtb r4, r3",
        "cmp r4, r3",
        "beq 4f",
        "asrs r3, r3, #31",
        "movs r4, #127",
        "eors r3, r4",
        "4:",
        "strb r3, [r6]",
        "ldr r4, [r7, #24]",
        "adds r6, r6, r4",
        "mov r4, r10",
        "subs r4, #1",
        "mov r10, r4",
        "bne 3b",
        "ldr r4, [r7, #28]",
        "adds r6, r6, r4",
        "ldr r0, [r7]",
        "ldr r4, [r7, #8]",
        "adds r0, r0, r4",
        "str r0, [r7]",
        "ldr r4, [r7, #12]",
        "subs r4, #1",
        "str r4, [r7, #12]",
        "bne 2b",
        "pop {{r4-r6}}",
        "mov r8, r4",
        "mov r9, r5",
        "mov r10, r6",
        "pop {{r4-r7, pc}}",
    )
}

/// All outputs of 3×3 windows at any stride.
///
/// # Safety
/// As for [`super::Plane::small`].
#[inline(always)]
pub(super) unsafe fn run<const STEP: usize>(mut windows: Windows) {
    // SAFETY: as for this function.
    unsafe { run_any(&mut windows) }
}
