//! State of learning between train steps, and the report of a step.

use offshoot_format::learn::{LearnHead, PROGRESS_BYTES, Schedule};
use offshoot_learn::Random;

use super::outlier::{self, Usual, exponent_of};
use super::stream::Stream;

/// State of learning between train steps, besides the arena.
#[derive(Clone, Copy, Debug)]
pub struct TrainState {
    pub(super) steps: u32,
    pub(super) random: Random,
    /// Length of the course if it is not the plan's, else 0.
    pub(super) course: u32,
    /// Predictions of the classifier head are out of date: the next run refreshes them.
    pub(super) stale: bool,
    /// Number of taps in use.
    pub(super) kept: u8,
    /// Distance of a usual sample.
    pub(super) usual: Usual,
    /// The classes so far.
    pub(super) stream: Stream,
    /// A real number that was written to an input since the last step or run is not finite.
    pub(super) spoilt: bool,
}

impl TrainState {
    /// State before the first step.
    pub(super) fn beginning(head: &LearnHead) -> Self {
        // The host's samples say what is usual, if the file knows them.
        let usual = Usual::new(head.normalizer.map_or(0, |n| exponent_of(n.energy)));
        let stream = Stream::new(classes(head));
        // A head without samples needs no refresh.
        Self {
            steps: 0,
            random: Random::new(head.seed),
            course: 0,
            stale: false,
            kept: u8::MAX,
            usual,
            stream,
            spoilt: false,
        }
    }

    /// Whether the sample in the inputs is left out, whose distance has this exponent.
    pub(super) fn leaves_out(&mut self, exponent: u8) -> bool {
        let spoilt = core::mem::take(&mut self.spoilt);
        let is_outlier = self.usual.take(if spoilt { outlier::BEYOND } else { exponent });
        spoilt || is_outlier
    }

    /// The part of the state that belongs to what was learned.
    pub(super) fn progress(&self) -> [u8; PROGRESS_BYTES] {
        let mut bytes = [0; PROGRESS_BYTES];
        let small =
            u32::from_le_bytes([self.kept, self.usual.row, 0, 0]) | u32::from(self.usual.quarters) << 16;
        let [last, before] = self.stream.last;
        let classes = u32::from_le_bytes([last, before, 0, 0]) | u32::from(self.stream.repeats) << 16;
        let words = [self.steps, self.random.state(), self.course, small, classes];
        for (to, word) in bytes.chunks_exact_mut(4).zip(words) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// The state that [`Self::progress`] returned. Any bytes give a state that learning can go on from.
    pub(super) fn of_progress(bytes: &[u8; PROGRESS_BYTES], stale: bool) -> Self {
        let word = |i: usize| u32::from_le_bytes([bytes[i], bytes[i + 1], bytes[i + 2], bytes[i + 3]]);
        Self {
            steps: word(0),
            random: Random::of_state(word(4)),
            course: word(8),
            stale,
            kept: bytes[12].max(1),
            usual: Usual { row: bytes[13], quarters: (word(12) >> 16) as u16 },
            stream: Stream { last: [bytes[16], bytes[17]], repeats: (word(16) >> 16) as u16 },
            spoilt: false,
        }
    }
}

/// Number of classes that a label can name.
pub(super) fn classes(head: &LearnHead) -> u16 {
    head.classifier.map_or(head.classes, |classifier| classifier.classes)
}

/// When things happen in a course of learning, in steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pace {
    pub(super) schedule: Schedule,
    /// Steps over which the rates of hidden layers rise.
    pub(super) warm: u32,
    /// Steps after which the input statistics stop changing; 0: never.
    pub(super) follows: u32,
    /// First step of the classifier head.
    pub(super) from: u32,
}

impl Pace {
    /// The plan's pace, stretched or shortened to a course of so many steps; 0 leaves it as it is. A schedule without an
    /// end has no other length.
    pub(super) fn of(head: &LearnHead, course: u32) -> Self {
        let own = Self {
            schedule: head.schedule,
            warm: head.warm,
            follows: head.normalizer.map_or(0, |n| n.steps),
            from: head.classifier.map_or(0, |c| c.from),
        };
        let (Schedule::Linear { steps: planned } | Schedule::Cosine { steps: planned }) = head.schedule
        else {
            return own;
        };
        if course == 0 {
            return own;
        }
        let scaled = |step: u32| {
            let step = u64::from(step) * u64::from(course) / u64::from(planned.max(1));
            u32::try_from(step).unwrap_or(u32::MAX)
        };
        Self {
            schedule: match head.schedule {
                Schedule::Linear { .. } => Schedule::Linear { steps: course },
                _ => Schedule::Cosine { steps: course },
            },
            warm: scaled(own.warm),
            // 0 would mean without end.
            follows: if own.follows == 0 { 0 } else { scaled(own.follows).max(1) },
            from: scaled(own.from),
        }
    }
}

/// Report of one train step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepReport {
    /// The class predicted before learning from the sample: by the classifier head if its predictions are up to date,
    /// else by the layer that gives the class scores; `None` if there is neither.
    pub guess: Option<u16>,
    /// Steps so far, this one included.
    pub steps: u32,
    /// The sample was left out, because it is not finite or much farther from the others than is usual.
    pub left_out: bool,
}
