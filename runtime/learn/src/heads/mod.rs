//! Heads: classifiers on the features that a network computes, learning from one labelled sample at a time.
//!
//! With `n` features and room for `c` classes (float32 words; a step is one sample):
//!
//! | head | words | MACs a step | MACs a prediction | learns |
//! |---|---|---|---|---|
//! | [`Softmax`] | c(n + 3) | 2cn | cn | linear classifier by normalised gradient steps |
//! | [`NearestMean`] | c(n + 1) | n | cn | mean of each class |
//! | [`NearestMeanI8`] | c(n + 1) | n | cn | the same on int8 features, integers only |
//! | [`Lda`] | 2c(n + 1) + n(n + 1) | n²/2; refresh n³/6 + cn² | cn | means and one covariance: closed form |
//! | [`LeastSquares`] | c(n + 2) + (n + 1)(n + 4)/2 | n² + 2cn | cn | ridge regression on the classes, exact after each step |
//! | [`Simplex`] | c(n + 3) + m(n + 3) | 4mn | m(n + c) | a projection onto fixed class codes; m = c to the next power of two |
//! | [`Boosted`] | c(n + 3) | 2cn | cn of the blocks in use | one linear classifier a block, each on what those before it leave |
//!
//! Every head lives in one slice that the caller hands over, so that its size is known beforehand ([`Head::memory`])
//! and what it learned can be saved and taken up again ([`Head::state`], [`Head::resume`]).
//!
//! `classes` is room: a class is there from its first sample on. Until then its score is the lowest there is and it
//! takes no part in learning, so that one added later finds neither a bias against it nor changed weights of others.
//!
//! Arithmetic is float32 in the order written, sums from the first element to the last, without fused operations;
//! exponentials come from `libm`. Host and device end in the same bits. Nothing panics: samples of the wrong length, or
//! that are not finite, or labels beyond the classes, are refused and leave the head as it was.

mod boosted;
mod kind;
mod lda;
mod least_squares;
mod nearest_mean;
mod nearest_mean_i8;
mod simplex;
mod softmax;
mod symmetric;
mod vector;

#[cfg(test)]
mod problems;

pub use boosted::{Boosted, BoostedOptions};
pub use kind::{head_bytes, head_is_possible};
pub use lda::{Lda, LdaOptions, Shrinkage};
pub use least_squares::{LeastSquares, LeastSquaresOptions};
pub use nearest_mean::{NearestMean, NearestMeanOptions};
pub use nearest_mean_i8::NearestMeanI8;
pub use simplex::{Simplex, SimplexOptions};
pub use softmax::{Softmax, SoftmaxOptions};

/// Why a head refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum HeadError {
    /// The memory handed over is too small.
    Memory {
        /// Bytes the head needs.
        needed: usize,
        /// Bytes there are.
        given: usize,
    },
    /// No features, no classes, or options that fit neither.
    Shape,
    /// Another number of features than the head was made for, or a feature that is not finite.
    Features,
    /// A label beyond the classes.
    Label,
    /// Another number of scores than classes.
    Scores,
}

impl core::fmt::Display for HeadError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Memory { needed, given } => write!(f, "{given} bytes are too few: the head needs {needed}"),
            Self::Shape => f.write_str("a head needs features, classes, and options that fit them"),
            Self::Features => f.write_str("wrong number of features, or features that are not finite"),
            Self::Label => f.write_str("label beyond the classes of the head"),
            Self::Scores => f.write_str("wrong number of scores"),
        }
    }
}

impl core::error::Error for HeadError {}

/// A classifier that learns sample by sample in memory that the caller hands over.
pub trait Head<'a>: Sized {
    /// A feature: float32, or int8.
    type Feature: Copy;
    /// What the memory is made of.
    type Word: Copy + Default + 'a;
    /// A score; the class with the highest is the prediction.
    type Score: Copy + PartialOrd;
    /// What the caller chooses.
    type Options;

    /// Bytes of memory that the head takes.
    fn memory(features: usize, classes: usize) -> usize;

    /// A head on memory that it has been in before, with nothing done to it: predictions rest on the last [`Head::refresh`].
    ///
    /// # Errors
    /// [`HeadError::Memory`], [`HeadError::Shape`].
    fn attach(
        features: usize,
        classes: usize,
        options: Self::Options,
        memory: &'a mut [Self::Word],
    ) -> Result<Self, HeadError>;

    /// A head that goes on with what the memory holds: a [`Head::state`] of the same shape.
    ///
    /// # Errors
    /// [`HeadError::Memory`], [`HeadError::Shape`].
    fn resume(
        features: usize,
        classes: usize,
        options: Self::Options,
        memory: &'a mut [Self::Word],
    ) -> Result<Self, HeadError> {
        let mut head = Self::attach(features, classes, options, memory)?;
        head.refresh();
        Ok(head)
    }

    /// A head that has seen nothing.
    ///
    /// # Errors
    /// [`HeadError::Memory`], [`HeadError::Shape`].
    fn init(
        features: usize,
        classes: usize,
        options: Self::Options,
        memory: &'a mut [Self::Word],
    ) -> Result<Self, HeadError> {
        let mut head = Self::attach(features, classes, options, memory)?;
        head.reset();
        Ok(head)
    }

    /// Forgets everything.
    fn reset(&mut self);

    /// One step on one labelled sample.
    ///
    /// # Errors
    /// [`HeadError::Features`], [`HeadError::Label`]: nothing is learned.
    fn learn(&mut self, features: &[Self::Feature], label: usize) -> Result<(), HeadError>;

    /// Work that is put off while learning and that predictions rest on. Only [`Lda`] has any.
    fn refresh(&mut self) {}

    /// A score for each class; of a class without samples, the lowest there is.
    ///
    /// # Errors
    /// [`HeadError::Features`], [`HeadError::Scores`]: no score is written.
    fn predict(&self, features: &[Self::Feature], scores: &mut [Self::Score]) -> Result<(), HeadError>;

    /// A linear classifier that takes samples for the same classes, for networks that learn no more: the weights of a class, into `weights`,
    /// and its bias; `None` for a class without samples or beyond the classes, or weights of another number than the features.
    fn readout(&self, class: usize, weights: &mut [f32]) -> Option<f32>;

    /// What was learned, as it can be saved and [`Head::resume`]d.
    fn state(&self) -> &[Self::Word];
}

/// Row `class` of a linear classifier, if the class has samples.
fn row(counts: &[f32], bias: &[f32], rows: &[f32], class: usize, weights: &mut [f32]) -> Option<f32> {
    let row = rows.chunks_exact(weights.len().max(1)).nth(class)?;
    if counts.get(class).is_none_or(|&count| count <= 0.0) {
        return None;
    }
    weights.copy_from_slice(row);
    bias.get(class).copied()
}

/// The class with the highest score; the first of those that share it.
pub fn best<S: PartialOrd>(scores: &[S]) -> Option<usize> {
    let mut best = None;
    for (class, score) in scores.iter().enumerate() {
        if best.is_none_or(|(_, highest)| score > highest) {
            best = Some((class, score));
        }
    }
    best.map(|(class, _)| class)
}

/// The first words of the memory, if there are enough of them.
fn take<W>(
    memory: &mut [W],
    features: usize,
    classes: usize,
    words: Option<usize>,
) -> Result<&mut [W], HeadError> {
    if features == 0 || classes == 0 {
        return Err(HeadError::Shape);
    }
    let words = words.ok_or(HeadError::Shape)?;
    let size = size_of::<W>();
    let error =
        HeadError::Memory { needed: words.saturating_mul(size), given: memory.len().saturating_mul(size) };
    memory.get_mut(..words).ok_or(error)
}

/// Bytes of so many float32 or int32 words; of more than there can be, the most.
fn bytes(words: Option<usize>) -> usize {
    words.map_or(usize::MAX, |words| words.saturating_mul(4))
}

/// Refuses features that are too many, too few or not finite, and labels beyond the classes.
fn check(features: &[f32], expected: usize, label: usize, classes: usize) -> Result<(), HeadError> {
    if features.len() != expected || !features.iter().all(|f| f.is_finite()) {
        return Err(HeadError::Features);
    }
    if label < classes { Ok(()) } else { Err(HeadError::Label) }
}

/// Counts a sample, up to where float32 can count.
fn count(counts: &mut [f32], label: usize) -> f32 {
    counts.get_mut(label).map_or(0.0, |count| {
        *count = (*count + 1.0).min(16_777_216.0);
        *count
    })
}
