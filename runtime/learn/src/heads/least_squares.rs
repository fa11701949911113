//! Recursive least squares on one-hot classes: after every sample, the exact ridge regression of all samples so far (as
//! the output layer of OS-ELM, Liang et al. 2006; on a microcontroller, Tsukada et al. 2020).
//!
//! With `x` the features and a one: `g = P x`, `k = g / (λ + x·g)`, `W += (y − W x) kᵀ`, `P = (P − k gᵀ) / λ`. `P` is
//! symmetric, so only half of it is stored and updated. A class that comes later has a row of zeros, which is the
//! regression for a class without samples so far: earlier learning loses nothing.
//!
//! A regression on one-hot classes takes frequent classes for more likely, so a class with few samples would lose to
//! them. With `balance`, a sample of a class with fewer samples than the mean weighs `w = max(1, mean count / count)`:
//! the first `λ` becomes `λ / w`.
//!
//! Memory: counts c, weights c(n + 1), inverse (n + 1)(n + 2)/2, gain n + 1. A step takes n² + 2cn
//! multiply-accumulates.

use super::{Head, HeadError, check, count, symmetric, take, vector};
use symmetric::with_one;

/// Recursive least squares.
#[derive(Debug)]
pub struct LeastSquares<'a> {
    memory: &'a mut [f32],
    features: usize,
    classes: usize,
    options: LeastSquaresOptions,
}

/// Options of [`LeastSquares`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LeastSquaresOptions {
    /// Weight of the squared weights relative to the squared errors, in units of squared features.
    pub ridge: f32,
    /// Weight of a sample relative to the next one, λ: 1 forgets nothing, 0.999 forgets half in 700 samples.
    pub forgetting: f32,
    /// Whether samples of rare classes weigh more.
    pub balance: bool,
}

impl Default for LeastSquaresOptions {
    fn default() -> Self {
        Self { ridge: 1.0, forgetting: 1.0, balance: true }
    }
}

/// Weight of a sample of a class with this count.
fn weight(counts: &[f32], count: f32) -> f32 {
    let (samples, classes) =
        counts.iter().filter(|&&c| c > 0.0).fold((0.0, 0.0), |(s, n), &c| (s + c, n + 1.0));
    let weight: f32 = samples / (classes * count);
    if weight > 1.0 { weight } else { 1.0 }
}

/// The arrays in the memory.
struct Parts<'p> {
    counts: &'p mut [f32],
    weights: &'p mut [f32],
    inverse: &'p mut [f32],
    gain: &'p mut [f32],
}

impl LeastSquares<'_> {
    fn parts(&mut self) -> Parts<'_> {
        let inputs = self.features + 1;
        let (counts, rest) = self.memory.split_at_mut(self.classes);
        let (weights, rest) = rest.split_at_mut(self.classes * inputs);
        let (inverse, gain) = rest.split_at_mut(inputs * (inputs + 1) / 2);
        Parts { counts, weights, inverse, gain }
    }
}

impl<'a> Head<'a> for LeastSquares<'a> {
    type Feature = f32;
    type Word = f32;
    type Score = f32;
    type Options = LeastSquaresOptions;

    fn words(features: usize, classes: usize) -> Option<usize> {
        let inputs = features.checked_add(1)?;
        let linear = inputs.checked_add(1)?.checked_mul(classes)?;
        symmetric::words(inputs)?.checked_add(inputs)?.checked_add(linear)
    }

    fn attach(
        features: usize,
        classes: usize,
        options: LeastSquaresOptions,
        memory: &'a mut [f32],
    ) -> Result<Self, HeadError> {
        let memory = take::<Self>(memory, features, classes)?;
        let possible = options.ridge > 0.0 && options.forgetting > 0.0 && options.forgetting <= 1.0;
        if possible { Ok(Self { memory, features, classes, options }) } else { Err(HeadError::Shape) }
    }

    fn reset(&mut self) {
        let (inputs, ridge) = (self.features + 1, self.options.ridge);
        self.memory.fill(0.0);
        symmetric::set_identity(self.parts().inverse, inputs, 1.0 / ridge);
    }

    fn learn(&mut self, features: &[f32], label: usize) -> Result<(), HeadError> {
        check(features, self.features, label, self.classes)?;
        let (inputs, options) = (self.features + 1, self.options);
        let Parts { counts, weights, inverse, gain } = self.parts();
        let seen = count(counts, label);
        symmetric::product_with_one(inverse, features, gain);
        // Negative only by rounding.
        let power = with_one(gain, features).max(0.0);
        let weight = if options.balance { weight(counts, seen) } else { 1.0 };
        let share = 1.0 / (options.forgetting / weight + power);
        for (class, row) in weights.chunks_exact_mut(inputs).enumerate() {
            let target = if class == label { 1.0 } else { 0.0 };
            let error = target - with_one(row, features);
            vector::add(row, error * share, gain);
        }
        symmetric::add_outer(inverse, -share, gain);
        // Stops directions without recent samples from growing without bound.
        let mean = symmetric::trace(inverse, inputs) / inputs as f32;
        if options.forgetting < 1.0 && mean * options.ridge < 1.0 {
            inverse.iter_mut().for_each(|p| *p /= options.forgetting);
        }
        Ok(())
    }

    fn predict(&self, features: &[f32], scores: &mut [f32]) -> Result<(), HeadError> {
        check(features, self.features, 0, self.classes)?;
        if scores.len() != self.classes {
            return Err(HeadError::Scores);
        }
        let (counts, rest) = self.memory.split_at(self.classes);
        for ((score, row), &seen) in scores.iter_mut().zip(rest.chunks_exact(self.features + 1)).zip(counts) {
            *score = if seen > 0.0 { with_one(row, features) } else { f32::NEG_INFINITY };
        }
        Ok(())
    }

    fn readout(&self, class: usize, weights: &mut [f32]) -> Option<f32> {
        let (counts, rest) = self.memory.split_at(self.classes);
        if weights.len() != self.features || counts.get(class).is_none_or(|&count| count <= 0.0) {
            return None;
        }
        let (bias, row) = rest.chunks_exact(self.features + 1).nth(class)?.split_last()?;
        weights.copy_from_slice(row);
        Some(*bias)
    }

    fn state(&self) -> &[f32] {
        let scratch = self.features + 1;
        &self.memory[..self.memory.len() - scratch]
    }
}

#[cfg(test)]
mod tests {
    use super::super::problems;
    use super::*;

    #[test]
    fn learns() {
        problems::learns::<LeastSquares<'_>>(LeastSquaresOptions::default, 0.98);
    }

    #[test]
    fn learns_and_forgets() {
        let options = || LeastSquaresOptions { forgetting: 0.99, ..LeastSquaresOptions::default() };
        problems::learns::<LeastSquares<'_>>(options, 0.97);
    }

    #[test]
    fn takes_a_class_later() {
        problems::takes_a_class_later::<LeastSquares<'_>>(
            LeastSquaresOptions::default,
            problems::Added::Alone,
            0.98,
        );
    }

    #[test]
    fn refuses_and_resumes() {
        problems::refuses_and_resumes::<LeastSquares<'_>>(LeastSquaresOptions::default);
    }

    /// The recursion equals the regression: `(XᵀX + ridge I) wᵀ = Xᵀy`.
    #[test]
    fn is_the_ridge_regression_of_all_samples() {
        let samples = problems::samples(3, 5, 150, 4);
        let mut memory = vec![0.0; LeastSquares::memory(5, 3) / 4];
        let options = LeastSquaresOptions { balance: false, ..LeastSquaresOptions::default() };
        let mut head = LeastSquares::init(5, 3, options, &mut memory).unwrap();
        let mut normal = vec![0.0; 21];
        symmetric::set_identity(&mut normal, 6, 1.0);
        let mut sides = vec![vec![0.0; 6]; 3];
        for (x, y) in &samples {
            head.learn(x, *y).unwrap();
            let x: Vec<f32> = x.iter().copied().chain([1.0]).collect();
            symmetric::add_outer(&mut normal, 1.0, &x);
            vector::add(&mut sides[*y], 1.0, &x);
        }
        symmetric::factorise(&mut normal, 6, 1e-9);
        for (row, side) in head.parts().weights.chunks(6).zip(&mut sides) {
            symmetric::solve(&normal, side);
            for (a, b) in row.iter().zip(side) {
                assert!((*a - *b).abs() < 1e-3, "{a} {b}");
            }
        }
    }

    /// After half a million steps the matrix still allows steps.
    #[test]
    fn stays_stable() {
        let samples = problems::samples(3, 5, 500, 4);
        for forgetting in [1.0, 0.995] {
            let mut memory = vec![0.0; LeastSquares::memory(5, 3) / 4];
            let options = LeastSquaresOptions { ridge: 0.1, forgetting, balance: true };
            let mut head = LeastSquares::init(5, 3, options, &mut memory).unwrap();
            for i in 0..500_000 {
                let (x, y) = &samples[i % 500];
                head.learn(x, *y).unwrap();
            }
            assert!(problems::accuracy(&head, 3, &samples) > 0.9);
        }
    }
}
