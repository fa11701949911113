//! TFLite's fixed-point requantisation (gemmlowp), with its double rounding.

/// High 32 bits of `2·a·b`, rounded to nearest, ties away from zero; saturates for `a = b = i32::MIN`.
#[inline]
pub fn saturating_rounding_doubling_high_mul(a: i32, b: i32) -> i32 {
    if a == b && a == i32::MIN {
        return i32::MAX;
    }
    let product = i64::from(a) * i64::from(b);
    let nudge = if product >= 0 { 1 << 30 } else { 1 - (1 << 30) };
    // Division truncates towards zero; the sign of the nudge makes ties go away from zero.
    ((product + nudge) / (1i64 << 31)) as i32
}

/// `x / 2^exponent`, rounded to nearest, ties away from zero. `exponent` in 0..=31.
#[inline]
pub fn rounding_divide_by_pot(x: i32, exponent: u32) -> i32 {
    let mask = ((1i64 << exponent) - 1) as i32;
    let remainder = x & mask;
    let threshold = (mask >> 1) + i32::from(x < 0);
    (x >> exponent) + i32::from(remainder > threshold)
}

/// `x · multiplier · 2^(shift - 31)` with TFLite's rounding. `shift` is in -31..=30: > 0 shifts left (wrapping) before
/// the multiplication, < 0 shifts right after it.
#[inline]
pub fn multiply_by_quantized_multiplier(x: i32, multiplier: i32, shift: i8) -> i32 {
    let left = u32::from(shift.max(0).unsigned_abs());
    let right = u32::from(shift.min(0).unsigned_abs()).min(31);
    rounding_divide_by_pot(saturating_rounding_doubling_high_mul(x.wrapping_shl(left), multiplier), right)
}
