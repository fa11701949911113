//! Learning on the device, without backpropagation.

pub mod heads;
