//! Ranges of tensors, as samples give them.

use std::collections::{HashMap, HashSet};

use ndarray::ArrayD;
use offshoot_ir::{Graph, ValueId};

use super::calibrate::{check, observe};
use super::reach::Reach;
use super::source::is_meant;
use crate::Result;

/// Smallest and largest number that matters of each tensor of `ids` over all samples, 0 among them. Tensors with NaN or infinite
/// numbers that matter have no range.
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
    let all: Vec<&Vec<ArrayD<f32>>> = samples.iter().collect();
    let observed = observe(graph, &all, None, &mut |_| {})?;
    // Numbers that only say "never", as a mask's, must not stretch a range.
    let ranges = Reach::new(graph, &observed).ranges(&observed);
    let of = |id: &ValueId| ranges.get(id.0 as usize).map(|r| (r.0.min(0.0), r.1.max(0.0)));
    let finite = |r: &(f32, f32)| r.0.is_finite() && r.1.is_finite();
    Ok(ids.iter().filter_map(|id| Some((*id, of(id).filter(finite)?))).collect())
}

/// The outputs of operators that the user means by name or kind.
pub fn meant(graph: &Graph, wanted: &[String]) -> HashSet<ValueId> {
    let is = |n: &&offshoot_ir::Node| wanted.iter().any(|w| is_meant(graph, n, w));
    graph.nodes.iter().filter(is).map(|n| n.output).collect()
}
