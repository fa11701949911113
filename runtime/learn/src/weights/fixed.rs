//! int8 and int16 weights with a per-channel scale, stepped with stochastic rounding.

use super::Weights;
use offshoot_kernels::Random;

/// Integer type that weights are stored as.
pub trait Whole: Copy {
    /// Widens to 32 bits.
    fn get(self) -> i32;
    /// Narrows from 32 bits, saturating. Formats are symmetric: the lower bound is minus the upper bound.
    fn saturate(value: i32) -> Self;
}

impl Whole for i8 {
    fn get(self) -> i32 {
        self.into()
    }
    fn saturate(value: i32) -> Self {
        value.clamp(-127, 127) as Self
    }
}

impl Whole for i16 {
    fn get(self) -> i32 {
        self.into()
    }
    fn saturate(value: i32) -> Self {
        value.clamp(-32767, 32767) as Self
    }
}

/// `[channels, length]`, `weight = scale[channel] · q`.
#[derive(Debug)]
pub struct Fixed<'a, Q> {
    weights: &'a mut [Q],
    scales: &'a [f32],
    length: usize,
    random: &'a mut Random,
}

impl<'a, Q: Whole> Fixed<'a, Q> {
    /// Rows of `length` weights, with a scale (> 0) for each row.
    pub fn new(weights: &'a mut [Q], scales: &'a [f32], length: usize, random: &'a mut Random) -> Self {
        Self { weights, scales, length: length.max(1), random }
    }
}

/// `q - step`, rounded down or up at random so that the mean is exact. Clamps the result to about ±2^30.
#[inline]
pub(crate) fn stepped<Q: Whole>(q: Q, step: f32, random: &mut Random) -> Q {
    let target = (q.get() as f32 - step).max(-1.0e9).min(1.0e9) + random.unit();
    let whole = target as i32;
    // `as` rounds towards zero: one too far below zero, unless the number is an integer.
    Q::saturate(whole - i32::from(whole as f32 > target))
}

impl<Q: Whole> Weights for Fixed<'_, Q> {
    fn at(&self, channel: usize, index: usize) -> f32 {
        self.scales[channel] * self.weights[channel * self.length + index].get() as f32
    }

    fn product(&self, x: &[f32], bias: &[f32], out: &mut [f32]) {
        let rows = self.weights.chunks_exact(self.length).zip(self.scales);
        for (((row, scale), bias), out) in rows.zip(bias).zip(out) {
            let sum = x.iter().zip(row).fold(0.0, |sum, (x, q)| sum + x * q.get() as f32);
            *out = bias + scale * sum;
        }
    }

    fn descend(&mut self, channel: usize, rate: f32, gradient: &[f32]) {
        let rate = rate / self.scales[channel];
        for (q, g) in self.weights[channel * self.length..][..self.length].iter_mut().zip(gradient) {
            *q = stepped(*q, rate * g, self.random);
        }
    }

    fn nudge(&mut self, channel: usize, index: usize, step: f32) {
        let q = &mut self.weights[channel * self.length + index];
        *q = stepped(*q, step / self.scales[channel], self.random);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_below_a_unit_add_up() {
        let mut random = Random::new(5);
        for step in [0.01f32, -0.01, 0.3, -0.7] {
            let mut q = 0i16;
            for _ in 0..10_000 {
                q = stepped(q, step, &mut random);
            }
            let expected = -10_000.0 * step;
            assert!((f32::from(q) - expected).abs() < 4.0 * 50.0, "{step}: {q}");
        }
    }

    #[test]
    fn whole_steps_are_exact_and_bounds_hold() {
        let mut random = Random::new(5);
        for q in -100i8..100 {
            assert_eq!(stepped(q, 7.0, &mut random), q.saturating_sub(7).max(-127));
        }
        assert_eq!(stepped(-120i8, 1e30, &mut random), -127);
        assert_eq!(stepped(-120i16, f32::NEG_INFINITY, &mut random), 32767);
        // A NaN step must not panic.
        let _ = stepped(1i8, f32::NAN, &mut random);
    }
}
