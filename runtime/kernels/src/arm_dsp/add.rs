//! Addition of two int8 tensors.

use core::arch::asm;
use offshoot_format::record::{Binary, BinaryArith, BinaryKind};
use offshoot_format::tiled::SHIFTS;

/// High 32 bits of `a · b`, rounded.
#[inline(always)]
pub(super) fn smmulr(a: i32, b: i32) -> i32 {
    let y;
    // SAFETY: an instruction on registers.
    unsafe {
        asm!("smmulr {y}, {a}, {b}", a = in(reg) a, b = in(reg) b, y = lateout(reg) y,
            options(pure, nomem, nostack, preserves_flags));
    }
    y
}

/// `(x >> 1)` saturated to int8.
#[inline(always)]
fn saturate_half(x: i32) -> i8 {
    let y: i32;
    // SAFETY: an instruction on registers.
    unsafe {
        asm!("ssat {y}, #8, {x}, asr #1", x = in(reg) x, y = lateout(reg) y,
            options(pure, nomem, nostack, preserves_flags));
    }
    y as i8
}

/// Rounding and right shift.
#[derive(Clone, Copy)]
struct Shift {
    offset: i32,
    by: u32,
}

impl Shift {
    /// Right shift by `-shift` bits.
    fn of(shift: i8) -> Self {
        let by = u32::from(shift.unsigned_abs());
        Self { offset: if by == 0 { 0 } else { 1 << (by - 1) }, by }
    }

    #[inline(always)]
    fn round(self, x: i32) -> i32 {
        (x + (x >> 31) + self.offset) >> self.by
    }
}

/// Brings an operand to the common scale. `zero` is its zero point shifted left by 21.
#[inline(always)]
fn operand<const ROUNDS: bool>(x: i8, zero: i32, multiplier: i32, shift: Shift) -> i32 {
    let scaled = smmulr((i32::from(x) << 21).wrapping_sub(zero), multiplier);
    if ROUNDS { shift.round(scaled) } else { scaled }
}

/// `dst += b` as in [`crate::portable::binary_i8`]. Returns `false` and computes nothing for other records or unusual
/// shifts.
pub(crate) fn add_i8(r: &Binary, multiplier: [i32; 3], shift: [i8; 3], b: &[i8], dst: &mut [i8]) -> bool {
    let BinaryArith::I8 { a_zp, b_zp, out_zp, clamp, .. } = r.arith else {
        return false;
    };
    let full = clamp.is_none_or(|c| c == (i8::MIN, i8::MAX));
    let usual = shift[0] <= 0 && shift[1] <= 0 && SHIFTS.contains(&shift[2]);
    if r.kind != BinaryKind::Add || r.broadcast != 0 || !full || !usual {
        return false;
    }
    let by = u32::from(shift[2].unsigned_abs()) - 1;
    let last = Shift { offset: (2 * i32::from(out_zp) + 1) << by, by };
    let zeros = [i32::from(a_zp) << 21, i32::from(b_zp) << 21];
    let shifts = [Shift::of(shift[0]), Shift::of(shift[1])];
    match (shift[0] < 0, shift[1] < 0) {
        (false, false) => sum::<false, false>(multiplier, zeros, shifts, last, b, dst),
        (false, true) => sum::<false, true>(multiplier, zeros, shifts, last, b, dst),
        (true, false) => sum::<true, false>(multiplier, zeros, shifts, last, b, dst),
        (true, true) => sum::<true, true>(multiplier, zeros, shifts, last, b, dst),
    }
    true
}

#[inline(always)]
fn sum<const A: bool, const B: bool>(
    multiplier: [i32; 3],
    zeros: [i32; 2],
    shifts: [Shift; 2],
    last: Shift,
    b: &[i8],
    dst: &mut [i8],
) {
    for (x, &y) in dst.iter_mut().zip(b) {
        let a = operand::<A>(*x, zeros[0], multiplier[0], shifts[0]);
        let b = operand::<B>(y, zeros[1], multiplier[1], shifts[1]);
        let scaled = smmulr((a + b) << 1, multiplier[2]);
        *x = saturate_half((scaled + (scaled >> 31) + last.offset) >> last.by);
    }
}
