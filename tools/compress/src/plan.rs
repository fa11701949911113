//! Applies methods in sequence until a budget holds.
//!
//! A [`Method`] takes a [`State`] (a float graph and the bits of its weights) and returns a smaller one. [`run`]
//! applies several in order. Sizes are measured with the fewest bits that later methods would use, so that a method
//! removes no more than it has to. A new method is a type with `apply`, and a line wherever methods are named.
//! [`run_any`] tries several plans.

mod bits;
mod joint;

use offshoot_ir::Graph;
use offshoot_train::Dataset;

pub use bits::FewerBits;
pub use joint::Joint;

use crate::prune::{Progress, PruneOptions, erase_operators, fits, head, prune, samples, size_for, tune};
use crate::quantize::WeightBits;
use crate::{Error, Result};

/// A network between two methods.
#[derive(Clone, Debug)]
pub struct State {
    /// The float graph.
    pub graph: Graph,
    /// Bits of its weights on the device.
    pub weight_bits: WeightBits,
    /// Human-readable log of what was done.
    pub done: Vec<String>,
    /// Channels of each family, if channels were removed.
    pub families: Vec<crate::prune::FamilyReport>,
}

/// Inputs shared by all methods.
pub struct Work<'a> {
    /// The uncompressed network: the reference for the small one.
    pub original: &'a Graph,
    /// Training samples with targets.
    pub data: &'a Dataset,
    /// The budget and the training options.
    pub options: PruneOptions,
    /// Observer.
    pub progress: &'a mut dyn Progress,
}

/// A method that makes a network smaller.
pub trait Method {
    /// Name of the method.
    fn name(&self) -> &'static str;

    /// Fewest bits to which it reduces weights.
    fn fewest_bits(&self) -> u8 {
        8
    }

    /// Makes the network smaller, as far as the budget requires.
    ///
    /// # Errors
    /// [`Error::Budget`] if the budget cannot be met; other errors if the network does not allow the method.
    fn apply(&self, state: State, work: &mut Work<'_>) -> Result<State>;
}

/// Removes channels ([`prune`]).
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

/// Removes operators and branches ([`erase_operators`]), then trains the rest if any were removed.
#[derive(Clone, Copy, Debug)]
pub struct Erase {
    /// How many to remove.
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

/// Runs plans in order and returns the result of the first that meets the budget.
///
/// # Errors
/// [`Error::Budget`] with the smallest file that any of them reached; any other error ends the search.
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
    let none = || Error::Option { option: "method", reason: "there is no plan to try".into() };
    Err(nearest.map_or_else(none, |(_, error)| error))
}

/// Applies `methods` in order.
///
/// # Errors
/// [`Error::Budget`] with the nearest sizes if the budget does not hold at the end; errors of the methods.
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
    let last = size_for(&work.options, &state.graph, &few, &state.weight_bits)?;
    if fits(last, &work.options) {
        return Ok(state);
    }
    Err(last.too_large())
}
