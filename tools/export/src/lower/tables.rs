//! int8 tables of functions that TFLite Micro computes in fixed point: they hold its results, not the rounded function.
//!
//! Follows `logistic.h`, `tanh.h` and `hard_swish.h` of TFLite's reference kernels, and gemmlowp's `fixedpoint.h`. A
//! number with n integer bits is an i32 in units of `2^(n - 31)`.

use offshoot::kernels::portable::fixed_point::{
    multiply_by_quantized_multiplier, rounding_divide_by_pot, saturating_rounding_doubling_high_mul as mul,
};
use offshoot_ir::UnaryKind;
use offshoot_ir::quant_math::quantize_multiplier;

use crate::lowered::Tensor;

/// The table of `kind` from `x` to `y`; `None` where TFLite Micro has no fixed-point form between these scales.
pub(super) fn table(kind: UnaryKind, x: &Tensor, y: &Tensor) -> Option<Vec<i8>> {
    match kind {
        UnaryKind::Sigmoid if (y.scale, y.zp) == (1.0 / 256.0, -128) => {
            Some(saturating(x, |q| rounding_divide_by_pot(logistic(q), 31 - 8) - 128))
        }
        UnaryKind::Tanh if (y.scale, y.zp) == (1.0 / 128.0, 0) => {
            Some(saturating(x, |q| rounding_divide_by_pot(tanh(q), 31 - 7)))
        }
        UnaryKind::HardSwish => hard_swish(x, y),
        UnaryKind::Elu { alpha: 1.0 } => Some(elu(x, y)),
        _ => None,
    }
}

/// Table of a function of numbers with four integer bits; inputs beyond them saturate.
fn saturating(x: &Tensor, function: impl Fn(i32) -> i32) -> Vec<i8> {
    const INTEGER_BITS: i32 = 4;
    let (multiplier, shift) = quantize_multiplier(f64::from(x.scale) * f64::from(1 << (31 - INTEGER_BITS)));
    let most = f64::from((1 << INTEGER_BITS) - 1) * f64::from(1 << (31 - INTEGER_BITS));
    let radius = (most / 2f64.powi(i32::from(shift))).floor();
    let entry = |q: i32| {
        let input = q - i32::from(x.zp);
        if f64::from(input) <= -radius {
            i8::MIN
        } else if f64::from(input) >= radius {
            i8::MAX
        } else {
            let scaled = multiply_by_quantized_multiplier(input, multiplier, shift);
            function(scaled).clamp(-128, 127) as i8
        }
    };
    (-128..128).map(entry).collect()
}

/// `1 / (1 + exp(-a))` of a number with four integer bits; none in the result.
fn logistic(a: i32) -> i32 {
    if a == 0 {
        return 1 << 30;
    }
    let positive = one_over_one_plus(exp_on_negative_values(-a.abs(), 4));
    if a > 0 { positive } else { i32::MAX - positive }
}

/// `tanh(a)` of a number with four integer bits; none in the result.
fn tanh(a: i32) -> i32 {
    if a == 0 {
        return 0;
    }
    // 2·a has the same bits with five integer bits.
    let t = one_minus_over_one_plus(exp_on_negative_values(-a.abs(), 5));
    if a > 0 { t } else { -t }
}

/// `exp(a)` for `a` ≤ 0; no integer bits in the result.
fn exp_on_negative_values(a: i32, integer_bits: u32) -> i32 {
    // exp(-2^k) for k = -2..=4.
    const STEPS: [i32; 7] = [1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242];
    if a == 0 {
        return i32::MAX;
    }
    let fraction_bits = 31 - integer_bits;
    let quarter = 1i32 << (fraction_bits - 2);
    let below = (a & (quarter - 1)) - quarter;
    let mut result = exp_on_interval(below << integer_bits);
    let remainder = below.wrapping_sub(a);
    for (i, step) in STEPS.iter().enumerate().take(integer_bits as usize + 2) {
        if remainder & 1 << (fraction_bits - 2 + i as u32) != 0 {
            result = mul(result, *step);
        }
    }
    result
}

/// `exp(a)` on [-1/4, 0), by a polynomial around -1/8.
fn exp_on_interval(a: i32) -> i32 {
    const CONSTANT: i32 = 1895147668;
    const THIRD: i32 = 715827883;
    let x = a.wrapping_add(1 << 28);
    let x2 = mul(x, x);
    let x3 = mul(x2, x);
    let x4_over_4 = rounding_divide_by_pot(mul(x2, x2), 2);
    let rest = rounding_divide_by_pot(mul(x4_over_4.wrapping_add(x3), THIRD).wrapping_add(x2), 1);
    CONSTANT.wrapping_add(mul(CONSTANT, x.wrapping_add(rest)))
}

/// `2 / (1 + a)` for `a` in [0, 1] with two integer bits: three steps of Newton's method.
fn two_over_one_plus(a: i32) -> i32 {
    const SLOPE: i32 = -1010580540;
    const START: i32 = 1515870810;
    let sum = i64::from(a) + i64::from(i32::MAX);
    let half = ((sum + 1) / 2) as i32;
    let mut x = START.wrapping_add(mul(half, SLOPE));
    for _ in 0..3 {
        let error = (1i32 << 29).wrapping_sub(mul(half, x));
        x = x.wrapping_add(shifted_left(mul(x, error), 2));
    }
    x
}

fn one_over_one_plus(a: i32) -> i32 {
    shifted_left(two_over_one_plus(a), 1)
}

fn one_minus_over_one_plus(a: i32) -> i32 {
    shifted_left(two_over_one_plus(a).wrapping_sub(1 << 29), 2)
}

/// `x · 2^by`, saturating.
fn shifted_left(x: i32, by: u32) -> i32 {
    (i64::from(x) << by).clamp(i32::MIN.into(), i32::MAX.into()) as i32
}

/// High 16 bits of `2·a·b`, rounded to nearest, ties away from zero.
fn mul16(a: i16, b: i16) -> i16 {
    let product = i32::from(a) * i32::from(b);
    let nudge = if product >= 0 { 1 << 14 } else { 1 - (1 << 14) };
    ((product + nudge) / (1 << 15)).min(i16::MAX.into()) as i16
}

fn saturate(v: i32) -> i16 {
    v.clamp(i16::MIN.into(), i16::MAX.into()) as i16
}

/// Multiplier of 16 bits and exponent of a scale.
fn narrow(real: f64) -> (i16, i32) {
    let (multiplier, shift) = quantize_multiplier(real);
    let rounded = match multiplier >= i32::MAX - (1 << 15) {
        true => i16::MAX,
        false => ((multiplier + (1 << 15)) >> 16) as i16,
    };
    (rounded, shift.into())
}

/// `x · relu6(x + 3) / 6`; `None` if the output's scale is too fine.
fn hard_swish(x: &Tensor, y: &Tensor) -> Option<Vec<i8>> {
    let fine = f64::from(x.scale) / 128.0;
    let (out, out_shift) = narrow(fine / f64::from(y.scale));
    if out_shift > 0 {
        return None;
    }
    let (gate, gate_shift) = narrow(fine / (3.0 / 32768.0));
    let entry = |q: i32| {
        let input = ((q - i32::from(x.zp)) * 128) as i16;
        let scaled = mul16(input, out);
        let mut relu = input;
        if gate_shift > 0 {
            relu = saturate((i64::from(relu) << (gate_shift - 1).min(31)).clamp(-1 << 20, 1 << 20) as i32);
        }
        relu = mul16(relu, gate);
        if gate_shift > 0 {
            relu = saturate(i32::from(relu) * 2);
        } else if gate_shift < 0 {
            relu = rounding_divide_by_pot(relu.into(), (-gate_shift).min(31) as u32) as i16;
        }
        let relu = (i32::from(relu) + (1 << 15)) >> 1;
        // Here it rounds towards zero.
        let product = relu * i32::from(scaled) / (1 << 15);
        let code = rounding_divide_by_pot(product, (-out_shift).min(31) as u32) + i32::from(y.zp);
        code.clamp(-128, 127) as i8
    };
    Some((-128..128).map(entry).collect())
}

/// `exp(x) - 1` below zero, in float32.
fn elu(x: &Tensor, y: &Tensor) -> Vec<i8> {
    let inverse = 1.0 / y.scale;
    let entry = |q: i32| {
        let real = x.scale * (q - i32::from(x.zp)) as f32;
        let out = if real < 0.0 { libm::expf(real) - 1.0 } else { real };
        ((out * inverse).round() + f32::from(y.zp)).clamp(-128.0, 127.0) as i8
    };
    (-128..128).map(entry).collect()
}

#[cfg(test)]
mod tests {
    use offshoot::format::record::DType;

    use super::*;

    fn tensor(scale: f32, zp: i8) -> Tensor {
        Tensor { buffer: 0, shape: vec![1], dtype: DType::I8, scale, zp }
    }

    /// Each entry is the rounded function or its neighbour.
    #[test]
    fn tables_are_close_to_the_function() {
        let (x, wide) = (tensor(0.05, -7), tensor(0.21, 20));
        for x in [&x, &wide] {
            for (kind, y, f) in [
                (
                    UnaryKind::Sigmoid,
                    tensor(1.0 / 256.0, -128),
                    (|v| 1.0 / (1.0 + libm::exp(-v))) as fn(f64) -> f64,
                ),
                (UnaryKind::Tanh, tensor(1.0 / 128.0, 0), libm::tanh),
                (UnaryKind::HardSwish, tensor(x.scale, -120), |v| v * (v / 6.0 + 0.5).clamp(0.0, 1.0)),
            ] {
                let table = table(kind, x, &y).unwrap();
                for (i, code) in table.into_iter().enumerate() {
                    let real = f((i as f64 - 128.0 - f64::from(x.zp)) * f64::from(x.scale));
                    let exact = (real / f64::from(y.scale) + f64::from(y.zp)).clamp(-128.0, 127.0);
                    assert!((exact - f64::from(code)).abs() <= 1.2, "{kind:?} {i}: {code}, exactly {exact}");
                }
            }
        }
    }
}
