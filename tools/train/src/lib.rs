//! Gradient training of an IR graph on the host, on burn's autodiff.
//!
//! [`train()`] changes the float constants of a graph in place; the graph stays what every other tool works on.
//! [`network::Network`] builds new graphs, [`models`] the ones shipped in `models/`, which the binary `make-models`
//! makes again. The command line does not depend on this crate.

pub mod card;
pub mod error;
mod forward;
pub mod models;
pub mod network;
pub mod optimiser;
pub mod recipe;
pub mod train;

pub use error::{Error, Result};
pub use optimiser::Rule;
pub use train::{Epoch, Options, Target, accuracy, predict, train};
