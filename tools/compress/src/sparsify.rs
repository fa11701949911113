//! Unstructured and patterned pruning: single weights become zero and stay zero; where the device gains by it, the
//! exporter stores and computes only the rest.
//!
//! [`matrices`] finds the weight matrices, [`Pattern`] describes the zeros that the device's kernels exploit,
//! [`magnitudes`] selects the weights to remove; [`sparsify`] adds training: one shot, gradually, or as a lottery
//! ticket (Frankle and Carbin 2019), whose surviving weights are rewound to early values.

mod masks;
mod matrices;
mod pattern;
mod run;

pub use masks::{Masks, Scope, magnitudes, masks_of};
pub use matrices::{Matrix, matrices};
pub use pattern::Pattern;
pub use run::{MatrixReport, Method, Rewind, RoundReport, SparsifyOptions, SparsifyReport, sparsify};
