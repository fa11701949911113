//! [`Engine`]: inputs, a run, outputs.

use super::state::TrainState;
use super::{classifier, execute};
use crate::model::learn::Learning;
use crate::model::{Model, io_span};
use crate::trace::{NoObserver, Observer};
use offshoot_base::{ALIGNMENT, Error, Rule, Span};
use offshoot_format::record::IoRepr;

/// A model and the memory it works in.
///
/// Inputs and outputs are bytes: int8, or little-endian float32 or int32, channels last, as [`Model::input`] and
/// [`Model::output`] describe. A run reuses the memory of its inputs, so write them before every run.
///
/// ```
/// # offshoot::include_model!(Vibration, concat!(env!("CARGO_MANIFEST_DIR"), "/examples/data/vibration.off"));
/// use offshoot::{Arena, Engine, Model};
///
/// let mut arena = Arena::<{ Vibration::ARENA_BYTES }>::new();
/// let mut engine = Engine::new(Model::open(Vibration::bytes())?, &mut arena)?;
/// engine.input_i8_mut(0)?.fill(0);
/// engine.run()?;
/// let scores = engine.output_i8(0)?;
/// assert_eq!(scores.len(), 5);
/// # Ok::<(), offshoot::Error>(())
/// ```
#[derive(Debug)]
pub struct Engine<'m, 'a> {
    pub(super) model: Model<'m>,
    pub(super) arena: &'a mut [u8],
    pub(super) state: Option<TrainState>,
}

impl<'m, 'a> Engine<'m, 'a> {
    /// Binds a model to an arena. Clears the arena, so that what an observer sees depends only on model and inputs.
    ///
    /// # Errors
    /// [`Error::ArenaTooSmall`] if the arena has fewer than [`Model::arena_bytes`] bytes; [`Error::Alignment`] if it
    /// does not begin at a multiple of 16.
    pub fn new(model: Model<'m>, arena: &'a mut [u8]) -> Result<Self, Error> {
        Self::bound(model, arena, model.arena_bytes())
    }

    /// Continues in an arena that only runs of this model have written to since [`Self::new`], so that recurrent layers
    /// keep their state.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn continued(model: Model<'m>, arena: &'a mut [u8]) -> Result<Self, Error> {
        let arena = fitting(arena, model.arena_bytes())?;
        Ok(Self { model, arena, state: None })
    }

    /// Binds a model to the first `needed` bytes of an arena.
    pub(super) fn bound(model: Model<'m>, arena: &'a mut [u8], needed: u32) -> Result<Self, Error> {
        let arena = fitting(arena, needed)?;
        arena.fill(0);
        Ok(Self { model, arena, state: None })
    }

    /// Switches to network `index` of the file without copying or checking anything. Write the inputs anew afterwards;
    /// recurrent layers that keep their state restart. The arena must be large enough for the network; one sized for
    /// network 0 is large enough for all.
    ///
    /// # Errors
    /// [`Error::NoSuchNetwork`]; [`Error::ArenaTooSmall`]; [`Error::Learning`] while the model learns, because only
    /// network 0 can learn.
    pub fn select(&mut self, index: usize) -> Result<(), Error> {
        let network = self.model.network(index)?;
        if self.state.is_some() && network.network_index() != self.model.network_index() {
            return Err(Error::Learning);
        }
        let (needed, given) = (network.arena_bytes(), self.arena.len() as u32);
        if needed > given {
            return Err(Error::ArenaTooSmall { needed, given });
        }
        if network.network_index() != self.model.network_index() {
            self.model = network;
            #[cfg(feature = "nested")]
            if network.shares_states() {
                self.restart();
            }
        }
        Ok(())
    }

    /// The selected network.
    pub fn model(&self) -> &Model<'m> {
        &self.model
    }

    /// Memory of input `i`, to write before a run.
    ///
    /// # Errors
    /// [`Error::NoSuchTensor`] if there is no input `i`.
    pub fn input_mut(&mut self, i: usize) -> Result<&mut [u8], Error> {
        let span = span(self.model.input(i))?;
        self.arena.get_mut(span.range()).ok_or(Error::NoSuchTensor)
    }

    /// Memory of output `i`, to read after a run and before the next input is written.
    ///
    /// # Errors
    /// [`Error::NoSuchTensor`] if there is no output `i`.
    pub fn output(&self, i: usize) -> Result<&[u8], Error> {
        let span = span(self.model.output(i))?;
        self.arena.get(span.range()).ok_or(Error::NoSuchTensor)
    }

    /// Resets operators that keep their state from run to run: the next run starts a new sequence.
    pub fn restart(&mut self) {
        if !cfg!(any(feature = "op-recurrent", feature = "op-recurrent-sparse", feature = "op-history")) {
            return;
        }
        for (_, _, record) in self.model.ops() {
            // The first kept word flags whether there is a state.
            let first = record.kept().and_then(|at| (at as usize).checked_mul(4));
            let flag = first.and_then(|at| self.arena.get_mut(at..)?.get_mut(..4));
            flag.unwrap_or(&mut []).fill(0);
        }
    }

    /// Runs every operator in order.
    ///
    /// # Errors
    /// None for a model that was opened. [`Error::Invalid`] would be a bug in the runtime, reported instead of a panic.
    pub fn run(&mut self) -> Result<(), Error> {
        self.run_with(&mut NoObserver)
    }

    /// Runs every operator in order and calls the observer around each.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn run_with(&mut self, observer: &mut impl Observer) -> Result<(), Error> {
        self.run_normalised(false, observer)
    }

    /// As [`Self::run_with`]; if `follows`, the input statistics follow the inputs.
    pub(super) fn run_normalised(
        &mut self,
        follows: bool,
        observer: &mut impl Observer,
    ) -> Result<(), Error> {
        let Some((learning, state)) = self.begin_learned(follows)? else {
            return execute::execute(&self.model, self.arena, None, observer, |_, _| Ok(()));
        };
        let active = execute::Active { learning: &learning, kept: state.kept };
        execute::execute(&self.model, self.arena, Some(active), observer, |_, _| Ok(()))?;
        self.end_learned()
    }

    /// Normalises the inputs if the model learns. Returns the learning records and the state, if it does.
    #[inline(always)]
    pub(super) fn begin_learned(
        &mut self,
        follows: bool,
    ) -> Result<Option<(Learning<'m>, TrainState)>, Error> {
        let records = self.state.and_then(|state| Some((self.model.learning()?, state)));
        let Some((learning, state)) = records.filter(|_| cfg!(feature = "learn")) else { return Ok(None) };
        classifier::normalize_input(&self.model, &learning, self.arena, follows).map_err(shared)?;
        Ok(Some((learning, state)))
    }

    /// After the operators, the classifier head's prediction.
    #[inline(always)]
    pub(super) fn end_learned(&mut self) -> Result<(), Error> {
        let records = self.state.and_then(|state| Some((self.model.learning()?, state)));
        let Some((learning, state)) = records.filter(|_| cfg!(feature = "learn")) else { return Ok(()) };
        if state.stale {
            classifier::refresh(&learning, self.arena).map_err(shared)?;
        }
        self.state = Some(TrainState { stale: false, spoilt: false, ..state });
        classifier::predict(&self.model, &learning, self.arena, state.kept).map_err(shared)
    }
}

/// An error in what all layers share.
fn shared(rule: Rule) -> Error {
    Error::Learn { layer: u8::MAX, rule }
}

/// The first `needed` bytes, if aligned.
pub(super) fn fitting(arena: &mut [u8], needed: u32) -> Result<&mut [u8], Error> {
    let given = u32::try_from(arena.len()).unwrap_or(u32::MAX);
    let too_small = Error::ArenaTooSmall { needed, given };
    let len = usize::try_from(needed).map_err(|_| too_small)?;
    let arena = arena.get_mut(..len).ok_or(too_small)?;
    if arena.as_ptr().addr().is_multiple_of(ALIGNMENT) { Ok(arena) } else { Err(Error::Alignment) }
}

/// Arena span of an input or output.
fn span(io: Option<IoRepr>) -> Result<Span, Error> {
    io.and_then(|io| io_span(&io)).ok_or(Error::NoSuchTensor)
}
