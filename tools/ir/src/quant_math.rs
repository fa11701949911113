//! Fixed-point parameters from real scales in double precision, derived as in TFLite.
//!
//! Follows TensorFlow Lite's 8-bit quantisation specification and `QuantizeMultiplier`,
//! `CalculateActivationRangeQuantized` and `PreprocessSoftmaxScaling` of its kernel utilities.

/// Fixed-point form of a real multiplier: `real ≈ multiplier · 2^(shift - 31)`.
///
/// The multiplier of a positive real lies in `[2^30, 2^31)`. A real too small to matter (shift below -31) gives (0,
/// 0); one beyond the range (shift above 30) saturates to `(2^31 - 1, 30)`, as in TFLite. Zero, negative and
/// non-finite reals give (0, 0): callers check scales beforehand.
pub fn quantize_multiplier(real: f64) -> (i32, i8) {
    if !(real.is_finite() && real > 0.0) {
        return (0, 0);
    }
    let (mantissa, mut shift) = frexp(real);
    let mut fixed = (mantissa * (1i64 << 31) as f64).round() as i64;
    if fixed == 1i64 << 31 {
        fixed /= 2;
        shift += 1;
    }
    if shift < -31 {
        return (0, 0);
    }
    if shift > 30 {
        return (i32::MAX, 30);
    }
    (fixed as i32, shift as i8)
}

/// `real = mantissa · 2^exponent` with the mantissa in `[0.5, 1)`, for a positive finite real.
fn frexp(real: f64) -> (f64, i32) {
    // Subnormals are first scaled into the normal range, where the exponent field gives the exponent.
    let (real, bias) = if real < f64::MIN_POSITIVE { (real * 2f64.powi(64), -64) } else { (real, 0) };
    let bits = real.to_bits();
    let exponent = ((bits >> 52) & 0x7ff) as i32 - 1022;
    let mantissa = f64::from_bits(bits & !(0x7ff << 52) | 1022 << 52);
    (mantissa, exponent + bias)
}

/// Real multiplier from the accumulator of an operator with weights to its output: input scale × weight scale / output
/// scale, all in double precision, as TFLite Micro computes it for convolutions, fully connected layers and products.
pub fn linear_multiplier(input: f32, weight: f32, output: f32) -> f64 {
    f64::from(input) * f64::from(weight) / f64::from(output)
}

/// Multiplier and shift of TFLite's MEAN from scale `x` to scale `y`: the multiplier of the scales' ratio, divided by the count
/// at the highest precision that fits.
pub fn mean_multiplier(x: f32, y: f32, count: usize) -> (i32, i8) {
    let (multiplier, shift) = quantize_multiplier(f64::from(x) / f64::from(y));
    let bits = (63 - (count.max(1) as u64).leading_zeros() as i32).min(32).min(31 + i32::from(shift));
    let divided = (i64::from(multiplier) << bits) / count.max(1) as i64;
    (divided as i32, (i32::from(shift) - bits) as i8)
}

/// Bounds of a fused activation on an int8 output with this scale and zero point: `round(bound / scale) +
/// zero_point`, clamped to int8. `None` if they restrict nothing.
pub fn activation_range(bounds: (f32, f32), scale: f32, zero_point: i32) -> Option<(i8, i8)> {
    // TFLite divides and rounds in float32.
    let quantize =
        |bound: f32| (f64::from((bound / scale).round()) + f64::from(zero_point)).clamp(-128.0, 127.0);
    let low = if bounds.0.is_finite() { quantize(bounds.0) as i8 } else { i8::MIN };
    let high = if bounds.1.is_finite() { quantize(bounds.1) as i8 } else { i8::MAX };
    ((low, high) != (i8::MIN, i8::MAX)).then_some((low, high))
}

/// [`activation_range`] of an int16 output, whose zero point is 0.
pub fn activation_range_int16(bounds: (f32, f32), scale: f32) -> Option<(i16, i16)> {
    let quantize = |bound: f32| (bound / scale).round().clamp(-32768.0, 32767.0) as i16;
    let low = if bounds.0.is_finite() { quantize(bounds.0) } else { i16::MIN };
    let high = if bounds.1.is_finite() { quantize(bounds.1) } else { i16::MAX };
    ((low, high) != (i16::MIN, i16::MAX)).then_some((low, high))
}

/// Integer input scaling of softmax for an input scale and beta 1: multiplier, left shift, and the smallest
/// difference to the row's maximum that still counts (`diff_min`, negative). Five integer bits.
pub fn softmax_scaling(input_scale: f32) -> (i32, i8, i32) {
    const INTEGER_BITS: i32 = 5;
    let limit = ((1i64 << 31) - 1) as f64;
    let real = (f64::from(input_scale) * f64::from(1 << (31 - INTEGER_BITS))).min(limit);
    let (multiplier, shift) = quantize_multiplier(real);
    let radius = f64::from((1 << INTEGER_BITS) - 1) * (1i64 << (31 - INTEGER_BITS)) as f64
        / 2f64.powi(i32::from(shift));
    (multiplier, shift, -(radius.floor() as i32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn multiplier_of_known_reals() {
        assert_eq!(quantize_multiplier(0.5), (1 << 30, 0));
        assert_eq!(quantize_multiplier(1.0), (1 << 30, 1));
        assert_eq!(quantize_multiplier(0.75), (3 << 29, 0));
        assert_eq!(quantize_multiplier(0.0), (0, 0));
        assert_eq!(quantize_multiplier(2f64.powi(-32)), (1 << 30, -31));
        assert_eq!(quantize_multiplier(2f64.powi(-33)), (0, 0));
        assert_eq!(quantize_multiplier(f64::MIN_POSITIVE / 8.0), (0, 0));
        assert_eq!(quantize_multiplier(1e30), (i32::MAX, 30));
        // A mantissa that rounds up to 1 moves into the exponent.
        assert_eq!(quantize_multiplier(1.0 - 2f64.powi(-40)), (1 << 30, 1));
    }

    #[test]
    fn multiplier_of_the_last_layer_of_the_anomaly_detector() {
        // MLPerf Tiny; a product in float32 would give 1462485078.
        let real = linear_multiplier(0.02479089, 0.019556683, 0.36449847);
        assert_eq!(quantize_multiplier(real).0, 1_462_485_049);
    }

    #[test]
    fn multiplier_is_close_to_the_real() {
        let mut real = 1e-8;
        while real < 1e6 {
            let (m, s) = quantize_multiplier(real);
            let back = f64::from(m) * 2f64.powi(i32::from(s) - 31);
            assert!((back / real - 1.0).abs() < 1e-9, "{real} {back}");
            real *= 1.37;
        }
    }

    #[test]
    fn mean_of_a_power_of_two_is_exact() {
        // 1.0 is 2^30 and shift 1; over 16 elements only the shift changes.
        assert_eq!(mean_multiplier(0.5, 0.5, 16), (1 << 30, -3));
        assert_eq!(mean_multiplier(0.5, 0.5, 3), (715_827_882, 0));
    }

    #[test]
    fn activation_bounds() {
        assert_eq!(activation_range((0.0, 6.0), 6.0 / 255.0, -128), None);
        assert_eq!(activation_range((0.0, f32::INFINITY), 0.1, 3), Some((3, 127)));
        assert_eq!(activation_range((0.0, 6.0), 0.1, -100), Some((-100, -40)));
        assert_eq!(activation_range((f32::NEG_INFINITY, f32::INFINITY), 0.1, 3), None);
    }

    #[test]
    fn softmax_of_a_keyword_network() {
        // Input scale 1/16: 2^22 = 0.5 · 2^23.
        assert_eq!(softmax_scaling(1.0 / 16.0), (1 << 30, 23, -((31 << 26) >> 23)));
    }
}
