//! Protocols that hold the runtime's learning rules against published numbers, with the runtime's own functions.

use std::path::Path;

pub mod adapt;
pub mod batch;
pub mod data;
pub mod dense;
pub mod mnist;
pub mod protocol;
pub mod shift;
pub mod table;

/// All protocols, on the data sets of a folder.
pub fn protocols(data: &Path) -> Vec<Box<dyn protocol::Protocol>> {
    vec![
        Box::new(mnist::Mnist::batches(data)),
        Box::new(mnist::Mnist::stream(data)),
        Box::new(shift::Shifts::new(data)),
    ]
}
