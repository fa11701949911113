//! A linear classifier on each block of a network, each learning the residual of the sum of those before it. The tail
//! can be switched off at run time; the rest is exactly the classifier that was trained.
//!
//! Blocks as weak learners, each trained only on the error of the blocks before it, follow BoostResNet (Huang et al.,
//! "Learning Deep ResNet Blocks Sequentially using Boosting Theory", 2018) and additive logistic regression (Friedman
//! et al., 2000). For block `b` with features `x_b`: `F_b = F_{b−1} + W_b x_b`, error `softmax(F_b) − y`, and a
//! normalised step on `W_b` only. No block's weights depend on a later block, so switching the tail off, for speed or
//! battery, loses only what the tail contributes.
//!
//! Memory: counts c, bias c (of the first block), weights c·n over all blocks, errors c.

use super::{Head, HeadError, check, count, take, vector};

/// A linear classifier on every block.
#[derive(Debug)]
pub struct Boosted<'a> {
    memory: &'a mut [f32],
    features: usize,
    classes: usize,
    options: BoostedOptions<'a>,
    active: usize,
}

/// Options of [`Boosted`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BoostedOptions<'a> {
    /// Number of features of each block; their features follow one another.
    pub widths: &'a [usize],
    /// Step size; 1 is stable on any features.
    pub step: f32,
}

impl<'a> Boosted<'a> {
    /// Limits predictions and learning to the first `blocks` blocks until the next call. Features of later blocks are
    /// not read and may be missing.
    ///
    /// # Errors
    /// [`HeadError::Shape`] if `blocks` is 0 or more than there are.
    pub fn set_active_blocks(&mut self, blocks: usize) -> Result<(), HeadError> {
        if blocks == 0 || blocks > self.options.widths.len() {
            return Err(HeadError::Shape);
        }
        self.active = blocks;
        Ok(())
    }

    /// Number of active blocks.
    pub fn kept(&self) -> usize {
        self.active
    }

    /// Widths of the active blocks, and their sum.
    fn in_use(&self) -> (&'a [usize], usize) {
        let widths = &self.options.widths[..self.active];
        (widths, widths.iter().sum())
    }

    /// The features of the active blocks.
    fn used<'x>(&self, features: &'x [f32]) -> Result<&'x [f32], HeadError> {
        let (_, needed) = self.in_use();
        features.get(..needed).filter(|_| features.len() <= self.features).ok_or(HeadError::Features)
    }
}

/// Adds a block's scores to the sum so far.
fn add_scores(scores: &mut [f32], weights: &[f32], x: &[f32]) {
    for (score, row) in scores.iter_mut().zip(weights.chunks_exact(x.len())) {
        *score += vector::dot(row, x);
    }
}

/// Scores before the first block: the bias, or minus infinity for classes without samples.
fn start(scores: &mut [f32], counts: &[f32], bias: &[f32]) {
    for ((score, &count), &bias) in scores.iter_mut().zip(counts).zip(bias) {
        *score = if count > 0.0 { bias } else { f32::NEG_INFINITY };
    }
}

impl<'a> Head<'a> for Boosted<'a> {
    type Feature = f32;
    type Word = f32;
    type Score = f32;
    type Options = BoostedOptions<'a>;

    fn words(features: usize, classes: usize) -> Option<usize> {
        features.checked_add(3)?.checked_mul(classes)
    }

    fn attach(
        features: usize,
        classes: usize,
        options: BoostedOptions<'a>,
        memory: &'a mut [f32],
    ) -> Result<Self, HeadError> {
        let memory = take::<Self>(memory, features, classes)?;
        let sum = options.widths.iter().try_fold(0_usize, |sum, &width| sum.checked_add(width));
        if sum != Some(features) || options.widths.contains(&0) {
            return Err(HeadError::Shape);
        }
        Ok(Self { memory, features, classes, options, active: options.widths.len() })
    }

    fn reset(&mut self) {
        self.memory.fill(0.0);
    }

    fn learn(&mut self, features: &[f32], label: usize) -> Result<(), HeadError> {
        let mut rest = self.used(features)?;
        check(rest, rest.len(), label, self.classes)?;
        let ((widths, _), classes, step) = (self.in_use(), self.classes, self.options.step);
        let (counts, memory) = self.memory.split_at_mut(classes);
        let (bias, memory) = memory.split_at_mut(classes);
        let (mut weights, scratch) = memory.split_at_mut(classes * self.features);
        count(counts, label);
        // The scratch accumulates the scores.
        start(scratch, counts, bias);
        for (b, &width) in widths.iter().enumerate() {
            let (x, behind) = rest.split_at(width);
            let (block, other) = core::mem::take(&mut weights).split_at_mut(classes * width);
            add_scores(scratch, block, x);
            step_block(block, (b == 0).then_some(&mut *bias), scratch, x, label, vector::normalised(step, x));
            (rest, weights) = (behind, other);
        }
        Ok(())
    }

    fn predict(&self, features: &[f32], scores: &mut [f32]) -> Result<(), HeadError> {
        let mut rest = self.used(features)?;
        check(rest, rest.len(), 0, self.classes)?;
        if scores.len() != self.classes {
            return Err(HeadError::Scores);
        }
        let (counts, memory) = self.memory.split_at(self.classes);
        let (bias, mut weights) = memory.split_at(self.classes);
        start(scores, counts, bias);
        for &width in self.in_use().0 {
            let (x, behind) = rest.split_at(width);
            let (block, other) = weights.split_at(self.classes * width);
            add_scores(scores, block, x);
            (rest, weights) = (behind, other);
        }
        Ok(())
    }

    fn readout(&self, class: usize, weights: &mut [f32]) -> Option<f32> {
        let (widths, used) = self.in_use();
        let (counts, rest) = self.memory.split_at(self.classes);
        let (bias, mut rest) = rest.split_at(self.classes);
        if weights.len() != self.features || counts.get(class).is_none_or(|&count| count <= 0.0) {
            return None;
        }
        // Inactive blocks get zero weights.
        let (mut to, off) = weights.split_at_mut(used);
        off.fill(0.0);
        for &width in widths {
            let (block, behind) = rest.split_at(self.classes * width);
            let (own, after) = core::mem::take(&mut to).split_at_mut(width);
            own.copy_from_slice(&block[class * width..][..width]);
            (to, rest) = (after, behind);
        }
        Some(bias[class])
    }

    fn state(&self) -> &[f32] {
        &self.memory[..self.classes * (self.features + 2)]
    }
}

/// One step of a block (and of the bias, if given) on the error of the scores, which do not change.
fn step_block(
    weights: &mut [f32],
    mut bias: Option<&mut [f32]>,
    scores: &[f32],
    x: &[f32],
    label: usize,
    step: f32,
) {
    let highest = scores.iter().fold(f32::NEG_INFINITY, |high, &s| if s > high { s } else { high });
    let sum = scores.iter().fold(0.0, |sum, &score| sum + libm::expf(score - highest));
    for (class, row) in weights.chunks_exact_mut(x.len()).enumerate() {
        let target = if class == label { 1.0 } else { 0.0 };
        let error = libm::expf(scores[class] - highest) / sum - target;
        vector::add(row, -(step * error), x);
        if let Some(bias) = &mut bias {
            bias[class] -= step * error;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::problems;
    use super::*;

    const WIDTHS: [usize; 3] = [3, 4, 5];

    fn options() -> BoostedOptions<'static> {
        BoostedOptions { widths: &WIDTHS, step: 1.0 }
    }

    #[test]
    fn learns() {
        problems::learns::<Boosted<'_>>(options, 0.93);
    }

    #[test]
    fn takes_a_class_later() {
        problems::takes_a_class_later::<Boosted<'_>>(options, problems::Added::Mixed, 0.9);
    }

    #[test]
    fn refuses_and_resumes() {
        problems::refuses_and_resumes::<Boosted<'_>>(options);
    }

    #[test]
    fn a_tail_adds_and_can_go() {
        let samples = problems::samples(4, 12, 1600, 11);
        let (mut all, mut first) = (vec![0.0; 60], vec![0.0; 60]);
        let mut head = Boosted::init(12, 4, options(), &mut all).unwrap();
        let mut short = Boosted::init(3, 4, BoostedOptions { widths: &[3], step: 1.0 }, &mut first).unwrap();
        for (x, y) in &samples[..1200] {
            head.learn(x, *y).unwrap();
            short.learn(&x[..3], *y).unwrap();
        }
        let mut accuracies = [1, 2, 3].map(|blocks| {
            head.set_active_blocks(blocks).unwrap();
            problems::accuracy(&head, 4, &samples[1200..])
        });
        assert!(accuracies.is_sorted(), "{accuracies:?}");
        accuracies.reverse();
        assert!(accuracies[0] > accuracies[2] + 0.1, "{accuracies:?}");
        // Without its tail, the head equals one that never had a tail; the tail's features may be missing.
        head.set_active_blocks(1).unwrap();
        let (mut a, mut b) = ([0.0; 4], [0.0; 4]);
        head.predict(&samples[1300].0[..3], &mut a).unwrap();
        short.predict(&samples[1300].0[..3], &mut b).unwrap();
        assert_eq!(a, b);
        assert_eq!(head.set_active_blocks(0), Err(HeadError::Shape));
        assert_eq!(head.set_active_blocks(4), Err(HeadError::Shape));
        assert_eq!(head.kept(), 1);
    }
}
