//! Search for networks that fit a device: sub-networks of a super-network, with bits for each layer, traded against
//! their cost on the target.
//!
//! [`file::SpaceFile`] (or [`automatic::automatic`]) gives an [`elastic::Elastic`] network with its [`space::Space`].
//! [`training::train`] trains all its sub-networks at once. An [`evaluate::Evaluator`] measures a sub-network without
//! training it. A [`strategies::Strategy`] proposes candidates. [`run::run`] combines these and can be stopped at any
//! time.

pub mod automatic;
pub mod elastic;
pub mod error;
pub mod evaluate;
pub mod executor;
pub mod factor;
pub mod families;
pub mod file;
pub mod journal;
pub mod metrics;
pub mod operators;
pub mod pareto;
pub mod predict;
pub mod run;
pub mod saved;
pub mod space;
pub mod strategies;
pub mod training;

pub use error::{Error, Result};
