//! What learning keeps between steps, and what a step tells.

use offshoot_learn::Random;

/// What learning keeps between steps.
#[derive(Clone, Copy, Debug)]
pub struct TrainState {
    pub(super) steps: u32,
    pub(super) random: Random,
    /// The answer's predictions do not rest on all that it learned: a run makes them do so.
    pub(super) stale: bool,
    /// Taps in use.
    pub(super) kept: u8,
}

/// What a step of learning tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepReport {
    /// The class that the network took the sample for, before it learned from it: the answer's, if it can say one without more work,
    /// else that of the layer that gives the scores of the classes; `None` if there is neither.
    pub guess: Option<u16>,
    /// Steps so far, this one included.
    pub steps: u32,
}
