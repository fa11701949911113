//! 3×3 windows over one channel's plane, with exact single-multiply requantisation
//! ([`offshoot_format::single_multiply`]).

use core::arch::naked_asm;

/// Arguments of [`run`].
#[repr(C)]
pub(super) struct Windows {
    /// Weights of each kernel row, times 256: (w0, w1), (w1, w2).
    pub(super) weights: [[i16; 2]; 6],
    /// First row of the first window, aligned to 4. Moved.
    pub(super) src: *const i16,
    /// Bytes from one row of the scratch to the next, a multiple of 4.
    pub(super) pitch: usize,
    /// Bytes from the windows of one output row to those of the next.
    pub(super) advance: usize,
    /// First output. Moved.
    pub(super) out: *mut i8,
    /// Pairs of outputs per row, with windows one value apart; times 4.
    pub(super) pairs: usize,
    /// Single outputs per row after those, two values apart; times 4.
    pub(super) singles: usize,
    /// Output rows, at least one. Moved.
    pub(super) rows: usize,
    /// Bytes from the end of an output row to the next row.
    pub(super) gap: usize,
    pub(super) bias: i32,
    pub(super) multiplier: i32,
    /// Bytes from one output to the next.
    pub(super) step: usize,
}

/// Computes the outputs.
///
/// # Safety
/// All pointers are valid for what the fields say; rows of the scratch are readable two values beyond their windows.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn run(windows: *mut Windows) {
    naked_asm!(
        ".macro offshoot_straight_pair",
        "ldr.w r11, [sp, #8]",
        "mov r12, r11",
        "ldrd r9, r10, [r0], #4",
        "smlad r11, r9, r3, r11",
        "smlatb r12, r9, r3, r12",
        "smlabt r11, r10, r4, r11",
        "smlad r12, r10, r4, r12",
        "ldrd r9, r10, [r1], #4",
        "smlad r11, r9, r5, r11",
        "smlatb r12, r9, r5, r12",
        "smlabt r11, r10, r6, r11",
        "smlad r12, r10, r6, r12",
        "ldrd r9, r10, [r2], #4",
        "smlad r11, r9, r7, r11",
        "smlatb r12, r9, r7, r12",
        "smlabt r11, r10, r8, r11",
        "smlad r12, r10, r8, r12",
        "ldrd r9, r10, [sp, #12]",
        "smmul r11, r11, r9",
        "smmul r12, r12, r9",
        "ssat r11, #8, r11, asr #12",
        "ssat r12, #8, r12, asr #12",
        "strb.w r11, [lr]",
        "strb.w r12, [lr, r10]",
        "add.w lr, lr, r10, lsl #1",
        ".endm",
        // Stack: in the first row, end of the pairs 0 and of the singles 4; bias 8, multiplier 12, step 16, argument
        // 20.
        "push {{r4-r11, lr}}",
        "sub sp, #28",
        "str r0, [sp, #20]",
        "ldrd r9, r10, [r0, #56]",
        "strd r9, r10, [sp, #8]",
        "ldr.w r9, [r0, #64]",
        "str.w r9, [sp, #16]",
        "mov lr, r0",
        "ldmia.w lr, {{r3, r4, r5, r6, r7, r8}}",
        "2:",
        "ldr.w r9, [sp, #20]",
        "ldrd r0, r10, [r9, #24]",
        "add.w r1, r0, r10",
        "add.w r2, r1, r10",
        "ldr.w r11, [r9, #32]",
        "add r11, r0",
        "str.w r11, [r9, #24]",
        "ldr.w lr, [r9, #36]",
        "ldrd r10, r11, [r9, #40]",
        "add r10, r0",
        "add r11, r10",
        "strd r10, r11, [sp]",
        "cmp r0, r10",
        "beq.w 4f",
        // Pairs of outputs; an odd one first.
        "sub.w r9, r10, r0",
        "lsls r9, r9, #29",
        "bpl 3f",
        "offshoot_straight_pair",
        "ldr.w r9, [sp]",
        "cmp r0, r9",
        "beq 4f",
        "3:",
        "offshoot_straight_pair",
        "offshoot_straight_pair",
        "ldr.w r9, [sp]",
        "cmp r0, r9",
        "bne.w 3b",
        "4:",
        "ldr.w r9, [sp, #4]",
        "cmp r0, r9",
        "beq 6f",
        // One output.
        "5:",
        "ldr.w r11, [sp, #8]",
        "ldrd r9, r10, [r0], #4",
        "smlad r11, r9, r3, r11",
        "smlabt r11, r10, r4, r11",
        "ldrd r9, r10, [r1], #4",
        "smlad r11, r9, r5, r11",
        "smlabt r11, r10, r6, r11",
        "ldrd r9, r10, [r2], #4",
        "smlad r11, r9, r7, r11",
        "smlabt r11, r10, r8, r11",
        "ldrd r9, r10, [sp, #12]",
        "smmul r11, r11, r9",
        "ldr.w r9, [sp, #4]",
        "ssat r11, #8, r11, asr #12",
        "strb.w r11, [lr]",
        "add lr, r10",
        "cmp r0, r9",
        "bne 5b",
        "6:",
        "ldr.w r9, [sp, #20]",
        "ldrd r10, r11, [r9, #48]",
        "add lr, r11",
        "str.w lr, [r9, #36]",
        "subs r10, #1",
        "str.w r10, [r9, #48]",
        "bne.w 2b",
        "add sp, #28",
        "pop {{r4-r11, pc}}",
        ".purgem offshoot_straight_pair",
    )
}
