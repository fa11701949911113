//! Steps of float32 parameters: plain, with momentum, or with annealed noise on the gradient.

use offshoot_kernels::Random;

/// Rate, momentum and noise of the steps.
#[derive(Debug)]
pub struct Descent<'a> {
    /// Learning rate.
    pub rate: f32,
    /// Factor of the last step in the next one.
    pub momentum: f32,
    /// The last step of each parameter; empty without momentum.
    pub velocity: &'a mut [f32],
    /// Standard deviation of the noise; 0 for none.
    pub noise: f32,
    /// Source of the noise.
    pub random: &'a mut Random,
}

impl Descent<'_> {
    /// `v ← μ v + rate · (g + noise)`, `w ← w - v`. Momentum (Polyak, 1964) applies to steps, because each is already
    /// divided by the energy of its own sample; gradients are not. Noise: [`super::step::annealed`]. `at` is the
    /// parameter's index among those that learn.
    #[inline]
    pub fn step(&mut self, at: usize, weight: &mut f32, gradient: f32) {
        let noisy = if self.noise > 0.0 { gradient + self.noise * self.random.normal() } else { gradient };
        let mut step = self.rate * noisy;
        if let Some(last) = self.velocity.get_mut(at) {
            step += self.momentum * *last;
            *last = step;
        }
        *weight -= step;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn momentum_goes_on_and_noise_has_its_deviation() {
        let (mut velocity, mut random) = ([0.0; 2], Random::new(1));
        let mut descent =
            Descent { rate: 0.1, momentum: 0.5, velocity: &mut velocity, noise: 0.0, random: &mut random };
        let mut weight = 1.0;
        descent.step(1, &mut weight, 2.0);
        assert!((weight - 0.8f32).abs() < 1e-6);
        descent.step(1, &mut weight, 0.0);
        assert!((weight - 0.7).abs() < 1e-6);
        assert_eq!(velocity[0], 0.0);
        let mut descent =
            Descent { rate: 1.0, momentum: 0.0, velocity: &mut [], noise: 0.2, random: &mut random };
        let mut squares = 0.0;
        for _ in 0..4000 {
            let mut weight = 0.0;
            descent.step(0, &mut weight, 0.0);
            squares += weight * weight;
        }
        assert!((squares / 4000.0 - 0.04).abs() < 0.004, "{squares}");
    }
}
