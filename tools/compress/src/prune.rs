//! Structured pruning: whole channels go, the network that is left is smaller and dense.
//!
//! [`Groups`] says which channels must go together, [`scores`] which matter least, [`order`] how many of which layer
//! go, [`slice`] deletes them, [`refit`] makes up for the loss without training. [`erase_operators`] takes whole operators and
//! branches out. [`prune`] does all of it, in periods,
//! until the int8 model fits.

mod allocate;
mod cric;
mod erase;
mod groups;
mod refit;
mod rules;
mod run;
mod scores;
mod slice;
pub(crate) mod tune;
mod union;

pub use allocate::{Move, order};
pub use erase::{Erasure, erase, erase_operators, erasures};
pub use groups::{Family, Groups, Split};
pub use refit::refit;
pub use run::{
    FamilyReport, Instructions, Progress, PruneOptions, PruneReport, Size, fits, head, prune, samples, size,
};
pub use scores::{Score, scores};
pub use slice::{masked, slice};
pub(crate) use tune::{tune, tune_rounded};
