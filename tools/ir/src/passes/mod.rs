//! Lossless passes: functions `Graph -> Result<Graph>`, one per file, and their fixed pipeline.

mod activation;
mod affine;
mod batch_norm;
mod cse;
mod dead_channels;
mod edit;
mod fold;
mod io_format;
mod io_layout;
mod layer_norm;
mod matmul;
mod names;
mod noop;
mod pad;
mod patterns;
mod prune;
mod reciprocal;
mod recurrent;
mod reduce;
mod reshape;
mod sink;
mod softmax;
mod spectrum;
mod switch;
#[cfg(test)]
mod testing;
mod transpose;

use serde::Serialize;

pub use io_format::{float_io, integer_io};
pub use reciprocal::reciprocals;

use crate::{Graph, Result};

/// Report of one pass.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PassReport {
    /// Name of the pass.
    pub name: &'static str,
    /// Whether the graph changed.
    pub changed: bool,
    /// Human-readable summary of the change; empty if nothing changed.
    pub detail: String,
}

/// Removes the channels of an int8 network that are constant: those whose weights became zero, and those whose output is the same
/// for all inputs. The outputs of the network stay the same to the byte. Values keep their places.
///
/// # Errors
/// `graph` or the result is not well formed.
pub fn without_constant_channels(graph: Graph) -> Result<Graph> {
    let graph = dead_channels::run(graph)?;
    graph.validate()?;
    Ok(graph)
}

type Pass = (&'static str, fn(Graph) -> Result<Graph>);

/// The passes in their order; the sequence is repeated until nothing changes.
const PIPELINE: &[Pass] = &[
    ("prune_unreachable", |g| Ok(g.prune_unreachable())),
    ("constant_folding", fold::run),
    ("noop", noop::run),
    ("transpose", transpose::run),
    ("sink_transpose", sink::run),
    ("sink_reshape", reshape::run),
    ("io_layout", io_layout::run),
    ("layer_norm", layer_norm::run),
    ("softmax", softmax::run),
    ("activation_patterns", patterns::run),
    ("spectrum", spectrum::run),
    ("recurrent", recurrent::run),
    ("switch", switch::run),
    ("matmul", matmul::run),
    ("mean_pool", reduce::run),
    ("pad", pad::run),
    ("batch_norm", batch_norm::run),
    ("affine", affine::run),
    ("activation", activation::run),
    ("dead_channels", dead_channels::run),
    ("common_subexpressions", cse::run),
];

/// Most sweeps of the pipeline, even if a pass still changes something: keeps a mistake from hanging.
const MAX_SWEEPS: usize = 20;

/// Runs all lossless passes to a fixed point. The result is valid and deterministic.
///
/// # Errors
/// `graph` or the result of a pass is not well formed.
pub fn lossless(graph: Graph) -> Result<(Graph, Vec<PassReport>)> {
    graph.validate()?;
    let mut graph = graph;
    // For each pass: the sweeps in which it changed the graph, and the operators and tensors it added.
    let mut tally = vec![(0_usize, 0_isize, 0_isize); PIPELINE.len()];
    for _ in 0..MAX_SWEEPS {
        let mut settled = true;
        for ((_, pass), (sweeps, operators, tensors)) in PIPELINE.iter().zip(&mut tally) {
            let before = graph.clone();
            graph = pass(graph)?;
            graph.validate()?;
            if !edit::same(&before, &graph) {
                settled = false;
                *sweeps += 1;
                *operators += graph.nodes.len() as isize - before.nodes.len() as isize;
                *tensors += graph.values.len() as isize - before.values.len() as isize;
            }
        }
        if settled {
            break;
        }
    }
    let graph = names::make_unique(graph.prune_unreachable());
    let reports = PIPELINE
        .iter()
        .zip(tally)
        .map(|((name, _), (sweeps, operators, tensors))| PassReport {
            name,
            changed: sweeps > 0,
            detail: match sweeps {
                0 => String::new(),
                _ => format!("{operators:+} operators, {tensors:+} tensors in {sweeps} sweeps"),
            },
        })
        .collect();
    Ok((graph, reports))
}

/// FNV-1a (32 bits) over the names and shapes of all tensors: ties an `.off` file to the graph that it came from.
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
