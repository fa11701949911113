//! Widens int8 inputs to int16 in the order of the inner loops.

use core::arch::{asm, naked_asm};

/// The first and third byte of a word, sign-extended.
#[inline(always)]
fn even(x: u32) -> u32 {
    let y;
    // SAFETY: an instruction on registers.
    unsafe {
        asm!("sxtb16 {y}, {x}", x = in(reg) x, y = lateout(reg) y, options(pure, nomem, nostack, preserves_flags))
    };
    y
}

/// The second and fourth byte of a word, sign-extended.
#[inline(always)]
fn odd(x: u32) -> u32 {
    even(x.rotate_right(8))
}

/// Writes a group of four inputs to one lane of a pair's scratch.
///
/// # Safety
/// `dst` is valid for three words and aligned to 4.
#[inline(always)]
pub(super) unsafe fn put(dst: *mut u32, x: u32) {
    // SAFETY: as above.
    unsafe {
        dst.write(even(x));
        dst.add(2).write(odd(x));
    }
}

/// Widens `groups` groups of four inputs into one lane.
///
/// # Safety
/// `src` is valid for `4 · groups` bytes; `dst` is aligned to 4 and valid for `16 · groups` bytes minus the last word.
pub(super) unsafe fn lane(src: *const i8, dst: *mut i16, groups: usize) {
    for i in 0..groups {
        // SAFETY: in the bounds that the caller gives.
        unsafe { put(dst.cast::<u32>().add(4 * i), src.add(4 * i).cast::<u32>().read_unaligned()) };
    }
}

/// Rows of two windows.
#[repr(C)]
pub(super) struct Rows {
    /// First inputs of the windows.
    pub(super) src: [*const i8; 2],
    pub(super) lanes: *mut i16,
    /// Groups of four inputs per row, at least one.
    pub(super) groups: usize,
    /// Number of rows, at least one.
    pub(super) rows: usize,
    /// Bytes from the end of a row in the input to the next row.
    pub(super) gap: usize,
}

/// Widens the rows of two windows into both lanes.
///
/// # Safety
/// The inputs are valid for all rows of `4 · groups` bytes, `lanes` is aligned to 4 and valid for `16 · groups · rows`.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn both(rows: *const Rows) {
    naked_asm!(
        extension!(),
        ".macro offshoot_gather_group",
        "ldr r4, [r0], #4",
        "ldr r5, [r1], #4",
        "sxtb16 r6, r4",
        "sxtb16 r7, r5",
        "sxtb16 r8, r4, ror #8",
        "sxtb16 r9, r5, ror #8",
        "stmia r2!, {{r6, r7, r8, r9}}",
        ".endm",
        "push {{r4-r11}}",
        "ldmia r0, {{r0, r1, r2, r3, r10, r11}}",
        "2:",
        "lsrs r12, r3, #1",
        "bcc 3f",
        "offshoot_gather_group",
        // The flags are those of the shift.
        "beq 4f",
        "3:",
        "offshoot_gather_group",
        "offshoot_gather_group",
        "subs r12, #1",
        "bne 3b",
        "4:",
        "add r0, r11",
        "add r1, r11",
        "subs r10, #1",
        "bne 2b",
        "pop {{r4-r11}}",
        "bx lr",
        ".purgem offshoot_gather_group",
    )
}

/// Rows of the windows of pairs of pixels at equal distances.
#[repr(C)]
pub(super) struct Pairs {
    /// Rows of the first pair.
    pub(super) rows: Rows,
    /// Number of pairs, at least one.
    pub(super) pairs: usize,
    /// Bytes from the windows of one pair to those of the next.
    pub(super) step: usize,
}

/// Widens the rows of the windows of pairs, one pair after another.
///
/// # Safety
/// As for [`both`], for all pairs.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn strip(pairs: *const Pairs) {
    naked_asm!(
        ".macro offshoot_gather_group",
        "ldr r4, [r0], #4",
        "ldr r5, [r1], #4",
        "sxtb16 r6, r4",
        "sxtb16 r7, r5",
        "sxtb16 r8, r4, ror #8",
        "sxtb16 r9, r5, ror #8",
        "stmia r2!, {{r6, r7, r8, r9}}",
        ".endm",
        // Stack: windows at 0 and 4, groups 8, rows 12, pairs 16, step 20.
        "push {{r4-r11}}",
        "sub sp, #24",
        "ldmia r0, {{r1-r8}}",
        "mov r11, r6",
        "stmia sp, {{r1, r2}}",
        "strd r4, r5, [sp, #8]",
        "strd r7, r8, [sp, #16]",
        "mov r0, r1",
        "mov r1, r2",
        "mov r2, r3",
        "2:",
        "ldrd r3, r10, [sp, #8]",
        "3:",
        "lsrs r12, r3, #1",
        "bcc 4f",
        "offshoot_gather_group",
        // The flags are those of the shift.
        "beq 5f",
        "4:",
        "offshoot_gather_group",
        "offshoot_gather_group",
        "subs r12, #1",
        "bne 4b",
        "5:",
        "add r0, r11",
        "add r1, r11",
        "subs r10, #1",
        "bne 3b",
        "ldmia.w sp, {{r0, r1}}",
        "ldrd r4, r5, [sp, #16]",
        "add r0, r5",
        "add r1, r5",
        "stmia.w sp, {{r0, r1}}",
        "subs r4, #1",
        "str r4, [sp, #16]",
        "bne 2b",
        "add sp, #24",
        "pop {{r4-r11}}",
        "bx lr",
        ".purgem offshoot_gather_group",
    )
}

/// Arguments of [`plane`].
#[repr(C)]
pub(super) struct Plane {
    /// First input.
    pub(super) src: *const i8,
    /// Bytes from one input to the next.
    pub(super) step: usize,
    /// First value of the scratch.
    pub(super) dst: *mut i16,
    /// Values in a row, at least one.
    pub(super) width: usize,
    /// Number of rows, at least one.
    pub(super) rows: usize,
    /// Bytes from the end of a row in the scratch to the next row.
    pub(super) gap: usize,
    /// Bytes from the end of a row in the input to the next row.
    pub(super) src_gap: usize,
}

/// Widens rows of one channel.
///
/// # Safety
/// All pointers are valid for what the fields say.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn plane(plane: *const Plane) {
    naked_asm!(
        extension!(),
        "push {{r4-r11}}",
        "ldr r12, [r0, #24]",
        "ldrd r1, r2, [r0, #4]",
        "ldrd r3, r4, [r0, #12]",
        "ldr r9, [r0, #20]",
        "ldr r0, [r0]",
        // One, two and three steps.
        "lsl r10, r1, #1",
        "add r11, r10, r1",
        "2:",
        "subs r5, r3, #8",
        "blt 7f",
        "3:",
        "ldrsb r6, [r0]",
        "ldrsb r7, [r0, r1]",
        "ldrsb r8, [r0, r10]",
        "pkhbt r6, r6, r7, lsl #16",
        "ldrsb r7, [r0, r11]",
        "add r0, r0, r1, lsl #2",
        "pkhbt r7, r8, r7, lsl #16",
        "str r6, [r2], #4",
        "str r7, [r2], #4",
        "ldrsb r6, [r0]",
        "ldrsb r7, [r0, r1]",
        "ldrsb r8, [r0, r10]",
        "pkhbt r6, r6, r7, lsl #16",
        "ldrsb r7, [r0, r11]",
        "add r0, r0, r1, lsl #2",
        "pkhbt r7, r8, r7, lsl #16",
        "str r6, [r2], #4",
        "str r7, [r2], #4",
        "subs r5, #8",
        "bge 3b",
        "7:",
        "adds r5, #4",
        "blt 4f",
        "ldrsb r6, [r0]",
        "ldrsb r7, [r0, r1]",
        "ldrsb r8, [r0, r10]",
        "pkhbt r6, r6, r7, lsl #16",
        "ldrsb r7, [r0, r11]",
        "add r0, r0, r1, lsl #2",
        "pkhbt r7, r8, r7, lsl #16",
        "str r6, [r2], #4",
        "str r7, [r2], #4",
        "subs r5, #4",
        "4:",
        "adds r5, #4",
        "beq 6f",
        "5:",
        "ldrsb r6, [r0]",
        "add r0, r1",
        "strh r6, [r2], #2",
        "subs r5, #1",
        "bne 5b",
        "6:",
        "add r0, r12",
        "add r2, r9",
        "subs r4, #1",
        "bne 2b",
        "pop {{r4-r11}}",
        "bx lr",
    )
}
