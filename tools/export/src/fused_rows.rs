//! Fused row tiles: chains of operators that run together for a few rows at a time ([`record::FusedRows`]), if that
//! makes the arena smaller. This is the patch execution of MCUNetV2 (Lin et al. 2021, arXiv:2110.15352) with line
//! buffers instead of recomputed rows.
//!
//! The search looks at the moments when the plan needs most memory, and at all chains of operators that are running
//! then. Each chain is planned as one operator with its line buffers as workspace, for several tile heights. The
//! search keeps the smallest arena and continues from there until no chain helps.

use offshoot::format::codec::{OP_MAX, Record};
use offshoot::format::fused_rows::MOST_MEMBERS;
use offshoot::format::record;
use offshoot::operators;
use offshoot_plan::{Plan, PlanOptions};

use crate::cores::Core;
use crate::error::Result;
use crate::lowered::{Lowered, Operator};
use crate::write;

/// Tile heights to try, in output rows.
const STEPS: [u16; 4] = [1, 2, 4, 8];

/// Most chains to fuse in a graph.
const ROUNDS: usize = 6;

/// A chain that was fused, with the plan of all operators.
struct Fused {
    operators: Vec<Operator>,
    plan: Plan,
    scratch: u32,
    /// Instructions that it adds to a run.
    added: u64,
}

/// Fuses chains until no further one makes the arena smaller. `visit` sees the operators and their plan after each. The
/// members are not in the blob section yet: [`finish`] puts them there.
///
/// # Errors
/// Memory planning fails.
pub(crate) fn fuse(
    mut lowered: Lowered,
    mut plan: Plan,
    (options, core): (&PlanOptions, Core),
    visit: &mut dyn FnMut(&Lowered, &Plan),
) -> Result<()> {
    for _ in 0..ROUNDS {
        let mut best: Option<Fused> = None;
        for chain in chains(&lowered, &plan) {
            for step in STEPS {
                let Some((operators, scratch, added)) = with_fused(&lowered, &chain, step, core) else {
                    continue;
                };
                let problem = problem(&lowered, &operators, scratch);
                let planned = offshoot_plan::plan(&problem, options)?;
                let better = match &best {
                    None => planned.arena_bytes < plan.arena_bytes,
                    Some(b) => (planned.arena_bytes, added) < (b.plan.arena_bytes, b.added),
                };
                if better {
                    best = Some(Fused { operators, plan: planned, scratch, added });
                }
            }
        }
        let Some(fused) = best else { break };
        lowered.buffers.push(fused.scratch);
        lowered.operators = fused.operators;
        lowered.instructions_estimated += fused.added;
        plan = fused.plan;
        visit(&lowered, &plan);
    }
    Ok(())
}

/// Puts the members of fused row tiles into the blob section.
pub(crate) fn finish(lowered: &mut Lowered) {
    for op in &mut lowered.operators {
        if let (Record::FusedRows(fused), Some((members, _))) = (&mut op.record, &op.members) {
            fused.blob = lowered.blobs.add(members.clone()).0;
        }
    }
}

/// The planning problem of these operators, with one more buffer of `scratch` bytes.
fn problem(lowered: &Lowered, operators: &[Operator], scratch: u32) -> offshoot_plan::Problem {
    let mut buffers = lowered.buffers.clone();
    buffers.push(scratch);
    write::problem(&Lowered {
        buffers,
        operators: operators.to_vec(),
        inputs: lowered.inputs.clone(),
        outputs: lowered.outputs.clone(),
        ..Lowered::default()
    })
}

/// Chains of operators, by index, that are running when the plan needs most memory.
fn chains(lowered: &Lowered, plan: &Plan) -> Vec<Vec<usize>> {
    let most = plan.timeline.iter().map(|m| m.bytes).max().unwrap_or(0);
    let peaks: Vec<usize> = plan.timeline.iter().filter(|m| m.bytes == most).map(|m| m.step).collect();
    let mut all = Vec::new();
    for first in 0..lowered.operators.len() {
        let mut chain = vec![first];
        while chain.len() < MOST_MEMBERS {
            let Some(next) = follower(lowered, chain[chain.len() - 1]) else { break };
            chain.push(next);
            if chain.iter().any(|i| peaks.contains(i)) {
                all.push(chain.clone());
            }
        }
    }
    all
}

/// The only user of the operator's output, if it reads nothing else.
fn follower(lowered: &Lowered, index: usize) -> Option<usize> {
    let buffer = lowered.operators[index].write;
    let touches =
        |op: &Operator| op.write == buffer || op.reads.contains(&Some(buffer)) || op.scratch == Some(buffer);
    let mut users = lowered.operators.iter().enumerate().filter(|&(i, op)| i != index && touches(op));
    let (next, op) = users.next()?;
    let alone =
        users.next().is_none() && !lowered.inputs.contains(&buffer) && !lowered.outputs.contains(&buffer);
    let reads = op.reads == [Some(buffer), None] && op.write != buffer;
    (alone && reads && next > index).then_some(next)
}

/// All operators with a chain fused into one, the bytes of its workspace, which is the buffer after the last one, and the
/// instructions that fusing adds; `None` if the chain cannot be fused.
fn with_fused(
    lowered: &Lowered,
    chain: &[usize],
    step: u16,
    core: Core,
) -> Option<(Vec<Operator>, u32, u64)> {
    let ops: Vec<&Operator> = chain.iter().map(|&i| &lowered.operators[i]).collect();
    let rows = ops.iter().find_map(|op| height(&op.record))?;
    let mut members = Vec::new();
    for op in &ops {
        let mut bytes = [0; OP_MAX];
        let length = op.record.encode(&mut bytes)?;
        members.push(op.record.tag() as u8);
        members.extend(&bytes[..length]);
    }
    let (first, last) = (ops.first()?, ops.last()?);
    // All run or none.
    if ops.iter().any(|op| op.branches != last.branches) {
        return None;
    }
    let fused = record::FusedRows {
        src: 0,
        dst: 0,
        scratch: 0,
        rows,
        step,
        members: u8::try_from(ops.len()).ok()?,
        len: u16::try_from(members.len()).ok()?,
        bytes: lowered.buffers[last.write],
        blob: 0,
    };
    let record = Record::from(fused);
    let scratch = operators::scratch(&record, &members).ok()?;
    let overlap = operators::in_place(&record, &members);
    let mut pieces = Vec::new();
    operators::pieces(&record, &members, |piece| pieces.push(*piece)).ok()?;
    let whole: Vec<Record> = ops.iter().map(|op| op.record).collect();
    let added = core.fusing(&whole, &pieces);
    let kinds = ops.iter().map(|op| op.record.tag().name()).collect();
    let own = Operator {
        name: last.name.clone(),
        record: fused.into(),
        reads: first.reads,
        write: last.write,
        in_place: Vec::new(),
        overlap,
        scratch: Some(lowered.buffers.len()),
        origin: last.origin,
        scale: last.scale,
        zero_point: last.zero_point,
        macs: ops.iter().map(|op| op.macs).sum(),
        weights: ops.iter().map(|op| op.weights).sum(),
        members: Some((members, kinds)),
        sparse: None,
        branches: last.branches.clone(),
        begins: false,
        kept: None,
        keeps: Vec::new(),
    };
    let place = chain[chain.len() - 1];
    let operators = lowered.operators.iter().enumerate();
    let kept = operators.filter(|(i, _)| *i == place || !chain.contains(i));
    Some((kept.map(|(i, op)| if i == place { own.clone() } else { op.clone() }).collect(), scratch, added))
}

/// Input rows of a record with a height. Pixel-wise operators before it in the chain have the same number of rows.
fn height(record: &Record) -> Option<u16> {
    Some(match record {
        Record::Conv2d(r) => r.h,
        Record::Depthwise(r) => r.h,
        Record::Pool(r) => r.h,
        Record::DepthwisePlanar(r) => r.h,
        Record::DepthwiseSingleMultiply(r) => r.h,
        Record::ConvTiled(r) if r.h > 1 => r.h,
        Record::ConvPacked(r) if r.h > 1 => r.h,
        Record::ConvRowMajor(r) if r.h > 1 => r.h,
        Record::ConvSingleMultiply(r) if r.h > 1 => r.h,
        _ => return None,
    })
}
