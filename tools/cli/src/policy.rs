//! Policies for networks that are written as ONNX: operators get other names there.

use offshoot_compress::quantize::{WeightBits, packs};
use offshoot_ir::Graph;

use crate::failure::{Context, Failure, Kind, Result};

/// `bits` of the layers of `graph`, under the names that they have after `onnx`, which `graph` was written to, is read
/// back.
///
/// # Errors
/// The file is read as another network, which is a bug.
pub(crate) fn renamed(graph: &Graph, bits: &WeightBits, onnx: &[u8]) -> Result<WeightBits> {
    let help = "this is a bug in Offshoot: report it with the network";
    let read = offshoot_import::import_bytes(onnx, "written").or_fail(Kind::Internal, help)?;
    let (read, _) = crate::files::optimise(read)?;
    let names = |graph: &Graph| -> Vec<String> {
        graph.nodes.iter().filter(|n| packs(graph, n)).map(|n| n.name.clone()).collect()
    };
    let (old, new) = (names(graph), names(&read));
    if old.len() != new.len() {
        let message = "the network changes when its ONNX file is read back";
        return Err(Failure::new(Kind::Internal, message, help));
    }
    let layers = old.iter().zip(new).filter_map(|(old, new)| Some((new, *bits.layers.get(old)?))).collect();
    Ok(WeightBits { layers, ..bits.clone() })
}
