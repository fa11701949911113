//! Memory plans: operator order and arena offsets, with a proved lower bound beside them.
//!
//! Two exact searches, each with a budget. [`order`] finds the topological order whose peak of live bytes is
//! least (dynamic programming over sets of executed steps, as in Serenity, Ahn et al., MLSys 2020); [`offsets`]
//! then packs the buffers (canonical placements, dominance and floor inference, as in MiniMalloc, Moffitt,
//! ASPLOS 2024). The crate knows nothing of operators: only who reads and writes which bytes when.

pub mod lifetime;
pub mod offsets;
pub mod order;
pub mod problem;

use serde::Serialize;

pub use problem::{Buffer, BufferId, Error, InPlace, Overlap, Problem, Result, Step};

/// Effort of the searches. The results are the same on every machine: budgets are counts, not seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlanOptions {
    /// May the steps be reordered?
    pub reorder: bool,
    /// States that the search for an order may visit; beyond, the given order stays.
    pub order_budget: usize,
    /// Nodes that the search for offsets may visit; beyond, the best found so far stays.
    pub offset_budget: usize,
}

impl Default for PlanOptions {
    fn default() -> Self {
        Self { reorder: true, order_budget: 100_000, offset_budget: 50_000 }
    }
}

/// What is live while one step runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Moment {
    /// Index of the step in [`Problem::steps`].
    pub step: usize,
    /// Buffers that hold bytes during the step, ascending.
    pub live: Vec<BufferId>,
    /// Least bytes that they need: in-place pairs counted once, alignment included.
    pub bytes: u64,
}

/// Order, offsets and the proof.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// Indices of the steps in the order in which they run.
    pub order: Vec<usize>,
    /// Byte offset of each buffer.
    pub offsets: Vec<u32>,
    /// Bytes from offset 0 to the end of the highest buffer.
    pub arena_bytes: u32,
    /// No plan needs less: over all orders if `order_complete`, else for this order.
    pub lower_bound: u32,
    /// The arena equals `lower_bound`, or both searches were complete.
    pub optimal: bool,
    /// The bound holds for every order (that keeps the writes of a buffer in sequence).
    pub order_complete: bool,
    /// One entry a step, in the order in which they run.
    pub timeline: Vec<Moment>,
}

/// Plans `problem`: the order first, then the offsets.
///
/// Graph inputs are live from the start until they are last read and may be overwritten afterwards: a run
/// consumes its inputs. Graph outputs stay until the end.
pub fn plan(problem: &Problem, options: &PlanOptions) -> Result<Plan> {
    problem.check()?;
    let found = order::search(problem, options);
    let lifetimes = lifetime::Lifetimes::of(problem, &found.order);
    let timeline = lifetimes.timeline(problem, &found.order);
    let bound = timeline.iter().map(|m| m.bytes).max().unwrap_or(0);
    let bound = u32::try_from(bound).map_err(|_| Error::TooLarge { bytes: bound })?;
    let packed = offsets::pack(problem, &lifetimes, bound, options.offset_budget)?;
    Ok(Plan {
        optimal: packed.arena_bytes == bound || packed.complete && found.complete,
        arena_bytes: packed.arena_bytes,
        offsets: packed.offsets,
        lower_bound: bound,
        order_complete: found.complete,
        order: found.order,
        timeline,
    })
}
