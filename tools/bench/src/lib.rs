//! Protocols that hold the runtime's learning rules against published numbers, with the runtime's own functions.

pub mod data;
pub mod dense;
pub mod mnist;
