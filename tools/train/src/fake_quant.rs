//! Fake quantisation: values are rounded to few bits in the forward pass, and gradients pass as if they were not
//! (straight-through, Bengio et al. 2013; Jacob et al. 2018). The weights of a trained graph stay unrounded:
//! `compress` rounds them, with the learned steps if given.
//!
//! Grids and codes are the device's ([`offshoot_ir::grid`]). Accumulation between them is in floating point here,
//! which occasionally rounds to a neighbour of the device's result. With [`crate::device`], tensors are the device's
//! own.
//!
//! A batch normalisation after a convolution is folded into its weights later. Fold it first
//! (`offshoot_ir::passes::lossless`), so that training rounds the weights that the device stores.

use std::collections::{BTreeMap, HashMap};

use ndarray::{ArrayD, IxDyn};
use offshoot_ir::grid::{self, quant_of_range, round_to_grid};
use offshoot_ir::{Graph, Op, Quant, Value, ValueId};
use serde::{Deserialize, Serialize};

use crate::device::DeviceTensor;
use crate::grad::Tensor;

/// How weights are rounded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WeightQuant {
    /// Bits per weight, 2 to 8; symmetric, so that 8 bits hold -127 to 127 and 2 bits -1, 0 and 1.
    pub bits: u8,
    /// Bits of single tensors by name; 0 leaves a tensor unrounded.
    pub overrides: BTreeMap<String, u8>,
    /// Whether step sizes are trained with the weights (LSQ, Esser et al. 2020) instead of following the largest
    /// weight.
    pub learned_steps: bool,
    /// Initial values of learned steps, by name of the weights; by default those of Esser et al.
    pub steps: BTreeMap<String, Vec<f32>>,
}

impl WeightQuant {
    /// `bits` for all weights.
    pub fn uniform(bits: u8, learned_steps: bool) -> Self {
        Self { bits, overrides: BTreeMap::new(), learned_steps, steps: BTreeMap::new() }
    }

    /// Bits of the weights `name`; `None` if they are not rounded.
    pub(crate) fn bits_of(&self, name: &str) -> Option<u8> {
        Some(self.overrides.get(name).copied().unwrap_or(self.bits)).filter(|b| *b > 0)
    }
}

/// Fake quantisation of one weight tensor, with one step per output channel (or for the whole tensor).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Rounding {
    /// Largest code.
    pub(crate) limit: f32,
    /// Number of steps: output channels along the first axis, or 1.
    pub(crate) channels: usize,
}

impl Rounding {
    /// `per_channel` if the first axis is the output channels.
    pub(crate) fn new(bits: u8, value: &Value, per_channel: bool) -> Self {
        let channels = if per_channel { value.shape.first().copied().unwrap_or(1).max(1) } else { 1 };
        Self { limit: grid::top(bits), channels }
    }

    /// Step sizes that represent the largest weight of each channel.
    pub(crate) fn largest(&self, weights: &[f32]) -> Vec<f32> {
        self.per_channel(weights, |w| w.iter().fold(0.0f32, |m, w| m.max(w.abs())) / self.limit)
    }

    /// Initial step sizes of Esser et al.: twice the mean magnitude over the square root of the largest code.
    pub(crate) fn learned(&self, weights: &[f32]) -> Vec<f32> {
        let mean = |w: &[f32]| w.iter().map(|w| w.abs()).sum::<f32>() / w.len().max(1) as f32;
        self.per_channel(weights, |w| 2.0 * mean(w) / self.limit.sqrt())
    }

    fn per_channel(&self, weights: &[f32], step: impl Fn(&[f32]) -> f32) -> Vec<f32> {
        weights.chunks(self.width(weights.len())).map(|w| step(w).max(f32::MIN_POSITIVE)).collect()
    }

    fn width(&self, len: usize) -> usize {
        (len / self.channels).max(1)
    }

    /// The weights rounded to their grid.
    pub(crate) fn round(&self, weights: &[f32], steps: &[f32]) -> Vec<f32> {
        let rows = weights.chunks(self.width(weights.len())).zip(steps);
        let round = |w: f32, s: f32| f32::from(grid::weight_code(w, s, self.limit)) * s;
        rows.flat_map(|(row, s)| row.iter().map(move |w| round(*w, *s))).collect()
    }

    /// Turns the gradient of the rounded weights into that of the weights (in place: zero where they were clipped),
    /// and returns the gradient of the steps.
    pub(crate) fn pass(&self, weights: &[f32], steps: &[f32], gradient: &mut [f32]) -> Vec<f32> {
        let width = self.width(weights.len());
        let scale = 1.0 / (width as f32 * self.limit).sqrt();
        let rows = weights.chunks(width).zip(gradient.chunks_mut(width)).zip(steps);
        rows.map(|((row, gradient), s)| {
            let mut sum = 0.0;
            for (w, g) in row.iter().zip(gradient) {
                let v = w / s;
                if v.abs() < self.limit {
                    sum += *g * (v.round() - v);
                } else {
                    sum += *g * self.limit.copysign(v);
                    *g = 0.0;
                }
            }
            sum * scale
        })
        .collect()
    }
}

/// Ranges of activations, given or observed in training, and the resulting int8 grids ([`quant_of_range`]).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ActivationRanges {
    /// Smallest and largest element of each value, by name; `None` before the first batch.
    pub ranges: BTreeMap<String, Option<(f32, f32)>>,
    /// Given ranges, which stay fixed.
    given: BTreeMap<String, (f32, f32)>,
    #[serde(skip)]
    names: BTreeMap<u32, String>,
    /// Whether the current pass is a training pass, in which ranges are observed.
    #[serde(skip)]
    pub(crate) observing: bool,
    /// The device's tensors of the current batch, removed as they are used.
    #[serde(skip)]
    device: HashMap<u32, DeviceTensor>,
}

/// Weight of a batch's extremes in the running range.
const MOMENTUM: f32 = 0.05;

impl ActivationRanges {
    /// For inputs and the results of all operators except those that only move elements; `given` ranges stay fixed.
    pub(crate) fn of(graph: &Graph, given: &BTreeMap<String, (f32, f32)>) -> Self {
        let moved = |op: &Op| {
            matches!(
                op,
                Op::Reshape | Op::Transpose { .. } | Op::Slice { .. } | Op::Expand | Op::Softmax { .. }
            ) || matches!(op, Op::ArgMax { .. })
        };
        let results = graph.nodes.iter().filter(|n| !moved(&n.op)).map(|n| n.output);
        let mut out = Self { given: given.clone(), ..Self::default() };
        for id in graph.inputs.iter().copied().chain(results) {
            let name = graph.value(id).name.clone();
            out.ranges.insert(name.clone(), given.get(&name).copied());
            out.names.insert(id.0, name);
        }
        out
    }

    /// Resumes from the ranges in a checkpoint.
    pub(crate) fn resume(self, saved: &Self) -> Self {
        Self { ranges: saved.ranges.clone(), ..self }
    }

    pub(crate) fn applies(&self, id: ValueId) -> bool {
        self.names.contains_key(&id.0) || self.device.contains_key(&id.0)
    }

    /// All ranges; `None` if one was not observed yet.
    pub(crate) fn complete(&self) -> Option<BTreeMap<String, (f32, f32)>> {
        self.ranges.iter().map(|(name, range)| Some((name.clone(), (*range)?))).collect()
    }

    /// Sets the device's tensors of the next batch.
    pub(crate) fn set_device(&mut self, tensors: HashMap<ValueId, DeviceTensor>) {
        self.device = tensors.into_iter().map(|(id, tensor)| (id.0, tensor)).collect();
    }

    fn quant(&self, id: ValueId) -> Option<Quant> {
        let (low, high) = (*self.ranges.get(self.names.get(&id.0)?)?)?;
        Some(quant_of_range(low, high))
    }

    pub(crate) fn observe(&mut self, id: ValueId, shards: &[Tensor]) {
        let Some(name) = self.names.get(&id.0).filter(|n| self.observing && !self.given.contains_key(*n))
        else {
            return;
        };
        let Some(range) = self.ranges.get_mut(name) else { return };
        let now = shards
            .iter()
            .flat_map(|t| t.iter())
            .fold((0.0f32, 0.0f32), |(low, high), v| (low.min(*v), high.max(*v)));
        let mix = |old: f32, now: f32| old + MOMENTUM * (now - old);
        *range = Some(range.map_or(now, |(low, high)| (mix(low, now.0), mix(high, now.1))));
    }

    /// Rounds to the grid of 256 codes: the device's tensor if there is one, otherwise the rounded shards.
    pub(crate) fn round(&mut self, id: ValueId, x: &[Tensor]) -> Vec<Tensor> {
        use rayon::prelude::*;
        if let Some(tensor) = self.device.get_mut(&id.0) {
            let values = std::mem::take(&mut tensor.values);
            if values.len() == x.iter().map(|x| x.len()).sum::<usize>() {
                let mut at = 0;
                let shard = x.iter().map(|x| {
                    let part = values[at..at + x.len()].to_vec();
                    at += x.len();
                    // The part was cut to the shard's length just before.
                    ArrayD::from_shape_vec(IxDyn(x.shape()), part).unwrap_or_else(|_| x.as_ref().clone())
                });
                return shard.map(Tensor::new).collect();
            }
        }
        let Some(quant) = self.quant(id) else { return x.to_vec() };
        x.par_iter().map(|x| Tensor::new(x.mapv(|v| round_to_grid(v, &quant)))).collect()
    }

    /// Stops the gradient where `x` was clipped.
    pub(crate) fn pass(&self, id: ValueId, x: &ArrayD<f32>, gradient: &mut ArrayD<f32>) {
        let device = self.device.get(&id.0).map(|t| t.bounds);
        let Some((low, high)) = device.or_else(|| self.quant(id).map(|q| grid::bounds(&q))) else { return };
        // A value up to half a step further out still rounds to the bound.
        let half = (high - low) / 510.0;
        ndarray::Zip::from(gradient).and(x).for_each(|g, x| {
            if !(low - half..=high + half).contains(x) {
                *g = 0.0;
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(shape: &[usize]) -> Value {
        let mut graph = Graph::default();
        let id = graph.add_constant("w", shape.to_vec(), offshoot_ir::Data::F32(vec![]));
        graph.value(id).clone()
    }

    #[test]
    fn grids_hold_what_they_should() {
        let weights = [0.9, -0.3, 0.1, -2.0, 0.5, 1.0];
        for (bits, limit) in [(8, 127.0), (4, 7.0), (2, 1.0)] {
            let rounding = Rounding::new(bits, &value(&[2, 3]), true);
            let steps = rounding.largest(&weights);
            assert_eq!((rounding.limit, steps.len()), (limit, 2));
            for (i, (w, q)) in weights.iter().zip(rounding.round(&weights, &steps)).enumerate() {
                let step = steps[i / 3];
                assert!((w - q).abs() <= step * 0.5001, "{bits} bits: {w} became {q}");
                assert!((q / step - (q / step).round()).abs() < 1e-4);
            }
        }
    }

    #[test]
    fn gradients_of_steps_are_those_of_the_paper() {
        let rounding = Rounding::new(4, &value(&[1, 3]), true);
        let mut gradient = [1.0, 1.0, 1.0];
        // 0.2 lies inside, the others are clipped at 7 and -7.
        let steps = rounding.pass(&[0.2, 9.0, -9.0], &[1.0], &mut gradient);
        assert_eq!(gradient, [1.0, 0.0, 0.0]);
        let scale = 1.0 / (3.0f32 * 7.0).sqrt();
        assert!((steps[0] - scale * (-0.2 + 7.0 - 7.0)).abs() < 1e-6);
    }

    #[test]
    fn zero_is_on_the_grid_of_activations() {
        let quant = quant_of_range(-0.37, 1.9);
        let (low, high) = grid::bounds(&quant);
        assert!(low <= 0.0 && high >= 0.0 && round_to_grid(0.0, &quant) == 0.0);
        assert!((high - low - 255.0 * quant.scale[0]).abs() < 1e-5);
    }
}
