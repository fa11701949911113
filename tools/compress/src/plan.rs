//! Methods in a row until a budget holds.
//!
//! A [`Method`] takes a [`State`] (a float graph and the bits of its weights) and gives a smaller one. [`run`] applies several
//! in their order. Each is told what those behind it will still save, by measuring sizes with the fewest bits that they
//! would go to, so that it removes no more than has to go. A new method is a type with `apply`, and a line wherever
//! methods are named. [`run_any`] tries several plans.

mod bits;

use offshoot_ir::Graph;
use offshoot_train::Dataset;

pub use bits::FewerBits;

use crate::prune::{Progress, PruneOptions, erase_operators, fits, head, prune, samples, size, tune};
use crate::quantize::WeightBits;
use crate::{Error, Result};

/// A network on the way.
#[derive(Clone, Debug)]
pub struct State {
    /// Float.
    pub graph: Graph,
    /// Bits of its weights on the device.
    pub weight_bits: WeightBits,
    /// What was done, for people.
    pub done: Vec<String>,
    /// Channels by family, if channels went.
    pub families: Vec<crate::prune::FamilyReport>,
}

/// What methods work with.
pub struct Work<'a> {
    /// The uncompressed network: what the small one is to do.
    pub original: &'a Graph,
    /// Training samples with targets.
    pub data: &'a Dataset,
    /// The budget, and how training is done.
    pub options: PruneOptions,
    /// Watches.
    pub progress: &'a mut dyn Progress,
}

/// A way to make a network smaller.
pub trait Method {
    /// What it is called.
    fn name(&self) -> &'static str;

    /// Fewest bits that it gives weights.
    fn fewest_bits(&self) -> u8 {
        8
    }

    /// Makes it smaller, as far as the budget asks for.
    ///
    /// # Errors
    /// [`Error::Budget`] if the budget cannot be met, others where the network does not allow it.
    fn apply(&self, state: State, work: &mut Work<'_>) -> Result<State>;
}

/// Channels go ([`prune`]).
#[derive(Clone, Copy, Debug)]
pub struct Prune;

impl Method for Prune {
    fn name(&self) -> &'static str {
        "prune"
    }

    fn apply(&self, state: State, work: &mut Work<'_>) -> Result<State> {
        let (graph, report) = prune(&state.graph, work.data, &work.options, work.progress)?;
        let mut state = State { graph, ..state };
        let gone: usize = report.families.iter().map(|f| f.before - f.after).sum();
        state.done.push(format!("prune: {gone} channels"));
        state.families = report.families;
        Ok(state)
    }
}

/// Operators and branches go ([`erase_operators`]); what is left is trained, if anything is.
#[derive(Clone, Copy, Debug)]
pub struct Erase {
    /// How many.
    pub count: usize,
}

impl Method for Erase {
    fn name(&self) -> &'static str {
        "erase"
    }

    fn apply(&self, state: State, work: &mut Work<'_>) -> Result<State> {
        let few = head(work.data, work.options.score_samples.max(1));
        let (graph, gone) = erase_operators(&state.graph, &few, self.count)?;
        let mut state = State { graph, ..state };
        if work.options.epochs > 0 && !gone.is_empty() {
            state.graph = tune(work.original, &state.graph, work.data, &work.options, work.progress)?;
        }
        let names: Vec<String> = gone.into_iter().map(|e| e.operators.join(" + ")).collect();
        state
            .done
            .push(format!("erase: {}", if names.is_empty() { "nothing".into() } else { names.join(", ") }));
        Ok(state)
    }
}

/// The first of several plans that meets the budget.
///
/// # Errors
/// [`Error::Budget`] with the smallest file that any of them could reach; anything else ends the search.
pub fn run_any(plans: &[Vec<Box<dyn Method>>], work: Work<'_>) -> Result<State> {
    let mut nearest: Option<(u64, Error)> = None;
    for methods in plans {
        let work = Work {
            original: work.original,
            data: work.data,
            options: work.options.clone(),
            progress: &mut *work.progress,
        };
        match run(methods, work) {
            Err(error @ Error::Budget { flash, .. }) => {
                if nearest.as_ref().is_none_or(|(least, _)| flash < *least) {
                    nearest = Some((flash, error));
                }
            }
            other => return other,
        }
    }
    let none = || Error::Option { option: "method", reason: "there is none to try".into() };
    Err(nearest.map_or_else(none, |(_, error)| error))
}

/// Applies `methods` in their order.
///
/// # Errors
/// [`Error::Budget`] with the nearest sizes if the budget does not hold in the end; those of the methods.
pub fn run(methods: &[Box<dyn Method>], mut work: Work<'_>) -> Result<State> {
    let mut state = State {
        graph: work.original.clone(),
        weight_bits: WeightBits::default(),
        done: Vec::new(),
        families: Vec::new(),
    };
    for (index, method) in methods.iter().enumerate() {
        let fewest = methods[index..].iter().map(|m| m.fewest_bits()).min().unwrap_or(8);
        work.options.weight_bits = WeightBits::all(fewest);
        state = method.apply(state, &mut work)?;
    }
    work.options.weight_bits = state.weight_bits.clone();
    let few = samples(&state.graph, work.data, 2);
    let count = work.options.instructions.as_ref().filter(|_| work.options.max_instructions.is_some());
    let last = size(&state.graph, &few, &state.weight_bits, count)?;
    if fits(last, &work.options) {
        return Ok(state);
    }
    Err(Error::Budget { flash: last.flash, ram: last.ram, macs: last.macs })
}
