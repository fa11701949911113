//! Standardisation of inputs that follows the data: a mean for each number of the input, and one gain for all, so that
//! what a network sees has mean 0 and the energy that it was trained with. It needs no labels. A sensor with another
//! offset or gain, or an inverted image, then looks to the layers as before, up to a sign.
//!
//! The statistics start from those of the host, which count as many samples as they are given weight; from there means
//! are exact (Welford's update). Adapting the statistics alone is the adaptation of Li et al., "Revisiting batch
//! normalization for practical domain adaptation" (2016), at the input.

/// Running statistics of an input.
#[derive(Debug)]
pub struct InputNormalizer<'a> {
    mean: &'a mut [f32],
    /// Mean of `|x - mean|²`.
    energy: f32,
    wanted: f32,
    weight: f32,
}

impl<'a> InputNormalizer<'a> {
    /// Statistics that begin with `mean` (one for each number of the input) and `energy`, the mean of `|x - mean|²`, and count as
    /// `weight` samples. Standardised inputs have the `wanted` energy: that with which the network was trained.
    pub fn new(mean: &'a mut [f32], energy: f32, wanted: f32, weight: f32) -> Self {
        Self { mean, energy, wanted, weight: weight.max(0.0) }
    }

    /// Takes a sample into account. One that is not finite, or of another length, is not.
    pub fn see(&mut self, x: &[f32]) {
        if x.len() == self.mean.len() {
            self.see_each(|i| x[i]);
        }
    }

    /// The same of a sample whose numbers are given one by one.
    pub fn see_each(&mut self, x: impl Fn(usize) -> f32) {
        if !(0..self.mean.len()).all(|i| x(i).is_finite()) {
            return;
        }
        // Beyond this float32 cannot count.
        self.weight = (self.weight + 1.0).min(16_777_216.0);
        let part = 1.0 / self.weight;
        let mut spread = 0.0;
        for (i, mean) in self.mean.iter_mut().enumerate() {
            let x = x(i);
            let before = x - *mean;
            *mean += part * before;
            spread += before * (x - *mean);
        }
        self.energy += part * (spread - self.energy);
    }

    /// How many samples they count as.
    pub fn weight(&self) -> f32 {
        self.weight
    }

    /// What number `i` of a sample is for a network whose host's mean of it was `host`, the energy wanted being the host's.
    pub fn brought(&self, i: usize, x: f32, host: f32, gain: f32) -> f32 {
        (x - self.mean.get(i).copied().unwrap_or(host)) * gain + host
    }

    /// The mean of `|x - mean|²`.
    pub fn energy(&self) -> f32 {
        self.energy
    }

    /// What a standardised number is multiplied by.
    pub fn gain(&self) -> f32 {
        if self.energy > 0.0 { libm::sqrtf(self.wanted / self.energy) } else { 1.0 }
    }

    /// Standardises a sample in place.
    pub fn apply(&self, x: &mut [f32]) {
        let gain = self.gain();
        for (x, mean) in x.iter_mut().zip(self.mean.iter()) {
            *x = (*x - mean) * gain;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::step::energy;
    use offshoot_kernels::Random;

    #[test]
    fn offset_gain_and_sign_do_not_matter() {
        let mut random = Random::new(7);
        let samples: [[f32; 5]; 40] = core::array::from_fn(|_| core::array::from_fn(|_| random.normal()));
        let seen = |change: fn(f32) -> f32| {
            let mut mean = [9.0; 5];
            let mut standard = InputNormalizer::new(&mut mean, 0.0, 5.0, 0.0);
            samples.iter().for_each(|x| standard.see(&x.map(change)));
            let mut x = samples[3].map(change);
            standard.apply(&mut x);
            x
        };
        let usual = seen(|x| x);
        for (change, sign) in [((|x| 3.0 - x) as fn(f32) -> f32, -1.0), (|x| 0.2 * x + 4.0, 1.0)] {
            for (a, b) in seen(change).iter().zip(&usual) {
                assert!((a - sign * b).abs() < 1e-3, "{a} {b}");
            }
        }
    }

    #[test]
    fn the_mean_is_that_of_all_and_the_energy_is_kept() {
        let mut mean = [1.0, 1.0];
        let mut standard = InputNormalizer::new(&mut mean, 8.0, 8.0, 1.0);
        standard.see(&[3.0, 5.0]);
        standard.see(&[f32::NAN, 0.0]);
        standard.see(&[1.0]);
        // Energies: 8 of the start, 20 · 1/2 of the sample around the new mean.
        assert_eq!(standard.gain(), libm::sqrtf(8.0 / 9.0));
        let mut x = [2.0, 3.0];
        standard.apply(&mut x);
        assert_eq!(energy(&x), 0.0);
    }
}
