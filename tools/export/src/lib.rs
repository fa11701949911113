//! From an IR graph to the bytes of a `.off` file: [`lower`] (operators and buffers), the memory plan
//! (`offshoot_plan`), [`mod@write`] (addresses, sections, checksum).
//!
//! The int8 forms follow TensorFlow Lite's quantisation specification and the preparation that TensorFlow Lite
//! Micro's kernels do, so that the device computes the same bytes as those.

pub mod blobs;
pub mod error;
pub mod learning;
pub mod lower;
pub mod multiplier;
pub mod nest;
pub mod probes;
pub mod relearn;
pub mod report;
pub mod stage;
pub mod write;

use lower::Room;
use offshoot::format::codec::Record;
use offshoot_ir::Graph;
use offshoot_plan::{Plan, PlanOptions};

pub use error::{Error, Result, Unsupported};
pub use learning::{LearningPlan, LearningReport};
pub use lower::{Fallback, SparseReport, sparse_forms};
pub use nest::{NestedReport, compile_nested};
pub use report::{CompileReport, OperatorReport, TensorReport};

/// What counts most where one resource can be had for another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Prefer {
    /// A little of each.
    #[default]
    Balanced,
    /// Fewer instructions, for more RAM and flash.
    Speed,
    /// A smaller arena.
    Ram,
    /// A smaller file, if need be at the cost of much time.
    Flash,
}

/// What to compile for.
#[derive(Clone, Debug)]
pub struct CompileOptions {
    /// What counts most.
    pub prefer: Prefer,
    /// Arrange weights for the fast kernels. Without it every operator is in its plain form: the one to read.
    pub arrange: bool,
    /// Most bytes of arena allowed.
    pub max_arena: Option<u64>,
    /// Most bytes of model file allowed.
    pub max_flash: Option<u64>,
    /// Goes into the header, see [`offshoot::format::header::Header::source_hash`].
    pub source_hash: u32,
    /// Effort of the memory plan.
    pub plan: PlanOptions,
    /// Recurrent layers keep their state from one run to the next: runs are the steps of one long sequence, until
    /// [`offshoot::Engine::restart`].
    pub stateful: bool,
    /// What is to learn on the device.
    pub learning: Option<LearningPlan>,
}

impl Default for CompileOptions {
    fn default() -> Self {
        Self {
            prefer: Prefer::default(),
            arrange: true,
            max_arena: None,
            max_flash: None,
            source_hash: 0,
            plan: PlanOptions::default(),
            stateful: false,
            learning: None,
        }
    }
}

/// A compiled model.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// The `.off` file.
    pub bytes: Vec<u8>,
    /// What it takes.
    pub report: CompileReport,
}

/// Bytes of expanded weights that an operator may hold at once, most first: with more, inputs are gathered less often.
const PANELS: [usize; 6] = [16384, 8192, 4096, 2048, 1024, 256];

/// Pairs of pixels or tiles of a strip for which it may take more arena: weights are read once for so many.
const FEW_PAIRS: [usize; 3] = [8, 4, 2];

/// Operators and plan. Strips of pixels that are computed together are wider where that costs a 128th of the arena or less. With
/// [`Prefer::Speed`] they are wider whatever that costs; then, where tensors are small, of a few pairs for a seventh more arena at
/// most, and of many where that costs nothing. Panels of packed weights are the largest that make the arena no more than a
/// twentieth larger (with [`Prefer::Speed`]: the largest).
fn lower_and_plan(graph: &Graph, options: &CompileOptions) -> Result<(lower::Lowered, Plan)> {
    panelled(options, |room| lower::lower(graph, options, room))
}

/// As [`lower_and_plan`], of whatever `lower` gives with so much room.
fn panelled(
    options: &CompileOptions,
    lower: impl Fn(Room) -> Result<lower::Lowered>,
) -> Result<(lower::Lowered, Plan)> {
    let attempt = |panel: usize, strip: usize, pairs: usize| -> Result<(lower::Lowered, Plan)> {
        let mut lowered = lower(Room { panel, strip, pairs })?;
        if let Some(wish) = &options.learning {
            learning::keep_blocks(wish, &mut lowered)?;
        }
        let plan = offshoot_plan::plan(&write::problem(&lowered), &options.plan)?;
        Ok((lowered, plan))
    };
    let least_panel = PANELS[PANELS.len() - 1];
    let (mut smallest, mut strip, mut pairs) = (attempt(least_panel, 0, 0)?, 0, 0);
    let wider: &[usize] = match options.prefer {
        Prefer::Speed => &[3072],
        Prefer::Balanced | Prefer::Flash => &[512, 256],
        Prefer::Ram => &[],
    };
    for &room in wider {
        let made = attempt(least_panel, room, 0)?;
        let least = u64::from(smallest.1.arena_bytes);
        let wanted = if options.prefer == Prefer::Speed { u64::MAX } else { least + least / 128 };
        if u64::from(made.1.arena_bytes) <= options.max_arena.map_or(wanted, |limit| wanted.min(limit)) {
            (smallest, strip) = (made, room);
            break;
        }
    }
    if options.prefer == Prefer::Speed && strip > 0 {
        let least = u64::from(smallest.1.arena_bytes);
        let wanted = least + least / 7;
        let wanted = options.max_arena.map_or(wanted, |limit| wanted.min(limit));
        for few in FEW_PAIRS {
            let made = attempt(least_panel, strip, few)?;
            if u64::from(made.1.arena_bytes) <= wanted {
                (smallest, pairs) = (made, few);
                break;
            }
        }
        let made = attempt(least_panel, strip, usize::MAX)?;
        if made.1.arena_bytes <= smallest.1.arena_bytes {
            (smallest, pairs) = (made, usize::MAX);
        }
    }
    let packed = |op: &lower::Operator| matches!(op.record, Record::ConvPacked(_) | Record::ConvNested(_));
    if !smallest.0.operators.iter().any(packed) {
        return Ok(smallest);
    }
    let least = u64::from(smallest.1.arena_bytes);
    let wanted = if options.prefer == Prefer::Speed { u64::MAX } else { least + least / 20 };
    let allowed = options.max_arena.map_or(wanted, |limit| wanted.min(limit));
    for panel in &PANELS[..PANELS.len() - 1] {
        let made = attempt(*panel, strip, pairs)?;
        if u64::from(made.1.arena_bytes) <= allowed {
            return Ok(made);
        }
    }
    Ok(smallest)
}

/// Compiles a graph after the lossless passes.
///
/// # Errors
/// All operators that the device cannot run at once ([`Error::Unsupported`]); too much arena or flash, and by how
/// much; a graph that the format cannot hold.
pub fn compile(graph: &Graph, options: &CompileOptions) -> Result<Compiled> {
    let (mut lowered, mut plan) = lower_and_plan(graph, options)?;
    let unfused = plan.arena_bytes;
    let over = options.max_arena.is_some_and(|limit| u64::from(unfused) > limit);
    if options.learning.is_none() && (options.prefer == Prefer::Ram || over) {
        (lowered, plan) = stage::fuse(lowered, plan, &options.plan)?;
    }
    let wish = options.learning.as_ref();
    let learning = wish.map(|wish| learning::records(wish, graph, &mut lowered, &plan)).transpose()?;
    let records = learning.as_ref().map(|(records, _)| records.as_slice());
    let bytes = write::write(graph, &lowered, &plan, options.source_hash, records)?;
    let mut report = report::report(&bytes, &lowered, &plan);
    report.arena_unfused_bytes = (plan.arena_bytes < unfused).then_some(unfused.into());
    report.learning = learning.map(|(_, report)| report);
    within(&report, options)?;
    Ok(Compiled { bytes, report })
}

/// Holds a report against the limits.
fn within(report: &CompileReport, options: &CompileOptions) -> Result<()> {
    if let Some(limit) = options.max_arena.filter(|&limit| report.arena_bytes > limit) {
        let lower_bound = report.arena_lower_bound_bytes;
        return Err(Error::Arena { needed: report.arena_bytes, limit, lower_bound });
    }
    if let (Some(limit), Some(learning)) = (options.max_arena, &report.learning)
        && learning.train_arena_bytes > limit
    {
        let (needed, overlay) = (learning.train_arena_bytes, learning.train_weights_bytes);
        return Err(Error::TrainArena { needed, limit, overlay });
    }
    if let Some(limit) = options.max_flash.filter(|&limit| report.model_bytes > limit) {
        return Err(Error::Flash { needed: report.model_bytes, limit, weights: report.weights_bytes });
    }
    Ok(())
}
