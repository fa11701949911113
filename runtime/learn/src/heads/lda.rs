//! Streaming linear discriminant analysis: a mean for each class, one covariance for all, solved in closed form (Hayes
//! and Kanan, "Lifelong Machine Learning with Deep Streaming Linear Discriminant Analysis", 2020).
//!
//! A sample moves its class's mean and adds `(k − 1)/k · (x − μ)(x − μ)ᵀ` to the within-class scatter, where `k` is the
//! number of samples of the class including this one, or the window if that is less. This is Welford's update, exact in
//! any order. [`Head::refresh`] solves `w = Λ μ`, `b = −μ·w / 2` with `Λ⁻¹ = (1 − ε) Σ + ε tr(Σ)/n · I`, with equal
//! class priors. The shrinkage ε is given, or follows from the numbers of features and samples ([`Shrinkage::Prior`]).
//! Symmetric matrices are stored by their lower half.
//!
//! Memory: counts c, means c·n, scatter n(n + 1)/2, bias c, weights c·n, factor n(n + 1)/2. A step takes n²/2
//! multiply-accumulates, a refresh n³/6 + cn². There is no step size, and the order of the samples does not matter.

use super::softmax::linear_scores;
use super::{Head, HeadError, check, count, symmetric, take, vector};

/// Streaming linear discriminant analysis.
#[derive(Debug)]
pub struct Lda<'a> {
    memory: &'a mut [f32],
    features: usize,
    classes: usize,
    options: LdaOptions,
}

/// Options of [`Lda`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LdaOptions {
    /// Shrinkage ε: how much of the covariance is replaced by a multiple of the identity.
    pub shrinkage: Shrinkage,
    /// Number of samples of a class after which older ones begin to fade from its mean, as in [`super::NearestMean`].
    pub window: f32,
}

/// How far the covariance is shrunk towards a multiple of the identity.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shrinkage {
    /// The identity counts as half as many samples as there are features: `ε = n / (n + 2k)` after `k` samples, the
    /// mean of the covariance under an inverse Wishart prior (Haff, Ann. Statist. 8(3), 1980). It has no parameter and
    /// fades as samples arrive.
    Prior,
    /// This fraction, 0 to 1. Fewer samples need more.
    Part(f32),
}

impl Shrinkage {
    /// ε for a covariance of `n` features estimated from `samples` samples.
    fn part(self, n: f32, samples: f32) -> f32 {
        match self {
            Self::Part(part) => part,
            Self::Prior => n / (n + 2.0 * samples),
        }
    }
}

impl Default for LdaOptions {
    fn default() -> Self {
        Self { shrinkage: Shrinkage::Prior, window: f32::INFINITY }
    }
}

/// The arrays in the memory.
struct Parts<'p> {
    counts: &'p mut [f32],
    means: &'p mut [f32],
    scatter: &'p mut [f32],
    bias: &'p mut [f32],
    weights: &'p mut [f32],
    factor: &'p mut [f32],
}

impl Lda<'_> {
    fn parts(&mut self) -> Parts<'_> {
        let half = self.features * (self.features + 1) / 2;
        let (counts, rest) = self.memory.split_at_mut(self.classes);
        let (means, rest) = rest.split_at_mut(self.classes * self.features);
        let (scatter, rest) = rest.split_at_mut(half);
        let (bias, rest) = rest.split_at_mut(self.classes);
        let (weights, factor) = rest.split_at_mut(self.classes * self.features);
        Parts { counts, means, scatter, bias, weights, factor }
    }
}

impl<'a> Head<'a> for Lda<'a> {
    type Feature = f32;
    type Word = f32;
    type Score = f32;
    type Options = LdaOptions;

    fn words(features: usize, classes: usize) -> Option<usize> {
        let linear = features.checked_add(1)?.checked_mul(classes)?.checked_mul(2)?;
        symmetric::words(features)?.checked_mul(2)?.checked_add(linear)
    }

    fn attach(
        features: usize,
        classes: usize,
        options: LdaOptions,
        memory: &'a mut [f32],
    ) -> Result<Self, HeadError> {
        let memory = take::<Self>(memory, features, classes)?;
        let possible = match options.shrinkage {
            Shrinkage::Prior => true,
            Shrinkage::Part(part) => (0.0..=1.0).contains(&part),
        };
        if !possible || options.window.is_nan() || options.window < 1.0 {
            return Err(HeadError::Shape);
        }
        Ok(Self { memory, features, classes, options })
    }

    /// Without a refresh, which would factorise for nothing: predictions without samples need none.
    fn reset(&mut self) {
        self.memory.fill(0.0);
    }

    fn learn(&mut self, features: &[f32], label: usize) -> Result<(), HeadError> {
        check(features, self.features, label, self.classes)?;
        let (n, window) = (self.features, self.options.window);
        let Parts { counts, means, scatter, factor, .. } = self.parts();
        let seen = count(counts, label).min(window);
        // The factor's memory serves as scratch: a refresh recomputes it.
        let difference = &mut factor[..n];
        if let Some(mean) = means.chunks_exact_mut(n).nth(label) {
            for ((d, &x), &m) in difference.iter_mut().zip(features).zip(mean.iter()) {
                *d = x - m;
            }
            symmetric::add_outer(scatter, (seen - 1.0) / seen, difference);
            vector::add(mean, 1.0 / seen, difference);
        }
        Ok(())
    }

    fn refresh(&mut self) {
        let (n, shrinkage) = (self.features, self.options.shrinkage);
        let Parts { counts, means, scatter, bias, weights, factor } = self.parts();
        let samples = counts.iter().fold(0.0, |sum, &count| sum + count);
        let seen = counts.iter().filter(|&&count| count > 0.0).count() as f32;
        let scale = 1.0 / (samples - seen).max(1.0);
        let spread = symmetric::trace(scatter, n) * scale / n as f32;
        // Without any spread, only distances are left.
        let spread = if spread > 0.0 { spread } else { 1.0 };
        let shrinkage = shrinkage.part(n as f32, samples);
        symmetric::set_identity(factor, n, shrinkage * spread);
        vector::add(factor, (1.0 - shrinkage) * scale, scatter);
        symmetric::factorise(factor, n, spread * 1e-6);
        let rows = weights.chunks_exact_mut(n).zip(means.chunks_exact(n));
        for ((weights, mean), bias) in rows.zip(bias) {
            weights.copy_from_slice(mean);
            symmetric::solve(factor, weights);
            *bias = -0.5 * vector::dot(mean, weights);
        }
    }

    fn predict(&self, features: &[f32], scores: &mut [f32]) -> Result<(), HeadError> {
        check(features, self.features, 0, self.classes)?;
        if scores.len() != self.classes {
            return Err(HeadError::Scores);
        }
        let (counts, rest) = self.memory.split_at(self.classes);
        let learned = self.classes * self.features + self.features * (self.features + 1) / 2;
        let (bias, rest) = rest[learned..].split_at(self.classes);
        linear_scores(counts, bias, &rest[..self.classes * self.features], features, scores);
        Ok(())
    }

    fn readout(&self, class: usize, weights: &mut [f32]) -> Option<f32> {
        let (counts, rest) = self.memory.split_at(self.classes);
        let learned = self.classes * self.features + self.features * (self.features + 1) / 2;
        let (bias, rest) = rest[learned..].split_at(self.classes);
        let rows = &rest[..self.classes * self.features];
        (weights.len() == self.features).then(|| super::row(counts, bias, rows, class, weights)).flatten()
    }

    fn state(&self) -> &[f32] {
        let half = self.features * (self.features + 1) / 2;
        &self.memory[..self.classes * (self.features + 1) + half]
    }
}

#[cfg(test)]
mod tests {
    use super::super::problems;
    use super::*;

    #[test]
    fn learns() {
        problems::learns::<Lda<'_>>(LdaOptions::default, 0.98);
    }

    #[test]
    fn takes_a_class_later() {
        problems::takes_a_class_later::<Lda<'_>>(LdaOptions::default, problems::Added::Alone, 0.98);
    }

    #[test]
    fn refuses_and_resumes() {
        problems::refuses_and_resumes::<Lda<'_>>(LdaOptions::default);
    }

    #[test]
    fn scatter_is_that_of_all_samples_around_their_means() {
        let samples = problems::samples(3, 4, 90, 2);
        let mut memory = vec![0.0; Lda::memory(4, 3) / 4];
        let mut head = Lda::init(4, 3, LdaOptions::default(), &mut memory).unwrap();
        samples.iter().for_each(|(x, y)| head.learn(x, *y).unwrap());
        let mut scatter = [0.0_f64; 10];
        for class in 0..3 {
            let of: Vec<_> = samples.iter().filter(|(_, y)| *y == class).collect();
            let mean = |i: usize| of.iter().map(|(x, _)| f64::from(x[i])).sum::<f64>() / of.len() as f64;
            for (x, _) in &of {
                for i in 0..4 {
                    for j in 0..=i {
                        scatter[i * (i + 1) / 2 + j] +=
                            (f64::from(x[i]) - mean(i)) * (f64::from(x[j]) - mean(j));
                    }
                }
            }
        }
        for (a, b) in head.parts().scatter.iter().zip(scatter) {
            assert!((f64::from(*a) - b).abs() < 1e-3, "{a} {b}");
        }
    }
}
