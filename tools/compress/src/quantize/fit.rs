//! Weights and biases, layer by layer: each is fitted to the activations of the quantised network before it.

use std::sync::Arc;

use ndarray::ArrayD;
use offshoot::format::tiled::{MOST_BIAS, SHIFTS};
use offshoot_ir::{Activation, DType, Data, Graph, Node, Op, Quant, ValueId};
use rayon::prelude::*;

use super::execute::Environment;
use super::form::{Form, is_weighted};
use super::moments::Moments;
use super::negligible;
use super::options::{Settings, WeightScale};
use super::reach::Reach;
use super::recurrent_fit;
use super::skeleton::Skeleton;
use super::tensors::{Batch, activate, decibels, energies, real_values, round};
use super::vectors::vectorised;
use super::weights;
use crate::Result;

/// Signal-to-noise ratios of one operator of the float graph, in dB.
#[derive(Clone, Debug)]
pub(crate) struct Noise {
    /// Index in the float graph.
    pub(crate) node: usize,
    /// Signal-to-noise ratio of the weights.
    pub(crate) weights: Option<f32>,
    /// Output, only this operator quantised.
    pub(crate) own: f32,
    /// Output, everything up to it quantised.
    pub(crate) cumulative: f32,
}

/// What all calibration samples show of the float network's values.
#[derive(Clone, Copy)]
pub(crate) struct Seen<'a> {
    /// Within which values matter.
    pub(crate) reach: &'a Reach,
    /// As [`super::reach::Observed::channels`].
    pub(crate) channels: &'a [Vec<(f32, f32)>],
}

/// Fits all weights and biases of `skeleton` on `samples`; weights of node k of the float graph to `bits[k]`. Values
/// beyond `seen.reach` are clamped. With `measure`, returns the noise of every operator too. `cache` belongs to these samples.
#[expect(clippy::too_many_arguments, reason = "each is one input of the fit")]
pub(crate) fn fit(
    float: &Graph,
    skeleton: &Skeleton,
    bits: &[Form],
    seen: Seen<'_>,
    samples: &[&Vec<ArrayD<f32>>],
    settings: Settings,
    measure: bool,
    cache: Option<&mut Exact>,
) -> Result<(Graph, Vec<Noise>)> {
    let mut cache = cache;
    let reach = seen.reach;
    let sequence = settings.sequence;
    let mut graph = skeleton.graph.clone();
    let mut noise = Vec::new();
    let mut exact = Environment::new(float, samples.len()).carrying(sequence);
    let mut rounded = Environment::new(&graph, samples.len()).carrying(sequence);
    for (i, &id) in float.inputs.iter().enumerate() {
        let mut batch: Batch = samples.iter().map(|s| s[i].clone()).collect();
        reach.limit(id, &mut batch);
        let mut on_grid = batch.clone();
        round(&graph, id, &mut on_grid);
        exact.set(id, batch);
        rounded.set(id, on_grid);
    }
    for (at, origin) in skeleton.origin.iter().enumerate() {
        let node = graph.nodes[at].clone();
        let Some(k) = *origin else {
            let mut batch = rounded.run(&graph, &node, false)?;
            round(&graph, node.output, &mut batch);
            rounded.set(node.output, batch);
            rounded.finish(&node);
            continue;
        };
        let source = &float.nodes[k];
        let int8 = graph.value(node.output).dtype == DType::I8;
        let weighted = is_weighted(&node.op) && int8;
        // Without `measure`, the float network's output is only what this operator is fitted to.
        let known = cache.as_deref().filter(|_| !measure).and_then(|c| c.get(k)?.as_ref());
        let computed = match known {
            Some(_) => None,
            None => Some(exact.run(float, source, weighted)?),
        };
        let Some(reference) = known.or(computed.as_ref()) else { continue };
        let (mut batch, weight_noise) = if weighted {
            let channels = seen.channels.get(source.inputs[0].0 as usize).map_or(&[][..], Vec::as_slice);
            let (b, n) = layer(&mut graph, &node, bits[k], (&rounded, channels), reference, settings)?;
            (b, Some(n))
        } else if matches!(node.op, Op::Recurrent { .. }) && int8 {
            let (b, n) = recurrent_fit::fit(&mut graph, &node, &rounded, reference, settings)?;
            (b, Some(n))
        } else {
            (rounded.run(&graph, &node, false)?, None)
        };
        reach.limit(node.output, &mut batch);
        round(&graph, node.output, &mut batch);
        if let Some(mut reference) = computed {
            if let Some(slot) = cache.as_mut().and_then(|c| c.get_mut(k)) {
                *slot = Some(reference.clone());
            }
            if weighted {
                activate(node.op.activation().unwrap_or(Activation::None), &mut reference);
            }
            reach.limit(source.output, &mut reference);
            if measure {
                let (s, e) = energies(&reference, &batch);
                let mut own = exact.run(&graph, &alone(&graph, &node, source), false)?;
                reach.limit(node.output, &mut own);
                round(&graph, node.output, &mut own);
                let (os, oe) = energies(&reference, &own);
                noise.push(Noise {
                    node: k,
                    weights: weight_noise,
                    own: decibels(os, oe),
                    cumulative: decibels(s, e),
                });
            }
            exact.set(source.output, reference);
            exact.finish(source);
        }
        rounded.set(node.output, batch);
        rounded.finish(&node);
    }
    Ok((graph, noise))
}

/// Outputs of the float network's operators on the samples that weights are fitted on, by node: they are the same for all options.
pub(crate) type Exact = Vec<Option<Batch>>;

/// Most elements that [`Exact`] may hold.
const MOST_ELEMENTS: usize = 1 << 26;

/// An empty cache for `samples` samples; `None` if it would become too large.
pub(crate) fn cache(float: &Graph, samples: usize) -> Option<Exact> {
    let elements: usize = float.nodes.iter().map(|n| float.value(n.output).len()).sum();
    (elements.saturating_mul(samples) <= MOST_ELEMENTS).then(|| vec![None; float.nodes.len()])
}

/// `node` with the float network's activations and the quantised network's constants.
fn alone(graph: &Graph, node: &Node, source: &Node) -> Node {
    let pick = |(at, &id): (usize, &ValueId)| match source.inputs.get(at) {
        Some(&original) if graph.value(id).data.is_none() => original,
        _ => id,
    };
    Node { inputs: node.inputs.iter().enumerate().map(pick).collect(), ..node.clone() }
}

/// Fits one operator, whose input has the ranges `channels_seen` over all calibration samples; returns its output (activated, not yet rounded) and the weights' signal-to-noise ratio.
fn layer(
    graph: &mut Graph,
    node: &Node,
    form: Form,
    (rounded, channels_seen): (&Environment, &[(f32, f32)]),
    before: &Batch,
    settings: Settings,
) -> Result<(Batch, f32)> {
    let (x, w, b) = (node.inputs[0], node.inputs[1], node.inputs[2]);
    let scale_of = |id: ValueId| graph.value(id).quant.as_ref().map_or(1.0, |q| q.scale[0]);
    let (input, output) = (scale_of(x), scale_of(node.output));
    let (mut real, mut bias) = (real_values(graph.value(w)), real_values(graph.value(b)));
    let channels = graph.value(w).shape.first().copied().unwrap_or(0);
    if let Some(x) = rounded.get(x) {
        negligible::clear(&node.op, x, channels_seen, &mut real, &mut bias, output);
    }
    // Both are this layer's own.
    graph.value_mut(b).data = Some(Arc::new(Data::F32(bias.clone())));
    let floors: Vec<f32> = bias.iter().map(|b| least_scale(*b, input, output)).collect();
    let wanted = settings.feedback || settings.weight_scale != WeightScale::MinMax;
    let width = real.len().checked_div(channels).unwrap_or(0);
    let moments = rounded
        .get(x)
        .filter(|_| wanted)
        .and_then(|x| Moments::new(&node.op, x, width, settings.correct_bias));
    let grid = weights::Grid { form, scale: settings.weight_scale, feedback: settings.feedback };
    let fitted = weights::fit(&real, channels, moments.as_ref(), grid, &floors);
    let scales = fitted.scales.clone();
    let value = graph.value_mut(w);
    value.dtype = DType::I8;
    value.quant = Some(Quant { zero_point: vec![0; channels], scale: fitted.scales, axis: Some(0) });
    value.data = Some(Arc::new(Data::I8(fitted.codes)));
    let quantized = real_values(graph.value(w));
    let (signal, error) = real
        .iter()
        .zip(&quantized)
        .fold((0.0, 0.0), |(s, e), (&a, &q)| (s + f64::from(a).powi(2), e + f64::from(a - q).powi(2)));

    let mut batch = rounded.run(graph, node, true)?;
    let shift =
        if settings.correct_bias { mean_difference(before, &batch, channels) } else { vec![0.0; channels] };
    let bias_scales: Vec<f32> = scales.iter().map(|s| input * s).collect();
    let codes: Vec<i32> = bias
        .iter()
        .zip(&shift)
        .zip(&bias_scales)
        .map(|((&b, &d), &s)| {
            ((f64::from(b) + d) / f64::from(s)).round().clamp(-2147483647.0, 2147483647.0) as i32
        })
        .collect();
    let change: Vec<f32> = codes
        .iter()
        .zip(&bias_scales)
        .zip(&bias)
        .map(|((&q, &s), &b)| (f64::from(q) * f64::from(s) - f64::from(b)) as f32)
        .collect();
    batch.par_iter_mut().for_each(|a| add_to_channels(a, &change));
    let value = graph.value_mut(b);
    value.dtype = DType::I32;
    value.quant = Some(Quant { zero_point: vec![0; channels], scale: bias_scales, axis: Some(0) });
    value.data = Some(Arc::new(Data::I32(codes)));
    activate(node.op.activation().unwrap_or(Activation::None), &mut batch);
    Ok((batch, decibels(signal, error)))
}

/// Least scale of the weights of a channel with this bias, between tensors of these scales, as the tiled kernels
/// require: one channel that is almost dead must not exclude a whole layer. Half of the bias's range is left for the
/// zero point that is folded into it. The additional rounding is less than a thousandth of a step of the output.
pub(super) fn least_scale(bias: f32, input: f32, output: f32) -> f32 {
    let bias = f64::from(bias.abs()) / (f64::from(input) * f64::from(MOST_BIAS / 2));
    // Shift s belongs to multipliers from 2^(s - 1) on.
    let multiplier = f64::from(output) / f64::from(input) * 2f64.powi(i32::from(*SHIFTS.start()) - 1);
    // Slightly above, so that rounding to float32 does not go below.
    (bias.max(multiplier) * (1.0 + 1e-6)) as f32
}

/// Adds one number per index along the last axis.
fn add_to_channels(a: &mut ArrayD<f32>, change: &[f32]) {
    if !a.is_standard_layout() {
        *a = a.as_standard_layout().into_owned();
    }
    for row in a.as_slice_mut().unwrap_or_default().chunks_exact_mut(change.len().max(1)) {
        row.iter_mut().zip(change).for_each(|(v, change)| *v += change);
    }
}

/// Mean of `a - b` for each index along the last axis. Pairs whose difference is not finite are skipped (0 / 0 in the
/// quantised network, for instance); a channel with only such pairs has mean 0.
fn mean_difference(a: &Batch, b: &Batch, channels: usize) -> Vec<f64> {
    let sums: Vec<(Vec<f64>, Vec<u64>)> = a
        .par_iter()
        .zip(b)
        .map(|(a, b)| {
            let (mut sums, mut counts) = (vec![0.0; channels], vec![0u64; channels]);
            let (a, b) = (a.as_standard_layout(), b.as_standard_layout());
            let (a, b) = (a.as_slice().unwrap_or_default(), b.as_slice().unwrap_or_default());
            let width = channels.max(1);
            vectorised(
                #[inline(always)]
                || {
                    for (x, y) in a.chunks_exact(width).zip(b.chunks_exact(width)) {
                        for (((sum, count), x), y) in sums.iter_mut().zip(&mut counts).zip(x).zip(y) {
                            let difference = f64::from(*x) - f64::from(*y);
                            let counts = difference.is_finite();
                            *sum += if counts { difference } else { 0.0 };
                            *count += u64::from(counts);
                        }
                    }
                },
            );
            (sums, counts)
        })
        .collect();
    let mean = |c: usize| {
        let (sum, count) =
            sums.iter().fold((0.0, 0), |(sum, n), (sums, counts)| (sum + sums[c], n + counts[c]));
        sum / count.max(1) as f64
    };
    (0..channels).map(mean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_a_number_leaves_the_mean_as_it_is() {
        let batch = |v: &[f32]| vec![ArrayD::from_shape_vec(vec![v.len() / 2, 2], v.to_vec()).unwrap()];
        let float = batch(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let quantized = batch(&[0.5, 2.0, f32::NAN, 4.5, 4.5, f32::INFINITY]);
        assert_eq!(mean_difference(&float, &quantized, 2), [0.5, -0.25]);
        assert_eq!(mean_difference(&float, &batch(&[f32::NAN; 6]), 2), [0.0, 0.0]);
    }
}
