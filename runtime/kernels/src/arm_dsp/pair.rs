//! Blocks of four output channels for a pair of pixels.

use core::arch::naked_asm;

/// Arguments of [`run`].
#[repr(C)]
pub(super) struct Pair {
    pub(super) weights: *const i16,
    /// Inputs of both pixels, as in the record's scratch, and their end.
    pub(super) lanes: [*const i16; 2],
    /// Bytes of code to skip in the first iteration of the loop: [`entry`].
    pub(super) entry: u32,
    pub(super) bias: *const i32,
    pub(super) multiplier: *const i32,
    pub(super) shift: *const i8,
    /// Outputs of the pixels.
    pub(super) out: [*mut i8; 2],
    /// Number of blocks to compute, at least one.
    pub(super) blocks: u32,
    /// See [`super::zero_and_half`].
    pub(super) zero_and_half: i32,
}

/// [`Pair::entry`] for a number of groups of four inputs. The loop is unrolled by four groups: more save few
/// instructions, and with eight, a block's code exceeds the one-kilobyte instruction cache in front of an STM32L4's
/// flash.
pub(super) fn entry(groups: usize) -> u32 {
    const BYTES_A_GROUP: u32 = 88;
    // Correct for powers of two: the negation wraps.
    (groups.wrapping_neg() % 4) as u32 * BYTES_A_GROUP
}

/// Defines the kernel; `signed`: whether negative results are rounded away from zero.
macro_rules! kernel {
    ($name:ident, $signed:literal, $doc:literal) => {
        #[doc = $doc]
        ///
        /// 12 instructions for 16 multiply-accumulates. A word of weights holds `256·B + A` twice; its product with two
        /// inputs (`smlad`) accumulates `256·S_B + S_A`, and the product of its sign-extended low bytes accumulates
        /// `S_A`. Both start at the bias of A, so their difference is `256·S_B`.
        ///
        /// Requantisation: the accumulator is doubled, so that `smmulr` is the rounding doubling high multiplication.
        /// `(x + (x >> 31) + half) >> s` rounds ties away from zero; the zero point, shifted left, is added with the
        /// half.
        ///
        /// # Safety
        /// All pointers of `pair` are valid for what the record says, `lanes` and `weights` are aligned to 4, and there
        /// is at least one group of four inputs.
        #[unsafe(naked)]
        pub(super) unsafe extern "C" fn $name(pair: *const Pair) {
            naked_asm!(
                extension!(),
                concat!(".set offshoot_signed, ", $signed),
                ".macro offshoot_pair_step",
                "ldmia r0!, {{r2, r3}}",
                "ldmia r1!, {{r4, r5}}",
                "smlad r6, r2, r4, r6",
                "smlad r10, r3, r4, r10",
                "smlad r8, r2, r5, r8",
                "smlad r12, r3, r5, r12",
                "sxtb16 r4, r4",
                "sxtb16 r5, r5",
                "smlad r7, r2, r4, r7",
                "smlad r11, r3, r4, r11",
                "smlad r9, r2, r5, r9",
                "smlad lr, r3, r5, lr",
                ".endm",
                ".macro offshoot_pair_channel p, q",
                "ldr r3, [r0], #4",
                "ldrsb r4, [r1], #1",
                "smmulr \\p, \\p, r3",
                "smmulr \\q, \\q, r3",
                "mvns r4, r4",
                "lsl r5, r2, r4",
                ".if offshoot_signed",
                "add \\p, \\p, \\p, asr #31",
                "add \\q, \\q, \\q, asr #31",
                ".endif",
                "add \\p, \\p, r5",
                "add \\q, \\q, r5",
                "asr \\p, \\p, r4",
                "asr \\q, \\q, r4",
                "ssat \\p, #8, \\p, asr #1",
                "ssat \\q, #8, \\q, asr #1",
                ".endm",
                // Stack: lanes 0, end 4, entry 8, bias 12, multiplier 16, shift 20, outputs 24 and 28, blocks 32, zero
                // 36, weights 40.
                "push {{r4-r11, lr}}",
                "sub sp, #44",
                "ldmia r0, {{r1-r11}}",
                "adr.w r12, 3f",
                "add r4, r12",
                "orr r4, r4, #1",
                "stmia.w sp, {{r2-r11}}",
                // One block.
                "2:",
                "ldr r3, [sp, #12]",
                "ldr r0, [sp]",
                "ldr r6, [r3]",
                "ldr.w r8, [r3, #8]",
                "mov r7, r6",
                "mov r10, r6",
                "mov r11, r6",
                "mov r9, r8",
                "mov r12, r8",
                "mov lr, r8",
                "ldr pc, [sp, #8]",
                ".p2align 2",
                "3:",
                "offshoot_pair_step",
                "offshoot_pair_step",
                "offshoot_pair_step",
                "offshoot_pair_step",
                "offshoot_pair_step",
                "offshoot_pair_step",
                "offshoot_pair_step",
                "offshoot_pair_step",
                "ldr r2, [sp, #4]",
                "cmp r0, r2",
                "bne.w 3b",
                // Accumulators of (A, B, C, D), doubled: r7 r6 r9 r8 of the first pixel, r11 r10 lr r12 of the second.
                "ldr r3, [sp, #12]",
                "str r1, [sp, #40]",
                "ldr r4, [r3, #4]",
                "ldr r5, [r3, #12]",
                "adds r3, #16",
                "str r3, [sp, #12]",
                "lsls r4, r4, #1",
                "lsls r5, r5, #1",
                "subs r6, r6, r7",
                "sub r10, r10, r11",
                "sub r8, r8, r9",
                "sub r12, r12, lr",
                "add r6, r4, r6, asr #7",
                "add r10, r4, r10, asr #7",
                "add r8, r5, r8, asr #7",
                "add r12, r5, r12, asr #7",
                "lsls r7, r7, #1",
                "lsl r11, r11, #1",
                "lsl r9, r9, #1",
                "lsl lr, lr, #1",
                "ldrd r0, r1, [sp, #16]",
                "ldr r2, [sp, #36]",
                "offshoot_pair_channel r7, r11",
                "offshoot_pair_channel r6, r10",
                "offshoot_pair_channel r9, lr",
                "offshoot_pair_channel r8, r12",
                "strd r0, r1, [sp, #16]",
                "ldrd r3, r4, [sp, #24]",
                "strb r6, [r3, #1]",
                "strb r7, [r3], #4",
                "strb r9, [r3, #-2]",
                "strb r8, [r3, #-1]",
                "strb r10, [r4, #1]",
                "strb r11, [r4], #4",
                "strb lr, [r4, #-2]",
                "strb r12, [r4, #-1]",
                "strd r3, r4, [sp, #24]",
                "ldr r3, [sp, #32]",
                "ldr r1, [sp, #40]",
                "subs r3, #1",
                "str r3, [sp, #32]",
                "bne.w 2b",
                "add sp, #44",
                "pop {{r4-r11, pc}}",
                ".purgem offshoot_pair_step",
                ".purgem offshoot_pair_channel",
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
