//! Unstructured and patterned pruning: single weights become zero and stay zero; the exporter then stores and computes
//! only those that are left, where the device gains by it.
//!
//! [`matrices`] says which constants are matrices of weights, [`Pattern`] which zeros the device's kernels like,
//! [`magnitudes`] which weights go; [`sparsify`] puts training around it: one shot, gradually, or as a lottery ticket
//! (Frankle and Carbin 2019), whose surviving weights go back to where training began.

mod masks;
mod matrices;
mod pattern;
mod run;

pub use masks::{Masks, Scope, magnitudes, masks_of};
pub use matrices::{Matrix, matrices};
pub use pattern::Pattern;
pub use run::{MatrixReport, Method, Rewind, RoundReport, SparsifyOptions, SparsifyReport, sparsify};
