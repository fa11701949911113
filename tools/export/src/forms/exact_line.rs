//! Exact single-multiply requantisation: finds a bias and multiplier for [`offshoot::format::single_multiply`] that
//! provably reproduce TFLite's rounding over a channel's accumulator range. As a function of the sum they are a line,
//! rounded down.
//!
//! TFLite's output is a monotonic step function of the sum. Each step bounds the line from both sides: at the first
//! sum of an output the line must have reached it, at the sum before it must not. For a given multiplier these are
//! bounds of the bias. Multipliers near the scale are tried until a bias satisfies all bounds. If none does, the
//! operator keeps a form with TFLite's two roundings.

use std::ops::RangeInclusive;

use offshoot::format::single_multiply::SHIFT;

/// Number of multipliers to try on each side of the scale.
const TRIES: i64 = 1000;

/// TFLite's requantisation of a channel with an output zero point of -128 and no narrower clamp. Negative results
/// clamp to -128, so the rounding of negative numbers does not matter.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scale {
    /// TFLite's multiplier; not negative.
    pub(super) multiplier: i32,
    /// TFLite's shift; to the right if negative.
    pub(super) shift: i8,
    /// Bias with the input's zero point folded in.
    pub(super) bias: i32,
}

/// Bias and multiplier of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(super) bias: i32,
    pub(super) multiplier: i32,
    /// Factor of the sum before the bias is added.
    pub(super) factor: i16,
}

impl Scale {
    /// Smallest sum, without bias, whose output is at least -128 + `steps` (1 to 255).
    fn begin(&self, steps: i64) -> i128 {
        let right = u32::from(self.shift.unsigned_abs());
        // The second rounding reaches `steps` from `rounded` on; the first rounding reaches that from one half below
        // on.
        let rounded = i128::from((steps << right) - (1 << (right - 1)));
        let doubled = (rounded << 32) - (1 << 31);
        div_ceil(doubled, 2 * i128::from(self.multiplier)) - i128::from(self.bias)
    }

    /// The line for sums in `reach` that are multiplied by `factor`; `None` if there is none.
    pub(super) fn line(&self, reach: &RangeInclusive<i64>, factor: i16) -> Option<Line> {
        if self.multiplier <= 0 || !(-22..=-1).contains(&self.shift) {
            return None;
        }
        let begins: Vec<i128> = (1..=255).map(|steps| self.begin(steps)).collect();
        // The factor times the sum times the multiplier has 32 + SHIFT fractional bits.
        let scale = f64::from(self.multiplier) * f64::from(i32::from(self.shift) - 31).exp2();
        let exact = scale * f64::from(32 + SHIFT).exp2() / f64::from(factor);
        // Candidates are spaced so that the last steps move by a two-thousandth of a sum.
        let step = ((exact * scale / 512_000.0) as i64).max(1);
        let middle = exact.round() as i64;
        let candidates =
            (0..=2 * TRIES).map(|i| middle + step * if i & 1 == 0 { i / 2 } else { -(i / 2) - 1 });
        // With few steps in reach, steeper lines work too, and their biases are smaller.
        let inside =
            |begin: &&i128| i128::from(*reach.start()) < **begin && **begin <= i128::from(*reach.end());
        let few = if begins.iter().filter(inside).count() <= 8 { 64 } else { 0 };
        let steeper = (1..=few).map(|i| (exact * (0.25 * f64::from(i)).exp2()) as i64);
        candidates.chain(steeper).filter(|&m| (1..=i64::from(i32::MAX)).contains(&m)).find_map(|multiplier| {
            let bias = bias(&begins, multiplier, reach, factor.into())?;
            Some(Line { bias, multiplier: multiplier as i32, factor })
        })
    }
}

/// A bias with which this multiplier's outputs, from -127 on, start at the sums `begins`.
fn bias(begins: &[i128], multiplier: i64, reach: &RangeInclusive<i64>, factor: i128) -> Option<i32> {
    let (first, last) = (i128::from(*reach.start()), i128::from(*reach.end()));
    // The sum times the factor, plus the bias, must fit 32 bits.
    let mut least = i128::from(i32::MIN) - factor * first;
    let mut most = i128::from(i32::MAX) - factor * last;
    for (output, &begin) in (-127i128..).zip(begins) {
        let product = div_ceil(output << (32 + SHIFT), i128::from(multiplier));
        if begin <= last {
            least = least.max(product - factor * begin.max(first));
        }
        if begin > first {
            most = most.min(product - 1 - factor * (begin - 1).min(last));
        }
        if least > most {
            return None;
        }
    }
    i32::try_from((least + most) >> 1).ok()
}

fn div_ceil(a: i128, b: i128) -> i128 {
    -(-a).div_euclid(b)
}

/// Accumulator range of a channel with these weights and int8 inputs.
pub(super) fn reach(weights: impl Iterator<Item = i8>) -> RangeInclusive<i64> {
    let (mut low, mut high) = (0, 0);
    for w in weights.map(i64::from) {
        let ends = [-128 * w, 127 * w];
        low += ends[0].min(ends[1]);
        high += ends[0].max(ends[1]);
    }
    low..=high
}

#[cfg(test)]
mod tests {
    use super::*;
    use offshoot::kernels::portable::fixed_point::multiply_by_quantized_multiplier;
    use proptest::prelude::*;

    fn tflite(scale: &Scale, sum: i64) -> i8 {
        let acc = scale.bias.wrapping_add(sum as i32);
        let scaled = multiply_by_quantized_multiplier(acc, scale.multiplier, scale.shift);
        scaled.wrapping_sub(128).clamp(-128, 127) as i8
    }

    fn straight(line: Line, sum: i64) -> i8 {
        let scaled = (sum as i32).wrapping_mul(line.factor.into()).wrapping_add(line.bias);
        ((i64::from(scaled) * i64::from(line.multiplier)) >> (32 + SHIFT)).clamp(-128, 127) as i8
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]

        /// A line that is found equals TFLite's function: at every sum of small ranges, around every step of large
        /// ones.
        #[test]
        fn lines_are_what_tflite_computes(
            multiplier in 1i32 << 30..i32::MAX,
            shift in -12i8..=-5,
            bias in -40_000i32..40_000,
            reach in 100i64..3_000_000,
            factor in 240i16..258,
        ) {
            let scale = Scale { multiplier, shift, bias };
            let Some(line) = scale.line(&(-reach..=reach), factor) else { return Ok(()) };
            let same = |sum: i64| {
                prop_assert_eq!(straight(line, sum), tflite(&scale, sum), "{} {:?}", sum, line);
                Ok(())
            };
            if reach < 20_000 {
                return (-reach..=reach).try_for_each(same);
            }
            for steps in 1..=255 {
                let begin = scale.begin(steps) as i64;
                (begin - 3..begin + 3).filter(|sum| sum.abs() <= reach).try_for_each(same)?;
            }
            [-reach, reach, 0].into_iter().try_for_each(same)?;
        }
    }

    #[test]
    fn usual_scales_have_lines() {
        let found = |shift: i8| {
            let multipliers = (0..100i32).map(|i| (1 << 30) + i * 10_737_418);
            let has = |&multiplier: &i32| {
                Scale { multiplier, shift, bias: 77 }.line(&(-400_000..=400_000), 256).is_some()
            };
            multipliers.filter(has).count()
        };
        for shift in -10..=-5 {
            assert!(found(shift) >= 97, "{shift}: {}", found(shift));
        }
    }

    #[test]
    fn a_reach_is_that_of_int8() {
        assert_eq!(reach([1, -2].into_iter()), -128 - 254..=127 + 256);
    }
}
