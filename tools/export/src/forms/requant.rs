//! Multipliers of requantisation whose shifted sums fit int32.
//!
//! The device shifts a sum to the left before it multiplies (shift above 0, for multipliers of 1 or more), and the shift
//! wraps, as TFLite Micro's does. Where the output's scale lies far below the sum's, a wrapped sum would turn an output that
//! saturates into any other.

use offshoot_ir::quant_math::quantize_multiplier;

/// Multiplier and shift.
pub(crate) type Fixed = (i32, i8);

/// From this multiplier on, every sum except 0 saturates: one step of the sum is as wide as all levels of the output.
const SATURATING: f64 = 256.0;
/// Room for the output's zero point.
const ROOM: u64 = 1 << 8;

/// Why a layer runs in float32 if [`fitting`] finds no multiplier.
pub(crate) const OVERFLOW: &str =
    "its output scale is so far below the scale of its sums that they would overflow int32";

/// Whether sums of up to this magnitude, shifted by the device, fit int32.
pub(crate) fn fits(fixed: Fixed, largest: u64) -> bool {
    let shifted = u128::from(largest) << u32::from(fixed.1.max(0).unsigned_abs());
    shifted < u128::from(i32::MAX.unsigned_abs()) - u128::from(ROOM)
}

/// `fixed`, which stands for `real`, or another one with the same outputs that fits sums of up to `largest` in magnitude;
/// `None` if there is none.
pub(crate) fn limited(fixed: Fixed, real: f64, largest: u64) -> Option<Fixed> {
    if fits(fixed, largest) {
        return Some(fixed);
    }
    let saturating = quantize_multiplier(SATURATING);
    (real >= SATURATING && fits(saturating, largest)).then_some(saturating)
}

/// Multiplier and shift of `real` for sums of up to `largest` in magnitude. `None` if the shifted sums would overflow int32.
pub(crate) fn fitting(real: f64, largest: u64) -> Option<Fixed> {
    limited(quantize_multiplier(real), real, largest)
}

/// As [`fitting`], for sums of few terms: those always fit.
pub(crate) fn saturating(real: f64, largest: u32) -> Fixed {
    debug_assert!(u64::from(largest) < 1 << 21);
    fitting(real, u64::from(largest)).unwrap_or_else(|| quantize_multiplier(real.min(SATURATING)))
}

/// Largest distance of an int8 value from this zero point.
pub(crate) fn farthest(zp: i8) -> u64 {
    u64::from((i16::from(i8::MAX) - i16::from(zp)).max(i16::from(zp) - i16::from(i8::MIN)).unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use offshoot::kernels::portable::fixed_point::multiply_by_quantized_multiplier;

    /// Output of the device for this sum.
    fn output(sum: i32, (multiplier, shift): Fixed, zp: i32) -> i32 {
        multiply_by_quantized_multiplier(sum, multiplier, shift).wrapping_add(zp).clamp(-128, 127)
    }

    #[test]
    fn huge_multipliers_saturate() {
        for exponent in -30..60 {
            let real = 0.77 * 2f64.powi(exponent);
            for sum in [0i32, 1, -1, 2, 255, -255, 65_025, -65_025, 1 << 21, -(1 << 21)] {
                let Some(fixed) = fitting(real, u64::from(sum.unsigned_abs())) else {
                    assert!(sum.unsigned_abs() > 65_025, "{real} {sum}");
                    continue;
                };
                for zp in [-128, 3, 127] {
                    let exact = (f64::from(sum) * real).round() + f64::from(zp);
                    let got = output(sum, fixed, zp);
                    let want = exact.clamp(-128.0, 127.0) as i32;
                    assert!((got - want).abs() <= 1, "{real} · {sum} + {zp}: {got}, {want}");
                }
            }
        }
    }

    #[test]
    fn usual_multipliers_stay() {
        for real in [1e-9, 0.003, 0.5, 1.0, 2.5, 255.0] {
            assert_eq!(fitting(real, 1 << 20), Some(quantize_multiplier(real)));
        }
        assert_eq!(fitting(100.0, 1 << 26), None);
        assert_eq!(saturating(1e12, 255), (1 << 30, 9));
    }

    #[test]
    fn the_farthest_value() {
        assert_eq!([-128, 0, 127].map(farthest), [255, 128, 255]);
    }
}
