//! Several networks in one file over one store of weights: a super-network's largest, and sub-networks that are prefixes
//! of its channels or leave operators out. The device goes from one to another by a number
//! ([`offshoot::Engine::select`]).

use offshoot::format::codec::Record;
use offshoot_ir::Graph;
use offshoot_ir::passes::origin_hash;

use crate::compile::{Compiled, within};
use crate::draft::Sharing;
use crate::error::{Error, Result};
use crate::forms::wholes::Role;
use crate::lower::lower;
use crate::lowered::Lowered;
use crate::options::CompileOptions;
use crate::report::NestedReport;
use crate::workspace::fit;
use crate::write::{Network, write_networks};
use crate::{learning, report};

/// Compiles quantised graphs into one file, the first and largest of which the others share weights with, where their int8
/// weights are the same or prefixes along output and input channels (multiples of four). Weights are stored plain: not
/// coded, packed or transformed. The report is the first network's, with all others in [`crate::CompileReport::networks`].
///
/// `options` hold for all; learning is the first's.
///
/// # Errors
/// As [`crate::compile`]; a further network needs a larger arena than the first while that learns.
pub fn compile_nested(graphs: &[Graph], options: &CompileOptions) -> Result<Compiled> {
    let Some((first, further)) = graphs.split_first() else {
        return Err(Error::Format { what: "the number of networks", value: 0, limit: 256 });
    };
    let role = if further.is_empty() { Role::Alone } else { Role::First };
    let draft = lower(first, options, role, Sharing::default())?;
    let (mut lowered, plan, wholes) = fit(&draft, options)?;
    let spec = options.learning.as_ref();
    let learning = spec.map(|spec| learning::records(spec, first, &mut lowered, &plan)).transpose()?;
    let records = learning.as_ref().map(|(records, _)| records.as_slice());

    // Unpacked weight tiles are to fit where the first network does.
    let room = options.max_arena.unwrap_or(u64::MAX).min(plan.arena_bytes.into());
    let inference = CompileOptions { learning: None, max_arena: Some(room), ..options.clone() };
    let mut made = vec![(lowered, plan)];
    for (i, graph) in further.iter().enumerate() {
        let blobs = made[made.len() - 1].0.blobs.clone();
        let sharing = Sharing { blobs, wholes: wholes.clone() };
        let (lowered, plan, _) = fit(&lower(graph, &inference, Role::Further, sharing)?, &inference)?;
        let network = (lowered, plan);
        if learning.is_some() && network.1.arena_bytes > made[0].1.arena_bytes {
            let (needed, limit) = (network.1.arena_bytes.into(), made[0].1.arena_bytes.into());
            return Err(Error::Nested { network: i + 1, needed, limit });
        }
        made.push(network);
    }
    let hashes =
        graphs.iter().enumerate().map(|(i, g)| if i == 0 { options.source_hash } else { origin_hash(g) });
    let networks: Vec<Network<'_>> = (graphs.iter().zip(&made).zip(hashes))
        .map(|((graph, (lowered, plan)), source_hash)| Network { graph, lowered, plan, source_hash })
        .collect();
    let mut sizes = Vec::new();
    for count in 1..=networks.len() {
        sizes.push(write_networks(&networks[..count], records)?.len() as u64);
    }
    let bytes = write_networks(&networks, records)?;
    let mut report = report::report(&bytes, &made[0].0, &made[0].1);
    report.learning = learning.map(|(_, report)| report);
    report.networks = (1..networks.len())
        .map(|i| {
            let operators = &made[i].0.operators;
            NestedReport {
                network: i,
                macs: operators.iter().map(|o| o.macs).sum(),
                arena_bytes: made[i].1.arena_bytes.into(),
                added_bytes: sizes[i] - sizes[i - 1],
                shared_operators: shared(&made[i].0, made[0].0.blobs.as_bytes().len()),
            }
        })
        .collect();
    within(&report, options)?;
    Ok(Compiled { bytes, report })
}

/// Operators whose weights lie in the first `bytes` of the blobs, and all that have weights.
fn shared(lowered: &Lowered, bytes: usize) -> [usize; 2] {
    let weighty = lowered.operators.iter().filter(|op| op.weights > 0);
    let at = |record: &Record| match record {
        Record::Conv2d(r) => r.blob,
        Record::Depthwise(r) => r.blob,
        Record::ConvTranspose(r) => r.blob,
        Record::FullyConnected(r) => r.blob,
        Record::ConvTiled(r) => r.blob,
        Record::DepthwisePlanar(r) => r.blob,
        Record::ConvWeightShared(r) => r.whole,
        Record::DepthwiseWeightShared(r) => r.whole,
        _ => u32::MAX,
    };
    [weighty.clone().filter(|op| (at(&op.record) as usize) < bytes).count(), weighty.count()]
}
