//! Simulates a quantised network in floating point: every int8 tensor is rounded to its grid.
//!
//! The result lies within a rounding step of the device's (which requantises in fixed point) and is much faster to
//! compute; quantisation itself is judged by it.

use ndarray::ArrayD;
use offshoot_ir::{DType, Graph, Op, UnaryKind, Value, ValueId};

use super::execute::{chunk, execute};
use super::reach::Reach;
use super::tensors::{Batch, decibels, map, pooled, round};
use crate::Result;

/// Samples whose activations are held in memory at once.
const CHUNK: usize = 32;

/// Outputs (real values) of the quantised `graph` for each sample.
pub fn simulate(graph: &Graph, samples: &[Vec<ArrayD<f32>>]) -> Result<Vec<Vec<ArrayD<f32>>>> {
    let all: Vec<&Vec<ArrayD<f32>>> = samples.iter().collect();
    simulate_sequences(graph, &all, None)
}

/// As [`simulate`]; `graph` may be a float network. Recurrent layers carry their state through `sequence` samples.
///
/// # Errors
/// The samples do not fit the graph.
pub fn simulate_sequences(
    graph: &Graph,
    samples: &[&Vec<ArrayD<f32>>],
    sequence: Option<usize>,
) -> Result<Vec<Vec<ArrayD<f32>>>> {
    let by_value = capture(graph, samples, &graph.outputs, &Reach::whole(graph), sequence)?;
    Ok((0..samples.len()).map(|i| by_value.iter().map(|batch| batch[i].clone()).collect()).collect())
}

/// Every activation of each sample, by value, where recurrent layers carry their state through `sequence` samples. Tensors of
/// integers keep to their range, which stands for an activation where a quantiser has folded one into it; they are not rounded.
///
/// # Errors
/// The samples do not fit the graph.
pub fn trace(
    graph: &Graph,
    samples: &[&Vec<ArrayD<f32>>],
    sequence: Option<usize>,
    keep: &mut dyn FnMut(usize, ValueId, &ArrayD<f32>),
) -> Result<()> {
    execute(graph, samples, sequence, &mut |id, batch| {
        if let Some((low, high)) = range_of_codes(graph.value(id)) {
            map(batch, move |v| v.max(low).min(high));
        }
        batch.iter().enumerate().for_each(|(i, array)| keep(i, id, array));
        Ok(())
    })
}

/// Keeps an activation within what its integers hold, which stands for an activation function where a quantiser has folded one into it.
pub fn keep_to_codes(value: &Value, array: &mut ArrayD<f32>) {
    if let Some((low, high)) = range_of_codes(value) {
        array.mapv_inplace(|v| v.max(low).min(high));
    }
}

/// Least and greatest real number of a tensor of integers.
fn range_of_codes(value: &Value) -> Option<(f32, f32)> {
    let (least, most) = match value.dtype {
        DType::I8 => (-128, 127),
        DType::I16 => (-32768, 32767),
        _ => return None,
    };
    let quant = value.quant.as_ref().filter(|q| q.axis.is_none())?;
    let real = |code: i32| (f64::from(quant.scale[0]) * f64::from(code - quant.zero_point[0])) as f32;
    Some((real(least), real(most)))
}

/// Tensors `ids` of every sample, clamped by `reach`. Recurrent layers carry their state through `sequence` samples.
pub(crate) fn capture(
    graph: &Graph,
    samples: &[&Vec<ArrayD<f32>>],
    ids: &[ValueId],
    reach: &Reach,
    sequence: Option<usize>,
) -> Result<Vec<Batch>> {
    let mut out: Vec<Batch> = vec![Vec::with_capacity(samples.len()); ids.len()];
    for chunk in samples.chunks(chunk(CHUNK, samples.len(), sequence)) {
        execute(graph, chunk, sequence, &mut |id, batch| {
            reach.limit(id, batch);
            round(graph, id, batch);
            for (wanted, out) in ids.iter().zip(&mut out) {
                if *wanted == id {
                    out.extend(batch.iter().cloned());
                }
            }
            Ok(())
        })?;
    }
    Ok(out)
}

/// A tensor by which a network is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Probe {
    /// The tensor.
    pub(crate) id: ValueId,
    /// Whether a common offset along the last axis does not matter (a softmax or an arg max follows).
    pub(crate) centred: bool,
}

/// One for each output: the tensor before the final softmax, sigmoid and the like, whose fixed coarse grid would hide
/// differences before it.
pub(crate) fn probes(graph: &Graph) -> Vec<Probe> {
    let probe = |&output: &ValueId| {
        let mut probe = Probe { id: output, centred: false };
        while let Some(at) = graph.producer(probe.id) {
            let node = &graph.nodes[at];
            let last = |axis: usize| axis + 1 == graph.value(node.inputs[0]).shape.len();
            match node.op {
                Op::Softmax { axis } | Op::ArgMax { axis, .. } => probe.centred = last(axis),
                Op::Unary(UnaryKind::Sigmoid | UnaryKind::Tanh) => {}
                Op::Reshape | Op::Transpose { .. } if !probe.centred => {}
                _ => break,
            }
            probe.id = node.inputs[0];
        }
        probe
    };
    graph.outputs.iter().map(probe).collect()
}

/// Signal-to-noise ratio at the probes in dB, averaged over them.
pub(crate) fn score(probes: &[Probe], exact: &[Batch], quantized: &[Batch]) -> f32 {
    let one = |((probe, exact), quantized): ((&Probe, &Batch), &Batch)| {
        let mut samples = Vec::with_capacity(exact.len());
        for (a, b) in exact.iter().zip(quantized) {
            let (mut signal, mut error) = (0.0, 0.0);
            let row =
                if probe.centred { a.shape().last().copied().unwrap_or(1).max(1) } else { a.len().max(1) };
            let (a, b): (Vec<f32>, Vec<f32>) = (a.iter().copied().collect(), b.iter().copied().collect());
            for (a, b) in a.chunks(row).zip(b.chunks(row)) {
                let mean = |v: &[f32]| {
                    if probe.centred { v.iter().sum::<f32>() / v.len() as f32 } else { 0.0 }
                };
                let (ma, mb) = (mean(a), mean(b));
                for (x, y) in a.iter().zip(b) {
                    signal += f64::from(x - ma).powi(2);
                    error += f64::from((x - ma) - (y - mb)).powi(2);
                }
            }
            samples.push((signal, error));
        }
        let (signal, error) = pooled(&samples);
        decibels(signal, error)
    };
    let all: Vec<f32> = probes.iter().zip(exact).zip(quantized).map(one).collect();
    all.iter().sum::<f32>() / all.len().max(1) as f32
}
