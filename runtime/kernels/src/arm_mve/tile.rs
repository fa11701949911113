//! Blocks of four output channels for three output pixels.

use super::requantise::requantise;
use core::arch::naked_asm;

/// Arguments of [`positive`] and [`signed`].
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Tile {
    /// Inputs of the three pixels, `k` of each.
    pub(super) x: [*const i8; 3],
    pub(super) bias: *const i32,
    pub(super) multiplier: *const i32,
    pub(super) shift: *const i8,
    /// First outputs of the three pixels.
    pub(super) out: [*mut i8; 3],
    /// Zero point of the output.
    pub(super) zero: i32,
    /// Number of blocks, at least one.
    pub(super) blocks: u32,
    /// Bounds of the output.
    pub(super) min: i32,
    pub(super) max: i32,
    /// Inputs of an output, at least one.
    pub(super) k: u32,
    /// Four rows of `k` weights for each block.
    pub(super) weights: *const i8,
    /// Threes of pixels, at least one.
    pub(super) threes: u32,
    /// Bytes from the inputs of a three to those of the next.
    pub(super) x_step: u32,
    /// Bytes from the end of a pixel's outputs of these blocks to the first ones of the pixel three further on.
    pub(super) out_skip: u32,
}

/// Two rows of weights, r9 and r11, against three pixels, r1, r3 and r5: sums of the first row in r0, r2 and r4, of the
/// second in r6, r8 and r10. `$l` is its label.
macro_rules! pass {
    ($l:literal) => {
        concat!(
            "ldm sp, {{r1, r3, r5}}\n",
            "clrm {{r0, r2, r4, r6, r8, r10}}\n",
            "dlstp.8 lr, r12\n",
            $l,
            ":\n",
            "vldrb.u8 q0, [r1], #16\n",
            "vldrb.u8 q3, [r9], #16\n",
            "vmladava.s8 r0, q0, q3\n",
            "vldrb.u8 q1, [r3], #16\n",
            "vmladava.s8 r2, q1, q3\n",
            "vldrb.u8 q2, [r5], #16\n",
            "vmladava.s8 r4, q2, q3\n",
            "vldrb.u8 q4, [r11], #16\n",
            "vmladava.s8 r6, q0, q4\n",
            "vmladava.s8 r8, q1, q4\n",
            "vmladava.s8 r10, q2, q4\n",
            "letp lr, ",
            $l,
            "b",
        )
    };
}

macro_rules! kernel {
    ($name:ident, $doc:literal) => {
        #[doc = $doc]
        ///
        /// # Safety
        /// All pointers of `tile` are valid for `k` inputs, and for the weights, parameters and outputs of `blocks`
        /// blocks and all threes. Biases and multipliers are aligned.
        #[unsafe(naked)]
        pub(super) unsafe extern "C" fn $name(tile: &Tile) {
            naked_asm!(
                extension!(),
                "push {{r4-r11, lr}}",
                "vpush {{d8-d15}}",
                // x (12 bytes), bias to blocks (32), padding, min (16), max (16), tile, threes.
                "sub sp, #88",
                "ldr r1, [r0, #60]",
                "strd r0, r1, [sp, #80]",
                "ldr r1, [r0, #44]",
                "vdup.32 q0, r1",
                "vstrw.32 q0, [sp, #48]",
                "ldr r1, [r0, #48]",
                "vdup.32 q0, r1",
                "vstrw.32 q0, [sp, #64]",
                "ldr r12, [r0, #52]",
                "ldr r9, [r0, #56]",
                "ldm r0, {{r1-r8, r10, r11, lr}}",
                "stm sp, {{r1-r8, r10, r11, lr}}",
                // By how much a pointer to a row has gone too far.
                "rsb r7, r12, #0",
                "and r7, r7, #15",
                "2:",
                // Rows 0 and 2, then 1 and 3: the registers of a `vmov` go to lanes that are two apart, the first to the lower one.
                "add r11, r9, r12, lsl #1",
                pass!("3"),
                "vmov q5[2], q5[0], r0, r6",
                "vmov q6[2], q6[0], r2, r8",
                "vmov q7[2], q7[0], r4, r10",
                "sub r9, r9, r7",
                "sub r11, r11, r7",
                pass!("4"),
                "vmov q5[3], q5[1], r0, r6",
                "vmov q6[3], q6[1], r2, r8",
                "vmov q7[3], q7[1], r4, r10",
                "sub r9, r11, r7",
                "add r0, sp, #12",
                "ldm r0, {{r1-r6, r8, r10}}",
                "vldrw.u32 q0, [r1], #16",
                "vldrw.u32 q1, [r2], #16",
                "vldrb.s32 q2, [r3], #4",
                requantise!($name, "q5", "q3"),
                requantise!($name, "q6", "q3"),
                requantise!($name, "q7", "q3"),
                "vldrw.u32 q3, [sp, #48]",
                "vldrw.u32 q4, [sp, #64]",
                "vmax.s32 q5, q5, q3",
                "vmax.s32 q6, q6, q3",
                "vmax.s32 q7, q7, q3",
                "vmin.s32 q5, q5, q4",
                "vmin.s32 q6, q6, q4",
                "vmin.s32 q7, q7, q4",
                "vstrb.32 q5, [r4], #4",
                "vstrb.32 q6, [r5], #4",
                "vstrb.32 q7, [r6], #4",
                "subs r10, #1",
                "stm r0, {{r1-r6, r8, r10}}",
                "bne 2b",
                "ldrd r11, r10, [sp, #80]",
                "subs r10, #1",
                "beq 5f",
                "str r10, [sp, #84]",
                "ldrd r7, r10, [r11, #64]",
                "add r4, r10",
                "add r5, r10",
                "add r6, r10",
                "ldrd r1, r2, [r11, #12]",
                "ldr r3, [r11, #20]",
                "ldrd r8, r10, [r11, #36]",
                "stm r0, {{r1-r6, r8, r10}}",
                "ldr r9, [r11, #56]",
                "ldm sp, {{r1, r3, r5}}",
                "add r1, r7",
                "add r3, r7",
                "add r5, r7",
                "stm sp, {{r1, r3, r5}}",
                "rsb r7, r12, #0",
                "and r7, r7, #15",
                "b 2b",
                "5:",
                "add sp, #88",
                "vpop {{d8-d15}}",
                "pop {{r4-r11, pc}}",
            )
        }
    };
}

kernel!(positive, "Blocks whose lower bound is the zero point.");
kernel!(signed, "Blocks with any bounds.");
