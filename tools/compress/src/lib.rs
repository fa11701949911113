//! Makes trained networks smaller: each module takes a graph and data, and returns a smaller graph and a report.

pub mod error;
mod knapsack;
pub mod levels;
pub mod low_rank;
pub mod nest;
pub mod plan;
pub mod prune;
pub mod quantize;
pub mod sparsify;
pub mod suggest;

pub use error::{Error, Result};
