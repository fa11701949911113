//! Memory planning: operator order and arena offsets, with a proved lower bound.
//!
//! Two exact searches run, each with a budget. [`order`] finds the topological order with the lowest peak of live
//! bytes (dynamic programming over sets of executed steps, as in Serenity, Ahn et al., MLSys 2020). [`offsets`] then
//! packs the buffers (canonical placements, dominance and floor inference, as in MiniMalloc, Moffitt, ASPLOS 2024).
//! The crate does not know operators: it sees only which step reads and writes which bytes.

pub mod lifetime;
pub mod offsets;
pub mod order;
pub mod problem;

use serde::Serialize;

pub use problem::{Branch, Buffer, BufferId, Error, InPlace, Overlap, Problem, Result, Step};

/// Effort of the searches. The results are the same on every machine: budgets are counts, not seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlanOptions {
    /// Whether the steps may be reordered.
    pub reorder: bool,
    /// Most states that the search for an order visits; if it needs more, the given order is kept.
    pub order_budget: usize,
    /// Most nodes that the search for offsets visits; then the best layout found is kept.
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
    /// Buffers that are live during the step, ascending.
    pub live: Vec<BufferId>,
    /// Fewest bytes that they need; in-place pairs count once, and alignment is included.
    pub bytes: u64,
}

/// A memory plan: order, offsets and lower bound.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// Indices of the steps in execution order.
    pub order: Vec<usize>,
    /// Byte offset of each buffer.
    pub offsets: Vec<u32>,
    /// Bytes from offset 0 to the end of the highest buffer.
    pub arena_bytes: u32,
    /// Bytes that every plan needs: with any order if `order_complete`, otherwise with this order.
    pub lower_bound: u32,
    /// Whether the plan is proved optimal: the arena equals `lower_bound`, or both searches were complete.
    pub optimal: bool,
    /// Whether the bound holds for every order that keeps the writes of a buffer in sequence.
    pub order_complete: bool,
    /// One entry per step, in execution order.
    pub timeline: Vec<Moment>,
}

/// Plans `problem`: the order first, then the offsets.
///
/// Graph inputs are live from the start until their last read and may then be overwritten: a run consumes its inputs.
/// Graph outputs are live until the end.
///
/// # Errors
/// The problem is not valid, see [`Problem::check`], or needs more than 32-bit offsets.
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
