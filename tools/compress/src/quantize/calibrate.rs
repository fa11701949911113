//! Two passes over the calibration data: ranges of all tensors, then histograms of the classes that share numbers.

use ndarray::ArrayD;
use offshoot_ir::{Graph, Op, Quant, ValueId};
use rayon::prelude::*;

use super::classes::{Classes, fixed_quant, is_activation};
use super::clip::{Histogram, extremes, quant_of_range};
use super::options::Clipping;
use super::walk::{Batch, real_values, walk};
use crate::{Error, Result};

/// Samples whose activations are held at once.
const CHUNK: usize = 16;

/// Checks the calibration data against the graph's inputs.
pub(crate) fn check(graph: &Graph, samples: &[Vec<ArrayD<f32>>]) -> Result<()> {
    if samples.is_empty() {
        return Err(Error::NoSamples);
    }
    for (sample, arrays) in samples.iter().enumerate() {
        if arrays.len() != graph.inputs.len() {
            return Err(Error::InputCount { sample, expected: graph.inputs.len(), found: arrays.len() });
        }
        for (array, &id) in arrays.iter().zip(&graph.inputs) {
            let value = graph.value(id);
            let input = value.name.clone();
            if array.shape() != value.shape {
                let (expected, found) = (value.shape.clone(), array.shape().to_vec());
                return Err(Error::InputShape { sample, input, expected, found });
            }
            if let Some((index, &value)) = array.iter().enumerate().find(|(_, v)| !v.is_finite()) {
                return Err(Error::InputNotFinite { sample, input, index, value });
            }
        }
    }
    Ok(())
}

/// Minimum and maximum of every value over `samples`, 0 and 0 for values that are not activations.
pub(crate) fn ranges(
    graph: &Graph,
    samples: &[&Vec<ArrayD<f32>>],
    done: &mut dyn FnMut(usize),
) -> Result<Vec<(f32, f32)>> {
    let mut ranges: Vec<Option<(f32, f32)>> = vec![None; graph.values.len()];
    for chunk in samples.chunks(CHUNK) {
        walk(graph, chunk, &mut |id, batch| {
            if is_activation(graph, id) {
                for array in batch.iter() {
                    let (low, high) = extremes(array).ok_or_else(|| not_finite(graph, id, array))?;
                    let range = ranges[id.0 as usize].get_or_insert((low, high));
                    *range = (range.0.min(low), range.1.max(high));
                }
            }
            Ok(())
        })?;
        done(chunk.len());
    }
    Ok(ranges.into_iter().map(Option::unwrap_or_default).collect())
}

/// Ranges of whole classes, by representative; constants that join a class count.
pub(crate) fn class_ranges(graph: &Graph, classes: &Classes, ranges: &[(f32, f32)]) -> Vec<(f32, f32)> {
    let mut out = vec![(0.0f32, 0.0f32); graph.values.len()];
    let mut widen = |class: u32, range: (f32, f32)| {
        let r = &mut out[class as usize];
        *r = (r.0.min(range.0), r.1.max(range.1));
    };
    for (i, &range) in ranges.iter().enumerate() {
        widen(classes.find(ValueId(i as u32)), range);
    }
    for node in &graph.nodes {
        // A padding value must be representable even if no sample shows it (all do, as a rule).
        if let Op::Pad { value, mode: None, .. } = node.op
            && value.is_finite()
        {
            widen(classes.find(node.output), (value, value));
        }
        // So must a constant state that a recurrent layer begins with.
        if let (Op::Recurrent { .. }, Some(&id)) = (&node.op, node.inputs.get(4))
            && graph.value(id).data.is_some()
        {
            for v in real_values(graph.value(id)) {
                widen(classes.find(node.output), (v, v));
            }
        }
    }
    out
}

/// Histogram of every class, by representative; `None` where there is no activation.
pub(crate) fn histograms(
    graph: &Graph,
    classes: &Classes,
    ranges: &[(f32, f32)],
    samples: &[&Vec<ArrayD<f32>>],
    done: &mut dyn FnMut(usize),
) -> Result<Vec<Option<Histogram>>> {
    let mut all: Vec<Option<Histogram>> = vec![None; graph.values.len()];
    for chunk in samples.chunks(CHUNK) {
        walk(graph, chunk, &mut |id, batch: &mut Batch| {
            if is_activation(graph, id) {
                let class = classes.find(id) as usize;
                let (low, high) = ranges[class];
                // Summed in the order of the samples: the result does not depend on the number of threads.
                let parts: Vec<Histogram> = batch
                    .par_iter()
                    .map(|a| {
                        let mut h = Histogram::new(low, high);
                        h.add(a);
                        h
                    })
                    .collect();
                let total = all[class].get_or_insert_with(|| Histogram::new(low, high));
                parts.iter().for_each(|h| total.merge(h));
            }
            Ok(())
        })?;
        done(chunk.len());
    }
    Ok(all)
}

/// Numbers of every value for this way of clipping.
pub(crate) fn quants(
    graph: &Graph,
    classes: &Classes,
    histograms: &[Option<Histogram>],
    clipping: Clipping,
) -> Vec<Quant> {
    let fixed = fixed_classes(graph, classes);
    let by_class: Vec<Option<Quant>> = histograms
        .par_iter()
        .enumerate()
        .map(|(i, h)| {
            fixed[i].clone().or_else(|| {
                let (low, high) = h.as_ref()?.range(clipping);
                Some(quant_of_range(low, high))
            })
        })
        .collect();
    let of = |i: usize| by_class[classes.find(ValueId(i as u32)) as usize].clone();
    (0..graph.values.len()).map(|i| of(i).unwrap_or_else(|| quant_of_range(0.0, 0.0))).collect()
}

/// Numbers that the specification fixes, by representative.
pub(crate) fn fixed_classes(graph: &Graph, classes: &Classes) -> Vec<Option<Quant>> {
    let mut fixed = vec![None; graph.values.len()];
    for node in &graph.nodes {
        if let Some(quant) = fixed_quant(node) {
            fixed[classes.find(node.output) as usize] = Some(quant);
        }
    }
    fixed
}

fn not_finite(graph: &Graph, id: ValueId, array: &ArrayD<f32>) -> Error {
    let value = array.iter().copied().find(|v| !v.is_finite()).unwrap_or(f32::NAN);
    Error::NotFinite { tensor: graph.value(id).name.clone(), value }
}
