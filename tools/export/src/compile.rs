//! Compiles a graph to a file: lower, choose forms and workspace, plan, write, report.

use offshoot_ir::Graph;
use offshoot_plan::Plan;

use crate::choose::RAM_RATE;
use crate::draft::{Draft, Sharing};
use crate::error::{Error, Result};
use crate::forms::wholes::Role;
use crate::fused_rows::Fusing;
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

    /// The same with up to `rounds` chains as fused row tiles. Layers that learn are never fused.
    fn fused(self, options: &CompileOptions, rounds: usize) -> Result<Self> {
        if options.learning.is_some() {
            return Ok(self);
        }
        let fusing = Fusing { plan: &options.plan, core: options.core, rounds };
        let (lowered, plan) = fused_rows::fuse(self.lowered, self.plan, fusing)?;
        Ok(Self { lowered, plan, ..self })
    }

    /// Number of chains that are fused.
    fn chains(&self) -> usize {
        self.lowered.operators.iter().filter(|op| op.members.is_some()).count()
    }

    fn exceeds(&self, options: &CompileOptions) -> bool {
        options.max_arena.is_some_and(|limit| u64::from(self.plan.arena_bytes) > limit)
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
    if options.prefer == Prefer::Ram {
        return smallest(draft, options);
    }
    let plain = Arranged::plain(draft, options, 0)?;
    if plain.exceeds(options) { plain.fused(options, usize::MAX) } else { Ok(plain) }
}

/// The smallest arena that pays ([`Arranged::pays`]) or, if none of these keeps the limit, the smallest of all. With and without fused row tiles, operators take the least workspace first; where the arena
/// that follows has room beside an operator's tensors, the operator takes more of it.
fn smallest(draft: &Draft, options: &CompileOptions) -> Result<Arranged> {
    let balanced = CompileOptions { prefer: Prefer::Balanced, ..options.clone() };
    let balanced = Arranged::plain(draft, &balanced, 0)?;
    let mut all = vec![balanced.clone()];
    let least = Arranged::plain(draft, options, 0)?;
    let chains = least.clone().fused(options, usize::MAX)?.chains();
    for rounds in 0..=chains {
        all.push(balanced.clone().fused(options, rounds)?);
        let fused = least.clone().fused(options, rounds)?;
        let room = fused.plan.arena_bytes;
        all.push(Arranged::plain(draft, options, room)?.fused(options, rounds)?);
        all.push(fused);
    }
    let by_size = |a: &Arranged| (a.plan.arena_bytes, a.lowered.instructions_estimated);
    let paying = all.iter().filter(|a| a.pays(&balanced)).min_by_key(|a| by_size(a));
    let within = paying.filter(|a| !a.exceeds(options));
    Ok(within.or_else(|| all.iter().min_by_key(|a| by_size(a))).unwrap_or(&balanced).clone())
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
