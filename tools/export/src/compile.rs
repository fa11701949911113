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
    let bytes = write::write(graph, &lowered, &plan, options.source_hash, records)?;
    let mut report = report::report(&bytes, &lowered, &plan);
    report.arena_unfused_bytes = (plan.arena_bytes < unfused).then_some(unfused.into());
    report.learning = learning.map(|(_, report)| report);
    within(&report, options)?;
    Ok(Compiled { bytes, report })
}

/// Operators and their memory plan.
struct Arranged {
    lowered: Lowered,
    plan: Plan,
    /// Bytes of arena without fused row tiles.
    unfused: u32,
}

/// The draft's operators with the best workspace. [`Prefer::Ram`] takes the smallest workspace if the arena gets
/// smaller than with [`Prefer::Balanced`] at no more than [`RAM_RATE`] instructions per byte, or if `Balanced` exceeds
/// the limit.
fn arranged(draft: &Draft, options: &CompileOptions) -> Result<Arranged> {
    if options.prefer != Prefer::Ram {
        return fused(draft, options, false);
    }
    let balanced = fused(draft, &CompileOptions { prefer: Prefer::Balanced, ..options.clone() }, true)?;
    let smallest = fused(draft, options, true)?;
    let bytes = balanced.plan.arena_bytes.saturating_sub(smallest.plan.arena_bytes);
    let [paid, before] = [&smallest, &balanced].map(|a| a.lowered.instructions_estimated as f64);
    let needed = options.max_arena.is_some_and(|limit| u64::from(balanced.plan.arena_bytes) > limit);
    let pays = bytes > 0 && (needed || paid - before <= RAM_RATE * f64::from(bytes));
    Ok(if pays { smallest } else { balanced })
}

fn fused(draft: &Draft, options: &CompileOptions, always: bool) -> Result<Arranged> {
    let (mut lowered, mut plan, _) = workspace::fit(draft, options)?;
    let unfused = plan.arena_bytes;
    let over = options.max_arena.is_some_and(|limit| u64::from(unfused) > limit);
    if options.learning.is_none() && (always || over) {
        (lowered, plan) = fused_rows::fuse(lowered, plan, &options.plan)?;
    }
    Ok(Arranged { lowered, plan, unfused })
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
