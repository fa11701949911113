//! Fixed classifier: each class has a vertex of a simplex, fixed before any sample, and a projection of the features
//! learns to point at it. A class that comes later takes the next vertex; the classifier's weights never change (Yang
//! et al., "Neural Collapse Inspired Feature-Classifier Alignment for Few-Shot Class-Incremental Learning", 2023).
//!
//! The vertices are the rows of a Hadamard matrix of `m` rows (`m` is `classes` rounded up to a power of two) without
//! its first column. Any two have inner product −1 and each has length √(m − 1): an equiangular tight frame. They take
//! no memory, since the sign is the parity of `class & column`.
//!
//! A step computes `h = A (x, 1)` and its cosine `cos` with the vertex `v` of its class, then `A += s (1 − cos)(v − cos
//! h/|h|) (x, 1)ᵀ`. This is the paper's dot-regression loss: it pulls towards the vertex, pushes away from none, and
//! vanishes at the vertex. The step then repeats for the mean of one other class, in turn: the paper's memory of one
//! mean per class, which preserves older classes when all samples are of a new one.
//!
//! Memory: counts c, means c·n, projection (m − 1)(n + 1), scratch.

use super::{Head, HeadError, check, count, symmetric::with_one, take, vector};

/// Fixed simplex classifier behind a learned projection.
#[derive(Debug)]
pub struct Simplex<'a> {
    memory: &'a mut [f32],
    features: usize,
    classes: usize,
    options: SimplexOptions,
}

/// Options of [`Simplex`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SimplexOptions {
    /// Step size.
    pub step: f32,
}

impl Default for SimplexOptions {
    fn default() -> Self {
        Self { step: 0.5 }
    }
}

/// Axes of the projection: one less than a power of two, at least three.
fn axes(classes: usize) -> Option<usize> {
    Some(classes.max(4).checked_next_power_of_two()? - 1)
}

/// Coordinate of a class's vertex, times √axes.
fn sign(class: usize, axis: usize) -> f32 {
    if (class & (axis + 1)).count_ones().is_multiple_of(2) { 1.0 } else { -1.0 }
}

/// `A (x, 1)`.
fn project(projection: &[f32], x: &[f32], h: &mut [f32]) {
    for (h, row) in h.iter_mut().zip(projection.chunks_exact(x.len() + 1)) {
        *h = with_one(row, x);
    }
}

/// Cosine of `h` with the vertex of a class, given `1 / (|h| √axes)`.
fn cosine(h: &[f32], class: usize, inverse: f32) -> f32 {
    h.iter().enumerate().fold(0.0, |sum, (axis, &h)| sum + sign(class, axis) * h) * inverse
}

/// One over the length of a vector; 0 for the zero vector.
fn inverse_length(h: &[f32]) -> f32 {
    let square = vector::dot(h, h);
    if square > 0.0 { 1.0 / libm::sqrtf(square) } else { 0.0 }
}

/// Turns the projection of `x` towards the vertex of its class.
fn turn(projection: &mut [f32], h: &mut [f32], x: &[f32], class: usize, step: f32) {
    project(projection, x, h);
    let unit = 1.0 / libm::sqrtf(h.len() as f32);
    let inverse = inverse_length(h);
    let cos = cosine(h, class, inverse * unit);
    let step = vector::normalised(step, x) * (1.0 - cos);
    for ((axis, row), &h) in projection.chunks_exact_mut(x.len() + 1).enumerate().zip(h.iter()) {
        let factor = step * (sign(class, axis) * unit - cos * (h * inverse));
        vector::add(row, factor, x);
        row[x.len()] += factor;
    }
}

impl Simplex<'_> {
    /// Number of learned words, and the range of the projection in them.
    fn places(&self) -> (usize, core::ops::Range<usize>) {
        let start = self.classes * (self.features + 1) + 1;
        let axes = self.classes.max(4).next_power_of_two() - 1;
        let end = start + axes * (self.features + 1);
        (end, start..end)
    }
}

impl<'a> Head<'a> for Simplex<'a> {
    type Feature = f32;
    type Word = f32;
    type Score = f32;
    type Options = SimplexOptions;

    /// Words of counts and the replay turn, means, projection, and projected features.
    fn words(features: usize, classes: usize) -> Option<usize> {
        let means = features.checked_add(1)?.checked_mul(classes)?.checked_add(1)?;
        axes(classes)?.checked_mul(features.checked_add(2)?)?.checked_add(means)
    }

    fn attach(
        features: usize,
        classes: usize,
        options: SimplexOptions,
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
        let (end, _) = self.places();
        let (learned, h) = self.memory.split_at_mut(end);
        let (counts, rest) = learned.split_at_mut(self.classes);
        let (turns, rest) = rest.split_at_mut(1);
        let (means, projection) = rest.split_at_mut(self.classes * self.features);
        let seen = count(counts, label);
        if let Some(mean) = means.chunks_exact_mut(self.features).nth(label) {
            vector::approach(mean, 1.0 / seen, features);
        }
        turn(projection, h, features, label, self.options.step);
        // Replays the next class with samples other than this one.
        let last = turns[0] as usize % self.classes;
        let after = (1..=self.classes).map(|i| (last + i) % self.classes);
        let others = |&class: &usize| class != label && counts[class] > 0.0;
        if let Some(class) = after.into_iter().find(others) {
            turns[0] = class as f32;
            let mean = &means[class * self.features..][..self.features];
            turn(projection, h, mean, class, self.options.step);
        }
        Ok(())
    }

    fn predict(&self, features: &[f32], scores: &mut [f32]) -> Result<(), HeadError> {
        check(features, self.features, 0, self.classes)?;
        if scores.len() != self.classes {
            return Err(HeadError::Scores);
        }
        // Cosines are sums over the axes, so going axis by axis needs no scratch.
        scores.fill(0.0);
        let (_, projection) = self.places();
        let mut square = 0.0;
        for (axis, row) in self.memory[projection].chunks_exact(self.features + 1).enumerate() {
            let h = with_one(row, features);
            square += h * h;
            for (class, score) in scores.iter_mut().enumerate() {
                *score += sign(class, axis) * h;
            }
        }
        let axes = self.classes.max(4).next_power_of_two() - 1;
        let inverse = if square > 0.0 { 1.0 / libm::sqrtf(square * axes as f32) } else { 0.0 };
        for (score, &seen) in scores.iter_mut().zip(&self.memory[..self.classes]) {
            *score = if seen > 0.0 { *score * inverse } else { f32::NEG_INFINITY };
        }
        Ok(())
    }

    fn readout(&self, class: usize, weights: &mut [f32]) -> Option<f32> {
        // All cosines of a sample have the same divisor, so the ranking does not need it.
        if weights.len() != self.features
            || self.memory[..self.classes].get(class).is_none_or(|&count| count <= 0.0)
        {
            return None;
        }
        let (mut bias, (_, projection)) = (0.0, self.places());
        weights.fill(0.0);
        for (axis, row) in self.memory[projection].chunks_exact(self.features + 1).enumerate() {
            let (last, row) = row.split_last()?;
            vector::add(weights, sign(class, axis), row);
            bias += sign(class, axis) * last;
        }
        Some(bias)
    }

    fn state(&self) -> &[f32] {
        &self.memory[..self.places().0]
    }
}

#[cfg(test)]
mod tests {
    use super::super::problems;
    use super::*;

    #[test]
    fn learns() {
        problems::learns::<Simplex<'_>>(SimplexOptions::default, 0.97);
    }

    #[test]
    fn takes_a_class_later() {
        problems::takes_a_class_later::<Simplex<'_>>(SimplexOptions::default, problems::Added::Alone, 0.95);
    }

    #[test]
    fn refuses_and_resumes() {
        problems::refuses_and_resumes::<Simplex<'_>>(SimplexOptions::default);
    }

    #[test]
    fn vertices_are_equally_far_from_each_other() {
        for classes in [2, 4, 7, 16] {
            let axes = axes(classes).unwrap();
            for (a, b) in (0..classes).flat_map(|a| (0..classes).map(move |b| (a, b))) {
                let product: f32 = (0..axes).map(|axis| sign(a, axis) * sign(b, axis)).sum();
                assert_eq!(product, if a == b { axes as f32 } else { -1.0 });
            }
        }
    }
}
