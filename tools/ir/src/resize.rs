//! The input elements that each output row and column of a Resize reads: ONNX Resize's coordinate rules as tables.

use crate::{Error, ResizeRule, Result};

/// Sources of one output index: `in[low] · (1 - weight) + in[high] · weight`. Nearest has `low == high` and weight 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tap {
    /// Lower source index.
    pub low: usize,
    /// Higher source index.
    pub high: usize,
    /// Weight of `high`, from 0 to 1.
    pub weight: f32,
}

/// Taps of each output row and each output column. Extents are height, width.
pub fn resize_tables(
    rule: &ResizeRule,
    input: [usize; 2],
    output: [usize; 2],
) -> Result<(Vec<Tap>, Vec<Tap>)> {
    let axis = |i: usize| taps(rule, rule.scale[i], input[i], output[i]);
    Ok((axis(0)?, axis(1)?))
}

fn taps(rule: &ResizeRule, scale: f32, input: usize, output: usize) -> Result<Vec<Tap>> {
    let fits = |n: usize| n > 0 && n <= MAX_EXTENT;
    let scales = 1.0 / MAX_EXTENT as f32..=MAX_EXTENT as f32;
    if !fits(input) || !scales.contains(&scale) || output > MAX_EXTENT {
        return Err(Error::Graph(format!(
            "resize of {input} elements to {output} by {scale} is not possible"
        )));
    }
    let scale = exact_scale(scale, input, output);
    (0..output).map(|i| tap(rule, source(rule, i, scale, input, output)?, input)).collect()
}

/// Largest supported extent; keeps all products below well within 128 bits.
const MAX_EXTENT: usize = 1 << 24;

/// A rational number with a positive denominator, not always reduced.
#[derive(Clone, Copy, Debug)]
struct Ratio {
    above: i128,
    below: i128,
}

impl Ratio {
    fn new(above: i128, below: i128) -> Self {
        let (above, below) = (above * below.signum(), below.abs());
        // Reduced only where its products could exceed 128 bits.
        if above.abs().max(below) < 1 << 60 {
            return Self { above, below };
        }
        let common = gcd(above.unsigned_abs(), below.unsigned_abs()).max(1) as i128;
        Self { above: above / common, below: below / common }
    }

    fn whole(n: usize) -> Self {
        Self { above: n as i128, below: 1 }
    }

    fn plus(self, other: Self) -> Self {
        Self::new(self.above * other.below + other.above * self.below, self.below * other.below)
    }

    fn minus(self, other: Self) -> Self {
        self.plus(Self { above: -other.above, ..other })
    }

    fn times(self, other: Self) -> Self {
        Self::new(self.above * other.above, self.below * other.below)
    }

    /// `self / other`; `other` is not 0.
    fn over(self, other: Self) -> Self {
        Self::new(self.above * other.below, self.below * other.above)
    }

    fn floor(self) -> i128 {
        self.above.div_euclid(self.below)
    }

    fn ceil(self) -> i128 {
        -(-self.above).div_euclid(self.below)
    }
}

const HALF: Ratio = Ratio { above: 1, below: 2 };

fn gcd(mut a: u128, mut b: u128) -> u128 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// The exact scale represented by a float32: the ratio of the extents if that rounds to it, otherwise the simplest
/// fraction that does. float32 cannot represent one third, and a scale that is off by the rounding error misses
/// pixels that one third hits.
fn exact_scale(scale: f32, input: usize, output: usize) -> Ratio {
    if output as f32 / input as f32 == scale {
        return Ratio::new(output as i128, input as i128);
    }
    // Every float32 between 2^-24 and 2^24 is a multiple of 2^-48; halves of its gaps are multiples of 2^-49.
    let exact = |v: f32| (f64::from(v) * 2f64.powi(50)) as i128;
    let (low, at, high) = (exact(scale.next_down()), exact(scale), exact(scale.next_up()));
    simplest((low + at) / 2, (at + high) / 2, 1 << 50)
}

/// The fraction with the smallest denominator strictly between `low / unit` and `high / unit`, both positive.
fn simplest(low: i128, high: i128, unit: i128) -> Ratio {
    // Continued fractions: the common integer part, then the same for the reciprocals of the remainders.
    let (mut low, mut high) = ((low, unit), (high, unit));
    let mut terms = Vec::new();
    loop {
        let whole = low.0.div_euclid(low.1);
        if (whole + 1) * high.1 < high.0 {
            terms.push(whole + 1);
            break;
        }
        terms.push(whole);
        let rests = (low.0 - whole * low.1, high.0 - whole * high.1);
        if rests.0 == 0 {
            // `low` is excluded: take the next fraction above it that is below `high`.
            terms.push((high.1).div_euclid(rests.1) + 1);
            break;
        }
        (low, high) = ((high.1, rests.1), (low.1, rests.0));
    }
    let last = terms.pop().unwrap_or(1);
    let start = Ratio { above: last, below: 1 };
    terms
        .iter()
        .rev()
        .fold(start, |rest, term| Ratio { above: term * rest.above + rest.below, below: rest.above })
}

/// The output index in input coordinates, as defined by ONNX's reference evaluator: the resized length is the product
/// of scale and input extent, which need not be an integer.
fn source(rule: &ResizeRule, i: usize, scale: Ratio, input: usize, output: usize) -> Result<Ratio> {
    let (x, one, zero) = (Ratio::whole(i), Ratio::whole(1), Ratio::whole(0));
    let length = scale.times(Ratio::whole(input));
    let half_pixel = x.plus(HALF).over(scale).minus(HALF);
    Ok(match rule.coordinate.as_str() {
        "half_pixel" => half_pixel,
        "pytorch_half_pixel" if output > 1 => half_pixel,
        "pytorch_half_pixel" => zero,
        "asymmetric" => x.over(scale),
        "align_corners" if i == 0 || length.above == length.below => zero,
        "align_corners" => x.times(Ratio::whole(input - 1)).over(length.minus(one)),
        "half_pixel_symmetric" => {
            let adjustment = Ratio::whole(output).over(length);
            Ratio::whole(input).times(HALF).times(one.minus(adjustment)).plus(half_pixel)
        }
        other => {
            return Err(Error::Graph(format!("resize coordinate rule `{other}` is not known")));
        }
    })
}

fn tap(rule: &ResizeRule, x: Ratio, input: usize) -> Result<Tap> {
    let last = (input - 1) as i128;
    if rule.bilinear {
        let low = x.floor().clamp(0, last);
        let weight = x.minus(Ratio { above: low, below: 1 });
        let weight = if low == last { 0.0 } else { (weight.above as f64 / weight.below as f64).max(0.0) };
        let high = (low + 1).min(last);
        return Ok(Tap { low: low as usize, high: high as usize, weight: weight as f32 });
    }
    let nearest = match rule.nearest.as_str() {
        "round_prefer_floor" => x.minus(HALF).ceil(),
        "round_prefer_ceil" => x.plus(HALF).floor(),
        "floor" => x.floor(),
        "ceil" => x.ceil(),
        other => return Err(Error::Graph(format!("resize rounding `{other}` is not known"))),
    };
    let index = nearest.clamp(0, last) as usize;
    Ok(Tap { low: index, high: index, weight: 0.0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(bilinear: bool, coordinate: &str, nearest: &str, scale: f32) -> ResizeRule {
        ResizeRule {
            bilinear,
            coordinate: coordinate.into(),
            nearest: nearest.into(),
            scale: [scale; 2],
            rounded_steps: false,
        }
    }

    fn lows(rule: &ResizeRule, input: usize, output: usize) -> Vec<usize> {
        let (rows, _) = resize_tables(rule, [input; 2], [output; 2]).unwrap();
        rows.iter().map(|t| t.low).collect()
    }

    #[test]
    fn nearest_rules() {
        assert_eq!(lows(&rule(false, "asymmetric", "floor", 2.0), 2, 4), [0, 0, 1, 1]);
        assert_eq!(lows(&rule(false, "half_pixel", "round_prefer_floor", 2.0), 2, 4), [0, 0, 1, 1]);
        assert_eq!(lows(&rule(false, "align_corners", "round_prefer_ceil", 2.0), 2, 4), [0, 0, 1, 1]);
        assert_eq!(lows(&rule(false, "asymmetric", "ceil", 2.0), 2, 4), [0, 1, 1, 1]);
    }

    const COORDINATES: [&str; 5] =
        ["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel", "half_pixel_symmetric"];
    const ROUNDINGS: [&str; 4] = ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"];

    /// ONNX's definition for a scale of `p / q`: the source coordinate of `x` as a fraction, computed with integers
    /// only.
    fn definition(
        coordinate: &str,
        x: i128,
        (p, q): (i128, i128),
        input: i128,
        output: i128,
    ) -> (i128, i128) {
        match coordinate {
            // (x + 1/2) q / p - 1/2
            "half_pixel" => ((2 * x + 1) * q - p, 2 * p),
            "pytorch_half_pixel" if output > 1 => ((2 * x + 1) * q - p, 2 * p),
            "asymmetric" => (x * q, p),
            // x (input - 1) / (input p / q - 1)
            "align_corners" if input * p > q => (x * (input - 1) * q, input * p - q),
            // input/2 (1 - output q / (p input)) + (x + 1/2) q / p - 1/2
            "half_pixel_symmetric" => (input * p - output * q + (2 * x + 1) * q - p, 2 * p),
            _ => (0, 1),
        }
    }

    fn rounded(rounding: &str, (n, d): (i128, i128)) -> i128 {
        match rounding {
            "floor" => n.div_euclid(d),
            "ceil" => -(-n).div_euclid(d),
            "round_prefer_ceil" => (2 * n + d).div_euclid(2 * d),
            _ => -(d - 2 * n).div_euclid(2 * d),
        }
    }

    fn check_nearest(scale: f32, ratio: (i128, i128), input: usize, output: usize) {
        for coordinate in COORDINATES {
            for rounding in ROUNDINGS {
                let rule = rule(false, coordinate, rounding, scale);
                let found = taps(&rule, scale, input, output).unwrap();
                for (x, tap) in found.iter().enumerate() {
                    let (input, output) = (input as i128, output as i128);
                    let at = rounded(rounding, definition(coordinate, x as i128, ratio, input, output));
                    let what =
                        format!("{input} to {output} by {ratio:?}, {coordinate}, {rounding}, index {x}");
                    assert_eq!(tap.low as i128, at.clamp(0, input - 1), "{what}");
                }
            }
        }
    }

    #[test]
    fn nearest_by_sizes_is_exact() {
        for input in 1..=64usize {
            for output in 1..=64usize {
                let ratio = (output as i128, input as i128);
                check_nearest(output as f32 / input as f32, ratio, input, output);
            }
        }
    }

    #[test]
    fn nearest_by_scales_is_exact() {
        let ratios = [
            (1, 3),
            (2, 3),
            (3, 10),
            (6, 10),
            (7, 10),
            (2, 7),
            (5, 3),
            (7, 4),
            (13, 10),
            (9, 7),
            (31, 10),
            (1, 1),
        ];
        for (p, q) in ratios {
            for input in 1..=64i128 {
                let output = input * p / q;
                if output > 0 {
                    check_nearest(p as f32 / q as f32, (p, q), input as usize, output as usize);
                }
            }
        }
    }

    #[test]
    fn scales_stand_for_simple_fractions() {
        for (p, q) in [(1i128, 3i128), (3, 10), (22, 7), (1, 1 << 20), (1 << 20, 1), (355, 113), (5, 4)] {
            let found = exact_scale(p as f32 / q as f32, 1_000_003, 1);
            assert_eq!(found.above * q, found.below * p, "{p}/{q}: {found:?}");
        }
    }

    #[test]
    fn fractional_length_of_aligned_corners() {
        // ONNX's node test `resize_downsample_scales_linear_align_corners`.
        let found = taps(&rule(true, "align_corners", "", 0.6), 0.6, 4, 2).unwrap();
        assert!((found[1].low as f32 + found[1].weight - 2.142_857).abs() < 1e-6, "{found:?}");
    }

    #[test]
    fn bilinear_weights() {
        let (rows, _) = resize_tables(&rule(true, "half_pixel", "", 2.0), [2; 2], [4; 2]).unwrap();
        let weights: Vec<f32> = rows.iter().map(|t| t.low as f32 + t.weight).collect();
        assert_eq!(weights, [0.0, 0.25, 0.75, 1.0]);
    }

    #[test]
    fn unknown_rules_are_errors() {
        assert!(resize_tables(&rule(true, "tf_crop_and_resize", "", 2.0), [2; 2], [4; 2]).is_err());
    }
}
