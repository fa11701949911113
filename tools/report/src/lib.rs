//! What people look at: terminal tables, and one self-contained HTML page with SVG plots.
//!
//! JSON is not made here: every result is a `serde` struct, and the command line prints it as it is.

pub mod atomic;
pub mod front;
pub mod html;
pub mod picture;
pub mod plot;
pub mod table;

pub use atomic::write_atomically;
pub use html::Page;
pub use table::Table;
