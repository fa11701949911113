//! Blocks of four output channels for the pairs of pixels of a strip: weights are read once for all pairs.

use core::arch::naked_asm;

/// Arguments of [`run`].
#[repr(C)]
pub(super) struct Strip {
    /// Words of the first block. Moved.
    pub(super) block: *const i32,
    /// End of its weights. Moved.
    pub(super) end: *const i32,
    /// Bytes of code to skip in the first iteration of the loop, see [`super::pair::entry`].
    pub(super) entry: u32,
    /// Inputs of the pairs, as in the record's scratch.
    pub(super) lanes: *const i16,
    pub(super) lanes_end: *const i16,
    /// Outputs of the pixels of the first pair.
    pub(super) out: [*mut i8; 2],
    /// Bytes from the outputs of one pair to those of the next.
    pub(super) pitch: usize,
    /// Blocks, at least one. Counted down.
    pub(super) blocks: usize,
    /// Bytes of a block.
    pub(super) bytes: usize,
    /// Buffer that a block's words are copied to before use; null: they are used in place.
    pub(super) weight_tile: *mut i32,
}

/// Defines a kernel over the blocks and pairs of a strip. `behind`: bytes of a block after its weights. `pair`: the
/// instructions of a pair from label 6, with the inner loop at label 5; they leave the products of its outputs in r7 r6
/// r9 r8 and r11 r10 lr r12.
macro_rules! kernel {
    ($(#[$doc:meta])* $name:ident, $behind:literal, $($pair:literal),* $(,)?) => {
        $(#[$doc])*
        ///
        /// # Safety
        /// All pointers are valid for what the record says, lanes and words are aligned to 4, and there is at least one
        /// block, one pair and one group of four inputs. `weight_tile`, unless null, has room for the words of a block.
        #[unsafe(naked)]
        pub(super) unsafe extern "C" fn $name(strip: *const Strip) {
            naked_asm!(
                // Stack: words 0, end of the weights 4, entry 8, lanes 12, their end 16, outputs 20 and 24, pitch 28,
                // blocks 32, bytes 36, weight tile 40; outputs of the pair 44 and 48; words in use 52.
                "push {{r4-r11, lr}}",
                "sub sp, #60",
                "ldmia r0, {{r1-r11}}",
                "adr.w r12, 5f",
                "add r3, r12",
                "orr r3, r3, #1",
                "stmia.w sp, {{r1-r11}}",
                // One block.
                "2:",
                "ldr r0, [sp]",
                "ldr r1, [sp, #40]",
                "cbz r1, 4f",
                "ldr r12, [sp, #36]",
                // A multiple of sixteen bytes.
                "tst.w r12, #16",
                "add r12, r0",
                concat!("sub.w lr, r12, #", $behind),
                "beq 3f",
                "ldmia r0!, {{r4-r7}}",
                "stmia r1!, {{r4-r7}}",
                "3:",
                "ldmia.w r0!, {{r4-r11}}",
                "stmia.w r1!, {{r4-r11}}",
                "cmp r0, r12",
                "blo 3b",
                "sub.w r1, r1, r0",
                "add.w lr, lr, r1",
                "str.w lr, [sp, #4]",
                "ldr r0, [sp, #40]",
                "4:",
                "str r0, [sp, #52]",
                "ldrd r2, r3, [sp, #20]",
                "strd r2, r3, [sp, #44]",
                "ldr r0, [sp, #12]",
                // One pair.
                $($pair,)*
                "ldrd r2, r3, [sp, #44]",
                "ssat r7, #8, r7, asr #12",
                "ssat r6, #8, r6, asr #12",
                "ssat r9, #8, r9, asr #12",
                "ssat r8, #8, r8, asr #12",
                "ssat r11, #8, r11, asr #12",
                "ssat r10, #8, r10, asr #12",
                "ssat lr, #8, lr, asr #12",
                "ssat r12, #8, r12, asr #12",
                "strb r7, [r2]",
                "strb r6, [r2, #1]",
                "strb r9, [r2, #2]",
                "strb r8, [r2, #3]",
                "strb r11, [r3]",
                "strb r10, [r3, #1]",
                "strb lr, [r3, #2]",
                "strb r12, [r3, #3]",
                "ldr r4, [sp, #28]",
                "ldr r5, [sp, #16]",
                "add r2, r4",
                "add r3, r4",
                "strd r2, r3, [sp, #44]",
                "cmp r0, r5",
                "bne.w 6b",
                // The next block.
                "ldrd r2, r3, [sp]",
                "ldr r4, [sp, #36]",
                "add r2, r4",
                "add r3, r4",
                "strd r2, r3, [sp]",
                "ldrd r2, r3, [sp, #20]",
                "adds r2, #4",
                "adds r3, #4",
                "strd r2, r3, [sp, #20]",
                "ldr r4, [sp, #32]",
                "subs r4, #1",
                "str r4, [sp, #32]",
                "bne.w 2b",
                "add sp, #60",
                "pop {{r4-r11, pc}}",
            )
        }
    };
}

kernel!(
    /// Computes the outputs of all blocks for all pairs.
    ///
    /// Sums are as in [`super::pair`]: `256·S_B + S_A` begins at the bias of B and `S_A` at zero, so that their
    /// difference is `256·S_B` plus the bias; the other bias is added to `S_A` after a shift. Each output ends with a
    /// product and a saturating shift ([`offshoot_format::single_multiply`]).
    run,
    "24",
    ".macro offshoot_strip_step",
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
    "6:",
    "ldr r1, [sp, #52]",
    "ldmia.w r1!, {{r6, r8}}",
    "movs r7, #0",
    "mov r10, r6",
    "mov r12, r8",
    "mov r9, r7",
    "mov r11, r7",
    "mov lr, r7",
    "ldr pc, [sp, #8]",
    ".p2align 2",
    "5:",
    "offshoot_strip_step",
    "offshoot_strip_step",
    "offshoot_strip_step",
    "offshoot_strip_step",
    "offshoot_strip_step",
    "offshoot_strip_step",
    "offshoot_strip_step",
    "offshoot_strip_step",
    "ldr r2, [sp, #4]",
    "cmp r1, r2",
    "bne.w 5b",
    "ldmia r1!, {{r2, r3}}",
    "subs r6, r6, r7",
    "sub.w r10, r10, r11",
    "sub.w r8, r8, r9",
    "sub.w r12, r12, lr",
    "add.w r7, r2, r7, lsl #8",
    "add.w r11, r2, r11, lsl #8",
    "add.w r9, r3, r9, lsl #8",
    "add.w lr, r3, lr, lsl #8",
    "ldmia.w r1, {{r2, r3, r4, r5}}",
    "smmul r7, r7, r2",
    "smmul r11, r11, r2",
    "smmul r6, r6, r3",
    "smmul r10, r10, r3",
    "smmul r9, r9, r4",
    "smmul lr, lr, r4",
    "smmul r8, r8, r5",
    "smmul r12, r12, r5",
    ".purgem offshoot_strip_step",
);

kernel!(
    /// Like [`run`], with wide weights: four products of two inputs for each pixel, without sums to separate. The
    /// products of the first two inputs start at the biases.
    run_wide,
    "16",
    ".macro offshoot_wide_step",
    "ldmia r0!, {{r2, r3}}",
    "ldmia r1!, {{r4, r5}}",
    "smlad r7, r2, r4, r7",
    "smlad r11, r3, r4, r11",
    "smlad r6, r2, r5, r6",
    "smlad r10, r3, r5, r10",
    "ldmia r1!, {{r4, r5}}",
    "smlad r9, r2, r4, r9",
    "smlad lr, r3, r4, lr",
    "smlad r8, r2, r5, r8",
    "smlad r12, r3, r5, r12",
    ".endm",
    "6:",
    "ldr r1, [sp, #52]",
    "ldmia.w r1!, {{r6, r7, r8, r9}}",
    "ldmia r0!, {{r2, r3}}",
    "ldmia r1!, {{r4, r5}}",
    "smlad r11, r3, r4, r7",
    "smlad r7, r2, r4, r7",
    "smlad r10, r3, r5, r6",
    "smlad r6, r2, r5, r6",
    "ldmia r1!, {{r4, r5}}",
    "smlad lr, r3, r4, r9",
    "smlad r9, r2, r4, r9",
    "smlad r12, r3, r5, r8",
    "smlad r8, r2, r5, r8",
    "ldr pc, [sp, #8]",
    ".p2align 2",
    "5:",
    "offshoot_wide_step",
    "offshoot_wide_step",
    "offshoot_wide_step",
    "offshoot_wide_step",
    "offshoot_wide_step",
    "offshoot_wide_step",
    "offshoot_wide_step",
    "offshoot_wide_step",
    "ldr r2, [sp, #4]",
    "cmp r1, r2",
    "bne.w 5b",
    "ldmia.w r1, {{r2, r3, r4, r5}}",
    "smmul r7, r7, r2",
    "smmul r11, r11, r2",
    "smmul r6, r6, r3",
    "smmul r10, r10, r3",
    "smmul r9, r9, r4",
    "smmul lr, lr, r4",
    "smmul r8, r8, r5",
    "smmul r12, r12, r5",
    ".purgem offshoot_wide_step",
);

/// [`Strip::entry`] of [`run_wide`] for a number of groups of four inputs: each group takes two steps. The very first
/// step precedes the loop, which is unrolled by eight steps.
pub(super) fn wide_entry(groups: usize) -> u32 {
    const BYTES_A_STEP: u32 = 38;
    // Correct for powers of two: the negation wraps.
    (1usize.wrapping_sub(2 * groups) % 8) as u32 * BYTES_A_STEP
}
