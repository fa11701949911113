//! Ways between sizes of one network, and between networks of one size.
//!
//! A *unit* is a channel with everything that belongs to it: the groups of [`crate::prune::Groups`], whose families say what
//! may change places. [`Level`] merges units and blocks in pairs and takes a smaller network back up to the larger one's
//! form (multi-level framework, Zou et al., ICLR 2024), [`cycle`] trains that way; [`match_units`] puts the units of one
//! network into the order of another's, so that their weights can be compared, averaged, or walked between.

mod assignment;
mod cycle;
mod depth;
mod level;
mod matching;
mod units;

pub use cycle::{CycleOptions, CycleReport, cycle};
pub use level::{Level, LevelOptions, interpolate};
pub use matching::{MatchReport, distance, match_units};
