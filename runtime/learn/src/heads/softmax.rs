//! Linear classifier with cross-entropy loss, one normalised gradient step per sample.
//!
//! `p = softmax(W x + b)`, then `W −= s (p − y) xᵀ` and `b −= s (p − y)` with `s = step / (1 + |x|²)`: the step of
//! normalised least mean squares (Nagumo and Noda, 1967), which keeps features of any scale stable.
//!
//! Memory: counts c, bias c, weights c·n, errors c. A step is 2cn multiply-accumulates and c exponentials.

use super::{Head, HeadError, check, count, take, vector};

/// Linear softmax classifier.
#[derive(Debug)]
pub struct Softmax<'a> {
    memory: &'a mut [f32],
    features: usize,
    classes: usize,
    options: SoftmaxOptions,
}

/// Options of [`Softmax`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SoftmaxOptions {
    /// Step size; 1 is stable on any features.
    pub step: f32,
}

impl Default for SoftmaxOptions {
    fn default() -> Self {
        Self { step: 1.0 }
    }
}

/// Scores of a linear classifier; minus infinity for classes without samples.
pub(super) fn linear_scores(counts: &[f32], bias: &[f32], weights: &[f32], x: &[f32], scores: &mut [f32]) {
    let rows = weights.chunks_exact(x.len()).zip(bias).zip(counts);
    for (score, ((row, &bias), &count)) in scores.iter_mut().zip(rows) {
        *score = if count > 0.0 { bias + vector::dot(row, x) } else { f32::NEG_INFINITY };
    }
}

impl Softmax<'_> {
    /// Counts, biases and weights.
    fn parts(&self) -> (&[f32], &[f32], &[f32]) {
        let (counts, rest) = self.memory.split_at(self.classes);
        let (bias, rest) = rest.split_at(self.classes);
        (counts, bias, &rest[..self.classes * self.features])
    }
}

impl<'a> Head<'a> for Softmax<'a> {
    type Feature = f32;
    type Word = f32;
    type Score = f32;
    type Options = SoftmaxOptions;

    fn words(features: usize, classes: usize) -> Option<usize> {
        features.checked_add(3)?.checked_mul(classes)
    }

    fn attach(
        features: usize,
        classes: usize,
        options: SoftmaxOptions,
        memory: &'a mut [f32],
    ) -> Result<Self, HeadError> {
        let memory = take::<Self>(memory, features, classes)?;
        Ok(Self { memory, features, classes, options })
    }

    fn reset(&mut self) {
        self.memory.fill(0.0);
    }

    fn learn(&mut self, features: &[f32], label: usize) -> Result<(), HeadError> {
        check(features, self.features, label, self.classes)?;
        let (counts, rest) = self.memory.split_at_mut(self.classes);
        let (bias, rest) = rest.split_at_mut(self.classes);
        let (weights, errors) = rest.split_at_mut(self.classes * self.features);
        count(counts, label);
        linear_scores(counts, bias, weights, features, errors);
        vector::cross_entropy_error(errors, label);
        let step = vector::normalised(self.options.step, features);
        for (row, &error) in weights.chunks_exact_mut(self.features).zip(errors.iter()) {
            vector::add(row, -(step * error), features);
        }
        vector::add(bias, -step, errors);
        Ok(())
    }

    fn predict(&self, features: &[f32], scores: &mut [f32]) -> Result<(), HeadError> {
        check(features, self.features, 0, self.classes)?;
        if scores.len() != self.classes {
            return Err(HeadError::Scores);
        }
        let (counts, bias, weights) = self.parts();
        linear_scores(counts, bias, weights, features, scores);
        Ok(())
    }

    fn readout(&self, class: usize, weights: &mut [f32]) -> Option<f32> {
        let (counts, bias, rows) = self.parts();
        (weights.len() == self.features).then(|| super::row(counts, bias, rows, class, weights)).flatten()
    }

    fn state(&self) -> &[f32] {
        &self.memory[..self.classes * (self.features + 2)]
    }
}

#[cfg(test)]
mod tests {
    use super::super::problems;
    use super::*;

    #[test]
    fn learns() {
        problems::learns::<Softmax<'_>>(SoftmaxOptions::default, 0.97);
    }

    #[test]
    fn takes_a_class_later() {
        problems::takes_a_class_later::<Softmax<'_>>(SoftmaxOptions::default, problems::Added::Mixed, 0.95);
    }

    #[test]
    fn refuses_and_resumes() {
        problems::refuses_and_resumes::<Softmax<'_>>(SoftmaxOptions::default);
    }

    #[test]
    fn a_class_without_samples_changes_nothing() {
        let samples = problems::samples(3, 6, 200, 5);
        let (mut three, mut nine) = (vec![0.0; 9 * 9], vec![0.0; 9 * 9]);
        let mut small = Softmax::init(6, 3, SoftmaxOptions::default(), &mut three).unwrap();
        let mut large = Softmax::init(6, 9, SoftmaxOptions::default(), &mut nine).unwrap();
        for (x, y) in &samples {
            small.learn(x, *y).unwrap();
            large.learn(x, *y).unwrap();
        }
        let (mut a, mut b) = ([0.0; 3], [0.0; 9]);
        small.predict(&samples[0].0, &mut a).unwrap();
        large.predict(&samples[0].0, &mut b).unwrap();
        assert_eq!(a, b[..3]);
        assert!(b[3..].iter().all(|&s| s == f32::NEG_INFINITY));
    }
}
