//! Softmax. int8 is TFLite Micro's reference in gemmlowp fixed point.
use super::fixed_point::{
    multiply_by_quantized_multiplier, rounding_divide_by_pot, saturating_rounding_doubling_high_mul as mul,
};
use super::float::{canonical, larger};
use offshoot_format::record::{Softmax, SoftmaxArith};

/// exp(a) for a ≤ 0 in Q5.26, result Q0.31.
fn exp_on_negative_values(a: i32) -> i32 {
    const INTEGER_BITS: u32 = 5;
    let fraction_bits = 31 - INTEGER_BITS;
    let quarter = 1i32 << (fraction_bits - 2);
    let mask = quarter - 1;
    let a_mod = (a & mask) - quarter;
    let mut result = exp_on_interval(a_mod << INTEGER_BITS);
    let remainder = a_mod.wrapping_sub(a);
    // exp(-2^k) for k = -2..=4, Q0.31.
    const STEPS: [i32; 7] = [1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242];
    for (i, step) in STEPS.iter().enumerate() {
        if remainder & (1 << (fraction_bits - 2 + i as u32)) != 0 {
            result = mul(result, *step);
        }
    }
    if a == 0 { i32::MAX } else { result }
}

/// exp on [-1/4, 0), Q0.31 in and out: Taylor at -1/8.
fn exp_on_interval(a: i32) -> i32 {
    const CONSTANT: i32 = 1895147668;
    const THIRD: i32 = 715827883;
    let x = a.wrapping_add(1 << 28);
    let x2 = mul(x, x);
    let x3 = mul(x2, x);
    let x4 = mul(x2, x2);
    let x4_over_4 = rounding_divide_by_pot(x4, 2);
    let t = rounding_divide_by_pot(mul(x4_over_4.wrapping_add(x3), THIRD).wrapping_add(x2), 1);
    CONSTANT.saturating_add(mul(CONSTANT, x.wrapping_add(t)))
}

/// 1 / (1 + x) for x in [0, 1), Q0.31.
fn one_over_one_plus_x(a: i32) -> i32 {
    let sum = i64::from(a) + i64::from(i32::MAX);
    let half = ((sum + if sum >= 0 { 1 } else { -1 }) / 2) as i32;
    const C48_17: i32 = 1515870810;
    const C32_17_NEG: i32 = -1010580540;
    let mut x = C48_17.wrapping_add(mul(half, C32_17_NEG));
    for _ in 0..3 {
        let hx = mul(half, x);
        let one_minus = (1i32 << 29).wrapping_sub(hx);
        let step = mul(x, one_minus);
        x = x.wrapping_add(shift_left_saturating(step, 2));
    }
    shift_left_saturating(x, 1)
}

fn shift_left_saturating(x: i32, bits: u32) -> i32 {
    (i64::from(x) << bits).clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32
}

/// int8, in place over rows of `depth`.
pub fn softmax_i8(r: &Softmax, data: &mut [i8]) {
    let SoftmaxArith::I8 { multiplier, shift, diff_min } = r.arith else {
        return;
    };
    for row in data.chunks_exact_mut(r.depth.max(1) as usize) {
        let max = row.iter().copied().max().unwrap_or(0);
        let scaled = |v: i8| {
            let diff = i32::from(v) - i32::from(max);
            (diff >= diff_min)
                .then(|| exp_on_negative_values(multiply_by_quantized_multiplier(diff, multiplier, shift)))
        };
        let sum = row
            .iter()
            .fold(0i32, |s, &v| s.wrapping_add(scaled(v).map_or(0, |e| rounding_divide_by_pot(e, 12))));
        let headroom = sum.leading_zeros();
        let bits_over_unit = 12i32 - headroom as i32;
        let shifted = ((sum as u32) << headroom.min(31)).wrapping_sub(1 << 31) as i32;
        let reciprocal = one_over_one_plus_x(shifted);
        for v in row.iter_mut() {
            *v = match scaled(*v) {
                None => i8::MIN,
                Some(e) => {
                    let p = rounding_divide_by_pot(
                        mul(reciprocal, e),
                        (bits_over_unit + 31 - 8).clamp(0, 31) as u32,
                    );
                    p.wrapping_sub(128).clamp(-128, 127) as i8
                }
            };
        }
    }
}

/// float32, in place over rows of `depth`: exp(x - max) / sum, in order.
pub fn softmax_f32(r: &Softmax, data: &mut [f32]) {
    for row in data.chunks_exact_mut(r.depth.max(1) as usize) {
        let max = row.iter().copied().fold(f32::NEG_INFINITY, |s, v| larger(v, s));
        let mut sum = 0.0;
        for v in row.iter_mut() {
            *v = libm::expf(*v - max);
            sum += *v;
        }
        row.iter_mut().for_each(|v| *v = canonical(*v / sum));
    }
}
