//! Classifier heads: classifiers on the features that a network computes, which learn from one labelled sample at a
//! time.
//!
//! For `n` features and `c` classes (float32 words; a step is one sample):
//!
//! | head | words | MACs per step | MACs per prediction | learns |
//! |---|---|---|---|---|
//! | [`Softmax`] | c(n + 3) | 2cn | cn | linear classifier by normalised gradient steps |
//! | [`NearestMean`] | c(n + 1) | n | cn | mean of each class |
//! | [`NearestMeanI8`] | c(n + 1) | n | cn | the same on int8 features, integers only |
//! | [`Lda`] | 2c(n + 1) + n(n + 1) | n²/2; refresh n³/6 + cn² | cn | means and one covariance: closed form |
//! | [`LeastSquares`] | c(n + 2) + (n + 1)(n + 4)/2 | n² + 2cn | cn | ridge regression on the classes, exact after each step |
//! | [`Simplex`] | c(n + 3) + m(n + 3) | 4mn | m(n + c) | a projection onto fixed class codes; m = c to the next power of two |
//! | [`Boosted`] | c(n + 3) | 2cn | cn of the active blocks | one linear classifier per block, fitted to the residual of the blocks before it |
//!
//! `Anomaly` (feature `head-anomaly`) is no classifier of labelled samples: it learns what is normal. `Regression` (feature
//! `head-regression`) learns real targets.
//!
//! Every head keeps its memory in one slice that the caller provides. Its size is known beforehand ([`Head::memory`]),
//! and what it learned can be saved and restored ([`Head::state`], [`Head::resume`]).
//!
//! `classes` is a capacity: a class exists from its first sample on. Until then it has the lowest possible score and
//! takes no part in learning, so a class that comes later meets neither a bias against it nor weights that its absence
//! has changed.
//!
//! Arithmetic is float32 in the order written: sums run from the first element to the last, without fused operations,
//! and exponentials are `libm`'s. Host and device give the same bits. Nothing panics: a sample of the wrong length or
//! with values that are not finite, or a label beyond the classes, is refused and leaves the head unchanged.

#[cfg(feature = "head-anomaly")]
mod anomaly;
mod boosted;
mod fold;
mod kind;
mod lda;
mod least_squares;
mod nearest_mean;
mod nearest_mean_i8;
#[cfg(feature = "head-regression")]
mod regression;
mod simplex;
mod softmax;
#[cfg(any(feature = "head-anomaly", feature = "head-regression"))]
mod square_root;
mod symmetric;
mod vector;

#[cfg(test)]
mod problems;

#[cfg(feature = "head-anomaly")]
pub use anomaly::{ANOMALY_CLASSES, Anomaly, AnomalyOptions, WARM};
pub use boosted::{Boosted, BoostedOptions};
pub use fold::fold;
#[cfg(feature = "head-anomaly")]
pub use kind::anomaly_options;
pub use kind::{head_bytes, head_is_possible};
pub use lda::{Lda, LdaOptions, Shrinkage};
pub use least_squares::{LeastSquares, LeastSquaresOptions};
pub use nearest_mean::{NearestMean, NearestMeanOptions};
pub use nearest_mean_i8::NearestMeanI8;
#[cfg(feature = "head-regression")]
pub use regression::{MAX_OUTPUTS, Regression, RegressionOptions};
pub use simplex::{Simplex, SimplexOptions};
pub use softmax::{Softmax, SoftmaxOptions};

/// Why a head refuses a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum HeadError {
    /// The memory provided is too small.
    Memory {
        /// Bytes the head needs.
        needed: usize,
        /// Bytes provided.
        given: usize,
    },
    /// No features, no classes, or options that do not fit them.
    Shape,
    /// Wrong number of features, or a feature that is not finite.
    Features,
    /// A label beyond the classes.
    Label,
    /// Wrong number of scores.
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

/// A classifier that learns sample by sample in memory that the caller provides.
pub trait Head<'a>: Sized {
    /// Type of a feature: float32 or int8.
    type Feature: Copy;
    /// Word type of the memory.
    type Word: Copy + Default + 'a;
    /// Type of a score; the class with the highest score is the prediction.
    type Score: Copy + PartialOrd;
    /// Settings of the head.
    type Options;

    /// Words of memory that the head needs; `None` if there are more than an address can count.
    fn words(features: usize, classes: usize) -> Option<usize>;

    /// Bytes of memory that the head needs, saturating.
    fn memory(features: usize, classes: usize) -> usize {
        Self::words(features, classes)
            .map_or(usize::MAX, |words| words.saturating_mul(size_of::<Self::Word>()))
    }

    /// Attaches the head to memory it has used before, without changing it: predictions use the last [`Head::refresh`].
    ///
    /// # Errors
    /// [`HeadError::Memory`] if the memory is too small; [`HeadError::Shape`] if shape or options are invalid.
    fn attach(
        features: usize,
        classes: usize,
        options: Self::Options,
        memory: &'a mut [Self::Word],
    ) -> Result<Self, HeadError>;

    /// Attaches the head to memory that holds a [`Head::state`] of the same shape, and refreshes it.
    ///
    /// # Errors
    /// As [`Head::attach`].
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

    /// A head without samples.
    ///
    /// # Errors
    /// As [`Head::attach`].
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

    /// Runs one step on one labelled sample.
    ///
    /// # Errors
    /// [`HeadError::Features`] or [`HeadError::Label`]; the head is then unchanged.
    fn learn(&mut self, features: &[Self::Feature], label: usize) -> Result<(), HeadError>;

    /// Does the work that learning defers and predictions need. Only [`Lda`] has any.
    fn refresh(&mut self) {}

    /// Computes a score for each class; classes without samples get the lowest possible score.
    ///
    /// # Errors
    /// [`HeadError::Features`] or [`HeadError::Scores`]; no score is then written.
    fn predict(&self, features: &[Self::Feature], scores: &mut [Self::Score]) -> Result<(), HeadError>;

    /// The head as a linear classifier with the same predictions, for networks that no longer learn: fills `weights`
    /// (one per feature) for `class` and returns its bias. `None` if the class has no samples or does not exist, or if
    /// `weights` has another length.
    fn readout(&self, class: usize, weights: &mut [f32]) -> Option<f32>;

    /// The learned words, to save and to [`Head::resume`] from.
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

/// The class with the highest score; ties go to the first.
pub fn best<S: PartialOrd>(scores: &[S]) -> Option<usize> {
    let mut best = None;
    for (class, score) in scores.iter().enumerate() {
        if best.is_none_or(|(_, highest)| score > highest) {
            best = Some((class, score));
        }
    }
    best.map(|(class, _)| class)
}

/// The words that head `H` needs, from the start of the memory.
fn take<'a, H: Head<'a>>(
    memory: &'a mut [H::Word],
    features: usize,
    classes: usize,
) -> Result<&'a mut [H::Word], HeadError> {
    if features == 0 || classes == 0 {
        return Err(HeadError::Shape);
    }
    let words = H::words(features, classes).ok_or(HeadError::Shape)?;
    let size = size_of::<H::Word>();
    let error =
        HeadError::Memory { needed: words.saturating_mul(size), given: memory.len().saturating_mul(size) };
    memory.get_mut(..words).ok_or(error)
}

/// Refuses features of the wrong number or not finite, and labels beyond the classes.
fn check(features: &[f32], expected: usize, label: usize, classes: usize) -> Result<(), HeadError> {
    if features.len() != expected || !features.iter().all(|f| f.is_finite()) {
        return Err(HeadError::Features);
    }
    if label < classes { Ok(()) } else { Err(HeadError::Label) }
}

/// Counts a sample, up to the largest count that float32 represents exactly.
fn count(counts: &mut [f32], label: usize) -> f32 {
    counts.get_mut(label).map_or(0.0, |count| {
        *count = (*count + 1.0).min(16_777_216.0);
        *count
    })
}
