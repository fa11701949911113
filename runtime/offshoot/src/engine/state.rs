//! State of learning between train steps, and the report of a step.

use offshoot_learn::Random;

/// State of learning between train steps, besides the arena.
#[derive(Clone, Copy, Debug)]
pub struct TrainState {
    pub(super) steps: u32,
    pub(super) random: Random,
    /// Predictions of the classifier head are out of date: the next run refreshes them.
    pub(super) stale: bool,
    /// Number of taps in use.
    pub(super) kept: u8,
}

/// Report of one train step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepReport {
    /// The class predicted before learning from the sample: by the classifier head if its predictions are up to date,
    /// else by the layer that gives the class scores; `None` if there is neither.
    pub guess: Option<u16>,
    /// Steps so far, this one included.
    pub steps: u32,
}
