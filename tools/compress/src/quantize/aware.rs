//! Quantisation-aware training: weights of few bits with learned step sizes (LSQ, Esser et al. 2020), the device's
//! own integer arithmetic in the forward pass ([`super::device`]), the float network as teacher.
//!
//! It starts from post-training quantisation: activation ranges are kept, step sizes are the initial ones, and each
//! weight lies halfway between its float value and its code, so that the first forward pass gives the codes of
//! post-training quantisation (except where error feedback moved a code further than rounding would). The result is
//! the network of the best epoch, with its step sizes and ranges; [`super::quantize_learned`] makes its device form.

use std::sync::Arc;

use offshoot_ir::{Data, Graph, ValueId, grid};
use offshoot_train::{Checkpoint, Dataset, Epoch, FitOptions, Target, Teacher, WeightQuant, evaluate, fit};
use serde::Serialize;

use super::device::{Simulator, by_node, device_accuracy};
use super::form::{Form, WeightBits, is_weighted};
use super::learned::{numbers, quantize_learned};
use super::options::QuantizeOptions;
use super::policy::Policy;
use super::post_training::quantize;
use super::tensors::real_values;
use super::trained::Learned;
use crate::prune::tune::{Units, Watch};
use crate::prune::{Progress, samples};
use crate::{Error, Result};

/// Settings of [`aware`].
#[derive(Clone, Debug)]
pub struct AwareOptions {
    /// Bits of the weights.
    pub weight_bits: WeightBits,
    /// Operators that stay float32, as in [`QuantizeOptions::keep_float`].
    pub keep_float: Vec<String>,
    /// Calibration samples of the post-training quantisation that this starts from.
    pub calibration: usize,
    /// Passes over the data.
    pub epochs: usize,
    /// Samples per step.
    pub batch: usize,
    /// Highest learning rate, relative to the size of each tensor's weights.
    pub rate: f32,
    /// Weight of the float network's outputs in the loss; the targets have the rest.
    pub distil: f32,
    /// Whether forward passes run the device's integer arithmetic. Without it tensors are rounded to the device's
    /// grids, but accumulated in floating point.
    pub device: bool,
    /// Samples on which each epoch is judged; without them the last epoch is taken.
    pub validation: Option<Dataset>,
    /// Seed of the sample order.
    pub seed: u64,
    /// Where training is saved and resumed from.
    pub checkpoint: Option<Checkpoint>,
}

impl Default for AwareOptions {
    fn default() -> Self {
        Self {
            weight_bits: WeightBits::all(4),
            keep_float: Vec::new(),
            calibration: 100,
            epochs: 4,
            batch: 64,
            rate: 1e-3,
            distil: 0.7,
            device: true,
            validation: None,
            seed: 0,
            checkpoint: None,
        }
    }
}

/// Report of [`aware`].
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AwareReport {
    /// Bits, step sizes and ranges with which to quantise the network.
    pub policy: Policy,
    /// Per epoch: the training loss, and loss and accuracy of the device form on the validation samples.
    pub epochs: Vec<Epoch>,
    /// Index of the epoch that was taken; 0 if none beat post-training quantisation.
    pub best: usize,
}

impl AwareReport {
    /// Options with which [`quantize_learned`] makes the device form.
    pub fn quantize_options(&self, keep_float: &[String]) -> QuantizeOptions {
        let (weight_bits, keep_float) = (self.policy.bits(), keep_float.to_vec());
        QuantizeOptions { weight_bits, keep_float, ..QuantizeOptions::default() }
    }

    /// The step sizes and ranges found by training.
    pub fn learned(&self) -> Learned {
        self.policy.learned().unwrap_or_default()
    }
}

/// Trains `graph` (float, after the lossless passes, without batch normalisation) to keep its function with weights
/// of few bits. Returns the float network, whose weights are not rounded, and the step sizes and ranges with which to
/// quantise it.
///
/// # Errors
/// A codebook is requested, whose levels are not trained; the data do not fit the graph; see also
/// [`mod@crate::quantize`].
pub fn aware(
    graph: &Graph,
    data: &Dataset,
    options: &AwareOptions,
    progress: &mut dyn Progress,
) -> Result<(Graph, AwareReport)> {
    data.check(graph).map_err(Error::Training)?;
    let quantize_options = QuantizeOptions {
        weight_bits: options.weight_bits.clone(),
        keep_float: options.keep_float.clone(),
        ..QuantizeOptions::default()
    };
    let forms = options.weight_bits.of(graph)?;
    if forms.iter().any(|f| matches!(f, Form::Codebook(_))) {
        let reason = "codebooks are fitted, not trained; leave `levels` out".into();
        return Err(Error::Option { option: "levels", reason });
    }
    progress.tick("calibrating", 0, 1);
    let calibration = samples(graph, data, options.calibration.max(1));
    let (quantized, _) = quantize(graph, &calibration, &quantize_options)?;
    let start = numbers(graph, &quantized, &quantize_options)?;
    let near = near_codes(graph, &quantized, &start, &forms);
    let untrained = Policy::new(options.weight_bits.clone(), start.clone());
    if options.epochs == 0 {
        return Ok((near, AwareReport { policy: untrained, epochs: vec![], best: 0 }));
    }
    let units = Units::of(&near);
    let mut scaled = near.clone();
    units.apply(&mut scaled, |w, unit| w / unit);
    let share = if data.target == Target::Unlabelled { 1.0 } else { options.distil };
    let device = Simulator { options: quantize_options.clone() };
    let settings = FitOptions {
        epochs: options.epochs,
        batch: options.batch,
        rate: options.rate,
        decay: 0.0,
        clip: Some(5.0),
        seed: options.seed,
        weight_quant: Some(weight_quant(graph, &forms, &start)),
        activation_quant: true,
        activation_ranges: start.ranges.clone(),
        device: options.device.then(|| Arc::new(device) as _),
        transform: Some(Arc::new(units.clone())),
        teacher: (share > 0.0).then(|| Teacher {
            graph: graph.clone(),
            temperature: 4.0,
            weight: share,
            features: vec![],
        }),
        validation: options.validation.clone(),
        checkpoint: options.checkpoint.clone(),
        ..FitOptions::default()
    };
    let (mut trained, report) =
        fit(&scaled, data, &settings, &mut Watch { progress, what: "training" }).map_err(Error::Training)?;
    units.apply(&mut trained, |w, unit| w * unit);
    let mut learned = Learned { steps: by_node(&trained, &report.weight_steps), ranges: start.ranges };
    for (name, range) in &report.activation_ranges {
        learned.ranges.entry(name.clone()).or_insert(*range);
    }
    let mut best = report.best.unwrap_or(report.epochs.len());
    // The starting point is a candidate as well.
    let judged = report.epochs.get(best.wrapping_sub(1)).and_then(|e| e.validation);
    if let (Some(after), Some(validation)) = (judged, &options.validation) {
        let before = rounded_judgement(&near, validation, &untrained, &quantize_options)?;
        if before.is_some_and(|before| Some(before) > after.accuracy) {
            (trained, best) = (near, 0);
            let policy = untrained;
            return Ok((trained, AwareReport { policy, epochs: report.epochs, best }));
        }
    }
    let policy = Policy::new(options.weight_bits.clone(), learned);
    Ok((trained, AwareReport { policy, epochs: report.epochs, best }))
}

/// Accuracy of the device form on labelled samples.
fn rounded_judgement(
    graph: &Graph,
    data: &Dataset,
    policy: &Policy,
    options: &QuantizeOptions,
) -> Result<Option<f64>> {
    if !matches!(data.target, Target::Labels(_)) {
        return Ok(None);
    }
    let quantized = quantize_learned(graph, &policy.learned().unwrap_or_default(), options)?;
    device_accuracy(&quantized, data).map(Some)
}

/// Weights by name, with the bits of their layer and their initial step sizes.
fn weight_quant(graph: &Graph, forms: &[Form], start: &Learned) -> WeightQuant {
    let mut quant = WeightQuant::uniform(0, true);
    for (node, form) in graph.nodes.iter().zip(forms) {
        let (true, Some(steps)) = (is_weighted(&node.op), start.steps.get(&node.name)) else { continue };
        let name = graph.value(node.inputs[1]).name.clone();
        quant.overrides.insert(name.clone(), form.bits());
        quant.steps.insert(name, steps.clone());
    }
    quant
}

/// `graph` with the biases of `quantized`, and with its weights moved just far enough to be rounded to the codes of
/// `quantized`.
fn near_codes(graph: &Graph, quantized: &Graph, start: &Learned, forms: &[Form]) -> Graph {
    /// How far a weight may lie from its code, in steps: slightly less than where rounding changes.
    const REACH: f32 = 0.45;
    let mut out = graph.clone();
    for (node, form) in graph.nodes.iter().zip(forms) {
        let made = quantized.nodes.iter().find(|n| n.output == node.output);
        let made = made.filter(|n| is_weighted(&n.op));
        let (Some(made), Some(steps)) = (made, start.steps.get(&node.name)) else { continue };
        let rounded = real_values(quantized.value(made.inputs[1]));
        let width = rounded.len().checked_div(steps.len()).unwrap_or(0).max(1);
        let top = grid::top(form.bits());
        if let Some(weights) = floats(&mut out, node.inputs[1]) {
            for (i, (w, q)) in weights.iter_mut().zip(&rounded).enumerate() {
                let step = steps[i / width];
                // Weights beyond the end of the grid are rounded to it from any distance.
                let end = (q / step).abs() > top - 0.5 && w.abs() > q.abs() && *w * q > 0.0;
                if !end {
                    *w = w.max(q - REACH * step).min(q + REACH * step);
                }
            }
        }
        if let (Some(&from), Some(&to)) = (made.inputs.get(2), node.inputs.get(2)) {
            let biases = real_values(quantized.value(from));
            if let Some(bias) = floats(&mut out, to) {
                bias.copy_from_slice(&biases);
            }
        }
    }
    out
}

fn floats(graph: &mut Graph, id: ValueId) -> Option<&mut Vec<f32>> {
    match graph.value_mut(id).data.as_mut().map(Arc::make_mut) {
        Some(Data::F32(data)) => Some(data),
        _ => None,
    }
}

/// Accuracy of the float network on labelled samples.
///
/// # Errors
/// The samples do not fit the graph, or have no labels.
pub fn float_accuracy(graph: &Graph, data: &Dataset) -> Result<f64> {
    let judged = evaluate(graph, data).map_err(Error::Training)?;
    judged.accuracy.ok_or_else(|| Error::Training(offshoot_train::Error::Data("there are no labels".into())))
}
