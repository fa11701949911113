//! Lossless passes: functions `Graph -> Result<Graph>`, a file each, and the fixed pipeline of them.

mod prune;

use crate::{Graph, Result};

/// What one pass did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PassReport {
    /// Name of the pass.
    pub name: &'static str,
    /// Whether the graph changed.
    pub changed: bool,
    /// What changed, for people; empty if nothing did.
    pub detail: String,
}

type Pass = (&'static str, fn(Graph) -> Result<Graph>);

/// In the order they run.
const PIPELINE: &[Pass] = &[("prune_unreachable", |g| Ok(g.prune_unreachable()))];

/// Runs all lossless passes to a fixed point; the result validates and is the same for the same graph.
///
/// # Errors
/// If `graph` or a pass's result is not well formed.
pub fn lossless(graph: Graph) -> Result<(Graph, Vec<PassReport>)> {
    graph.validate()?;
    let mut graph = graph;
    let mut reports = Vec::new();
    for (name, pass) in PIPELINE {
        let before = graph.clone();
        graph = pass(graph)?;
        graph.validate()?;
        let changed = before != graph;
        let detail = if changed {
            format!(
                "{} → {} operators, {} → {} tensors",
                before.nodes.len(),
                graph.nodes.len(),
                before.values.len(),
                graph.values.len()
            )
        } else {
            String::new()
        };
        reports.push(PassReport {
            name,
            changed,
            detail,
        });
    }
    Ok((graph, reports))
}

/// FNV-1a (32 bits) over the names and shapes of all tensors: ties a `.off` file to the graph it came from.
pub fn origin_hash(graph: &Graph) -> u32 {
    let mut hash = 0x811c_9dc5_u32;
    let mut feed = |bytes: &[u8]| {
        for &b in bytes {
            hash = (hash ^ u32::from(b)).wrapping_mul(0x0100_0193);
        }
    };
    for value in &graph.values {
        feed(&(value.name.len() as u64).to_le_bytes());
        feed(value.name.as_bytes());
        feed(&(value.shape.len() as u64).to_le_bytes());
        for &extent in &value.shape {
            feed(&(extent as u64).to_le_bytes());
        }
    }
    hash
}
