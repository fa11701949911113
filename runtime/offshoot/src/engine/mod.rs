//! Runs a [`Model`](crate::Model) in an arena that the caller provides. `inference` is the public interface; `learn`
//! adds learning to it. Both call `execute`, which runs operator by operator. When the model learns, it uses
//! `train_step` (one step of a layer) and `classifier` (the head on the network's features).

mod classifier;
mod execute;
mod inference;
#[cfg(feature = "store")]
mod keep;
mod learn;
mod numbers;
mod outlier;
mod pieces;
mod recurrent;
mod state;
mod steps;
mod stream;
mod train_step;

pub use inference::Engine;
#[cfg(feature = "store")]
pub use keep::KeepError;
pub use state::{StepReport, TrainState};
pub use steps::Steps;
