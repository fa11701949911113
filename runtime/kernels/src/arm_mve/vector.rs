//! Blocks of four output channels for one output pixel: fully connected layers.

use super::requantise::requantise;
use core::arch::naked_asm;

/// Arguments of [`positive`] and [`signed`].
#[repr(C)]
pub(super) struct Vector {
    pub(super) bias: *const i32,
    pub(super) multiplier: *const i32,
    pub(super) shift: *const i8,
    pub(super) out: *mut i8,
    /// Bytes from the multipliers, and from the shifts, of a block to those of the next: 16 and 4, or 0 if there is one
    /// scale for all channels. There are four of each in any case.
    pub(super) steps: [u32; 2],
    /// Zero point of the output.
    pub(super) zero: i32,
    /// Number of blocks, at least one.
    pub(super) blocks: u32,
    /// Inputs, `k` of them.
    pub(super) x: *const i8,
    /// Bounds of the output.
    pub(super) min: i32,
    pub(super) max: i32,
    /// Inputs of an output, at least one.
    pub(super) k: u32,
    /// Four rows of `k` weights for each block.
    pub(super) weights: *const i8,
}

macro_rules! kernel {
    ($name:ident, $doc:literal) => {
        #[doc = $doc]
        ///
        /// # Safety
        /// All pointers of `vector` are valid for `k` inputs, and for the weights, parameters and outputs of `blocks`
        /// blocks. Biases and multipliers are aligned.
        #[unsafe(naked)]
        pub(super) unsafe extern "C" fn $name(vector: &Vector) {
            naked_asm!(
                extension!(),
                "push {{r4-r11, lr}}",
                "vpush {{d8-d15}}",
                // bias to blocks (32 bytes), x (4).
                "sub sp, #40",
                "ldr r1, [r0, #36]",
                "vdup.32 q6, r1",
                "ldr r1, [r0, #40]",
                "vdup.32 q7, r1",
                "ldr r12, [r0, #44]",
                "ldr r3, [r0, #48]",
                "ldm r0, {{r1, r2, r4-r6, r8-r11}}",
                "stm sp, {{r1, r2, r4-r6, r8-r11}}",
                "rsb r7, r12, #0",
                "and r7, r7, #15",
                "2:",
                "add r5, r3, r12",
                "add r9, r5, r12",
                "add r11, r9, r12",
                "ldr r1, [sp, #32]",
                "clrm {{r0, r2, r4, r6}}",
                "dlstp.8 lr, r12",
                "3:",
                "vldrb.u8 q0, [r1], #16",
                "vldrb.u8 q1, [r3], #16",
                "vmladava.s8 r0, q0, q1",
                "vldrb.u8 q2, [r5], #16",
                "vmladava.s8 r2, q0, q2",
                "vldrb.u8 q3, [r9], #16",
                "vmladava.s8 r4, q0, q3",
                "vldrb.u8 q4, [r11], #16",
                "vmladava.s8 r6, q0, q4",
                "letp lr, 3b",
                "vmov q5[2], q5[0], r0, r4",
                "vmov q5[3], q5[1], r2, r6",
                "ldm sp, {{r0-r2, r4-r6, r8, r10}}",
                "vldrw.u32 q0, [r0], #16",
                "vldrw.u32 q1, [r1]",
                "vldrb.s32 q2, [r2]",
                "add r1, r5",
                "add r2, r6",
                requantise!($name, "q5", "q3"),
                "vmax.s32 q5, q5, q6",
                "vmin.s32 q5, q5, q7",
                "vstrb.32 q5, [r4], #4",
                "sub r3, r11, r7",
                "subs r10, #1",
                "stm sp, {{r0-r2, r4-r6, r8, r10}}",
                "bne 2b",
                "add sp, #40",
                "vpop {{d8-d15}}",
                "pop {{r4-r11, pc}}",
            )
        }
    };
}

kernel!(positive, "Blocks whose lower bound is the zero point.");
kernel!(signed, "Blocks with any bounds.");
