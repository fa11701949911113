//! Several networks in one file that share weights: the largest network of a super-network, and sub-networks that take
//! prefixes of its channels or leave out operators (slimmable networks, Yu et al. 2019, arXiv:1812.08928). The device
//! selects a network by its number ([`offshoot::Engine::select`]).

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

/// Compiles quantised graphs into one file. The first is the largest; the others share its int8 weights if theirs are
/// the same, or prefixes along output and input channels (multiples of four). Shared weights are neither Huffman-coded
/// nor packed nor transformed. The report is the first network's, with all others in
/// [`crate::CompileReport::networks`].
///
/// `options` apply to all networks, except that only the first one learns.
///
/// # Errors
/// As [`crate::compile`]; also if the first network learns and another one needs a larger arena.
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

    // Further networks must fit the first network's arena, including their unpacked weight tiles.
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
    let mut bytes = Vec::new();
    for count in 1..=networks.len() {
        let blobs = made[count - 1].0.blobs.as_bytes().to_vec();
        bytes = write_networks(&networks[..count], records, blobs)?;
        sizes.push(bytes.len() as u64);
    }
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

/// Number of operators whose weights are in the first `bytes` of the blobs, and number of operators with weights.
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
