//! The public interface of learning: train steps, learned bytes, reset and restore.

use super::classifier;
use super::execute;
use super::inference::{Engine, fitting};
use super::numbers;
use super::outlier;
use super::state::{Pace, StepReport, TrainState};
use super::train_step::{Rates, StepContext};
use crate::model::io_span;
use crate::model::learn::{Learning, TrainedLayer};
use offshoot_base::{Error, Rule, cast_mut};
use offshoot_format::learn::{ErrorSource, PROGRESS_BYTES, TargetProjectionRepr, TrainablePart};
use offshoot_kernels::GOLDEN;
use offshoot_learn::Random;
use offshoot_learn::schedule::{ONE, factor};
use offshoot_operators as ops;

impl<'m, 'a> Engine<'m, 'a> {
    /// Binds a model to an arena of [`crate::Model::train_arena_bytes`], in which it can learn. Runs use the learned
    /// weights, which start as those of the file.
    ///
    /// # Errors
    /// [`Error::NotLearning`] if no part of the model learns; otherwise as [`Engine::new`].
    pub fn learning(model: crate::model::Model<'m>, arena: &'a mut [u8]) -> Result<Self, Error> {
        let learning = model.learning().ok_or(Error::NotLearning)?;
        let mut engine = Self::bound(model, arena, learning.head.arena_bytes)?;
        engine.state = Some(TrainState::beginning(&learning.head));
        engine.forget()?;
        Ok(engine)
    }

    /// The learning records, if learning is active.
    pub(super) fn records(&self) -> Result<Learning<'m>, Error> {
        self.state.and_then(|_| self.model.learning()).ok_or(Error::NotLearning)
    }

    /// Forgets everything learned: goes back to the weights of the file and to step 0, or to what the file has learned.
    ///
    /// # Errors
    /// [`Error::NotLearning`] if the engine was not made for learning.
    pub fn forget(&mut self) -> Result<(), Error> {
        let learning = self.records()?;
        let start = learning.learned_start();
        self.arena.get_mut(start..).ok_or(Error::NotLearning)?.fill(0);
        for (index, layer) in learning.layers().enumerate() {
            let begun = self.begin(&learning, &layer);
            begun.map_err(|rule| Error::Learn { layer: index as u8, rule })?;
        }
        classifier::begin(&self.model, &learning, self.arena)
            .map_err(|rule| Error::Learn { layer: u8::MAX, rule })?;
        self.state = Some(TrainState::beginning(&learning.head));
        self.note_progress(&learning);
        match learning.head.begun {
            Some(at) => self.take_up(&learning, at).map_err(|rule| Error::Learn { layer: u8::MAX, rule }),
            None => Ok(()),
        }
    }

    /// Goes on from what the file has learned, in its blob section from `at` on.
    fn take_up(&mut self, learning: &Learning<'_>, at: u32) -> Result<(), Rule> {
        let mut rest = self.model.blobs().get(at as usize..).ok_or(Rule::BlobBounds)?;
        for (at, bytes) in learning.beside_blobs(&self.model) {
            let (piece, after) = rest.split_at_checked(bytes as usize).ok_or(Rule::BlobBounds)?;
            let own = self.arena.get_mut(at as usize..).and_then(|own| own.get_mut(..piece.len()));
            own.ok_or(Rule::ArenaBounds)?.copy_from_slice(piece);
            rest = after;
        }
        self.read_progress(learning);
        Ok(())
    }

    /// Place of the progress in the arena.
    fn progress(&mut self, learning: &Learning<'_>) -> Option<&mut [u8; PROGRESS_BYTES]> {
        self.arena.get_mut(learning.learned_start()..)?.first_chunk_mut()
    }

    /// Writes the state to what is learned, so that what is saved is all that learning goes on from.
    fn note_progress(&mut self, learning: &Learning<'_>) {
        let bytes = self.state.map(|state| state.progress());
        if let (Some(to), Some(bytes)) = (self.progress(learning), bytes) {
            *to = bytes;
        }
    }

    /// Takes the state from what was learned.
    fn read_progress(&mut self, learning: &Learning<'_>) {
        let stale = learning.head.classifier.is_some();
        let state = self.progress(learning).map(|bytes| TrainState::of_progress(bytes, stale));
        self.state = state.or(self.state);
        // The bytes are those that the state stands for, also if they were not before.
        self.note_progress(learning);
    }

    /// Stretches or shortens the plan's course to `steps` steps: the schedule's end, and in proportion the warm-up, the
    /// end of the input normaliser's changes, and the start of the head. 0 goes back to the plan's. It has no effect on
    /// a plan whose schedule has no end. The course belongs to what is learned: it is saved and restored with it.
    ///
    /// # Errors
    /// [`Error::NotLearning`] if the engine was not made for learning.
    pub fn set_course(&mut self, steps: u32) -> Result<(), Error> {
        let learning = self.records()?;
        self.state.as_mut().ok_or(Error::NotLearning)?.course = steps;
        self.note_progress(&learning);
        Ok(())
    }

    /// Initialises the learned bytes of a layer.
    fn begin(&mut self, learning: &Learning<'_>, layer: &TrainedLayer) -> Result<(), Rule> {
        let factory = factory(&self.model, layer).ok_or(Rule::BlobBounds)?;
        let trainable = self.arena.get_mut(layer.trainable.range()).ok_or(Rule::ArenaBounds)?;
        match layer.repr.part {
            TrainablePart::LowRank { rank } => {
                let channels = layer.shape.geometry.out_c * usize::from(rank);
                let numbers: &mut [f32] = cast_mut(trainable)?;
                let down = numbers.get_mut(channels..).ok_or(Rule::ArenaBounds)?;
                let mut random =
                    Random::new(learning.head.seed ^ u32::from(layer.repr.op).wrapping_mul(GOLDEN));
                let scale = 1.0 / libm::sqrtf(layer.shape.inputs() as f32);
                down.iter_mut().for_each(|d| *d = scale * random.normal());
            }
            part => {
                let same = factory.len().min(trainable.len());
                let own = if part == TrainablePart::Scale && !layer.shape.is_whole() {
                    same.min(trainable.len() / 2)
                } else {
                    same
                };
                let (own, ones) = trainable.split_at_mut_checked(own).ok_or(Rule::ArenaBounds)?;
                own.copy_from_slice(factory.get(..own.len()).ok_or(Rule::BlobBounds)?);
                cast_mut::<f32>(ones)?.fill(1.0);
            }
        }
        if let ErrorSource::Local {
            projection: TargetProjectionRepr::Head { from: Some((blob, unit)), .. },
            ..
        } = layer.repr.error_source
            && let Some((at, bytes)) = layer.extra(learning.head.classes)
        {
            let table = self.arena.get_mut(at as usize..).and_then(|t| t.get_mut(..bytes as usize));
            let table: &mut [f32] = cast_mut(table.ok_or(Rule::ArenaBounds)?)?;
            let probe: &[i8] = offshoot_base::blob(self.model.blobs(), blob, table.len() as u64)?;
            table.iter_mut().zip(probe).for_each(|(t, p)| *t = unit * f32::from(*p));
        }
        Ok(())
    }

    /// Runs one train step: runs on the inputs, and trains every layer that learns towards class `label`. It overwrites
    /// the inputs; outputs are as after a run. A class that only the classifier head has trains only the head. A sample
    /// with readings that are not finite, or dozens of times farther from the others than is usual, counts as a step but changes
    /// nothing that was learned ([`StepReport::left_out`]). While the classes come one after the other, only a classifier
    /// head learns, if there is one.
    ///
    /// # Errors
    /// [`Error::NotLearning`] if the engine was not made for learning; [`Error::Label`] if there is no such class.
    pub fn learn(&mut self, label: u16) -> Result<StepReport, Error> {
        let learning = self.records()?;
        let state = self.state.as_mut().ok_or(Error::NotLearning)?;
        // A head that learns real targets knows no classes.
        let classes = match head_of_targets(&learning) {
            Some(_) => 0,
            None => learning.classes(),
        };
        if label >= classes {
            return Err(Error::Label { classes });
        }
        let head = &learning.head;
        let shared = |rule| Error::Learn { layer: u8::MAX, rule };
        let pace = Pace::of(head, state.course);
        let exponent = outlier::exponent(&self.model, &learning, self.arena).map_err(shared)?;
        let left_out = state.leaves_out(exponent);
        state.stream.take(label);
        // While classes come one after the other, the head alone learns.
        let rests = head.classifier.is_some() && !state.stream.is_mixed(learning.classes());
        let follows = learning.normalizer().is_some()
            && !left_out
            && !rests
            && (pace.follows == 0 || state.steps < pace.follows);
        classifier::normalize_input(&self.model, &learning, self.arena, follows).map_err(shared)?;
        let factor = factor(pace.schedule, state.steps);
        let warmed = u64::from(factor) * u64::from(state.steps.min(pace.warm)) / u64::from(pace.warm.max(1));
        let warmed = if pace.warm == 0 { factor } else { (warmed as u32).min(ONE) };
        let mut step = StepContext {
            learning: &learning,
            blobs: self.model.blobs(),
            label: usize::from(label),
            step: state.steps,
            rates: Rates { last: factor, hidden: warmed },
        };
        let (mut guess, mut first) = (None, None);
        let active = execute::Active { learning: &learning, kept: u8::MAX };
        let random = &mut state.random;
        execute::execute(
            &self.model,
            self.arena,
            Some(active),
            &mut crate::trace::NoObserver,
            |arena, layer| {
                if layer.repr.error_source == ErrorSource::Output {
                    guess = execute::largest(arena, layer);
                }
                if left_out || rests || label >= head.classes {
                    return Ok(());
                }
                if layer.repr.error_source == ErrorSource::Next {
                    first = Some(*layer);
                    return Ok(());
                }
                if let Some(first) = first.take() {
                    step.block(&first, layer, arena, random)?;
                }
                step.layer(layer, arena, random)
            },
        )?;
        if learning.classifier().is_some() {
            let kept = state.kept;
            if !state.stale {
                classifier::predict(&self.model, &learning, self.arena, kept).map_err(shared)?;
                guess = classifier::best(&learning, self.arena).or(guess);
            }
            // Layers that learn move the features under the head's statistics. They move less from `from` on.
            if state.steps == pace.from && pace.from > 0 && !rests {
                classifier::reset(&learning, self.arena).map_err(shared)?;
                state.stale = false;
            }
            if !left_out {
                state.stale |=
                    classifier::learn(&learning, self.arena, kept, usize::from(label)).map_err(shared)?;
            }
        }
        numbers::settle(&self.model, &learning, self.arena);
        state.steps = state.steps.saturating_add(1);
        let steps = state.steps;
        self.note_progress(&learning);
        Ok(StepReport { guess, steps, left_out })
    }

    /// Runs one train step of a head that learns real targets (`head = "regression"`): runs on the inputs, and learns what the
    /// network's first output, with all that was learned before, leaves of the `targets`. [`Self::scores`] are then the predictions
    /// from before the step. A sample or targets that are not finite, and outliers, count as steps but change nothing that was
    /// learned.
    ///
    /// # Errors
    /// [`Error::NotLearning`] if the engine was not made for learning, or the model has no such head; [`Error::TensorLength`] if
    /// there are fewer or more targets than outputs.
    #[cfg(feature = "head-regression")]
    pub fn fit(&mut self, targets: &[f32]) -> Result<StepReport, Error> {
        let learning = self.records()?;
        let needed = head_of_targets(&learning).ok_or(Error::NotLearning)?;
        if targets.len() != usize::from(needed) {
            let given = u32::try_from(targets.len()).unwrap_or(u32::MAX);
            return Err(Error::TensorLength { needed: needed.into(), given });
        }
        let shared = |rule| Error::Learn { layer: u8::MAX, rule };
        let exponent = outlier::exponent(&self.model, &learning, self.arena).map_err(shared)?;
        let state = self.state.as_mut().ok_or(Error::NotLearning)?;
        let mut left_out = state.leaves_out(exponent);
        self.run()?;
        if !left_out {
            left_out = classifier::fit(&learning, self.arena, targets).map_err(shared)?;
        }
        numbers::settle(&self.model, &learning, self.arena);
        let state = self.state.as_mut().ok_or(Error::NotLearning)?;
        state.steps = state.steps.saturating_add(1);
        let steps = state.steps;
        self.note_progress(&learning);
        Ok(StepReport { guess: None, steps, left_out })
    }

    /// Runs on the inputs without a label: the input statistics follow the data, unless the sample is an outlier; nothing
    /// else learns. Outputs and scores are as after a run. Returns whether the sample was left out.
    ///
    /// # Errors
    /// [`Error::NotLearning`] if the engine was not made for learning.
    pub fn observe(&mut self) -> Result<bool, Error> {
        let learning = self.records()?;
        let shared = |rule| Error::Learn { layer: u8::MAX, rule };
        let exponent = outlier::exponent(&self.model, &learning, self.arena).map_err(shared)?;
        let state = self.state.as_mut().ok_or(Error::NotLearning)?;
        let pace = Pace::of(&learning.head, state.course);
        let left_out = state.leaves_out(exponent);
        let follows = !left_out && (pace.follows == 0 || state.steps < pace.follows);
        self.run_normalised(follows, &mut crate::trace::NoObserver)?;
        numbers::settle(&self.model, &learning, self.arena);
        self.note_progress(&learning);
        Ok(left_out)
    }

    /// Class scores of the classifier head after a run; minus infinity for classes without samples. `None` if the model
    /// has no head, or the engine was not made for learning.
    pub fn scores(&self) -> Option<&[f32]> {
        let learning = self.records().ok()?;
        classifier::scores(&learning, self.arena)
    }

    /// Remembers whether readings for the next step are finite: an int8 input cannot tell it.
    pub(crate) fn note_readings(&mut self, values: &[f32]) {
        if let Some(state) = &mut self.state {
            state.spoilt |= !values.iter().all(|v| v.is_finite());
        }
    }

    /// The class that the classifier head gives after a run. `None` if it has learned no class yet, the model has no
    /// head, or the engine was not made for learning.
    pub(crate) fn class_of_head(&self) -> Option<u16> {
        let learning = self.records().ok()?;
        if head_of_targets(&learning).is_some() {
            return None;
        }
        classifier::best(&learning, self.arena)
    }

    /// The classifier head as a linear classifier, one class at a time: fills `weights` (one per feature) and returns
    /// the bias. `None` for a class without samples, or if `weights` has another length.
    pub fn readout(&mut self, class: u16, weights: &mut [f32]) -> Option<f32> {
        let learning = self.records().ok()?;
        let state = self.state.as_mut()?;
        if core::mem::take(&mut state.stale) {
            classifier::refresh(&learning, self.arena).ok()?;
        }
        classifier::readout(&learning, self.arena, state.kept, class.into(), weights)
    }

    /// Current statistics of the input: means, and energy (the mean of `|x - mean|²`).
    pub fn statistics(&self) -> Option<(&[f32], f32)> {
        let learning = self.records().ok()?;
        classifier::device_statistics(&self.model, &learning, self.arena)
    }

    /// Limits a boosted head to its first `taps` taps, in runs and steps, until the next call. A run then ends once it
    /// has their features and skips the operators after them. Only boosted heads allow this, because their blocks do
    /// not depend on later ones.
    ///
    /// # Errors
    /// [`Error::NotLearning`]; [`Error::NoSuchBlocks`] if `taps` is 0 or more than [`Self::blocks`].
    pub fn set_active_blocks(&mut self, taps: u8) -> Result<(), Error> {
        let learning = self.records()?;
        let blocks = classifier::blocks(&learning);
        let state = self.state.as_mut().ok_or(Error::NotLearning)?;
        if taps == 0 || taps > blocks {
            return Err(Error::NoSuchBlocks { blocks });
        }
        state.kept = if taps == blocks { u8::MAX } else { taps };
        self.note_progress(&learning);
        Ok(())
    }

    /// Number of blocks of a boosted head, one per tap; 0 for other heads.
    pub fn blocks(&self) -> u8 {
        self.records().map_or(0, |learning| classifier::blocks(&learning))
    }

    /// Learning state, if the engine was made for learning. With the arena unchanged, [`Self::resumed`] continues from
    /// it.
    pub fn state(&self) -> Option<TrainState> {
        self.state
    }

    /// Continues learning in an arena that [`Self::learning`] prepared and that only runs and steps have written to
    /// since.
    ///
    /// # Errors
    /// As [`Self::learning`].
    pub fn resumed(
        model: crate::model::Model<'m>,
        arena: &'a mut [u8],
        state: TrainState,
    ) -> Result<Self, Error> {
        let needed = model.train_arena_bytes().ok_or(Error::NotLearning)?;
        let arena = fitting(arena, needed)?;
        Ok(Self { model, arena, state: Some(state) })
    }

    /// The bytes that learning changes, which are what to save: [`Learning::learned_bytes`] of them.
    pub fn learned(&self) -> Option<&[u8]> {
        let learning = self.records().ok()?;
        self.arena.get(learning.learned_start()..)?.get(..learning.learned_bytes())
    }

    /// Fills the memory that a step may use, except inputs and learned bytes, with a pattern. [`Self::used`] then
    /// measures how much a step used.
    pub fn paint(&mut self, pattern: u8) {
        let (end, behind) = self.work();
        let mut start = 0;
        // Stretches between the inputs, in ascending order.
        while start < end {
            let inputs = (0..self.model.input_count()).filter_map(|i| io_span(&self.model.input(i)?));
            let next = inputs.filter(|s| s.end() > start).min_by_key(|s| s.start);
            let (stop, after) = next.map_or((end, end), |s| (s.start.clamp(start, end), s.end()));
            if let Some(stretch) = self.arena.get_mut(start..stop) {
                stretch.fill(pattern);
            }
            start = after.max(stop);
        }
        // Memory that a classifier head recomputes from what it learned.
        if let Some(scratch) = self.arena.get_mut(behind..) {
            scratch.fill(pattern);
        }
        let rests = self.records().is_ok_and(|learning| classifier::rests_on_scratch(&learning));
        if let Some(state) = self.state.as_mut().filter(|_| rests) {
            state.stale = true;
        }
    }

    /// High-water mark since [`Self::paint`]: bytes up to the last one written or part of an input, plus those of the
    /// memory that a classifier head has after the learned bytes.
    pub fn used(&self, pattern: u8) -> usize {
        let (end, behind) = self.work();
        let last = |bytes: &[u8]| bytes.iter().rposition(|&b| b != pattern).map_or(0, |last| last + 1);
        last(self.arena.get(..end).unwrap_or(&[])) + last(self.arena.get(behind..).unwrap_or(&[]))
    }

    /// Offsets of the end of the bytes before the learned ones, and of the start of those after them.
    fn work(&self) -> (usize, usize) {
        let all = self.arena.len();
        self.records().map_or((all, all), |l| (l.learned_start(), l.learned_start() + l.learned_bytes()))
    }

    /// Restores bytes that [`Self::learned`] returned for the same model: everything that learning goes on from, so that
    /// the next steps give the same bits as without a break. They are checked: bytes that the kernels cannot take are
    /// refused, and the engine is then as after [`Self::forget`].
    ///
    /// # Errors
    /// [`Error::NotLearning`]; [`Error::LearnedLength`] if the length differs; [`Error::Learn`] with the first layer whose
    /// values the kernels cannot take.
    pub fn restore(&mut self, learned: &[u8]) -> Result<(), Error> {
        self.restore_with(|own| {
            if own.len() != learned.len() {
                return Err(Error::LearnedLength { needed: own.len() as u32, given: learned.len() as u32 });
            }
            own.copy_from_slice(learned);
            Ok(())
        })
    }

    /// Like [`Self::restore`], with a function that writes the bytes into the slice it is given (for example, from
    /// flash). If it fails, the engine is as after [`Self::forget`].
    ///
    /// # Errors
    /// As [`Self::restore`], and the errors of `write`.
    pub fn restore_with<E: From<Error>>(
        &mut self,
        write: impl FnOnce(&mut [u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let learning = self.records()?;
        let start = learning.learned_start();
        let own = self.arena.get_mut(start..).and_then(|a| a.get_mut(..learning.learned_bytes()));
        let written = write(own.ok_or(Error::NotLearning)?);
        let checked = written.and_then(|()| {
            let faulty = learning.layers().enumerate().find_map(|(index, layer)| {
                let rule = self.check_learned(&layer).err()?;
                Some(Error::Learn { layer: index as u8, rule })
            });
            faulty.map_or(Ok(()), |error| Err(error.into()))
        });
        match checked {
            Ok(()) => {
                self.read_progress(&learning);
                Ok(())
            }
            Err(error) => {
                self.forget()?;
                Err(error)
            }
        }
    }

    /// Checks that the operator can take the layer's trainable copy.
    fn check_learned(&self, layer: &TrainedLayer) -> Result<(), Rule> {
        let trainable = self.arena.get(layer.trainable.range()).ok_or(Rule::ArenaBounds)?;
        let factory = factory(&self.model, layer).ok_or(Rule::BlobBounds)?;
        let parameter_bytes = &layer.shape.parameter_bytes;
        match layer.repr.part {
            TrainablePart::All => {
                // Multipliers and shifts do not learn.
                let fixed = parameter_bytes[0]..parameter_bytes.iter().sum();
                if trainable.get(fixed.clone()) != factory.get(fixed) {
                    return Err(Rule::Quantisation);
                }
                let limits =
                    offshoot_base::Limits { arena_bytes: self.model.arena_bytes(), blobs: trainable };
                ops::check(&layer.record, &limits).map(|_| ())
            }
            TrainablePart::Bias | TrainablePart::Scale if layer.shape.is_whole() => {
                ops::check_parameters(trainable, parameter_bytes, layer.shape.folded)
            }
            _ => Ok(()),
        }
    }
}

/// Number of targets, if the head learns real ones.
fn head_of_targets(learning: &Learning<'_>) -> Option<u16> {
    learning.head.classifier.filter(classifier::is_regression).map(|head| head.classes)
}

/// The layer's parameters in the file.
fn factory<'m>(model: &crate::model::Model<'m>, layer: &TrainedLayer) -> Option<&'m [u8]> {
    model.blobs().get(layer.shape.blob as usize..)?.get(..layer.shape.blob_bytes())
}
