//! What all Cortex-M boards share.

#![no_std]

mod stack;

pub use stack::Stack;
