//! Classifier heads: small classifiers that learn one labelled sample at a time, on any features.
//!
//! A `.off` file can contain a head (`[head]` of a learning plan); the engine then feeds it, and
//! [`Engine::scores`](crate::Engine::scores) returns its scores. Use the heads of this module directly for features
//! from elsewhere:
//!
//! ```
//! use offshoot::heads::{Head, NearestMean, NearestMeanOptions, best};
//!
//! const FEATURES: usize = 2;
//! const CLASSES: usize = 3;
//! let mut memory = [0.0; 9];
//! assert!(NearestMean::memory(FEATURES, CLASSES) <= size_of_val(&memory));
//! let mut head = NearestMean::init(FEATURES, CLASSES, NearestMeanOptions::default(), &mut memory)?;
//! head.learn(&[1.0, 0.1], 0)?;
//! head.learn(&[0.0, 0.9], 1)?;
//! let mut scores = [0.0; CLASSES];
//! head.predict(&[0.9, 0.0], &mut scores)?;
//! assert_eq!(best(&scores), Some(0));
//! # Ok::<(), offshoot::heads::HeadError>(())
//! ```
//!
//! For `n` features and `c` classes:
//!
//! | head | float32 words | multiply-accumulates of a step | learns |
//! |---|---|---|---|
//! | [`NearestMean`] | c(n + 1) | n | the mean of each class |
//! | [`NearestMeanI8`] | c(n + 1) | n | the same on int8 features, integers only |
//! | [`Softmax`] | c(n + 3) | 2cn | a linear classifier by normalised gradient steps |
//! | [`Simplex`] | c(n + 3) + m(n + 3), m = c to the next power of two | 4mn | a projection onto fixed class codes |
//! | [`Lda`] | 2c(n + 1) + n(n + 1) | n²/2 | means and one covariance, in closed form |
//! | [`LeastSquares`] | c(n + 2) + (n + 1)(n + 4)/2 | n² + 2cn | ridge regression, exact after each step |
//! | [`Boosted`] | c(n + 3) | 2cn | one linear classifier per block, fitted to the residual of the blocks before it |
//!
//! `Anomaly` (feature `head-anomaly`) learns from normal samples alone what is normal: mean and covariance, and a threshold with a stated
//! rate of false alarms. `Regression` (feature `head-regression`) learns real targets by recursive least squares.
//!
//! [`Head::state`] returns everything a head has learned as one slice; [`Head::resume`] restores it.

#[cfg(feature = "head-anomaly")]
pub use offshoot_learn::heads::{Anomaly, AnomalyOptions};
pub use offshoot_learn::heads::{
    Boosted, BoostedOptions, Head, HeadError, Lda, LdaOptions, LeastSquares, LeastSquaresOptions,
    NearestMean, NearestMeanI8, NearestMeanOptions, Shrinkage, Simplex, SimplexOptions, Softmax,
    SoftmaxOptions, best,
};
#[cfg(feature = "head-regression")]
pub use offshoot_learn::heads::{Regression, RegressionOptions};
