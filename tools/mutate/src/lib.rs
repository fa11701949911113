//! Mutated `.off` files. [`container`] takes a file apart and seals it again, so that changes reach what lies behind the checksum;
//! [`mutant`] makes file number `n` of a seed; `exercise` runs, trains, saves and restores a file on a target; `compare` says on which
//! targets the bits differ.
//!
//! `cargo xtask mutate` is the command line, and the targets in `fuzz/` use the same container.

#[cfg(feature = "targets")]
pub mod compare;
pub mod container;
mod dice;
#[cfg(feature = "targets")]
pub mod exercise;
mod graph;
pub mod mutant;

pub use dice::Dice;
pub use offshoot::format::header::VERSION as FORMAT_VERSION;
