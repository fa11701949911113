//! Reports for people: terminal tables, and self-contained HTML pages with SVG plots.
//!
//! JSON is not written here: every result is a `serde` struct that the command line serialises.

pub mod atomic;
pub mod front;
pub mod html;
pub mod picture;
pub mod plot;
pub mod table;

pub use atomic::{write_atomically, wrote_to_stdout};
pub use html::Page;
pub use table::Table;
