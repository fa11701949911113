//! Compiles a graph to a file: lower, choose forms and workspace, plan, write, report.

use offshoot_ir::Graph;
use offshoot_plan::Plan;

use crate::choose::RAM_RATE;
use crate::draft::{Draft, Sharing};
use crate::error::{Error, Result};
use crate::forms::wholes::Role;
use crate::lowered::Lowered;
use crate::options::{CompileOptions, Prefer};
use crate::report::CompileReport;
use crate::{fused_rows, learning, lower, report, workspace, write};

/// A compiled model.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// The `.off` file.
    pub bytes: Vec<u8>,
    /// Its sizes and work.
    pub report: CompileReport,
}

/// Compiles a graph after the lossless passes.
///
/// # Errors
/// The device cannot run some operators ([`Error::Unsupported`] lists all of them), the arena or the file exceeds its
/// limit, the learning plan does not fit the network, or the format cannot hold the graph.
pub fn compile(graph: &Graph, options: &CompileOptions) -> Result<Compiled> {
    let draft = lower::lower(graph, options, Role::Alone, Sharing::default())?;
    let Arranged { mut lowered, plan, unfused } = arranged(&draft, options)?;
    drop(draft);
    let spec = options.learning.as_ref();
    let learning = spec.map(|spec| learning::records(spec, graph, &mut lowered, &plan)).transpose()?;
    let records = learning.as_ref().map(|(records, _)| records.as_slice());
    let bytes = write::write(graph, &mut lowered, &plan, options.source_hash, records)?;
    let mut report = report::report(&bytes, &lowered, &plan);
    report.arena_unfused_bytes = (plan.arena_bytes < unfused).then_some(unfused.into());
    report.learning = learning.map(|(_, report)| report);
    within(&report, options)?;
    Ok(Compiled { bytes, report })
}

/// Operators and their memory plan.
#[derive(Clone)]
struct Arranged {
    lowered: Lowered,
    plan: Plan,
    /// Bytes of arena without fused row tiles.
    unfused: u32,
}

impl Arranged {
    /// The draft's operators; they may take what their tensors leave of `room` bytes for their workspace.
    fn plain(draft: &Draft, options: &CompileOptions, room: u32) -> Result<Self> {
        let (lowered, plan, _) = workspace::fit_within(draft, options, room as usize)?;
        let unfused = plan.arena_bytes;
        Ok(Self { lowered, plan, unfused })
    }

    /// Shows `visit` the same with one chain as fused row tiles, with two, and so on. Layers that learn are never fused.
    fn fused(self, options: &CompileOptions, visit: &mut dyn FnMut(Self)) -> Result<()> {
        if options.learning.is_some() {
            return Ok(());
        }
        let unfused = self.unfused;
        let mut visit = |lowered: &Lowered, plan: &Plan| {
            visit(Self { lowered: lowered.clone(), plan: plan.clone(), unfused });
        };
        fused_rows::fuse(self.lowered, self.plan, (&options.plan, options.core), &mut visit)
    }

    fn exceeds(&self, options: &CompileOptions) -> bool {
        options.max_arena.is_some_and(|limit| u64::from(self.plan.arena_bytes) > limit)
    }

    /// Whether its arena is smaller; of equal ones, whether it takes fewer instructions.
    fn is_before(&self, other: &Self) -> bool {
        let size = |a: &Self| (a.plan.arena_bytes, a.lowered.instructions_estimated);
        size(self) < size(other)
    }

    /// Whether it pays at most [`RAM_RATE`] instructions for a byte less of arena than `balanced` takes.
    fn pays(&self, balanced: &Self) -> bool {
        let saved = f64::from(balanced.plan.arena_bytes) - f64::from(self.plan.arena_bytes);
        let paid =
            self.lowered.instructions_estimated as f64 - balanced.lowered.instructions_estimated as f64;
        saved >= 0.0 && paid * DOUBT <= RAM_RATE * saved
    }
}

/// Factor by which estimates of what is paid may be too low.
const DOUBT: f64 = 1.1;

/// The draft's operators with the best workspace; with fused row tiles if the arena exceeds its limit without them.
fn arranged(draft: &Draft, options: &CompileOptions) -> Result<Arranged> {
    let mut best = match options.prefer {
        Prefer::Ram => smallest(draft, options)?,
        _ => Arranged::plain(draft, options, 0)?,
    };
    if options.prefer != Prefer::Ram && best.exceeds(options) {
        best.clone().fused(options, &mut |fused| best = fused)?;
    }
    fused_rows::finish(&mut best.lowered);
    Ok(best)
}

/// The smallest arena that pays ([`Arranged::pays`]) or, if that exceeds the limit, the fewest instructions within it. With and
/// without fused row tiles, operators take the least workspace first; where the arena that follows has room beside an
/// operator's tensors, the operator takes more of it.
fn smallest(draft: &Draft, options: &CompileOptions) -> Result<Arranged> {
    let balanced = CompileOptions { prefer: Prefer::Balanced, ..options.clone() };
    let balanced = Arranged::plain(draft, &balanced, 0)?;
    let (mut paying, mut within) = (balanced.clone(), balanced.clone());
    let mut consider = |arranged: Arranged| {
        // Within the limit, the fewest instructions; beyond it, the smallest arena.
        let cheaper = arranged.lowered.instructions_estimated < within.lowered.instructions_estimated;
        let better = if within.exceeds(options) {
            arranged.is_before(&within)
        } else {
            cheaper && !arranged.exceeds(options)
        };
        if better {
            within.clone_from(&arranged);
        }
        if arranged.pays(&balanced) && arranged.is_before(&paying) {
            paying = arranged;
        }
    };
    let least = Arranged::plain(draft, options, 0)?;
    consider(Arranged::plain(draft, options, least.plan.arena_bytes)?);
    let mut room = None;
    least.clone().fused(options, &mut |fused| {
        room = Some(fused.plan.arena_bytes);
        consider(fused);
    })?;
    consider(least);
    if let Some(room) = room {
        Arranged::plain(draft, options, room)?.fused(options, &mut consider)?;
    }
    Ok(if paying.exceeds(options) { within } else { paying })
}

/// Checks a report against the limits.
pub(crate) fn within(report: &CompileReport, options: &CompileOptions) -> Result<()> {
    if let Some(limit) = options.max_arena.filter(|&limit| report.arena_bytes > limit) {
        let lower_bound = report.arena_lower_bound_bytes;
        return Err(Error::Arena { needed: report.arena_bytes, limit, lower_bound });
    }
    if let (Some(limit), Some(learning)) = (options.max_arena, &report.learning)
        && learning.train_arena_bytes > limit
    {
        let (needed, trainable) = (learning.train_arena_bytes, learning.train_weights_bytes);
        return Err(Error::TrainArena { needed, limit, trainable });
    }
    if let Some(limit) = options.max_flash.filter(|&limit| report.model_bytes > limit) {
        return Err(Error::Flash { needed: report.model_bytes, limit, weights: report.weights_bytes });
    }
    Ok(())
}
