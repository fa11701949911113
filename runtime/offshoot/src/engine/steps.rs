//! [`Steps`]: a run that pauses between operators and within long ones.

use super::execute::{Active, Taken, run_learned};
use super::inference::Engine;
use crate::model::Ops;
use crate::model::learn::{Layers, TrainedLayer};
use core::future::Future;
use offshoot_base::{Error, Memory};
use offshoot_format::record::Record;
use offshoot_operators::parts::Parts;

/// A run in steps, so that a program can feed a watchdog, serve an interrupt's work, or give way to other tasks in
/// between. Returned by [`Engine::steps`].
///
/// Between two steps the engine is borrowed, so nothing can change its inputs or memory. A `Steps` that is dropped ends
/// its run: write the inputs anew before the next.
///
/// ```
/// # offshoot::include_model!(Vibration, concat!(env!("CARGO_MANIFEST_DIR"), "/examples/data/vibration.off"));
/// # let mut arena = offshoot::Arena::<{ Vibration::ARENA_BYTES }>::new();
/// # let mut engine = Vibration::engine(&mut arena)?;
/// # let mut watchdog = 0;
/// engine.write_input_f32(0, &[128.0; Vibration::INPUTS[0].elements()])?;
/// let mut steps = engine.steps(4_000)?; // at most about 4,000 multiply-accumulates a step
/// while steps.step()? {
///     watchdog += 1; // feed it
/// }
/// assert!(watchdog > 30);
/// println!("class {}", engine.top1(0)?);
/// # Ok::<(), offshoot::Error>(())
/// ```
#[derive(Debug)]
pub struct Steps<'e, 'm, 'a> {
    engine: &'e mut Engine<'m, 'a>,
    most_work: u32,
    ops: Ops<'m>,
    /// The operator that runs in parts, and its next part.
    current: Option<(u16, Record, Parts<'m>, u32)>,
    learned: Option<Learned<'m>>,
    done: bool,
}

/// What is left of the learning records.
#[derive(Debug)]
struct Learned<'m> {
    layers: Layers<'m>,
    next: Option<TrainedLayer>,
    taken: Taken<'m>,
}

impl<'m, 'a> Engine<'m, 'a> {
    /// Begins a run of which [`Steps::step`] computes a piece at a time. The outputs have the bits of [`Self::run`].
    ///
    /// `most_work` limits a step: multiply-accumulates, or elements that an operator touches where that is more.
    /// Operators that work row by row (convolutions, pools, element by element) are divided to keep the limit; any
    /// other, and a single row, is one step whatever its work. `offshoot profile FILE --target T --steps N` shows them.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn steps(&mut self, most_work: u32) -> Result<Steps<'_, 'm, 'a>, Error> {
        let learned = self.begin_learned(false)?.map(|(learning, _)| {
            let mut layers = learning.layers();
            let next = layers.next();
            Learned { layers, next, taken: Taken::new(&learning) }
        });
        let ops = self.model.ops();
        Ok(Steps { engine: self, most_work, ops, current: None, learned, done: false })
    }

    /// Runs every operator in order and awaits `pause()` between steps of at most `most_work` (see [`Self::steps`]), so
    /// that other tasks of an executor get their turn. With embassy, `pause` is `embassy_futures::yield_now`.
    ///
    /// # Errors
    /// As [`Self::run`].
    ///
    /// ```
    /// # offshoot::include_model!(Vibration, concat!(env!("CARGO_MANIFEST_DIR"), "/examples/data/vibration.off"));
    /// # let mut arena = offshoot::Arena::<{ Vibration::ARENA_BYTES }>::new();
    /// # let mut engine = Vibration::engine(&mut arena)?;
    /// async fn classify(engine: &mut offshoot::Engine<'_, '_>) -> Result<usize, offshoot::Error> {
    ///     engine.run_async(10_000, || core::future::ready(())).await?;
    ///     engine.top1(0)
    /// }
    /// # drop(classify(&mut engine));
    /// # Ok::<(), offshoot::Error>(())
    /// ```
    pub async fn run_async<F: Future<Output = ()>>(
        &mut self,
        most_work: u32,
        mut pause: impl FnMut() -> F,
    ) -> Result<(), Error> {
        let mut steps = self.steps(most_work)?;
        while steps.step()? {
            pause().await;
        }
        Ok(())
    }
}

impl Steps<'_, '_, '_> {
    /// Computes the next piece. Returns whether more are left; after the last, outputs can be read.
    ///
    /// # Errors
    /// As [`Engine::run`].
    pub fn step(&mut self) -> Result<bool, Error> {
        if self.done {
            return Ok(false);
        }
        if self.current.is_none() && !self.begin_operator()? {
            self.done = true;
            self.engine.end_learned()?;
            return Ok(false);
        }
        if let Some((op, record, parts, part)) = &mut self.current {
            let op = *op;
            let mut memory = Memory::new(self.engine.arena, self.engine.model.blobs());
            parts.run(record, *part, &mut memory).map_err(|rule| Error::Invalid { op, rule })?;
            *part += 1;
            if *part == parts.count() {
                self.current = None;
            }
        }
        Ok(true)
    }

    /// Steps until `goes_on` returns false, which is asked before each. Returns whether more are left.
    ///
    /// # Errors
    /// As [`Engine::run`].
    pub fn run_while(&mut self, mut goes_on: impl FnMut() -> bool) -> Result<bool, Error> {
        while goes_on() {
            if !self.step()? {
                return Ok(false);
            }
        }
        Ok(!self.done)
    }

    /// Goes to the next operator. One that learned runs at once, because its parameters lie elsewhere. Returns false
    /// after the last.
    fn begin_operator(&mut self) -> Result<bool, Error> {
        let model = self.engine.model;
        let Some((info, _, record)) = self.ops.step().transpose()? else { return Ok(false) };
        let fault = |rule| Error::Invalid { op: info.index, rule };
        if let Some(own) = self.learned.as_mut().filter(|_| cfg!(feature = "learn")) {
            let (Some(learning), Some(state)) = (model.learning(), self.engine.state) else {
                return Ok(false);
            };
            let active = Active { learning: &learning, kept: state.kept };
            if own.taken.before(info.index, active, self.engine.arena).map_err(fault)? {
                return Ok(false);
            }
            if let Some(layer) = own.next.filter(|layer| layer.repr.op == info.index) {
                run_learned(&model, &learning, self.engine.arena, &layer).map_err(fault)?;
                own.next = own.layers.next();
                return Ok(true);
            }
        }
        #[cfg(feature = "op-branch")]
        self.ops.pass_over(&record, self.engine.arena).map_err(fault)?;
        let parts = Parts::of(&record, model.blobs(), self.most_work);
        self.current = Some((info.index, record, parts, 0));
        Ok(true)
    }
}
