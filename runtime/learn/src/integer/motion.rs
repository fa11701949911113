//! Momentum and annealed noise in integers.
//!
//! A velocity is the last step, in finer units than the step. It decays with stochastic rounding, so that the sum of
//! many small steps is right on average, as for the weights.

use super::magnitude::Magnitude;
use super::step::Coefficient;
use super::update::{Update, of_eight, of_sixteen};
use offshoot_kernels::Random;

/// Momentum and noise of the steps.
#[derive(Debug)]
pub struct Motion<'a> {
    /// Factor of the last step in the next one, in 2^-15; 0 for none.
    pub momentum: u16,
    /// Last steps of biases, then of scales; empty without momentum.
    pub biases: &'a mut [i32],
    /// Last steps of weights, channel by channel: in 2^-8 of a step's unit for int8 weights, 2^-4 for int16.
    pub weights: &'a mut [i16],
    /// Standard deviation of the noise on gradients; zero for none.
    pub noise: Magnitude,
}

/// `v · momentum`, rounded stochastically with 15 random bits.
#[inline]
fn decayed(v: i32, momentum: u16, bits: u32) -> i32 {
    ((i64::from(v) * i64::from(momentum) + i64::from(bits & 0x7fff)) >> 15) as i32
}

/// Approximately normal: the sum of four bytes minus its mean, with standard deviation [`DEVIATION`].
#[inline]
fn normal(random: &mut Random) -> i32 {
    random.next_u32().to_le_bytes().iter().map(|&b| i32::from(b)).sum::<i32>() - 510
}

/// Standard deviation of the sum of four random bytes: the root of `4 · (256² - 1) / 12`.
const DEVIATION: i64 = 148;

/// Largest noise, so that products fit.
const MOST_NOISE: u64 = 1 << 30;

impl Motion<'_> {
    /// No momentum and no noise.
    pub fn none() -> Self {
        Self { momentum: 0, biases: &mut [], weights: &mut [], noise: Magnitude::ZERO }
    }

    /// Whether weights change without an error.
    pub(super) fn goes_on(&self) -> bool {
        self.momentum > 0 || self.noise != Magnitude::ZERO
    }

    /// Adds noise to gradients in units of `unit`.
    #[inline]
    pub(super) fn add_noise(&self, gradients: &mut [i32], unit: Magnitude, random: &mut Random) {
        if self.noise == Magnitude::ZERO {
            return;
        }
        let deviation = self.noise.over(unit).whole(0).min(MOST_NOISE) as i64;
        for gradient in gradients {
            let noise = deviation * i64::from(normal(random)) / DEVIATION;
            *gradient = gradient.saturating_add(noise.clamp(i32::MIN.into(), i32::MAX.into()) as i32);
        }
    }

    /// Step of a bias or scale, including momentum.
    pub(super) fn of_bias(&mut self, at: usize, step: i32, random: &mut Random) -> i32 {
        match self.biases.get_mut(at) {
            None => step,
            Some(last) => {
                *last = decayed(*last, self.momentum, random.next_u32()).saturating_add(step);
                *last
            }
        }
    }
}

impl Update<'_> {
    /// [`Update::channel`] with momentum: `velocity` is that of the channel's weights.
    pub(super) fn channel_with(
        &mut self,
        channel: usize,
        factor: Magnitude,
        gradients: &[i32],
        momentum: u16,
        velocity: &mut [i16],
    ) -> i32 {
        let sixteen = !self.fine.is_empty();
        let (unit, fraction) = if sixteen { (12, 4) } else { (8, 8) };
        let c = Coefficient::new(factor.scaled(unit));
        let mut velocity = velocity.iter_mut();
        self.replace_each(channel, gradients, |weight, fine, gradient, random| {
            let Some(last) = velocity.next() else { return weight };
            let bits = random.next_u32();
            let next = decayed((*last).into(), momentum, bits).saturating_add(c.step(gradient, random));
            *last = next.clamp(i16::MIN.into(), i16::MAX.into()) as i16;
            let step = (i32::from(*last) + (bits >> 16 & ((1 << fraction) - 1)) as i32) >> fraction;
            if sixteen { of_sixteen(weight, fine, step) } else { of_eight(weight, step) }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use offshoot_format::record::Window;
    use offshoot_kernels::layer::{Geometry, Order};
    use std::vec::Vec;

    /// Steps add up to those of exact arithmetic, on average.
    #[test]
    fn velocities_are_right_on_the_average() {
        let window = Window { kernel: [1; 2], stride: [1; 2], dilation: [1; 2], pad: [0; 4] };
        let n = 4096;
        let g = Geometry {
            input: [1, 1],
            c: n,
            output: [1, 1],
            out_c: 1,
            window,
            order: Order::Grouped { groups: 1 },
        };
        for sixteen in [false, true] {
            let mut weights = vec![0i8; n];
            let mut fine = vec![0i8; if sixteen { n } else { 0 }];
            let (mut velocity, mut random) = (vec![0i16; n], Random::new(3));
            let gradients: Vec<i32> = vec![-100; n];
            for _ in 0..50 {
                let mut update = Update::new(&mut weights, &mut fine, &g, &mut random);
                let factor = Magnitude::from_f32(0.0002);
                update.channel_with(0, factor, &gradients, 29491, &mut velocity);
            }
            // Steps of 0.02 with momentum 0.9: Σ (1 - 0.9^k) / 0.1 · 0.02.
            let exact: f64 = (1..=50).map(|k| 0.02 * (1.0 - 0.9f64.powi(k)) / 0.1).sum();
            let lower = |i: usize| fine.get(i).map_or(0.0, |&f| f64::from(f) / 256.0);
            let mean = (0..n).map(|i| f64::from(weights[i]) + lower(i)).sum::<f64>() / n as f64;
            assert!((mean - exact).abs() < 0.1, "{sixteen}: {mean} {exact}");
        }
    }

    #[test]
    fn noise_has_its_deviation() {
        let motion = Motion { noise: Magnitude::from_f32(0.3), ..Motion::none() };
        let mut gradients = vec![0; 20_000];
        motion.add_noise(&mut gradients, Magnitude::from_f32(0.001), &mut Random::new(1));
        let squares: f64 = gradients.iter().map(|&g| f64::from(g).powi(2)).sum();
        let deviation = (squares / 20_000.0).sqrt();
        assert!((deviation - 300.0).abs() < 6.0, "{deviation}");
    }
}
