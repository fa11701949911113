//! `softmax(scores) - one-hot` in integers.

use super::magnitude::Magnitude;

/// Fraction bits of a residual: 2^15 is one.
pub const RESIDUAL_BITS: i32 = 15;

/// `2^-fraction`, `fraction` in 2^-16, result in 2^-30: the exponential series up to the sixth power, error below
/// 2^-20.
fn exp2_of_negative(fraction: u64) -> u32 {
    // fraction · ln 2, in 2^-30.
    let x = (fraction * 744_261_118) >> 16;
    let one = 1u32 << 30;
    // Horner's scheme: 1 - x (1 - x/2 (1 - x/3 (…))), every bracket between 0 and 1. Dividends have 30 bits.
    [6, 5, 4, 3, 2, 1].iter().fold(one, |inner, n| one - ((x * u64::from(inner)) >> 30) as u32 / n)
}

/// Computes residuals in 2^-15 from `sums`, whose real values are `sum · unit`.
pub fn residual(scores: &mut [i32], sums: &[i64], unit: Magnitude, label: usize) {
    // To powers of two: times log2(e).
    let unit = unit.times(Magnitude::new(3_098_164_009, -31));
    let largest = sums.iter().copied().max().unwrap_or(0);
    let power = |sum: i64| {
        let below = largest.abs_diff(sum);
        let distance = Magnitude::new(below, 0).times(unit).whole(16);
        let whole = distance >> 16;
        if whole >= 31 { 0 } else { exp2_of_negative(distance & 0xffff) >> whole }
    };
    let mut total = 0u64;
    for (score, &sum) in scores.iter_mut().zip(sums) {
        let power = power(sum);
        total += u64::from(power);
        *score = power as i32;
    }
    for (k, score) in scores.iter_mut().enumerate() {
        let share = (u64::from(*score as u32) << RESIDUAL_BITS) / total.max(1);
        *score = share as i32 - i32::from(k == label) * (1 << RESIDUAL_BITS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn residuals_are_those_of_floats() {
        let sums = [-300i64, 0, 250, 251, 90];
        let mut residuals = [0; 5];
        residual(&mut residuals, &sums, Magnitude::from_f32(0.02), 3);
        let total: f64 = sums.iter().map(|&s| (0.02 * s as f64).exp()).sum();
        for (k, &r) in residuals.iter().enumerate() {
            let exact = (0.02 * sums[k] as f64).exp() / total - f64::from(u8::from(k == 3));
            assert!((f64::from(r) / 32768.0 - exact).abs() < 1e-4, "{k}: {r} {exact}");
        }
        residual(&mut residuals, &[i64::MAX, i64::MIN, 0, 0, 0], Magnitude::from_f32(1e30), 1);
        assert_eq!(residuals, [32768, -32768, 0, 0, 0]);
    }
}
