//! Sample data: files that users have, and the project's own synthetic data.
//!
//! Loaders ([`npy`], [`npz`], [`idx`], [`cifar`], [`wav`]) give arrays in C order; [`dataset::load`] recognises
//! the kinds and gives labelled samples. [`features`] turns sound into log-mel frames or MFCC. [`synth`] makes
//! the data that the models in `models/` are trained on. Everything is deterministic.

pub mod error;
pub mod npy;

pub use error::{Error, ErrorKind, Result};
