//! Runs a [`Model`](crate::Model) in an arena that the caller hands over. `inference` is what a caller sees of it, `learn` what is
//! added by learning; a run goes down from there: `execute` (operator by operator) and, where something learns, `train_step` (the
//! step of a layer) and `classifier` (the head on the network's features).

mod classifier;
mod execute;
mod inference;
mod learn;
mod pieces;
mod recurrent;
mod state;
mod train_step;

pub use inference::Engine;
pub use state::{StepReport, TrainState};
