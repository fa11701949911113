//! Float execution of an IR graph: the oracle for every later stage.
//!
//! A quantised graph is run by its float meaning: constants are dequantised, activations are not rounded,
//! `Quantize`, `Dequantize` and `Requantize` change nothing. Operators follow ONNX's definitions on
//! channels-last tensors.

mod conv;
mod elementwise;
mod error;
mod executor;
mod movement;
mod norm;
mod pool;
pub mod recurrent;
mod resize;

pub use error::{Error, Result};
pub use executor::{Executor, evaluate};
