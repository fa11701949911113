//! Changing the size of a network, and aligning networks of the same size.
//!
//! A *unit* is a channel with everything that belongs to it: one group of [`crate::prune::Groups`]; units of one
//! family may change places. [`Level`] merges units and blocks in pairs, and expands a smaller network back to the
//! form of the larger one (multi-level framework, Zou et al., ICLR 2024); [`cycle`] trains that way. [`match_units`]
//! puts the units of one network into the order of another's, so that their weights can be compared, averaged, or
//! interpolated.

mod assignment;
mod cycle;
mod depth;
mod level;
mod matching;
mod units;

pub use cycle::{CycleOptions, CycleReport, cycle};
pub use level::{Level, LevelOptions, interpolate};
pub use matching::{MatchReport, distance, match_units};
