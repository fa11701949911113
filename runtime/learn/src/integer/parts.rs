//! Steps of the part of a layer that learns, channel by channel.

use super::errors::Errors;
use super::layer::{IntegerLayer, IntegerParameters, StepTarget, requantised};
use super::magnitude::Magnitude;
use super::motion::Motion;
use super::sparse::Cursor;
use super::step::Coefficient;
use super::update::{self, Update};
use crate::descent::Descent;
use crate::layers::adaptor;
use offshoot_format::tiled;
use offshoot_kernels::Random;

/// Fraction bits of a relative step of a scale.
const SCALE_BITS: i32 = 24;

/// Takes the steps of one layer.
pub(super) struct Steps<'s, 'a, 'd> {
    layer: &'s mut IntegerLayer<'a>,
    rate: Magnitude,
    /// Value of an error of 1.
    unit: Magnitude,
    motion: Motion<'d>,
    random: &'s mut Random,
    /// Factors of the gradients of biases and weights, before division by the channel's scale. For weights: rate · unit
    /// · s_in / s_w = rate · unit · s_in² / (s_out · requantisation). For biases the same without s_in².
    of_bias: Magnitude,
    of_weight: Magnitude,
    /// Position in sparse weights.
    cursor: Cursor,
}

impl<'s, 'a, 'd> Steps<'s, 'a, 'd> {
    pub(super) fn new(
        layer: &'s mut IntegerLayer<'a>,
        rate: Magnitude,
        unit: Magnitude,
        motion: Motion<'d>,
        random: &'s mut Random,
    ) -> Self {
        let quant = layer.quant;
        let of_bias = rate.times(unit).over(quant.s_out);
        let of_weight = of_bias.times(quant.s_in).times(quant.s_in);
        if let IntegerParameters::LowRank(own, _) = &mut layer.part {
            let (scale, zero) = (quant.s_in.to_f32(), quant.in_zp);
            own.pulled.fill(0.0);
            adaptor::lower(&own.geometry, own.down, layer.x, real(scale, zero), own.inner);
        }
        Self { layer, rate, unit, motion, random, of_bias, of_weight, cursor: Cursor::default() }
    }

    /// Steps weights and bias of a channel by the gradients of the weights and the sum of the errors, both divided by
    /// 2^`up`.
    pub(super) fn whole(&mut self, channel: usize, total: i32, gradients: &mut [i32], up: i32) {
        if !self.motion.goes_on() && total == 0 && gradients.iter().all(|&g| g == 0) {
            return;
        }
        let (geometry, folded, in_zp) = (self.layer.geometry, self.layer.folded, self.layer.quant.in_zp);
        let unit = self.unit.scaled(up);
        let IntegerParameters::All { weights, fine, bias, scales } = &mut self.layer.part else { return };
        let scale = scales.of(channel);
        self.motion.add_noise(gradients, unit.times(self.layer.quant.s_in), self.random);
        let mut total = [total];
        self.motion.add_noise(&mut total, unit, self.random);
        let factor = self.of_bias.scaled(up).over_roughly(scale);
        let step = Coefficient::new(factor).step(total[0], self.random);
        let step = self.motion.of_bias(channel, step, self.random);
        let bias = &mut bias[channel];
        *bias = bias.saturating_sub(step);
        let factor = self.of_weight.scaled(up).over_roughly(scale);
        let mut update = Update::new(weights, fine, &geometry, self.random);
        update.cursor = self.cursor;
        let moved = if self.motion.momentum > 0 {
            let own = self.motion.weights.get_mut(channel * gradients.len()..);
            let own = own.and_then(|v| v.get_mut(..gradients.len())).unwrap_or(&mut []);
            update.channel_with(channel, factor, gradients, self.motion.momentum, own)
        } else {
            update.channel(channel, factor, gradients)
        };
        self.cursor = update.cursor;
        if folded {
            *bias = bias.saturating_add(in_zp.saturating_mul(moved));
            *bias = (*bias).clamp(-update::MOST_BIAS, update::MOST_BIAS);
        }
    }

    /// Steps all channels of a part other than weights; the errors are those of the pooling grid's cells.
    pub(super) fn of_cells(&mut self, target: &StepTarget<'_>, errors: &Errors<'_>, residual: &[i32]) {
        let channels = self.layer.geometry.out_c;
        for channel in 0..channels {
            let (mut total, mut product) = (0i32, 0i32);
            let (h, quant) = (self.layer.h, self.layer.quant);
            let unit = self.unit.to_f32();
            let mut plane = match &mut self.layer.part {
                IntegerParameters::LowRank(_, plane) => Some(plane),
                _ => None,
            };
            for j in (channel..target.grid.features()).step_by(channels.max(1)) {
                let error = errors.at(j, residual);
                let (mut active, mut sum) = (0i32, 0i32);
                target.grid.pixels(j, |at| {
                    let counts = quant.is_active(h[at]);
                    active += i32::from(counts);
                    sum += if counts { i32::from(h[at]) - quant.out_zp } else { 0 };
                    if let Some(plane) = &mut plane {
                        plane[at / channels] = if counts { error as f32 * unit } else { 0.0 };
                    }
                });
                total = total.wrapping_add(error.wrapping_mul(active));
                product = product.wrapping_add(error.wrapping_mul(sum));
            }
            self.few(channel, total, product, 0);
        }
    }

    /// Steps a channel whose weights do not learn by its sum of errors and its sum of errors times outputs, both
    /// divided by 2^`up`. An adaptor's errors are in its workspace.
    pub(super) fn few(&mut self, channel: usize, total: i32, product: i32, up: i32) {
        if !self.motion.goes_on()
            && total == 0
            && product == 0
            && !matches!(self.layer.part, IntegerParameters::LowRank(..))
        {
            return;
        }
        let unit = self.unit.scaled(up);
        let (folded, quant) = (self.layer.folded, self.layer.quant);
        let rate = self.rate.to_f32();
        let most = if folded { update::MOST_BIAS } else { i32::MAX };
        let mut sums = [total, product];
        match &mut self.layer.part {
            IntegerParameters::All { .. } => {}
            IntegerParameters::LowRank(own, plane) => {
                let mut velocity = bytemuck::try_cast_slice_mut(self.motion.biases).unwrap_or(&mut []);
                let mut descent = Descent {
                    rate,
                    momentum: f32::from(self.motion.momentum) * (1.0 / 32768.0),
                    velocity: core::mem::take(&mut velocity),
                    noise: self.motion.noise.to_f32(),
                    random: self.random,
                };
                own.channel(channel, plane, &mut descent);
            }
            IntegerParameters::Bias { bias, scales } => {
                self.motion.add_noise(&mut sums[..1], unit, self.random);
                let factor = self.of_bias.scaled(up).over_roughly(scales.of(channel));
                let step = Coefficient::new(factor).step(sums[0], self.random);
                let step = self.motion.of_bias(channel, step, self.random);
                bias[channel] = bias[channel].saturating_sub(step).clamp(-most, most);
            }
            IntegerParameters::Scale { bias, multiplier, shift } => {
                self.motion.add_noise(&mut sums[..1], unit, self.random);
                self.motion.add_noise(&mut sums[1..], unit.times(quant.s_out), self.random);
                let at = if multiplier.len() == 1 { 0 } else { channel };
                let factor = self.of_bias.scaled(up).over_roughly(requantised(multiplier[at], shift[at]));
                let step = Coefficient::new(factor).step(sums[0], self.random);
                let step = self.motion.of_bias(channel, step, self.random);
                bias[channel] = bias[channel].saturating_sub(step).clamp(-most, most);
                // The step is relative to the scale. At scale 1, where scales start, it is a gradient step.
                let relative = self.rate.times(unit).times(quant.s_out).scaled(SCALE_BITS);
                let step = Coefficient::new(relative).step(sums[1], self.random);
                let step = self.motion.of_bias(bias.len() + channel, step, self.random);
                rescale(&mut multiplier[at], &mut shift[at], step, folded);
            }
        }
    }

    pub(super) fn part(&self) -> &IntegerParameters<'a> {
        &self.layer.part
    }

    /// Sets an adaptor's errors from those of a channel's pixels, which are divided by 2^`up`.
    pub(super) fn adaptor_errors(&mut self, errors: &[i32], up: i32) {
        let unit = self.unit.scaled(up).to_f32();
        if let IntegerParameters::LowRank(_, plane) = &mut self.layer.part {
            for (to, e) in plane.iter_mut().zip(errors) {
                *to = *e as f32 * unit;
            }
        }
    }

    /// Finishes after the last channel.
    pub(super) fn finish(self) {
        let (scale, zero, rate) =
            (self.layer.quant.s_in.to_f32(), self.layer.quant.in_zp, self.rate.to_f32());
        if let IntegerParameters::LowRank(own, _) = &mut self.layer.part {
            let mut descent = Descent {
                rate,
                momentum: f32::from(self.motion.momentum) * (1.0 / 32768.0),
                velocity: bytemuck::try_cast_slice_mut(self.motion.biases).unwrap_or(&mut []),
                noise: self.motion.noise.to_f32(),
                random: self.random,
            };
            own.finish(self.layer.x, real(scale, zero), &mut descent);
        }
    }
}

/// Converts int8 to real numbers.
pub(super) fn real(scale: f32, zero: i32) -> impl Fn(i8) -> f32 + Copy {
    move |q| scale * (i32::from(q) - zero) as f32
}

/// `multiplier · 2^shift · (1 - step · 2^-24)`. Clamps a step to one half; skips a step to values that the kernels
/// cannot take.
fn rescale(multiplier: &mut i32, shift: &mut i8, step: i32, folded: bool) {
    let half = 1 << (SCALE_BITS - 1);
    let one = 1i64 << SCALE_BITS;
    let next = i64::from(*multiplier) * (one - i64::from(step.clamp(-half, half)));
    if next <= 0 {
        return;
    }
    // Below 2^56; normalised to 31 bits.
    let bits = 64 - next.leading_zeros() as i32;
    let excess = bits - 31;
    let factor = if excess >= 0 { next >> excess } else { next << -excess };
    let power = i32::from(*shift) + excess - SCALE_BITS;
    let shifts = if folded { tiled::SHIFTS } else { -31..=30 };
    if let Ok(power) = i8::try_from(power)
        && shifts.contains(&power)
    {
        *multiplier = factor as i32;
        *shift = power;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_move_by_their_part() {
        let value = |m: i32, s: i8| f64::from(m) * f64::from(s).exp2();
        for (part, factor) in [(0.25, 0.75), (-0.5, 1.5), (1e-6, 1.0 - 1e-6), (0.0, 1.0)] {
            let (mut m, mut s) = (1_518_500_250, -7);
            let before = value(m, s);
            rescale(&mut m, &mut s, (part * f64::from(1 << SCALE_BITS)) as i32, true);
            assert!((value(m, s) / before - factor).abs() < 1e-7, "{part}");
            assert!(m >= 1 << 30);
        }
        let (mut m, mut s) = (0, 3);
        rescale(&mut m, &mut s, 5, false);
        assert_eq!((m, s), (0, 3));
    }
}
