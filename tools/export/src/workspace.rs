//! Chooses the workspace of operators: as much as fits the memory plan of the whole network.
//!
//! Unpacked weight tiles, and inputs gathered for several pixels at once, save instructions. The memory of each
//! candidate workspace is planned, and the largest one within the allowed arena is taken.

use offshoot_plan::Plan;

use crate::draft::{Criteria, Draft};
use crate::error::Result;
use crate::forms::Workspace;
use crate::forms::wholes::Wholes;
use crate::lowered::{Lowered, Operator};
use crate::options::{CompileOptions, Prefer};
use crate::{learning, write};
use offshoot::format::codec::Record;

/// Bytes of unpacked weight tiles that an operator may hold at once, largest first. With more of them, inputs are
/// gathered less often.
const TILES: [usize; 6] = [16384, 8192, 4096, 2048, 1024, 256];

/// Numbers of pixel pairs per strip to try if a strip may enlarge the arena. Weights are read once per strip.
const FEW_PAIRS: [usize; 3] = [8, 4, 2];

/// Tries workspaces on one draft.
struct Fitting<'f> {
    draft: &'f Draft,
    options: &'f CompileOptions,
    /// As [`Workspace::room`].
    room: usize,
}

/// A workspace and its memory plan.
struct Tried {
    workspace: Workspace,
    plan: Plan,
    /// Whether an operator unpacks weights.
    unpacks: bool,
}

impl Tried {
    fn arena(&self) -> u64 {
        self.plan.arena_bytes.into()
    }
}

/// Operators and their plan, and the weights that further networks may share.
///
/// Strips, which are pixels that are computed together, get wider if that adds at most 1/128 to the arena. With
/// [`Prefer::Speed`] they get wider at any cost within the limit; operators with small tensors then get strips of a few
/// pairs for at most 1/7 more arena, and of as many pairs as possible if that adds nothing. Unpacked weight tiles may
/// add at most 1/20 to the arena, or any amount within the limit with [`Prefer::Speed`].
pub(crate) fn fit(draft: &Draft, options: &CompileOptions) -> Result<(Lowered, Plan, Wholes)> {
    fit_within(draft, options, 0)
}

/// As [`fit`], where operators may take what their tensors leave of `room` bytes for bands and strips.
pub(crate) fn fit_within(
    draft: &Draft,
    options: &CompileOptions,
    room: usize,
) -> Result<(Lowered, Plan, Wholes)> {
    let fitting = Fitting { draft, options, room };
    let tried = fitting.most_tiles(fitting.widest_strip()?)?;
    let (lowered, wholes) = fitting.settle(&tried.workspace, true)?;
    Ok((lowered, tried.plan, wholes))
}

impl Fitting<'_> {
    fn settle(&self, workspace: &Workspace, with_blobs: bool) -> Result<(Lowered, Wholes)> {
        let criteria = Criteria { prefer: self.options.prefer, core: self.options.core };
        let (mut lowered, wholes) = self.draft.settle(criteria, workspace, with_blobs)?;
        if let Some(spec) = &self.options.learning {
            learning::keep_blocks(spec, &mut lowered)?;
        }
        Ok((lowered, wholes))
    }

    fn attempt(&self, tiles: usize, strip: usize, pairs: usize) -> Result<Tried> {
        let prefer = self.options.prefer;
        let workspace = Workspace {
            tiles,
            strip,
            pairs,
            widest: if prefer == Prefer::Speed { self.draft.widest } else { 0 },
            band: match prefer {
                Prefer::Speed => 4096,
                Prefer::Balanced | Prefer::Flash => 1024,
                Prefer::Ram => 256,
            },
            room: self.room,
            pairs_rows: self.options.core.multiplies_bytes() && prefer != Prefer::Ram,
            copies_weights: prefer == Prefer::Speed && self.options.core.copies_weights(),
        };
        let lowered = self.settle(&workspace, false)?.0;
        let plan = offshoot_plan::plan(&write::problem(&lowered), &self.options.plan)?;
        let unpacks =
            |op: &Operator| matches!(op.record, Record::ConvPacked(_) | Record::ConvWeightShared(_));
        Ok(Tried { workspace, plan, unpacks: lowered.operators.iter().any(unpacks) })
    }

    /// `wanted` bytes of arena, or the limit if that is smaller.
    fn allowed(&self, wanted: u64) -> u64 {
        self.options.max_arena.map_or(wanted, |limit| wanted.min(limit))
    }

    fn widest_strip(&self) -> Result<Tried> {
        let (least_tiles, speed) = (TILES[TILES.len() - 1], self.options.prefer == Prefer::Speed);
        let smallest = self.attempt(least_tiles, 0, 0)?;
        let wider: &[usize] = match self.options.prefer {
            Prefer::Speed => &[3072],
            Prefer::Balanced | Prefer::Flash => &[512, 256],
            Prefer::Ram => &[],
        };
        let least = smallest.arena();
        let allowed = self.allowed(if speed { u64::MAX } else { least + least / 128 });
        for &strip in wider {
            let made = self.attempt(least_tiles, strip, 0)?;
            if made.arena() <= allowed {
                return if speed { self.most_pairs(made) } else { Ok(made) };
            }
        }
        Ok(smallest)
    }

    fn most_pairs(&self, mut best: Tried) -> Result<Tried> {
        let Workspace { tiles, strip, .. } = best.workspace;
        let allowed = self.allowed(best.arena() + best.arena() / 7);
        for few in FEW_PAIRS {
            let made = self.attempt(tiles, strip, few)?;
            if made.arena() <= allowed {
                best = made;
                break;
            }
        }
        let made = self.attempt(tiles, strip, usize::MAX)?;
        Ok(if made.arena() <= best.arena() { made } else { best })
    }

    fn most_tiles(&self, best: Tried) -> Result<Tried> {
        if !best.unpacks {
            return Ok(best);
        }
        let Workspace { strip, pairs, .. } = best.workspace;
        let speed = self.options.prefer == Prefer::Speed;
        let allowed = self.allowed(if speed { u64::MAX } else { best.arena() + best.arena() / 20 });
        for &tiles in &TILES[..TILES.len() - 1] {
            let made = self.attempt(tiles, strip, pairs)?;
            if made.arena() <= allowed {
                return Ok(made);
            }
        }
        Ok(best)
    }
}
