//! Protocols that compare the runtime's learning rules with published numbers, using the runtime's own functions.

use std::path::Path;

pub mod adam;
pub mod adapt;
pub mod batch;
pub mod conv;
pub mod convnet;
pub mod data;
pub mod dense;
pub mod mnist;
pub mod protocol;
pub mod recurrent;
pub mod shift;
pub mod speakers;
pub mod table;

/// All protocols, with the data sets in a folder.
pub fn protocols(data: &Path) -> Vec<Box<dyn protocol::Protocol>> {
    vec![
        Box::new(mnist::Mnist::batches(data)),
        Box::new(mnist::Mnist::stream(data)),
        Box::new(conv::Conv::new(data)),
        Box::new(shift::Shifts::new(data)),
        Box::new(speakers::Speakers::new(data)),
        Box::new(recurrent::Recurrent::new(data)),
    ]
}
