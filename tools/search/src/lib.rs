//! Search for networks that fit a device: sub-networks of a super-network with the bits of their layers, against what they
//! cost on the target.
//!
//! [`file::SpaceFile`] (or [`automatic::automatic`]) gives an [`elastic::Elastic`] network with its [`space::Space`];
//! [`training::train`] trains all its sub-networks at once; an [`evaluate::Evaluator`] measures one without training it;
//! a [`strategies::Strategy`] proposes which; [`run::run`] puts them together and can be stopped at any moment.

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
pub mod random;
pub mod run;
pub mod saved;
pub mod space;
pub mod strategies;
pub mod training;

pub use error::{Error, Result};
