//! Post-training quantisation to int8.
//!
//! Follows TensorFlow Lite's 8-bit quantisation specification: activations asymmetric with one scale a tensor,
//! weights symmetric in [-127, 127] (or coarser, [`WeightBits`]) with one scale an output channel, int32 biases of scale input × weight.
//! Ranges come from calibration data; weights and biases are then fitted layer by layer on what the quantised
//! network before them delivers. What the options leave open is decided on samples held out of both.

pub mod aware;
pub(crate) mod calibrate;
mod classes;
mod clip;
mod codebook;
mod device;
mod fit;
mod learned;
pub(crate) mod moments;
mod options;
mod policy;
mod recurrent;
mod report;
pub mod sensitivity;
mod simulate;
mod skeleton;
pub(crate) mod walk;
mod weights;

pub use device::{DeviceJudgement, device_accuracy, device_judgement, device_outputs};
pub use learned::{Learned, numbers, quantize_learned};
pub use options::{Clipping, IoType, QuantizeOptions, Rounding, Toggle, WeightScale};
pub use policy::{Policy, WeightBits, packs};
pub use report::{OperatorReport, QuantizeReport};
pub use simulate::simulate;

use ndarray::ArrayD;
use offshoot_ir::{DType, Graph, Quant};

use crate::{Error, Result};
use classes::{Classes, is_activation};
use clip::Histogram;
use fit::{Settings, fit};
use policy::Form;
use simulate::{capture, probes, score};

/// Below this the output of an operator is mostly noise to those after it.
const POOR_DB: f32 = 20.0;
/// Improvement in dB that a costlier or riskier choice must bring on the held-out samples.
const WORTH_DB: f32 = 0.05;
/// Percentile tried by [`Clipping::Auto`].
const USUAL_PERCENTILE: f32 = 99.99;

/// Quantises `graph` (float, after the lossless passes). `samples`: for each calibration sample one array for each
/// graph input, in the graph's shapes, real values. Deterministic.
///
/// # Errors
/// If the data do not fit the graph, hold a NaN or an infinity, or are missing; if the graph is quantised already; if an
/// option is out of range.
pub fn quantize(
    graph: &Graph,
    samples: &[Vec<ArrayD<f32>>],
    options: &QuantizeOptions,
) -> Result<(Graph, QuantizeReport)> {
    quantize_with_progress(graph, samples, options, &|_, _| {})
}

/// As [`quantize`]; `progress` is told (steps done, steps in all).
///
/// # Errors
/// As [`quantize`].
pub fn quantize_with_progress(
    graph: &Graph,
    samples: &[Vec<ArrayD<f32>>],
    options: &QuantizeOptions,
    progress: &dyn Fn(usize, usize),
) -> Result<(Graph, QuantizeReport)> {
    check_options(options)?;
    check_source(graph)?;
    calibrate::check(graph, samples)?;
    let (float, mut warnings) = float_nodes(graph, options)?;
    let bits = options.weight_bits.of(graph)?;

    let all: Vec<&Vec<ArrayD<f32>>> = samples.iter().collect();
    let (fitting, held_out) = split(&all, options.fit_samples);
    let search =
        Search { graph, float: &float, bits: &bits, options, fitting: &fitting, held_out: &held_out };
    let fits = search.fits();
    let (mut done, total) = (0, 2 * (all.len() + fitting.ranges.len()) + fits);
    let mut step = |n: usize| {
        done = (done + n).min(total);
        progress(done, total);
    };

    let choice = search.run(&mut step)?;
    let tables = Tables::new(graph, &float, &all, &mut step)?;
    let quants = calibrate::quants(graph, &tables.classes, &tables.histograms, choice.clipping);
    let skeleton = skeleton::build(graph, &float, &quants, options.io);
    let last: Vec<_> = evenly(&all, options.fit_samples);
    let (quantized, noise) = fit(graph, &skeleton, &bits, &last, choice.settings, true)?;
    progress(total, total);

    let operators = operator_reports(graph, &quantized, &float, &bits, &tables, choice.clipping, &noise);
    for o in operators.iter().filter(|o| !o.float && o.own_snr_db < POOR_DB) {
        warnings.push(format!(
            "operator `{}` ({}) alone loses much: {:.1} dB; if accuracy suffers keep it in float or give more calibration samples",
            o.name, o.kind, o.own_snr_db
        ));
    }
    let report = QuantizeReport {
        operators,
        clipping: choice.clipping,
        weight_scale: choice.settings.weight_scale,
        rounding: if choice.settings.feedback { Rounding::ErrorFeedback } else { Rounding::Nearest },
        bias_correction: choice.settings.correct_bias,
        held_out_snr_db: choice.score,
        samples: samples.len(),
        warnings,
    };
    Ok((quantized, report))
}

/// Samples that ranges and weights come from while options are compared.
struct Fitting<'s> {
    ranges: Vec<&'s Vec<ArrayD<f32>>>,
    weights: Vec<&'s Vec<ArrayD<f32>>>,
}

/// Every fourth sample is held out; with fewer than four all serve both ends.
fn split<'s>(all: &[&'s Vec<ArrayD<f32>>], limit: usize) -> (Fitting<'s>, Vec<&'s Vec<ArrayD<f32>>>) {
    if all.len() < 4 {
        return (Fitting { ranges: all.to_vec(), weights: evenly(all, limit) }, all.to_vec());
    }
    let held: Vec<_> = all.iter().skip(3).step_by(4).copied().collect();
    let ranges: Vec<_> = all.iter().enumerate().filter(|(i, _)| i % 4 != 3).map(|(_, s)| *s).collect();
    let weights = evenly(&ranges, limit);
    (Fitting { ranges, weights }, evenly(&held, limit))
}

/// At most `limit` samples, evenly taken.
fn evenly<'s>(samples: &[&'s Vec<ArrayD<f32>>], limit: usize) -> Vec<&'s Vec<ArrayD<f32>>> {
    let n = samples.len().min(limit);
    (0..n).map(|i| samples[i * samples.len() / n]).collect()
}

/// Classes and their histograms.
struct Tables {
    classes: Classes,
    histograms: Vec<Option<Histogram>>,
}

impl Tables {
    fn new(
        graph: &Graph,
        float: &[bool],
        samples: &[&Vec<ArrayD<f32>>],
        step: &mut dyn FnMut(usize),
    ) -> Result<Self> {
        let ranges = calibrate::ranges(graph, samples, step)?;
        let classes = Classes::new(graph, float, &ranges);
        let ranges = calibrate::class_ranges(graph, &classes, &ranges);
        let histograms = calibrate::histograms(graph, &classes, &ranges, samples, step)?;
        Ok(Self { classes, histograms })
    }
}

/// Comparison of the options left open.
struct Search<'a> {
    graph: &'a Graph,
    float: &'a [bool],
    bits: &'a [Form],
    options: &'a QuantizeOptions,
    fitting: &'a Fitting<'a>,
    held_out: &'a [&'a Vec<ArrayD<f32>>],
}

/// What it found.
#[derive(Clone, Copy)]
struct Choice {
    clipping: Clipping,
    settings: Settings,
    score: f32,
}

impl Search<'_> {
    fn clippings(&self) -> Vec<Clipping> {
        match self.options.clipping {
            Clipping::Auto => vec![Clipping::MinMax, Clipping::Percentile(USUAL_PERCENTILE), Clipping::Mse],
            one => vec![one],
        }
    }

    fn fits(&self) -> usize {
        self.clippings().len()
            + usize::from(self.options.rounding == Rounding::Auto)
            + usize::from(self.options.bias_correction == Toggle::Auto)
    }

    /// One choice after the other, each kept if it is worth it: ranges, rounding, bias correction.
    fn run(&self, step: &mut dyn FnMut(usize)) -> Result<Choice> {
        let tables = Tables::new(self.graph, self.float, &self.fitting.ranges, step)?;
        let probes = probes(self.graph);
        let ids: Vec<_> = probes.iter().map(|p| p.id).collect();
        let exact = capture(self.graph, self.held_out, &ids)?;
        let mut attempt = |clipping: Clipping, settings: Settings| -> Result<Choice> {
            let quants = calibrate::quants(self.graph, &tables.classes, &tables.histograms, clipping);
            let skeleton = skeleton::build(self.graph, self.float, &quants, self.options.io);
            let (quantized, _) =
                fit(self.graph, &skeleton, self.bits, &self.fitting.weights, settings, false)?;
            let score = score(&probes, &exact, &capture(&quantized, self.held_out, &ids)?);
            step(1);
            Ok(Choice { clipping, settings, score })
        };
        let first = Settings {
            weight_scale: self.options.weight_scale,
            feedback: self.options.rounding == Rounding::ErrorFeedback,
            correct_bias: self.options.bias_correction != Toggle::Off,
        };
        let mut best: Option<Choice> = None;
        for clipping in self.clippings() {
            let new = attempt(clipping, first)?;
            if best.is_none_or(|b| new.score > b.score + WORTH_DB) {
                best = Some(new);
            }
        }
        let mut best = best.unwrap_or(Choice { clipping: Clipping::MinMax, settings: first, score: 0.0 });
        if self.options.rounding == Rounding::Auto {
            let new = attempt(best.clipping, Settings { feedback: true, ..best.settings })?;
            if new.score > best.score + WORTH_DB {
                best = new;
            }
        }
        if self.options.bias_correction == Toggle::Auto {
            let without = attempt(best.clipping, Settings { correct_bias: false, ..best.settings })?;
            if without.score > best.score {
                best = without;
            }
        }
        Ok(best)
    }
}

fn check_options(options: &QuantizeOptions) -> Result<()> {
    if let Clipping::Percentile(p) = options.clipping
        && !(p > 50.0 && p <= 100.0)
    {
        return Err(Error::Option {
            option: "clipping",
            reason: format!("percentile {p} is not above 50 and at most 100"),
        });
    }
    if options.fit_samples == 0 {
        return Err(Error::Option {
            option: "fit_samples",
            reason: "0 samples to fit on; at least 1".to_owned(),
        });
    }
    Ok(())
}

/// A float network of finite numbers.
fn check_source(graph: &Graph) -> Result<()> {
    if let Some(v) = graph.values.iter().find(|v| v.quant.is_some() || v.dtype == DType::I8) {
        return Err(Error::AlreadyQuantized { tensor: v.name.clone() });
    }
    for value in graph.values.iter().filter(|v| v.data.is_some() && v.dtype == DType::F32) {
        if let Some(bad) = walk::real_values(value).into_iter().find(|v| !v.is_finite()) {
            return Err(Error::NotFinite { tensor: value.name.clone(), value: bad });
        }
    }
    Ok(())
}

/// Which nodes stay float, and why if the user did not ask for it.
fn float_nodes(graph: &Graph, options: &QuantizeOptions) -> Result<(Vec<bool>, Vec<String>)> {
    for wanted in &options.keep_float {
        if !graph.nodes.iter().any(|n| n.name == *wanted || n.op.name() == wanted) {
            return Err(Error::UnknownOperator(wanted.clone()));
        }
    }
    let mut warnings = Vec::new();
    let float = graph.nodes.iter().map(|node| {
        let computed = skeleton::is_weighted(&node.op)
            && node.inputs[1..].iter().any(|&id| graph.value(id).data.is_none());
        if computed {
            warnings.push(format!(
                "operator `{}` ({}) stays float: its weights are computed, not constant",
                node.name,
                node.op.name()
            ));
        }
        let recurrent = recurrent::obstacle(graph, node);
        if let Some(reason) = recurrent {
            warnings.push(format!("operator `{}` ({}) stays float: {reason}", node.name, node.op.name()));
        }
        computed
            || recurrent.is_some()
            || options.keep_float.iter().any(|k| *k == node.name || k == node.op.name())
    });
    Ok((float.collect(), warnings))
}

fn operator_reports(
    graph: &Graph,
    quantized: &Graph,
    float: &[bool],
    bits: &[Form],
    tables: &Tables,
    clipping: Clipping,
    noise: &[fit::Noise],
) -> Vec<OperatorReport> {
    let fixed = calibrate::fixed_classes(graph, &tables.classes);
    let report = |n: &fit::Noise| {
        let node = &graph.nodes[n.node];
        let class = tables.classes.find(node.output) as usize;
        let quant: Option<&Quant> = quantized.value(node.output).quant.as_ref();
        let chosen = quant.is_some() && fixed[class].is_none() && is_activation(graph, node.output);
        let clipped = quant.zip(tables.histograms[class].as_ref()).map_or(0.0, |(q, h)| h.clipped(q));
        OperatorReport {
            name: node.name.clone(),
            kind: node.op.name(),
            float: float[n.node],
            weight_bits: n.weights.is_some().then_some(bits[n.node].bits()),
            scale: quant.map_or(0.0, |q| q.scale[0]),
            zero_point: quant.map_or(0, |q| q.zero_point[0]),
            clipping: chosen.then_some(clipping),
            clipped,
            weight_snr_db: n.weights,
            own_snr_db: n.own,
            output_snr_db: n.cumulative,
        }
    };
    noise.iter().map(report).collect()
}
