//! Addition of two int8 tensors.

use super::requantise::saturates_at_zero_point;
use core::arch::naked_asm;
use offshoot_format::record::{Binary, BinaryArith, BinaryKind};
use offshoot_format::tiled::SHIFTS;

/// Arguments of the kernels.
#[repr(C)]
struct Sum {
    dst: *mut i8,
    b: *const i8,
    /// Elements, at least one.
    len: usize,
    /// Zero points shifted left by 20, negative.
    zeros: [i32; 2],
    multipliers: [i32; 3],
    /// At most 0; the third at most -1.
    shifts: [i32; 3],
    /// Zero point of the output.
    zero: i32,
    /// Bounds of the output.
    min: i32,
    max: i32,
}

/// `$q` by the multiplier `$m` and the shift `$s`; `zero` if there is no shift.
macro_rules! scale {
    (zero, $q:literal, $m:literal, $s:literal) => {
        concat!("vqrdmulh.s32 ", $q, ", ", $q, ", ", $m)
    };
    (positive, $q:literal, $m:literal, $s:literal) => {
        concat!("vqrdmulh.s32 ", $q, ", ", $q, ", ", $m, "\n", "vrshl.s32 ", $q, ", ", $s)
    };
    (signed, $q:literal, $m:literal, $s:literal) => {
        concat!(
            "vqrdmulh.s32 ",
            $q,
            ", ",
            $q,
            ", ",
            $m,
            "\n",
            "vshr.s32 q2, ",
            $q,
            ", #31\n",
            "vqadd.s32 ",
            $q,
            ", ",
            $q,
            ", q2\n",
            "vrshl.s32 ",
            $q,
            ", ",
            $s,
        )
    };
}

/// From the sum in q0 to the output.
macro_rules! finish {
    (positive) => {
        concat!(
            scale!(positive, "q0", "r8", "r11"),
            "\nvadd.i32 q0, q0, r12\nvqmovnb.s32 q0, q0\nvqmovnb.s16 q0, q0"
        )
    };
    (signed) => {
        concat!(
            scale!(signed, "q0", "r8", "r11"),
            "\nvadd.i32 q0, q0, r12\nvmax.s32 q0, q0, q3\nvmin.s32 q0, q0, q4",
        )
    };
}

macro_rules! kernel {
    ($name:ident, $a:ident, $b:ident, $sum:ident) => {
        /// Adds; the names say which operands are shifted and how the output is rounded.
        ///
        /// # Safety
        /// The pointers are valid for `len` elements.
        #[unsafe(naked)]
        unsafe extern "C" fn $name(sum: &Sum) {
            naked_asm!(
                extension!(),
                "push {{r4-r12, lr}}",
                "vpush {{d8, d9}}",
                "ldrd r1, r2, [r0, #48]",
                "vdup.32 q3, r1",
                "vdup.32 q4, r2",
                "ldr r12, [r0, #44]",
                "ldm r0, {{r0-r11}}",
                // r0 dst, r1 b, r2 len, r3 and r4 zeros, r5 r6 r7 multipliers, r8 r9 r10 shifts; then as the macros have it.
                "mov r11, r10",
                "mov r10, r9",
                "mov r9, r8",
                "mov r8, r7",
                "dlstp.32 lr, r2",
                "2:",
                "vldrb.s32 q0, [r0]",
                "vldrb.s32 q1, [r1], #4",
                "vshl.i32 q0, q0, #20",
                "vshl.i32 q1, q1, #20",
                "vadd.i32 q0, q0, r3",
                "vadd.i32 q1, q1, r4",
                scale!($a, "q0", "r5", "r9"),
                scale!($b, "q1", "r6", "r10"),
                "vadd.i32 q0, q0, q1",
                finish!($sum),
                "vstrb.32 q0, [r0], #4",
                "letp lr, 2b",
                "vpop {{d8, d9}}",
                "pop {{r4-r12, pc}}",
            )
        }
    };
}

kernel!(neither_positive, zero, zero, positive);
kernel!(a_positive, signed, zero, positive);
kernel!(b_positive, zero, signed, positive);
kernel!(both_positive, signed, signed, positive);
kernel!(neither_signed, zero, zero, signed);
kernel!(a_signed, signed, zero, signed);
kernel!(b_signed, zero, signed, signed);
kernel!(both_signed, signed, signed, signed);

/// `dst += b` as in [`crate::portable::binary_i8`]. Returns `false` and computes nothing for other records or unusual
/// shifts.
#[inline(never)]
pub(crate) fn add_i8(r: &Binary, multiplier: [i32; 3], shift: [i8; 3], b: &[i8], dst: &mut [i8]) -> bool {
    let BinaryArith::I8 { a_zp, b_zp, out_zp, clamp, .. } = r.arith else {
        return false;
    };
    let usual = (-31..=0).contains(&shift[0]) && (-31..=0).contains(&shift[1]) && SHIFTS.contains(&shift[2]);
    let len = dst.len().min(b.len());
    if r.kind != BinaryKind::Add || r.broadcast != 0 || !usual || len == 0 {
        return false;
    }
    let (min, max) = clamp.map_or((-128, 127), |(low, high)| (low.into(), high.into()));
    let sum = Sum {
        dst: dst.as_mut_ptr(),
        b: b.as_ptr(),
        len,
        zeros: [a_zp, b_zp].map(|zero| -(i32::from(zero) << 20)),
        multipliers: multiplier,
        shifts: shift.map(i32::from),
        zero: out_zp.into(),
        min,
        max,
    };
    let run = match (saturates_at_zero_point(out_zp.into(), min, max), shift[0] < 0, shift[1] < 0) {
        (true, false, false) => neither_positive,
        (true, true, false) => a_positive,
        (true, false, true) => b_positive,
        (true, true, true) => both_positive,
        (false, false, false) => neither_signed,
        (false, true, false) => a_signed,
        (false, false, true) => b_signed,
        (false, true, true) => both_signed,
    };
    // SAFETY: the slices have `len` elements.
    unsafe { run(&sum) };
    true
}
