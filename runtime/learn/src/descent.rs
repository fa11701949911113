//! Steps of float32 numbers: plain, with momentum, with annealed noise on the gradient.

use offshoot_kernels::Random;

/// How far, and with what beside the gradient.
#[derive(Debug)]
pub struct Descent<'a> {
    /// Learning rate.
    pub rate: f32,
    /// Part of the last step that is taken again.
    pub momentum: f32,
    /// The last steps, one a number; empty without momentum.
    pub velocity: &'a mut [f32],
    /// Deviation of the noise; 0 for none.
    pub noise: f32,
    /// Where noise comes from.
    pub random: &'a mut Random,
}

impl Descent<'_> {
    /// `v ← μ v + rate · (g + noise)`, `w ← w - v`: momentum of steps (Polyak, 1964), which have been divided by the energy of their own
    /// sample, not of gradients, which have not. Noise: [`super::step::annealed`]. `at` is the number's place among those that learn.
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
