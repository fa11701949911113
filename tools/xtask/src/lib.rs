//! The repository's own commands as a library; `cargo xtask` runs `main.rs`.

pub mod bench;
pub mod chips;
pub mod graphs;
pub mod mutate;
pub mod preferences;
pub mod single;
