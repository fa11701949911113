//! Offshoot's command line as a library. Each verb is a function in [`commands`] that a Rust program can call; its
//! outcome prints as a table or as JSON.

pub mod batch;
pub mod commands;
pub mod delta;
pub mod encode;
pub mod failure;
pub mod files;
pub mod front_end;
pub mod measure;
pub mod metrics;
mod policy;
pub mod port;
pub mod samples;
pub mod saturation;
pub mod signing;
pub mod ui;
pub mod watch;

pub use failure::{Failure, Kind, Result};
pub use ui::{Outcome, Ui};
