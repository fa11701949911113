//! Planes of 16-bit numbers, and the sums of products of two of them; used by `offshoot_learn::integer`.

use core::arch::naked_asm;

/// Arguments of [`widen_four`].
#[repr(C)]
pub(super) struct Pixels {
    /// First pixel.
    pub(super) src: *const i8,
    /// Bytes from one pixel to the next.
    pub(super) step: usize,
    /// Position of the first number, one half-word into its word; and the end.
    pub(super) dst: *mut u8,
    pub(super) end: *mut u8,
    /// Bytes from one plane to the next.
    pub(super) plane: usize,
    /// Zero point, as two 16-bit halves.
    pub(super) zeros: u32,
}

/// Writes the values of four channels minus their zero point to four planes, every value twice.
///
/// 16 instructions per pixel. A plane holds `v0 v1 v1 v2 v2 v3 …`: its words are pairs of neighbours, alternately from
/// an even and an odd position.
///
/// # Safety
/// There is at least one pixel, of four bytes; the planes have room for all.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn widen_four(pixels: *const Pixels) {
    naked_asm!(
        extension!(),
        "push {{r4-r9, lr}}",
        "ldmia r0, {{r0, r1, r2, r3, r8, r12}}",
        "add r7, r2, r8",
        "add r9, r7, r8",
        "add r8, r9, r8",
        "2:",
        "ldr r4, [r0]",
        "add r0, r1",
        "sxtb16 r5, r4",
        "sxtb16 r6, r4, ror #8",
        "ssub16 r5, r5, r12",
        "ssub16 r6, r6, r12",
        "pkhbt r4, r5, r5, lsl #16",
        "pkhbt lr, r6, r6, lsl #16",
        "str r4, [r2], #4",
        "str lr, [r7], #4",
        "pkhtb r4, r5, r5, asr #16",
        "pkhtb lr, r6, r6, asr #16",
        "str r4, [r9], #4",
        "str lr, [r8], #4",
        "cmp r2, r3",
        "bne 2b",
        "pop {{r4-r9, pc}}",
    )
}

/// Writes the values of one channel; see [`widen_four`].
///
/// # Safety
/// There is at least one pixel; the plane has room for all.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn widen_one(pixels: *const Pixels) {
    naked_asm!(
        extension!(),
        "push {{r4, lr}}",
        "ldmia r0, {{r0, r1, r2, r3, r4, r12}}",
        "2:",
        "ldrsb r4, [r0]",
        "add r0, r1",
        "ssub16 r4, r4, r12",
        "pkhbt r4, r4, r4, lsl #16",
        "str r4, [r2], #4",
        "cmp r2, r3",
        "bne 2b",
        "pop {{r4, pc}}",
    )
}

/// Arguments of [`mask_errors`]: a rectangle of pixels.
#[repr(C)]
pub(super) struct Outputs {
    /// First output.
    pub(super) h: *const i8,
    /// Bytes from one output to the next, and from the end of a row to the next row.
    pub(super) step: usize,
    pub(super) gap: usize,
    /// Position of the first channel's errors.
    pub(super) dst: *mut u16,
    /// Bytes of errors in a row, and from its end to the next row.
    pub(super) row: usize,
    pub(super) dst_gap: usize,
    /// Bytes from one channel's errors to the next channel's.
    pub(super) lane: usize,
    /// Smallest active output, and how many larger ones are active too: one byte, repeated four times.
    pub(super) low: u32,
    pub(super) width: u32,
    /// Errors of channels 0 and 2, and of 1 and 3.
    pub(super) errors: [u32; 2],
    pub(super) rows: usize,
}

/// Writes the errors of four channels, with zeros for inactive outputs; returns the number of active outputs, one byte
/// per channel.
///
/// # Safety
/// There are 1 to 255 outputs of four bytes each, and room for their errors.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn mask_errors(outputs: *const Outputs) -> u32 {
    naked_asm!(
        extension!(),
        // r0 h, r1 step, r2 dst, r3 lane, r4 three lanes, r5 low, r6 width, r7 and r8 errors, r9 ones, r10 zero, r11
        // counts. Stack: end of the row 0, argument 4, rows left 8.
        "push {{r4-r11, lr}}",
        "sub sp, #12",
        "str r0, [sp, #4]",
        "ldr r1, [r0, #44]",
        "str r1, [sp, #8]",
        "mov r12, r0",
        "add r0, #24",
        "ldm r0, {{r3, r5, r6, r7, r8}}",
        "ldrd r0, r1, [r12]",
        "ldr r2, [r12, #12]",
        "add r4, r3, r3, lsl #1",
        "mov r9, #-1",
        "mov r10, #0",
        "mov r11, #0",
        "2:",
        "ldr r12, [sp, #4]",
        "ldr r12, [r12, #16]",
        "add r12, r2",
        "str r12, [sp]",
        "3:",
        "ldr r12, [r0]",
        "add r0, r1",
        "usub8 r12, r12, r5",
        "usub8 r12, r6, r12",
        "sel r12, r9, r10",
        "usub8 r11, r11, r12",
        "sxtb16 lr, r12",
        "sxtb16 r12, r12, ror #8",
        "and lr, r7",
        "and r12, r8",
        "strh lr, [r2]",
        "strh r12, [r2, r3]",
        "lsr lr, lr, #16",
        "lsr r12, r12, #16",
        "strh lr, [r2, r3, lsl #1]",
        "strh r12, [r2, r4]",
        "adds r2, #2",
        "ldr lr, [sp]",
        "cmp r2, lr",
        "bne 3b",
        "ldr r12, [sp, #4]",
        "ldr lr, [r12, #8]",
        "add r0, lr",
        "ldr lr, [r12, #20]",
        "add r2, lr",
        "ldr lr, [sp, #8]",
        "subs lr, #1",
        "str lr, [sp, #8]",
        "bne 2b",
        "mov r0, r11",
        "add sp, #12",
        "pop {{r4-r11, pc}}",
    )
}

/// Arguments of the sums of products: pairs of planes, one after another.
#[repr(C)]
pub(super) struct Correlation {
    /// Inputs under the first kernel row. The kernel moves all positions.
    pub(super) x: *const u32,
    /// Errors, a multiple of four words.
    pub(super) errors: *const u32,
    pub(super) end: *const u32,
    /// Bytes from the inputs under one kernel row to those under the next.
    pub(super) line: usize,
    /// Number of kernel rows, at least one.
    pub(super) lines: usize,
    /// Sum of the first tap.
    pub(super) sums: *mut i32,
    /// Bytes from the sum of one tap to the next, and from those of one kernel row to those of the next.
    pub(super) tap: usize,
    pub(super) row: usize,
    /// Number of pairs of planes, at least one. Moved.
    pub(super) pairs: usize,
    /// Bytes from one pair's inputs, errors and sums to the next pair's.
    pub(super) next: [usize; 3],
}

/// Defines the kernel for a number of neighbouring taps.
macro_rules! kernel {
    ($name:ident, $taps:literal, $doc:literal) => {
        #[doc = $doc]
        ///
        /// # Safety
        /// There are errors; there are as many inputs, plus two words and a tap; there is a sum for each tap.
        #[unsafe(naked)]
        pub(super) unsafe extern "C" fn $name(correlation: *mut Correlation) {
            naked_asm!(
                extension!(),
                concat!(".set offshoot_taps, ", $taps),
                // Two words of errors, with inputs from an even position, an odd one, both again, and an even one.
                ".macro offshoot_products a, b, c, d, e",
                "ldrd r11, r12, [r1], #8",
                "smlad r3, \\a, r11, r3",
                "smlad r3, \\c, r12, r3",
                ".if offshoot_taps > 1",
                "smlad r4, \\b, r11, r4",
                "smlad r4, \\d, r12, r4",
                ".endif",
                ".if offshoot_taps > 2",
                "smlad r5, \\c, r11, r5",
                "smlad r5, \\e, r12, r5",
                ".endif",
                ".endm",
                ".macro offshoot_add sum",
                "ldr r7, [r6]",
                "add r7, \\sum",
                "str r7, [r6]",
                ".endm",
                // Stack: inputs and sums of the line 0 and 4, lines left 8.
                "push {{r4-r11, lr}}",
                "sub sp, #12",
                "mov lr, r0",
                "2:",
                "ldr.w r6, [lr]",
                "ldrd r7, r8, [lr, #16]",
                "strd r6, r8, [sp]",
                "str r7, [sp, #8]",
                "3:",
                "ldr r0, [sp]",
                "ldrd r1, r2, [lr, #4]",
                "ldr.w r6, [lr, #12]",
                "add r6, r0",
                "str r6, [sp]",
                "movs r3, #0",
                "movs r4, #0",
                "movs r5, #0",
                "ldr r10, [r0], #4",
                "4:",
                "ldmia r0!, {{r6, r7, r8, r9}}",
                "offshoot_products r10, r6, r7, r8, r9",
                "ldmia.w r0!, {{r6, r7, r8, r10}}",
                "offshoot_products r9, r6, r7, r8, r10",
                "cmp r1, r2",
                "bne 4b",
                "ldr r6, [sp, #4]",
                "ldrd r8, r9, [lr, #24]",
                "add r9, r6",
                "str r9, [sp, #4]",
                "offshoot_add r3",
                ".if offshoot_taps > 1",
                "add r6, r8",
                "offshoot_add r4",
                ".endif",
                ".if offshoot_taps > 2",
                "add r6, r8",
                "offshoot_add r5",
                ".endif",
                "ldr r6, [sp, #8]",
                "subs r6, #1",
                "str r6, [sp, #8]",
                "bne 3b",
                "ldm lr, {{r0, r1, r2}}",
                "ldr.w r6, [lr, #20]",
                "add r8, lr, #32",
                "ldm r8, {{r7, r9, r10, r11}}",
                "add r0, r9",
                "add r1, r10",
                "add r2, r10",
                "stm lr, {{r0, r1, r2}}",
                "add r6, r11",
                "str.w r6, [lr, #20]",
                "subs r7, #1",
                "str.w r7, [lr, #32]",
                "bne.w 2b",
                "add sp, #12",
                "pop {{r4-r11, pc}}",
                ".purgem offshoot_products",
                ".purgem offshoot_add",
            )
        }
    };
}

kernel!(one_tap, 1, "Adds the sums of one tap of each kernel row.");
kernel!(two_taps, 2, "Adds the sums of two neighbouring taps of each kernel row.");
kernel!(three_taps, 3, "Adds the sums of three neighbouring taps of each kernel row.");
