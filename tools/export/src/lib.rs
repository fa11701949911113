//! Compiles an IR graph to the bytes of a `.off` file. A convolution passes through these modules, top to bottom:
//!
//! | file | does |
//! |---|---|
//! | `compile` | runs all steps in order |
//! | `lower` | turns nodes into operators; for a convolution it collects the forms (`lower/conv`) |
//! | `branches` | which nodes run only if a switch chooses them, and the order that follows |
//! | `forms` | one file per form: its cost (bytes, instructions, workspace), its record and its blob |
//! | `draft` | the lowered graph with all forms; makes operators for a given workspace |
//! | `choose` | takes the best form for the preferred resource; `cores` estimates instructions |
//! | `workspace` | tries workspaces and plans the memory of each (`offshoot_plan`) |
//! | `lowered` | the result: operators, buffers, constants |
//! | [`fused_rows`] | fused row tiles, if a smaller arena is preferred or needed |
//! | [`mod@write`] | addresses, sections, checksum |
//!
//! The int8 forms follow TensorFlow Lite's quantisation specification and the preparation in TensorFlow Lite Micro's
//! kernels, so that the device computes the same bytes.

pub mod blobs;
pub mod branch_costs;
mod branches;
mod choose;
mod compile;
mod cores;
mod draft;
pub mod error;
mod forms;
pub mod fused_rows;
mod layer;
pub mod learning;
mod lower;
pub mod lowered;
pub mod nest;
mod options;
pub mod probes;
pub mod relearn;
pub mod report;
mod workspace;
pub mod write;

pub use choose::{FLASH_RATE, RAM_RATE, SPEED_RATE};
pub use compile::{Compiled, compile};
pub use cores::Core;
pub use error::{Error, Result, Unsupported};
pub use forms::sparse::sparse_forms;
pub use learning::{LearningPlan, LearningReport};
pub use lowered::{Fallback, PlainKernel, SparseReport};
pub use nest::compile_nested;
pub use options::{CompileOptions, Prefer};
pub use report::{CompileReport, NestedReport, OperatorSummary, TensorReport};
