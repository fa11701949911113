//! Requantisation by one long product; on cores without a long multiply, by four short ones.

use crate::requant::Requant;
use offshoot_format::single_multiply::SHIFT;

/// High 32 bits of `a · b`.
#[inline(always)]
pub(super) fn high(a: i32, b: i32) -> i32 {
    if cfg!(scalar_short_multiply) {
        high_of_halves(a, b)
    } else {
        ((i64::from(a) * i64::from(b)) >> 32) as i32
    }
}

/// [`high`] from products of 16-bit halves. No sum leaves 32 bits (Warren, Hacker's Delight, 8-2).
// Out of line on the cores that use it: they have little flash.
#[cfg_attr(scalar_short_multiply, inline(never))]
fn high_of_halves(a: i32, b: i32) -> i32 {
    let (a1, a0) = (a >> 16, a & 0xffff);
    let (b1, b0) = (b >> 16, b & 0xffff);
    let low = (a0 as u32).wrapping_mul(b0 as u32) >> 16;
    let middle = a1.wrapping_mul(b0).wrapping_add(low as i32);
    let other = a0.wrapping_mul(b1).wrapping_add(middle & 0xffff);
    a1.wrapping_mul(b1).wrapping_add(middle >> 16).wrapping_add(other >> 16)
}

/// High 32 bits of `a · b`, rounded to nearest, ties towards positive infinity.
#[inline(always)]
fn high_rounded(a: i32, b: i32) -> i32 {
    if cfg!(scalar_short_multiply) {
        return high(a, b).wrapping_add((a.wrapping_mul(b) as u32 >> 31) as i32);
    }
    let product = i64::from(a) * i64::from(b);
    ((product >> 32) as i32).wrapping_add((product as u32 >> 31) as i32)
}

/// Output by exact single-multiply requantisation of 256 times the sum with its bias; see
/// [`offshoot_format::single_multiply`].
#[inline(always)]
pub(super) fn straight(scaled: i32, multiplier: i32) -> i8 {
    (high(scaled, multiplier) >> SHIFT).clamp(i8::MIN.into(), i8::MAX.into()) as i8
}

/// A rounding right shift, with ties away from zero; adds a zero point to the result.
#[derive(Clone, Copy)]
pub(super) struct Shift {
    offset: i32,
    by: u32,
}

impl Shift {
    /// Right shift by `-shift` bits, 0 to 22.
    #[inline(always)]
    pub(super) fn new(shift: i8, zero: i32) -> Self {
        let by = u32::from(shift.unsigned_abs());
        let half = if by == 0 { 0 } else { 1 << (by - 1) };
        Self { offset: (zero << by) + half, by }
    }

    /// A right shift of at least one bit.
    #[inline(always)]
    pub(super) fn positive(shift: i8, zero: i32) -> Self {
        let by = u32::from(shift.unsigned_abs());
        Self { offset: (2 * zero + 1) << (by - 1), by }
    }

    #[inline(always)]
    pub(super) fn round(self, x: i32) -> i32 {
        x.wrapping_add(x >> 31).wrapping_add(self.offset) >> self.by
    }
}

/// A channel's requantisation with TFLite's two roundings, for right shifts and accumulators within ±2^30.
#[derive(Clone, Copy)]
pub(super) struct Scale {
    multiplier: i32,
    shift: Shift,
    min: i32,
    max: i32,
}

impl Scale {
    #[inline(always)]
    pub(super) fn of(q: &Requant<'_>, channel: usize) -> Self {
        let (multiplier, shift) = q.scale(channel);
        Self::new(q, multiplier, shift)
    }

    /// The zero point and bounds of `q` with a channel's multiplier and shift.
    #[inline(always)]
    pub(super) fn new(q: &Requant<'_>, multiplier: i32, shift: i8) -> Self {
        Self { multiplier, shift: Shift::positive(shift, q.out_zp), min: q.min, max: q.max }
    }

    /// Output of an accumulator, given twice.
    #[inline(always)]
    pub(super) fn of_twice(self, twice: i32) -> i8 {
        self.shift.round(high_rounded(twice, self.multiplier)).max(self.min).min(self.max) as i8
    }
}

/// An operand of an addition on the common scale: high half of `2 · x · multiplier`, rounded, then `shift`.
#[inline(always)]
pub(super) fn scaled(twice: i32, multiplier: i32, shift: Shift) -> i32 {
    let high = high_rounded(twice, multiplier);
    if shift.by == 0 { high } else { shift.round(high) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_give_the_high_word() {
        let mut values = vec![0, 1, -1, 0x7fff, 0x8000, 0xffff, 0x10000, -0x8000, i32::MAX, i32::MIN];
        let mut state = 1u32;
        values.extend((0..200).map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state as i32
        }));
        for &a in &values {
            for &b in &values {
                assert_eq!(high_of_halves(a, b), ((i64::from(a) * i64::from(b)) >> 32) as i32, "{a} {b}");
            }
        }
    }
}
