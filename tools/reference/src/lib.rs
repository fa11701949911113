//! Float execution of an IR graph: the reference for everything that follows.
//!
//! A quantised graph is run with its real values: constants are dequantised, activations are not rounded, and
//! `Quantize`, `Dequantize` and `Requantize` are identities. Operators follow ONNX's definitions on channels-last
//! tensors.

mod conv;
mod elementwise;
mod error;
mod executor;
mod indexed;
mod movement;
mod norm;
mod pool;
pub mod recurrent;
mod resize;
mod spectrum;

pub use error::{Error, Result};
pub use executor::{Executor, evaluate};
pub use spectrum::micro_frontend_from;
