//! From an IR graph to the bytes of a `.off` file. The way of a convolution, top to bottom:
//!
//! | file | does |
//! |---|---|
//! | `compile` | all of it, in order |
//! | `lower` | reads nodes, makes operators; for a convolution it collects the forms (`lower/conv`) |
//! | `forms` | a file for each form: what it offers (bytes, instructions, workspace), and its record and blob |
//! | `draft` | the lowered graph with all forms, and operators of it for a given workspace |
//! | `choose` | takes the best form by what is preferred, with instructions as `cores` estimates them |
//! | `workspace` | tries workspaces, plans the memory of each (`offshoot_plan`) |
//! | `lowered` | the result: operators, buffers, constants |
//! | `stage` | fused row tiles, where the arena counts most |
//! | [`mod@write`] | addresses, sections, checksum |
//!
//! The int8 forms follow TensorFlow Lite's quantisation specification and the preparation that TensorFlow Lite
//! Micro's kernels do, so that the device computes the same bytes as those.

mod aligned;
pub mod blobs;
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

pub use aligned::Aligned;
pub use choose::{FLASH_RATE, RAM_RATE, SPEED_RATE};
pub use compile::{Compiled, compile};
pub use cores::Core;
pub use error::{Error, Result, Unsupported};
pub use forms::sparse::sparse_forms;
pub use learning::{LearningPlan, LearningReport};
pub use lowered::{Fallback, PlainKernel, SparseReport};
pub use nest::compile_nested;
pub use options::{CompileOptions, Prefer};
pub use report::{CompileReport, NestedReport, OperatorReport, TensorReport};
