//! Blocks of four output channels for one vector of inputs: fully connected layers.

use core::arch::naked_asm;

/// Arguments of [`run`], which advances the pointers.
#[repr(C)]
pub(super) struct Vector {
    /// Inputs, int8. Not moved.
    pub(super) src: *const i8,
    pub(super) weights: *const i16,
    pub(super) bias: *const i32,
    pub(super) multiplier: *const i32,
    pub(super) shift: *const i8,
    pub(super) out: *mut i8,
    /// Number of blocks to compute, at least one.
    pub(super) blocks: u32,
    /// End of the inputs.
    pub(super) end: *const i8,
    /// Bytes of code to skip in the first iteration of the loop: [`entry`].
    pub(super) entry: u32,
    /// See [`super::zero_and_half`].
    pub(super) zero_and_half: i32,
}

/// [`Vector::entry`] for a number of groups of four inputs: the loop is unrolled by eight groups.
pub(super) fn entry(groups: usize) -> u32 {
    const BYTES_A_GROUP: u32 = 62;
    (groups.wrapping_neg() % 8) as u32 * BYTES_A_GROUP
}

/// Defines the kernel; `each`: whether every channel has its own multiplier and shift.
macro_rules! kernel {
    ($name:ident, $each:literal, $signed:literal, $doc:literal) => {
        #[doc = $doc]
        ///
        /// Like [`super::pair::run`] for one pixel; widens inputs as it reads them.
        ///
        /// # Safety
        /// All pointers of `vector` are valid for what the record says, `weights` is aligned to 4, and there is at
        /// least one group of four inputs.
        #[unsafe(naked)]
        pub(super) unsafe extern "C" fn $name(vector: *mut Vector) {
            naked_asm!(
                extension!(),
                concat!(".set offshoot_each, ", $each),
                concat!(".set offshoot_signed, ", $signed),
                ".macro offshoot_vector_group",
                "ldr.w r2, [r0], #4",
                "sxtb16 r3, r2, ror #8",
                "sxtb16 r2, r2",
                "ldmia r1!, {{r4, r5, r6, r7}}",
                "smlad r8, r2, r4, r8",
                "smlad r10, r2, r5, r10",
                "sxtb16 r4, r4",
                "sxtb16 r5, r5",
                "smlad r8, r3, r6, r8",
                "smlad r10, r3, r7, r10",
                "sxtb16 r6, r6",
                "sxtb16 r7, r7",
                "smlad r9, r2, r4, r9",
                "smlad r11, r2, r5, r11",
                "smlad r9, r3, r6, r9",
                "smlad r11, r3, r7, r11",
                ".endm",
                ".macro offshoot_vector_channel p, offset",
                ".if offshoot_each",
                "ldr r3, [r0], #4",
                "ldrsb r4, [r1], #1",
                "mvns r4, r4",
                "lsl r5, r2, r4",
                ".endif",
                "smmulr \\p, \\p, r3",
                ".if offshoot_signed",
                "add \\p, \\p, \\p, asr #31",
                ".endif",
                "add \\p, \\p, r5",
                "asr \\p, \\p, r4",
                "ssat \\p, #8, \\p, asr #1",
                "strb \\p, [r6, #\\offset]",
                ".endm",
                "push {{r4-r11, lr}}",
                "sub sp, #12",
                "str r0, [sp, #8]",
                "ldr r3, [r0, #32]",
                "adr.w r2, 3f",
                "add r2, r3",
                "orr r2, r2, #1",
                "str r2, [sp, #4]",
                "mov lr, r0",
                "ldr r1, [r0, #4]",
                "2:",
                "ldr.w r3, [lr, #8]",
                "ldr.w r8, [r3]",
                "ldr.w r10, [r3, #8]",
                "mov r9, r8",
                "mov r11, r10",
                "ldr.w r12, [lr, #28]",
                "ldr.w r0, [lr]",
                "ldr pc, [sp, #4]",
                ".p2align 2",
                "3:",
                "offshoot_vector_group",
                "offshoot_vector_group",
                "offshoot_vector_group",
                "offshoot_vector_group",
                "offshoot_vector_group",
                "offshoot_vector_group",
                "offshoot_vector_group",
                "offshoot_vector_group",
                "cmp r0, r12",
                "bne.w 3b",
                // Accumulators of (A, B, C, D), doubled: r9 r8 r11 r10.
                "ldr.w r3, [lr, #8]",
                "ldr r4, [r3, #4]",
                "ldr r5, [r3, #12]",
                "adds r3, #16",
                "str.w r3, [lr, #8]",
                "mov r7, r1",
                "lsls r4, r4, #1",
                "lsls r5, r5, #1",
                "sub r8, r8, r9",
                "sub r10, r10, r11",
                "add r8, r4, r8, asr #7",
                "add r10, r5, r10, asr #7",
                "lsl r9, r9, #1",
                "lsl r11, r11, #1",
                "ldrd r0, r1, [lr, #12]",
                "ldr.w r6, [lr, #20]",
                "ldr.w r2, [lr, #36]",
                ".if !offshoot_each",
                "ldr r3, [r0]",
                "ldrsb r4, [r1]",
                "mvns r4, r4",
                "lsl r5, r2, r4",
                ".endif",
                "offshoot_vector_channel r9, 0",
                "offshoot_vector_channel r8, 1",
                "offshoot_vector_channel r11, 2",
                "offshoot_vector_channel r10, 3",
                "strd r0, r1, [lr, #12]",
                "adds r6, #4",
                "str.w r6, [lr, #20]",
                "mov r1, r7",
                "ldr.w r3, [lr, #24]",
                "subs r3, #1",
                "str.w r3, [lr, #24]",
                "bne.w 2b",
                "str.w r1, [lr, #4]",
                "add sp, #12",
                "pop {{r4-r11, pc}}",
                ".purgem offshoot_vector_group",
                ".purgem offshoot_vector_channel",
            )
        }
    };
}

kernel!(run, 1, 1, "Computes the outputs.");
kernel!(run_one_scale, 0, 1, "Computes the outputs; all channels have the first multiplier and shift.");
kernel!(
    run_one_scale_positive,
    0,
    0,
    "Like [`run_one_scale`], if the clamp replaces all negative values by the zero point."
);
