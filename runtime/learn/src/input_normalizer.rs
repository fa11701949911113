//! Input normalisation that follows the device's data: a mean for each input element, and one gain for all, so that the
//! network sees the mean and the energy it was trained with. It needs no labels. A sensor with a different offset or
//! gain, or an inverted image, then looks the same to the layers, up to a sign.
//!
//! The statistics start from the host's, which count as a given number of samples; from there on, means are exact
//! (Welford's update). Adapting only the statistics follows Li et al., "Revisiting batch normalization for practical
//! domain adaptation" (2016), applied to the input.

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
    /// Starts from `mean` (one per input element) and `energy`, the mean of `|x - mean|²`, which count as `weight`
    /// samples. Normalised inputs have energy `wanted`: that of the training data.
    pub fn new(mean: &'a mut [f32], energy: f32, wanted: f32, weight: f32) -> Self {
        Self { mean, energy, wanted, weight: weight.max(0.0) }
    }

    /// Updates the statistics with a sample. Ignores samples that are not finite or have another length.
    pub fn see(&mut self, x: &[f32]) {
        if x.len() == self.mean.len() {
            self.see_each(|i| x[i]);
        }
    }

    /// Like [`Self::see`], reading the sample element by element.
    pub fn see_each(&mut self, x: impl Fn(usize) -> f32) {
        if !(0..self.mean.len()).all(|i| x(i).is_finite()) {
            return;
        }
        // float32 cannot count beyond this.
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

    /// Number of samples that the statistics count as.
    pub fn weight(&self) -> f32 {
        self.weight
    }

    /// Maps element `i` of a sample to the host's statistics: `host` is the host's mean of the element, `gain` is
    /// [`Self::gain`].
    pub fn brought(&self, i: usize, x: f32, host: f32, gain: f32) -> f32 {
        (x - self.mean.get(i).copied().unwrap_or(host)) * gain + host
    }

    /// The mean of `|x - mean|²`.
    pub fn energy(&self) -> f32 {
        self.energy
    }

    /// Factor of normalised elements: `sqrt(wanted / energy)`.
    pub fn gain(&self) -> f32 {
        if self.energy > 0.0 { libm::sqrtf(self.wanted / self.energy) } else { 1.0 }
    }

    /// Normalises a sample in place, to mean 0.
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
            let mut normalizer = InputNormalizer::new(&mut mean, 0.0, 5.0, 0.0);
            samples.iter().for_each(|x| normalizer.see(&x.map(change)));
            let mut x = samples[3].map(change);
            normalizer.apply(&mut x);
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
        let mut normalizer = InputNormalizer::new(&mut mean, 8.0, 8.0, 1.0);
        normalizer.see(&[3.0, 5.0]);
        normalizer.see(&[f32::NAN, 0.0]);
        normalizer.see(&[1.0]);
        // Energies: 8 from the start values, 20 · 1/2 from the sample around the new mean.
        assert_eq!(normalizer.gain(), libm::sqrtf(8.0 / 9.0));
        let mut x = [2.0, 3.0];
        normalizer.apply(&mut x);
        assert_eq!(energy(&x), 0.0);
    }
}
