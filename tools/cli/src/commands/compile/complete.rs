//! Completes a file that came quantised: tensors without a pair get ranges, from the numbers around them or from samples.

use std::collections::HashMap;

use ndarray::ArrayD;
use offshoot_compress::quantize::{self, pooled, simulate_sequences};
use offshoot_ir::{DType, Graph, cost};

use super::{judge, quantise_failure};
use crate::failure::{Context, Kind, Result};

/// Most operators that are tried in float32 to find the one that hurts.
const MOST: usize = 16;
/// Samples of such a trial.
const SAMPLES: usize = 16;
/// Multiply-accumulates of all trials.
const WORK: u64 = 20_000_000_000;

/// Whether the network came quantised: it has integer tensors.
pub(super) fn is_quantised(graph: &Graph) -> bool {
    graph.values.iter().any(|v| matches!(v.dtype, DType::I8 | DType::I16))
}

/// Gives pairs to the tensors of a quantised network that have none, but to those of operators in `keep_float`. Also returns the
/// names of operators whose range `samples` gave.
pub(super) fn complete(
    graph: Graph,
    samples: &[Vec<ArrayD<f32>>],
    keep_float: &[String],
) -> Result<(Graph, Vec<String>)> {
    let (mut graph, mut calibrated) = (graph, Vec::new());
    // A TensorFlow Lite file says in float32 what its runtime computes so.
    if graph.quantised {
        let kept = quantize::meant(&graph, keep_float);
        let ranges = match samples {
            [] => HashMap::new(),
            _ => {
                let open = offshoot_import::open(&graph);
                quantize::ranges(&graph, samples, &open).map_err(|e| quantise_failure(&e))?
            }
        };
        let completed = offshoot_import::complete(graph, &ranges, &kept);
        (graph, calibrated) =
            completed.or_fail(Kind::Internal, "this is a bug in Offshoot: report it with the model")?;
    }
    if !samples.is_empty() {
        let completed = quantize::complete(&graph, samples, keep_float);
        let (whole, names) = completed.map_err(|e| quantise_failure(&e))?;
        graph = whole;
        calibrated.extend(names);
    }
    Ok((graph, calibrated))
}

/// Of the operators that samples gave a range, the one without which the outputs come nearest to those of the file as it was
/// written, and the signal-to-noise ratio in dB that they then have. `None` if there are too many to try, or if no single one hurts.
pub(super) fn worst(
    written: &Graph,
    calibrated: &[String],
    samples: &[Vec<ArrayD<f32>>],
    keep_float: &[String],
    sequence: Option<usize>,
) -> Result<Option<(String, f64)>> {
    let mut names: Vec<&String> = calibrated.iter().collect();
    names.dedup();
    let few = match sequence {
        Some(_) => samples[..samples.len().min(SAMPLES)].to_vec(),
        None => samples.iter().step_by(samples.len().div_ceil(SAMPLES).max(1)).cloned().collect(),
    };
    let macs: u64 = written.nodes.iter().map(|n| cost::macs(written, n)).sum();
    // Ranges, and outputs.
    let trial = 2 * macs.max(1).saturating_mul(few.len() as u64);
    if names.len() > MOST || names.len() as u64 > WORK / trial.max(1) {
        return Ok(None);
    }
    let all: Vec<&Vec<ArrayD<f32>>> = few.iter().collect();
    let outputs = |graph: &Graph| simulate_sequences(graph, &all, sequence).map_err(|e| quantise_failure(&e));
    let wanted = outputs(written)?;
    let reached = |without: Option<&String>| -> Result<f64> {
        let kept: Vec<String> = keep_float.iter().chain(without).cloned().collect();
        Ok(lowest(&wanted, &outputs(&complete(written.clone(), &few, &kept)?.0)?))
    };
    let now = reached(None)?;
    let mut best = None;
    for name in names {
        let db = reached(Some(name))?;
        if db > best.as_ref().map_or(now + 1.0, |(_, best)| *best) {
            best = Some((name.clone(), db));
        }
    }
    Ok(best)
}

/// The lowest signal-to-noise ratio in dB of several outputs, by sample.
fn lowest(wanted: &[Vec<ArrayD<f32>>], got: &[Vec<ArrayD<f32>>]) -> f64 {
    let outputs = wanted.first().map_or(0, Vec::len);
    let of_output = |o: usize| {
        let energies: Vec<(f64, f64)> = wanted
            .iter()
            .zip(got)
            .map(|(want, got)| {
                want[o].iter().zip(&got[o]).fold((0.0, 0.0), |(signal, noise), (w, g)| {
                    (signal + f64::from(*w).powi(2), noise + f64::from(w - g).powi(2))
                })
            })
            .collect();
        judge::decibels(pooled(&energies))
    };
    (0..outputs).map(of_output).fold(200.0, f64::min)
}
