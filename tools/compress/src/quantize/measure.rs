//! Ranges of tensors, as samples give them.

use std::collections::{HashMap, HashSet};

use ndarray::ArrayD;
use offshoot_ir::{Graph, ValueId};

use super::calibrate::check;
use super::clip::extremes;
use super::reach::Reach;
use super::simulate::capture;
use super::source::is_meant;
use crate::Result;

/// Samples whose tensors are held in memory at once.
const CHUNK: usize = 4;

/// Smallest and largest number of each tensor of `ids` over all samples, 0 among them. Tensors with NaN or infinite numbers have
/// no range.
///
/// # Errors
/// The samples do not fit the graph.
pub fn ranges(
    graph: &Graph,
    samples: &[Vec<ArrayD<f32>>],
    ids: &[ValueId],
) -> Result<HashMap<ValueId, (f32, f32)>> {
    check(graph, samples)?;
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let mut found: Vec<Option<(f32, f32)>> = vec![Some((0.0, 0.0)); ids.len()];
    let all: Vec<&Vec<ArrayD<f32>>> = samples.iter().collect();
    let reach = Reach::whole(graph);
    for part in all.chunks(CHUNK) {
        for (range, batch) in found.iter_mut().zip(capture(graph, part, ids, &reach, None)?) {
            for array in &batch {
                *range = range.zip(extremes(array)).map(|(r, e)| (r.0.min(e.0), r.1.max(e.1)));
            }
        }
    }
    let finite = |r: &(f32, f32)| r.0.is_finite() && r.1.is_finite();
    Ok(ids.iter().zip(found).filter_map(|(id, range)| Some((*id, range.filter(finite)?))).collect())
}

/// The outputs of operators that the user means by name or kind.
pub fn meant(graph: &Graph, wanted: &[String]) -> HashSet<ValueId> {
    let is = |n: &&offshoot_ir::Node| wanted.iter().any(|w| is_meant(graph, n, w));
    graph.nodes.iter().filter(is).map(|n| n.output).collect()
}
