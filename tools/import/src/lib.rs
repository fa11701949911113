//! ONNX to Offshoot's IR and back.
//!
//! The file is decoded with tract-onnx's protobuf types and imported node by node; shapes are inferred by the IR.
//! [`lift`] turns QDQ pairs into quantised operators. tract's typed model is the float [`oracle`]; it only sees files
//! that have been imported first, because its analyser trusts its input.

mod constant;
mod context;
pub mod emit;
mod error;
mod fold;
mod join;
mod lift;
mod model;
mod names;
mod ops;
pub mod oracle;
mod parts;
mod qoperator;
mod subgraph;
mod tflite;
mod window;

pub use emit::emit;
pub use error::{ImportError, Result, Unsupported};
pub use join::join;
pub use lift::{complete, open};
pub use model::{Dims, OPSETS, import, import_bytes, import_bytes_with, import_with};
