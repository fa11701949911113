//! Sample data: the user's files, and the project's synthetic data.
//!
//! Loaders ([`npy`], [`npz`], [`idx`], [`cifar`], [`wav`]) return arrays in C order; [`load`] recognises the kind of
//! file and returns labelled samples. [`features`] turns sound into log-mel frames or MFCC. [`synth`] generates the
//! training data of the models in `models/`. [`Random`] is the generator of all host tools. Everything is deterministic.

pub mod cifar;
pub mod dataset;
pub mod error;
pub mod features;
pub mod idx;
pub mod npy;
pub mod npz;
pub mod random;
pub mod synth;
pub mod wav;

pub use dataset::{Dataset, load};
pub use error::{Error, ErrorKind, Result};
pub use random::Random;
