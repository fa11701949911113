//! The repository's own commands, as functions; `main.rs` is what `cargo xtask` runs.

pub mod bench;
