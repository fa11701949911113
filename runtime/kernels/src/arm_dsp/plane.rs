//! 3×3 windows over one channel's plane.

use core::arch::naked_asm;

/// Arguments of [`run`].
#[repr(C)]
pub(super) struct Windows {
    /// Weights of each kernel row, doubled: (w0, w1), (w1, w2).
    pub(super) weights: [[i16; 2]; 6],
    /// First row of the first window, aligned to 4. Moved.
    pub(super) src: *const i16,
    /// Bytes from one row of the scratch to the next, a multiple of 4.
    pub(super) pitch: usize,
    /// Bytes from the windows of one output row to those of the next.
    pub(super) advance: usize,
    /// First output. Moved.
    pub(super) out: *mut i8,
    /// Bytes from one output to the next.
    pub(super) step: usize,
    /// Pairs of outputs per row, with windows one value apart.
    pub(super) pairs: usize,
    /// Single outputs per row after those, two values apart.
    pub(super) singles: usize,
    /// Output rows, at least one. Moved.
    pub(super) rows: usize,
    /// The bias, doubled.
    pub(super) bias: i32,
    pub(super) multiplier: i32,
    /// Zero point and rounding.
    pub(super) offset: i32,
    /// Right shift minus one.
    pub(super) shift: u32,
    /// Bytes from the end of an output row to the next row.
    pub(super) gap: usize,
}

/// Defines the kernel; `signed`: whether negative results are rounded away from zero.
macro_rules! kernel {
    ($name:ident, $signed:literal, $doc:literal) => {
        #[doc = $doc]
        ///
        /// Doubled weights and bias double the accumulators; requantisation is that of [`super::pair::run`].
        ///
        /// # Safety
        /// All pointers are valid for what the fields say; rows of the scratch are readable two values beyond their
        /// windows.
        #[unsafe(naked)]
        pub(super) unsafe extern "C" fn $name(windows: *mut Windows) {
            naked_asm!(
                extension!(),
                concat!(".set offshoot_signed, ", $signed),
                // Stack: [0] end of the pairs in the first row, [4] the argument, [8] singles left.
                "push {{r4-r11, lr}}",
                "sub sp, #12",
                "str r0, [sp, #4]",
                "mov lr, r0",
                "ldmia lr, {{r3, r4, r5, r6, r7, r8}}",
                "2:",
                "ldr r9, [sp, #4]",
                "ldrd r0, r10, [r9, #24]",
                "add r1, r0, r10",
                "add r2, r1, r10",
                "ldr r11, [r9, #32]",
                "add r11, r0",
                "str r11, [r9, #24]",
                "ldr lr, [r9, #36]",
                "ldrd r10, r11, [r9, #44]",
                "add r10, r0, r10, lsl #2",
                "str r10, [sp]",
                "str r11, [sp, #8]",
                "cmp r0, r10",
                "beq 4f",
                // A pair of outputs.
                "3:",
                "ldr r9, [sp, #4]",
                "ldr r11, [r9, #56]",
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
                "ldr r9, [sp, #4]",
                "ldr r10, [r9, #60]",
                "smmulr r11, r11, r10",
                "smmulr r12, r12, r10",
                "ldr r10, [r9, #64]",
                ".if offshoot_signed",
                "add r11, r11, r11, asr #31",
                "add r12, r12, r12, asr #31",
                ".endif",
                "add r11, r10",
                "add r12, r10",
                "ldr r10, [r9, #68]",
                "ldr r9, [r9, #40]",
                "asr r11, r11, r10",
                "asr r12, r12, r10",
                "ssat r11, #8, r11, asr #1",
                "ssat r12, #8, r12, asr #1",
                "strb r11, [lr]",
                "strb r12, [lr, r9]",
                "add lr, lr, r9, lsl #1",
                "ldr r10, [sp]",
                "cmp r0, r10",
                "bne 3b",
                "4:",
                "ldr r9, [sp, #8]",
                "cmp r9, #0",
                "beq 6f",
                // One output.
                "5:",
                "ldr r9, [sp, #4]",
                "ldr r11, [r9, #56]",
                "ldrd r9, r10, [r0], #4",
                "smlad r11, r9, r3, r11",
                "smlabt r11, r10, r4, r11",
                "ldrd r9, r10, [r1], #4",
                "smlad r11, r9, r5, r11",
                "smlabt r11, r10, r6, r11",
                "ldrd r9, r10, [r2], #4",
                "smlad r11, r9, r7, r11",
                "smlabt r11, r10, r8, r11",
                "ldr r9, [sp, #4]",
                "ldr r10, [r9, #60]",
                "smmulr r11, r11, r10",
                "ldrd r10, r12, [r9, #64]",
                "ldr r9, [r9, #40]",
                ".if offshoot_signed",
                "add r11, r11, r11, asr #31",
                ".endif",
                "add r11, r10",
                "asr r11, r11, r12",
                "ssat r11, #8, r11, asr #1",
                "strb r11, [lr]",
                "add lr, r9",
                "ldr r10, [sp, #8]",
                "subs r10, #1",
                "str r10, [sp, #8]",
                "bne 5b",
                "6:",
                "ldr r9, [sp, #4]",
                "ldr r10, [r9, #72]",
                "add lr, r10",
                "str lr, [r9, #36]",
                "ldr r10, [r9, #52]",
                "subs r10, #1",
                "str r10, [r9, #52]",
                "bne.w 2b",
                "add sp, #12",
                "pop {{r4-r11, pc}}",
            )
        }
    };
}

kernel!(run, 1, "Computes the outputs.");
kernel!(
    run_positive,
    0,
    "Computes the outputs if the clamp replaces all negative values by the zero point: see [`super::drops_negatives`]."
);
