//! One step of one layer of an int8 network, in whole numbers only: the same bits on cores with and without an FPU.
//!
//! Real numbers behind the whole ones: `x = s_in (q - z_in)`, `h = s_out (q - z_out)`, `w[o] = s_w[o] q`. The scale of a
//! channel's weights is not in the file but in its requantisation: `s_in s_w[o] / s_out = multiplier · 2^(shift - 31)`.
//! Errors are whole numbers times a [`Magnitude`] that is the same for the layer. A step of a weight is
//! `gradient · factor · 2^-shift` of its units, rounded stochastically.

pub mod magnitude;
pub mod softmax;

use super::grid::Grid;
use super::layers::geometry::Geometry;
use super::layers::window::gradients;
use super::rules::Rule;
use super::{Codes, Random};
pub use magnitude::Magnitude;
use softmax::RESIDUAL_BITS;

/// A layer and what it has just computed.
#[derive(Debug)]
pub struct Layer<'a> {
    /// Extents.
    pub geometry: Geometry,
    /// Input, `[height, width, channels]`.
    pub x: &'a [i8],
    /// Output, `[height, width, channels]`.
    pub h: &'a [i8],
    /// In the order of [`Geometry::order`]. Of int16 weights the upper byte, rounded: what inference computes with.
    pub weights: &'a mut [i8],
    /// Of int16 weights what the upper byte leaves, in 1/256 of its unit; empty for int8.
    pub fine: &'a mut [i8],
    /// One an output channel, in units of `s_in s_w[o]`.
    pub bias: &'a mut [i32],
    /// One an output channel, or one for all.
    pub multiplier: &'a [i32],
    /// As many as multipliers.
    pub shift: &'a [i8],
    /// Numbers of its quantisation.
    pub quant: Quant,
}

/// Quantisation of a layer's input and output.
#[derive(Clone, Copy, Debug)]
pub struct Quant {
    /// Zero point of the input.
    pub in_zp: i32,
    /// Zero point of the output.
    pub out_zp: i32,
    /// Outputs strictly between these have slope 1, others 0.
    pub bounds: (i8, i8),
    /// Scale of the input.
    pub s_in: Magnitude,
    /// Scale of the output.
    pub s_out: Magnitude,
}

/// What it is to learn.
#[derive(Clone, Copy, Debug)]
pub struct Lesson<'a> {
    /// Which error.
    pub rule: Rule,
    /// The label's way to the features.
    pub codes: Codes<'a>,
    /// Features of the output.
    pub grid: Grid,
    /// The class.
    pub label: usize,
    /// Learning rate, before it is normalised.
    pub rate: Magnitude,
    /// Divide the rate by one plus the energy of a patch.
    pub normalised: bool,
    /// Leave weights as they are.
    pub bias_only: bool,
}

/// Room that a step needs.
#[derive(Debug)]
pub struct Room<'a> {
    /// A number a class; afterwards residuals in 2^-15.
    pub residual: &'a mut [i32],
    /// A number a class.
    pub sums: &'a mut [i64],
    /// A number a pixel of the output.
    pub errors: &'a mut [i32],
}

/// One step.
pub fn learn(layer: &mut Layer<'_>, lesson: &Lesson<'_>, room: &mut Room<'_>, random: &mut Random) {
    let (g, quant, h) = (layer.geometry, layer.quant, layer.h);
    let errors = Errors::new(layer, lesson, room);
    let rate = if lesson.normalised { normalised(layer, lesson) } else { lesson.rate };
    // Of a gradient `Σ error · (x - z_in)`, before the channel's own scale is divided out:
    // rate · unit · s_in / s_w = rate · unit · s_in² / (s_out · multiplier).
    let common = rate.times(errors.unit).times(quant.s_in).times(quant.s_in).over(quant.s_out);
    let features = lesson.grid.features();
    for channel in 0..g.out_c {
        let mut total = 0i32;
        for j in (channel..features).step_by(g.out_c) {
            let of_feature = errors.at(j, room.residual);
            lesson.grid.pixels(j, |at| {
                let inside = h[at] > quant.bounds.0 && h[at] < quant.bounds.1;
                let e = if inside { of_feature } else { 0 };
                room.errors[at / g.out_c] = e;
                total = total.wrapping_add(e);
            });
        }
        let scale = if layer.multiplier.len() == 1 { 0 } else { channel };
        let requantised = Magnitude::new(layer.multiplier[scale].unsigned_abs().into(), -31);
        let per_weight = common.over(requantised.scaled(layer.shift[scale].into()));
        let per_bias = Coefficient::new(per_weight.over(quant.s_in).over(quant.s_in));
        layer.bias[channel] = layer.bias[channel].saturating_sub(per_bias.step(total, random));
        if lesson.bias_only {
            continue;
        }
        if layer.fine.is_empty() {
            let coefficient = Coefficient::new(per_weight);
            gradients(&g, channel, layer.x, room.errors, quant.in_zp, |at, sum| {
                let q = i32::from(layer.weights[at]).saturating_sub(coefficient.step(sum, random));
                layer.weights[at] = q.clamp(-127, 127) as i8;
            });
        } else {
            let coefficient = Coefficient::new(per_weight.scaled(8));
            gradients(&g, channel, layer.x, room.errors, quant.in_zp, |at, sum| {
                let whole = i32::from(layer.weights[at]) * 256 + i32::from(layer.fine[at]);
                let q = whole.saturating_sub(coefficient.step(sum, random)).clamp(-127 * 256, 127 * 256);
                let upper = (q + 128) >> 8;
                layer.weights[at] = upper as i8;
                layer.fine[at] = (q - upper * 256) as i8;
            });
        }
    }
}

/// The rate over one plus the energy of a mean patch in each cell.
fn normalised(layer: &Layer<'_>, lesson: &Lesson<'_>) -> Magnitude {
    let g = &layer.geometry;
    let sum = layer.x.iter().fold(0u64, |sum, &x| {
        let x = i64::from(x) - i64::from(layer.quant.in_zp);
        sum + (x * x) as u64
    });
    let pixels = Magnitude::new((g.input[0] * g.input[1]) as u64, 0);
    let energy =
        Magnitude::new(sum.saturating_mul((g.taps() * lesson.grid.cell_pixels().1) as u64), 0).over(pixels);
    lesson.rate.over(energy.times(layer.quant.s_in).times(layer.quant.s_in).plus_one())
}

/// Errors of features, in whole numbers.
struct Errors<'a> {
    rule: Rule,
    codes: Codes<'a>,
    features: usize,
    label: usize,
    classes: usize,
    /// Errors are shifted right by this, so that sums over pixels fit.
    fit: i32,
    /// Value of an error of 1.
    unit: Magnitude,
}

impl<'a> Errors<'a> {
    /// Reads the features if the rule wants them.
    fn new(layer: &Layer<'_>, lesson: &Lesson<'a>, room: &mut Room<'_>) -> Self {
        let grid = &lesson.grid;
        let (features, classes) = (grid.features(), room.residual.len());
        let (pixels, cells) = grid.cell_pixels();
        let mean = Magnitude::new(cells as u64, 0).over(Magnitude::new(pixels as u64, 0));
        let mut bits = RESIDUAL_BITS;
        let mut unit = mean.scaled(-RESIDUAL_BITS);
        if let Rule::CrossEntropy { scale } = lesson.rule {
            let scale = Magnitude::from_f32(scale);
            room.sums.fill(0);
            for j in 0..features {
                let mut sum = 0i64;
                grid.pixels(j, |at| sum += i64::from(layer.h[at]) - i64::from(layer.quant.out_zp));
                lesson.codes.whole_column(classes, features, j, |k, p| room.sums[k] += i64::from(p) * sum);
            }
            let score = scale.times(mean).times(layer.quant.s_out);
            softmax::residual(room.residual, room.sums, score, lesson.label);
            unit = unit.times(scale);
            let entry = if matches!(lesson.codes, Codes::Small(_)) { 7 } else { 0 };
            // Residuals add up to at most 2 in absolute value.
            bits += entry + i32::from(lesson.codes != Codes::Unit);
        }
        // Sums of `pixels` products with numbers of nine bits must stay within 31.
        let room_bits = 31 - 9 - (usize::BITS - pixels.leading_zeros()) as i32;
        let fit = (bits - room_bits.max(2)).max(0);
        Self {
            rule: lesson.rule,
            codes: lesson.codes,
            features,
            label: lesson.label,
            classes,
            fit,
            unit: unit.scaled(fit),
        }
    }

    /// Error of a feature.
    fn at(&self, feature: usize, residual: &[i32]) -> i32 {
        let mut error = 0i32;
        match self.rule {
            Rule::CrossEntropy { .. } => {
                self.codes
                    .whole_column(self.classes, self.features, feature, |k, p| error += p * residual[k]);
            }
            // The only other rule that `Model::open` lets through for int8.
            _ => self.codes.whole_column(self.classes, self.features, feature, |k, p| {
                if k == self.label {
                    error = -p * (1 << RESIDUAL_BITS);
                }
            }),
        }
        // Rounded, not cut: a bias of half a unit would push all weights one way.
        if self.fit == 0 { error } else { (error + (1 << (self.fit - 1))) >> self.fit }
    }
}

/// A factor that gradients are multiplied by, with stochastic rounding.
#[derive(Clone, Copy, Debug)]
pub struct Coefficient {
    factor: i64,
    shift: u32,
}

/// Largest step, in units of a weight.
const STEP_MAX: i64 = 1 << 24;

impl Coefficient {
    /// Of a magnitude; what is too large is held, what is too small is zero.
    pub fn new(value: Magnitude) -> Self {
        match value.factor() {
            (factor, shift @ 0..=62) => Self { factor: factor.into(), shift: shift as u32 },
            (factor, shift @ -14..=-1) => Self { factor: i64::from(factor) << -shift, shift: 0 },
            (0, _) | (_, 63..) => Self { factor: 0, shift: 0 },
            _ => Self { factor: i64::from(i32::MAX), shift: 0 },
        }
    }

    /// `gradient · factor`, rounded down or up at random so that the mean is exact.
    #[inline]
    pub fn step(self, gradient: i32, random: &mut Random) -> i32 {
        let product = i64::from(gradient) * self.factor;
        let bits = u64::from(random.next_u32());
        // A number of `shift` random bits; those below 32 are all random.
        let dither = if self.shift >= 32 { bits << (self.shift - 32) } else { bits >> (32 - self.shift) };
        // Below 2^31 · 2^31 + 2^62.
        (product.saturating_add(dither as i64) >> self.shift).clamp(-STEP_MAX, STEP_MAX) as i32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_have_the_right_mean() {
        let mut random = Random::new(3);
        for (value, gradient) in
            [(1e-6f32, 40_000), (1e-9, -100_000_000), (0.3, 1), (0.3, -1), (2.5, 7), (100.0, 3)]
        {
            let coefficient = Coefficient::new(Magnitude::from_f32(value));
            let n = 40_000;
            let sum: i64 = (0..n).map(|_| i64::from(coefficient.step(gradient, &mut random))).sum();
            let (mean, exact) = (sum as f64 / f64::from(n), f64::from(value) * f64::from(gradient));
            assert!((mean - exact).abs() < 0.01 + exact.abs() * 1e-3, "{value} {gradient}: {mean} {exact}");
        }
        assert_eq!(Coefficient::new(Magnitude::from_f32(1e30)).step(1, &mut random), STEP_MAX as i32);
        assert_eq!(Coefficient::new(Magnitude::from_f32(1e-30)).step(i32::MIN, &mut random), 0);
    }
}
