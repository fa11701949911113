//! Policies for networks that are written as ONNX: operators and tensors get other names there.

use std::collections::BTreeMap;

use offshoot_compress::quantize::{Learned, Policy, packs};
use offshoot_ir::Graph;

use crate::failure::{Context, Failure, Kind, Result};

const BUG: &str = "this is a bug in Offshoot: report it with the network";

/// The network that is read from the bytes of an ONNX file.
///
/// # Errors
/// The file cannot be read, which is a bug if it was written here.
pub(crate) fn read_back(onnx: &[u8]) -> Result<Graph> {
    let read = offshoot_import::import_bytes(onnx, "written").or_fail(Kind::Internal, BUG)?;
    Ok(crate::files::optimise(read)?.0)
}

/// `policy` of `from` with the names of `to`, which is the same network written to ONNX and read back. Step sizes and
/// ranges are left out if reading changes operators, since each of them needs its tensor.
///
/// # Errors
/// The file is read as another network, which is a bug.
pub(crate) fn renamed(policy: &Policy, from: &Graph, to: &Graph) -> Result<Policy> {
    let alike = from.nodes.len() == to.nodes.len()
        && from.nodes.iter().zip(&to.nodes).all(|(a, b)| {
            a.op.name() == b.op.name() && from.value(a.output).shape == to.value(b.output).shape
        });
    if !alike {
        return layers(policy, from, to);
    }
    let nodes: BTreeMap<&str, &str> =
        from.nodes.iter().zip(&to.nodes).map(|(a, b)| (a.name.as_str(), b.name.as_str())).collect();
    let outputs = from.nodes.iter().zip(&to.nodes).map(|(a, b)| (a.output, b.output));
    let values: BTreeMap<&str, &str> = (from.inputs.iter().copied().zip(to.inputs.iter().copied()))
        .chain(outputs)
        .map(|(a, b)| (from.value(a).name.as_str(), to.value(b).name.as_str()))
        .collect();
    fn rename<V: Clone>(table: &BTreeMap<String, V>, names: &BTreeMap<&str, &str>) -> BTreeMap<String, V> {
        let new = |name: &String| names.get(name.as_str()).map_or(name.clone(), |n| (*n).to_owned());
        table.iter().map(|(name, v)| (new(name), v.clone())).collect()
    }
    Ok(Policy {
        weights: policy.weights,
        layers: rename(&policy.layers, &nodes),
        levels: rename(&policy.levels, &nodes),
        steps: rename(&policy.steps, &nodes),
        ranges: rename(&policy.ranges, &values),
    })
}

/// The bits of `policy`, by the names of the layers in `to`.
fn layers(policy: &Policy, from: &Graph, to: &Graph) -> Result<Policy> {
    let names = |graph: &Graph| -> Vec<String> {
        graph.nodes.iter().filter(|n| packs(graph, n)).map(|n| n.name.clone()).collect()
    };
    let (old, new) = (names(from), names(to));
    if old.len() != new.len() {
        let message = "the network changes when its ONNX file is read back";
        return Err(Failure::new(Kind::Internal, message, BUG));
    }
    let mut bits = policy.bits();
    let rename = |table: &BTreeMap<String, u8>| -> BTreeMap<String, u8> {
        old.iter().zip(&new).filter_map(|(old, new)| Some((new.clone(), *table.get(old)?))).collect()
    };
    (bits.layers, bits.levels) = (rename(&bits.layers), rename(&bits.levels));
    Ok(Policy::new(bits, Learned::default()))
}
