//! Sample data: files that users have, and the project's own synthetic data.
//!
//! Loaders ([`npy`], [`npz`], [`idx`], [`cifar`], [`wav`]) give arrays in C order; [`load`] recognises
//! the kinds and gives labelled samples. [`features`] turns sound into log-mel frames or MFCC. [`synth`] makes the
//! data that the models in `models/` are trained on. Everything is deterministic.

pub mod cifar;
pub mod dataset;
pub mod error;
pub mod features;
pub mod idx;
pub mod npy;
pub mod npz;
pub mod synth;
pub mod wav;

pub use dataset::{Dataset, load};
pub use error::{Error, ErrorKind, Result};
