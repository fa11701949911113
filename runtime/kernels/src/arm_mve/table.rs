//! Functions of one int8 element by tables.

use core::arch::naked_asm;

/// Replaces each element by the entry of its table.
///
/// # Safety
/// `data` is valid for `len` elements, at least one, and `table` for 256.
#[unsafe(naked)]
unsafe extern "C" fn lookup(table: *const i8, data: *mut i8, len: usize) {
    naked_asm!(
        extension!(),
        "push {{r7, lr}}",
        "vmov.i8 q1, #0x80",
        "dlstp.8 lr, r2",
        "2:",
        "vldrb.u8 q0, [r1]",
        "veor q0, q0, q1",
        "vldrb.u8 q2, [r0, q0]",
        "vstrb.8 q2, [r1], #16",
        "letp lr, 2b",
        "pop {{r7, pc}}",
    )
}

/// As [`crate::portable::lut_i8`]. Returns `false` and computes nothing for a table of another length.
pub(crate) fn lut_i8(table: &[i8], data: &mut [i8]) -> bool {
    if table.len() != 256 {
        return false;
    }
    if !data.is_empty() {
        // SAFETY: the slices have these lengths.
        unsafe { lookup(table.as_ptr(), data.as_mut_ptr(), data.len()) };
    }
    true
}
