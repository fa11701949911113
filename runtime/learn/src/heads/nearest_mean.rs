//! Nearest class mean: predicts the class whose mean is nearest (the classifier of iCaRL, Rebuffi et al. 2017; as a
//! few-shot head on microcontrollers, O-FSCIL, 2024). Learning a class changes no other class.
//!
//! The score is minus the squared distance. Memory: counts c, means c·n. A step moves one mean, `μ += (x − μ) / k`,
//! where `k` is the count of its class or the window, whichever is less.

use super::{Head, HeadError, check, count, take, vector};

/// Nearest class mean on float32 features.
#[derive(Debug)]
pub struct NearestMean<'a> {
    memory: &'a mut [f32],
    features: usize,
    classes: usize,
    options: NearestMeanOptions,
}

/// Options of [`NearestMean`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NearestMeanOptions {
    /// Number of samples of a class after which older ones begin to fade. If infinite, a mean is that of all samples; a
    /// finite window lets means follow data that shifts.
    pub window: f32,
}

impl Default for NearestMeanOptions {
    fn default() -> Self {
        Self { window: f32::INFINITY }
    }
}

impl<'a> Head<'a> for NearestMean<'a> {
    type Feature = f32;
    type Word = f32;
    type Score = f32;
    type Options = NearestMeanOptions;

    fn words(features: usize, classes: usize) -> Option<usize> {
        features.checked_add(1)?.checked_mul(classes)
    }

    fn attach(
        features: usize,
        classes: usize,
        options: NearestMeanOptions,
        memory: &'a mut [f32],
    ) -> Result<Self, HeadError> {
        if options.window.is_nan() || options.window < 1.0 {
            return Err(HeadError::Shape);
        }
        let memory = take::<Self>(memory, features, classes)?;
        Ok(Self { memory, features, classes, options })
    }

    fn reset(&mut self) {
        self.memory.fill(0.0);
    }

    fn learn(&mut self, features: &[f32], label: usize) -> Result<(), HeadError> {
        check(features, self.features, label, self.classes)?;
        let (counts, means) = self.memory.split_at_mut(self.classes);
        let seen = count(counts, label).min(self.options.window);
        if let Some(mean) = means.chunks_exact_mut(self.features).nth(label) {
            vector::approach(mean, 1.0 / seen, features);
        }
        Ok(())
    }

    fn predict(&self, features: &[f32], scores: &mut [f32]) -> Result<(), HeadError> {
        check(features, self.features, 0, self.classes)?;
        if scores.len() != self.classes {
            return Err(HeadError::Scores);
        }
        let (counts, means) = self.memory.split_at(self.classes);
        for ((score, mean), &seen) in scores.iter_mut().zip(means.chunks_exact(self.features)).zip(counts) {
            let distance = mean.iter().zip(features).fold(0.0, |sum, (&m, &x)| sum + (x - m) * (x - m));
            *score = if seen > 0.0 { -distance } else { f32::NEG_INFINITY };
        }
        Ok(())
    }

    fn readout(&self, class: usize, weights: &mut [f32]) -> Option<f32> {
        // In `-|x - μ|² = 2 μ·x - |μ|² - |x|²` the last term is the same for all classes.
        let (counts, means) = self.memory.split_at(self.classes);
        if weights.len() != self.features {
            return None;
        }
        super::row(counts, counts, means, class, weights)?;
        let square = vector::dot(weights, weights);
        weights.iter_mut().for_each(|w| *w *= 2.0);
        Some(-square)
    }

    fn state(&self) -> &[f32] {
        self.memory
    }
}

#[cfg(test)]
mod tests {
    use super::super::problems;
    use super::*;

    #[test]
    fn learns() {
        problems::learns::<NearestMean<'_>>(NearestMeanOptions::default, 0.85);
    }

    #[test]
    fn takes_a_class_later() {
        problems::takes_a_class_later::<NearestMean<'_>>(
            NearestMeanOptions::default,
            problems::Added::Alone,
            0.85,
        );
    }

    #[test]
    fn refuses_and_resumes() {
        problems::refuses_and_resumes::<NearestMean<'_>>(NearestMeanOptions::default);
    }

    #[test]
    fn a_mean_is_the_mean() {
        let mut memory = [9.0; 6];
        let mut head = NearestMean::init(2, 2, NearestMeanOptions::default(), &mut memory).unwrap();
        for x in [[1.0, 2.0], [3.0, 6.0], [5.0, 1.0]] {
            head.learn(&x, 1).unwrap();
        }
        let mut scores = [0.0; 2];
        head.predict(&[3.0, 5.0], &mut scores).unwrap();
        assert_eq!(scores, [f32::NEG_INFINITY, -4.0]);
    }

    #[test]
    fn a_window_follows_what_shifts() {
        let mut memory = [0.0; 2];
        let mut head = NearestMean::init(1, 1, NearestMeanOptions { window: 4.0 }, &mut memory).unwrap();
        (0..100).for_each(|_| head.learn(&[0.0], 0).unwrap());
        (0..16).for_each(|_| head.learn(&[1.0], 0).unwrap());
        assert!(head.state()[1] > 0.98);
        let refused = NearestMean::init(1, 1, NearestMeanOptions { window: 0.0 }, &mut memory);
        assert_eq!(refused.unwrap_err(), HeadError::Shape);
    }
}
