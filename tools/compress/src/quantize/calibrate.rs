//! Two passes over the calibration data: ranges of all tensors, then histograms of the classes that share a scale and
//! zero point.

use ndarray::{ArrayD, ArrayView1, Axis};
use offshoot_ir::{DType, Graph, Op, Quant, ValueId};
use rayon::prelude::*;

use super::classes::{Classes, is_activation};
use super::clip::{Histogram, extremes, quant_of_range};
use super::execute;
use super::margin::{self, Extremes};
use super::negligible;
use super::options::Clipping;
use super::reach::{Observed, Reach, least_peak, peak_axis};
use super::tensors::{Batch, elements, real_values};
use crate::{Error, Result};

/// Samples whose activations are held in memory at once.
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

/// Observes the activations of `samples`. Values may be infinite here: [`settle`] decides whether that is an error.
pub(crate) fn observe(
    graph: &Graph,
    samples: &[&Vec<ArrayD<f32>>],
    sequence: Option<usize>,
    done: &mut dyn FnMut(usize),
) -> Result<Observed> {
    let mut ranges: Vec<Option<(f32, f32)>> = vec![None; graph.values.len()];
    let mut peaks: Vec<Vec<f32>> = vec![Vec::new(); graph.values.len()];
    let mut ends = vec![Extremes::default(); graph.values.len()];
    let mut whole = vec![true; graph.values.len()];
    let mut channels = vec![Vec::new(); graph.values.len()];
    let mut judged = vec![false; graph.values.len()];
    for node in graph.nodes.iter().filter(|n| negligible::is_judged(&n.op)) {
        judged[node.inputs[0].0 as usize] = true;
    }
    let axes: Vec<Option<usize>> =
        (0..graph.values.len() as u32).map(|i| peak_axis(graph, ValueId(i))).collect();
    for chunk in samples.chunks(execute::chunk(CHUNK, samples.len(), sequence)) {
        execute::execute(graph, chunk, sequence, &mut |id, batch| {
            if is_activation(graph, id) {
                let index = id.0 as usize;
                if judged[index] {
                    negligible::widen(&mut channels[index], batch);
                }
                for array in batch.iter() {
                    let (low, high) = extremes(array).ok_or_else(|| not_finite(graph, id, f32::NAN))?;
                    let range = ranges[index].get_or_insert((low, high));
                    *range = (range.0.min(low), range.1.max(high));
                    ends[index].add(low, high);
                    whole[index] = whole[index] && margin::are_whole(&*elements(array));
                    if let Some(axis) = axes[index].filter(|&axis| axis < array.ndim()) {
                        let peak =
                            |row: ArrayView1<'_, f32>| row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                        peaks[index].extend(array.map_axis(Axis(axis), peak));
                    }
                }
            }
            Ok(())
        })?;
        done(chunk.len());
    }
    let range = ranges.into_iter().map(Option::unwrap_or_default).collect();
    let least_peak = peaks.iter().map(|p| least_peak(p)).collect();
    Ok(Observed { range, least_peak, extremes: ends, whole, channels })
}

/// The range within which values matter, and the ranges of all values within it.
///
/// # Errors
/// An infinite value matters.
pub(crate) fn settle(graph: &Graph, observed: &Observed) -> Result<(Reach, Vec<(f32, f32)>)> {
    let reach = Reach::new(graph, observed);
    let ranges = reach.ranges(observed);
    for (i, &(low, high)) in ranges.iter().enumerate() {
        let id = ValueId(i as u32);
        if let Some(value) = [low, high].into_iter().find(|v| !v.is_finite() && is_activation(graph, id)) {
            return Err(not_finite(graph, id, value));
        }
    }
    Ok((reach, ranges))
}

/// Ranges of whole classes, by representative; constants that join a class count, within `reach`.
pub(crate) fn class_ranges(
    graph: &Graph,
    classes: &Classes,
    reach: &Reach,
    ranges: &[(f32, f32)],
) -> Vec<(f32, f32)> {
    let mut out = vec![(0.0f32, 0.0f32); graph.values.len()];
    let mut widen = |class: u32, range: (f32, f32)| {
        let r = &mut out[class as usize];
        *r = (r.0.min(range.0), r.1.max(range.1));
    };
    for (i, &range) in ranges.iter().enumerate() {
        widen(classes.find(ValueId(i as u32)), range);
    }
    for node in &graph.nodes {
        // A padding value must be representable even if no sample shows it (usually all do).
        if let Op::Pad { value, mode: None, .. } = node.op {
            let value = reach.of(node.output).map_or(value, |(low, high)| value.max(low).min(high));
            if value.is_finite() {
                widen(classes.find(node.output), (value, value));
            }
        }
        // The same holds for constant tensors of which indices choose rows.
        if matches!(node.op, Op::Gather(_) | Op::Scatter { .. }) {
            for &id in node.inputs.iter().filter(|id| graph.value(**id).data.is_some()) {
                if graph.value(id).dtype == DType::F32 {
                    let (low, high) = reach.of(node.output).unwrap_or((f32::NEG_INFINITY, f32::INFINITY));
                    for v in real_values(graph.value(id)).into_iter().map(|v| v.max(low).min(high)) {
                        if v.is_finite() {
                            widen(classes.find(node.output), (v, v));
                        }
                    }
                }
            }
        }
        // The same holds for a constant initial state of a recurrent layer.
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

/// Ranges of the samples to come, and whether only whole numbers occur, by representative of a class.
pub(crate) struct Expected {
    observed: Vec<(f32, f32)>,
    ranges: Vec<(f32, f32)>,
    whole: Vec<bool>,
}

impl Expected {
    /// `ranges`: of values within `reach`; `joined`: those of classes.
    pub(crate) fn new(
        graph: &Graph,
        classes: &Classes,
        reach: &Reach,
        observed: &Observed,
        ranges: &[(f32, f32)],
        joined: &[(f32, f32)],
    ) -> Self {
        let beyond = margin::ranges(graph, observed, reach, ranges);
        let mut whole = vec![true; graph.values.len()];
        for (i, value) in graph.values.iter().enumerate() {
            let id = ValueId(i as u32);
            let own = match &value.data {
                Some(_) => margin::are_whole(&real_values(value)),
                None => !is_activation(graph, id) || observed.whole.get(i).copied().unwrap_or(false),
            };
            whole[classes.find(id) as usize] &= own;
        }
        Self { observed: joined.to_vec(), ranges: class_ranges(graph, classes, reach, &beyond), whole }
    }

    /// Scale and zero point of class `i`, whose range among the calibration samples was chosen to be `chosen`. Clipped ends
    /// move in proportion to the observed ones.
    fn quant(&self, i: usize, chosen: (f32, f32)) -> Quant {
        let (seen, expected) = (self.observed[i], self.ranges[i]);
        let factor = |seen: f32, expected: f32| if seen == 0.0 { 1.0 } else { (expected / seen).max(1.0) };
        let low = chosen.0 * factor(seen.0.min(0.0), expected.0);
        let high = chosen.1 * factor(seen.1.max(0.0), expected.1);
        // Clipping would merge whole numbers.
        let full = (expected.0.min(seen.0), expected.1.max(seen.1));
        margin::quant(if self.whole[i] { full } else { (low, high) }, self.whole[i])
    }
}

/// Histogram of every class, by representative; `None` for classes without an activation.
pub(crate) fn histograms(
    graph: &Graph,
    classes: &Classes,
    ranges: &[(f32, f32)],
    samples: &[&Vec<ArrayD<f32>>],
    sequence: Option<usize>,
    done: &mut dyn FnMut(usize),
) -> Result<Vec<Option<Histogram>>> {
    let mut all: Vec<Option<Histogram>> = vec![None; graph.values.len()];
    for chunk in samples.chunks(execute::chunk(CHUNK, samples.len(), sequence)) {
        execute::execute(graph, chunk, sequence, &mut |id, batch: &mut Batch| {
            if is_activation(graph, id) {
                let class = classes.find(id) as usize;
                let (low, high) = ranges[class];
                // Summed in sample order, so that the result does not depend on the number of threads.
                let parts: Vec<Histogram> = batch
                    .par_iter()
                    .map(|a| {
                        let mut h = Histogram::new(low, high);
                        h.add(&elements(a));
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

/// Scales and zero points of all values for this way of clipping.
pub(crate) fn quants(
    graph: &Graph,
    classes: &Classes,
    histograms: &[Option<Histogram>],
    expected: &Expected,
    clipping: Clipping,
) -> Vec<Quant> {
    let fixed = fixed_classes(graph, classes);
    let by_class: Vec<Option<Quant>> = histograms
        .par_iter()
        .enumerate()
        .map(|(i, h)| fixed[i].clone().or_else(|| Some(expected.quant(i, h.as_ref()?.range(clipping)))))
        .collect();
    let of = |i: usize| by_class[classes.find(ValueId(i as u32)) as usize].clone();
    (0..graph.values.len()).map(|i| of(i).unwrap_or_else(|| quant_of_range(0.0, 0.0))).collect()
}

/// Widens the range of inputs, and of values that share their scale, by `room` times the range at both ends.
pub(crate) fn widen_inputs(graph: &Graph, classes: &Classes, room: f32, quants: &mut [Quant]) {
    let of_inputs: Vec<_> = graph.inputs.iter().map(|&input| classes.find(input)).collect();
    for (i, quant) in quants.iter_mut().enumerate() {
        let (Some(&scale), Some(&zero)) = (quant.scale.first(), quant.zero_point.first()) else { continue };
        if of_inputs.contains(&classes.find(ValueId(i as u32))) {
            let at = |q: i32| (q - zero) as f32 * scale;
            let room = room * (at(127) - at(-128));
            *quant = quant_of_range(at(-128) - room, at(127) + room);
        }
    }
}

/// Scales and zero points fixed by the specification, by representative.
pub(crate) fn fixed_classes(graph: &Graph, classes: &Classes) -> Vec<Option<Quant>> {
    let mut fixed = vec![None; graph.values.len()];
    // What is computed in float has the range that it takes.
    for (i, node) in graph.nodes.iter().enumerate().filter(|(i, _)| !classes.is_float(*i)) {
        if let Some(quant) = classes.fixed(i) {
            fixed[classes.find(node.output) as usize] = Some(quant.clone());
        }
    }
    fixed
}

fn not_finite(graph: &Graph, id: ValueId, value: f32) -> Error {
    Error::NotFinite { tensor: graph.value(id).name.clone(), value }
}
