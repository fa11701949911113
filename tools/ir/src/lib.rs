//! The graph type shared by the host tools, its shape inference and its lossless passes.
//!
//! All spatial operators are **channels-last** (NHWC; one-dimensional ones have H = 1). The importer wraps ONNX's
//! channels-first operators in `Transpose`s, and [`passes`] remove those that cancel.

pub mod cost;
pub mod elementary;
pub mod error;
pub mod functions;
pub mod graph;
pub mod grid;
pub mod indexed;
pub mod infer;
pub mod integers;
pub mod lookup;
pub mod micro_frontend;
pub mod passes;
pub mod pointwise;
pub mod quant_math;
pub mod resize;
mod validate;

pub use error::{Error, Result};
pub use functions::{BinaryKind, BinaryRecord, UnaryKind, UnaryRecord};
pub use graph::{Activation, DType, Data, Graph, Node, NodeId, Op, Quant, ResizeRule, Value, ValueId};
pub use indexed::Indexing;
pub use integers::Integers;
pub use lookup::Lookup;
pub use offshoot::format::record::{
    BinaryMathKind, Declared, ElementaryKind, GridKind, GridOutside, PadMode, PoolKind, RecurrentKind,
    ReduceKind, Returns, ScatterKind, SpectrumPart, Window,
};
