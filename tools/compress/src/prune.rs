//! Structured pruning: removes whole channels, so that the remaining network is smaller and dense.
//!
//! [`Groups`] says which channels must go together, [`scores`] which matter least, [`order`] how many of which layer
//! to remove; [`slice`] deletes them, and [`refit`] recovers part of the loss without training. [`erase_operators`]
//! removes whole operators and branches. [`prune`] does all of this, in periods, until the int8 model fits.

mod allocate;
mod budget;
mod choose;
mod cric;
mod erase;
mod give_back;
mod groups;
mod lowering;
mod memory;
mod normalise;
mod refit;
mod rules;
mod run;
mod scores;
mod slice;
pub(crate) mod tune;
mod union;

pub use allocate::{Move, order};
pub(crate) use budget::size_for;
pub use budget::{Counted, Instructions, Size, fits, size};
pub use erase::{Erasure, erase, erase_operators, erasures};
pub use groups::{Family, Groups, Split};
pub(crate) use lowering::{layers, lowerings};
pub use refit::refit;
pub use run::{FamilyReport, Progress, PruneOptions, PruneReport, head, prune, samples, trim};
pub use scores::{Score, scores};
pub use slice::{masked, slice};
pub(crate) use tune::{tune, tune_rounded};
