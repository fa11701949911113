//! Protocols that hold the runtime's learning rules against published numbers, with the runtime's own functions.

pub mod data;
pub mod dense;
pub mod lda;
pub mod mnist;
pub mod shift;
pub mod speakers;
