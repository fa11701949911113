//! From a float network and calibration samples to the quantised network: options left open are compared on held-out
//! samples, then everything is fitted on all samples.

use ndarray::ArrayD;
use offshoot_ir::{Activation, Graph, Op, Quant, ReduceKind};

use super::calibrate;
use super::classes::{Classes, is_activation, is_sparse_mean};
use super::clip::Histogram;
use super::fit::{self, fit};
use super::form::Form;
use super::options::{Clipping, QuantizeOptions, Rounding, Settings, Toggle};
use super::reach::{Observed, Reach};
use super::report::{OperatorNoise, QuantizeReport};
use super::simulate::{capture, probes, score};
use super::skeleton;
use super::source;
use crate::{Error, Result};

/// Below this, the output of an operator is mostly noise to its readers.
const POOR_DB: f32 = 20.0;
/// Improvement in dB that a costlier or riskier choice must bring on the held-out samples.
const WORTH_DB: f32 = 0.05;
/// The percentile that [`Clipping::Auto`] tries.
const USUAL_PERCENTILE: f32 = 99.99;

/// Quantises `graph` (float, after the lossless passes). `samples` holds for each calibration sample one array for
/// each graph input, in the graph's shapes, as real values. Deterministic.
///
/// # Errors
/// The data are missing, do not fit the graph, or contain a NaN or an infinity; the graph is already quantised; an
/// option is out of range.
pub fn quantize(
    graph: &Graph,
    samples: &[Vec<ArrayD<f32>>],
    options: &QuantizeOptions,
) -> Result<(Graph, QuantizeReport)> {
    quantize_with_progress(graph, samples, options, &|_, _| {})
}

/// As [`quantize`]; `progress` receives (steps done, steps in all).
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
    source::check(graph)?;
    calibrate::check(graph, samples)?;
    let (float, mut warnings) = source::float_nodes(graph, options)?;
    let bits = options.weight_bits.of(graph)?;

    let all: Vec<&Vec<ArrayD<f32>>> = samples.iter().collect();
    let (fitting, held_out) = split(&all, options.fit_samples);
    let (mut done, total) = (0, 2 * (all.len() + fitting.ranges.len()) + fits(options));
    let mut step = |n: usize| {
        done = (done + n).min(total);
        progress(done, total);
    };
    let observed = calibrate::observe(graph, &all, &mut step)?;
    let graph = &with_sparse_means(graph, &float, &observed);
    let search =
        Search { graph, float: &float, bits: &bits, options, fitting: &fitting, held_out: &held_out };
    let choice = search.run(&mut step)?;
    let tables = Tables::new(graph, &float, &all, &observed, &mut step)?;
    let quants = calibrate::quants(graph, &tables.classes, &tables.histograms, choice.clipping);
    let skeleton = skeleton::build(graph, &float, &quants, options.io);
    let last: Vec<_> = evenly(&all, options.fit_samples);
    let (quantized, noise) = fit(graph, &skeleton, &bits, &tables.reach, &last, choice.settings, true)?;
    progress(total, total);

    let operators = operator_reports(graph, &quantized, &float, &bits, &tables, choice.clipping, &noise);
    for o in operators.iter().filter(|o| !o.float && o.own_snr_db < POOR_DB) {
        warnings.push(format!(
            "operator `{0}` ({1}) alone has a low signal-to-noise ratio of {2:.1} dB; if accuracy suffers, keep it in float (--keep-float '{0}') or give more calibration samples",
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

/// Samples for ranges and weights while options are compared.
struct Fitting<'s> {
    ranges: Vec<&'s Vec<ArrayD<f32>>>,
    weights: Vec<&'s Vec<ArrayD<f32>>>,
}

/// Holds out every fourth sample; with fewer than four, all serve both purposes.
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

/// Replaces global average pools of sparse maps by means, which have a scale of their own on the device.
fn with_sparse_means(graph: &Graph, float: &[bool], observed: &Observed) -> Graph {
    let mut out = graph.clone();
    for (node, _) in out.nodes.iter_mut().zip(float).filter(|(_, float)| !**float) {
        let Op::Pool { window, activation: Activation::None, .. } = &node.op else { continue };
        let shape = &graph.value(node.inputs[0]).shape;
        let whole = shape.len() == 4
            && window.kernel.map(usize::from) == [shape[1], shape[2]]
            && window.pad == [0; 4]
            && window.dilation == [1; 2];
        if whole && is_sparse_mean(node, &observed.range) {
            node.op = Op::Reduce { kind: ReduceKind::Mean, axes: vec![1, 2] };
        }
    }
    out
}

/// Number of weight fits needed to compare options.
fn fits(options: &QuantizeOptions) -> usize {
    clippings(options).len()
        + usize::from(options.rounding == Rounding::Auto)
        + usize::from(options.bias_correction == Toggle::Auto)
}

/// Ways of clipping to compare.
fn clippings(options: &QuantizeOptions) -> Vec<Clipping> {
    match options.clipping {
        Clipping::Auto => vec![Clipping::MinMax, Clipping::Percentile(USUAL_PERCENTILE), Clipping::Mse],
        one => vec![one],
    }
}

/// Classes, the reach of their values, and their histograms.
struct Tables {
    reach: Reach,
    classes: Classes,
    histograms: Vec<Option<Histogram>>,
}

impl Tables {
    fn new(
        graph: &Graph,
        float: &[bool],
        samples: &[&Vec<ArrayD<f32>>],
        observed: &Observed,
        step: &mut dyn FnMut(usize),
    ) -> Result<Self> {
        let (reach, ranges) = calibrate::settle(graph, observed)?;
        let classes = Classes::new(graph, float, &ranges);
        let ranges = calibrate::class_ranges(graph, &classes, &reach, &ranges);
        let histograms = calibrate::histograms(graph, &classes, &ranges, samples, step)?;
        Ok(Self { reach, classes, histograms })
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

/// Result of the comparison.
#[derive(Clone, Copy)]
struct Choice {
    clipping: Clipping,
    settings: Settings,
    score: f32,
}

impl Search<'_> {
    /// Makes one choice after the other, each kept if it is worth it: ranges, rounding, bias correction.
    fn run(&self, step: &mut dyn FnMut(usize)) -> Result<Choice> {
        let observed = calibrate::observe(self.graph, &self.fitting.ranges, step)?;
        let tables = Tables::new(self.graph, self.float, &self.fitting.ranges, &observed, step)?;
        let probes = probes(self.graph);
        let ids: Vec<_> = probes.iter().map(|p| p.id).collect();
        let exact = capture(self.graph, self.held_out, &ids, &tables.reach)?;
        let mut attempt = |clipping: Clipping, settings: Settings| -> Result<Choice> {
            let quants = calibrate::quants(self.graph, &tables.classes, &tables.histograms, clipping);
            let skeleton = skeleton::build(self.graph, self.float, &quants, self.options.io);
            let (quantized, _) =
                fit(self.graph, &skeleton, self.bits, &tables.reach, &self.fitting.weights, settings, false)?;
            let score = score(&probes, &exact, &capture(&quantized, self.held_out, &ids, &tables.reach)?);
            step(1);
            Ok(Choice { clipping, settings, score })
        };
        let first = Settings {
            weight_scale: self.options.weight_scale,
            feedback: self.options.rounding == Rounding::ErrorFeedback,
            correct_bias: self.options.bias_correction != Toggle::Off,
        };
        let mut best: Option<Choice> = None;
        for clipping in clippings(self.options) {
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

fn operator_reports(
    graph: &Graph,
    quantized: &Graph,
    float: &[bool],
    bits: &[Form],
    tables: &Tables,
    clipping: Clipping,
    noise: &[fit::Noise],
) -> Vec<OperatorNoise> {
    let fixed = calibrate::fixed_classes(graph, &tables.classes);
    let report = |n: &fit::Noise| {
        let node = &graph.nodes[n.node];
        let class = tables.classes.find(node.output) as usize;
        let quant: Option<&Quant> = quantized.value(node.output).quant.as_ref();
        let chosen = quant.is_some() && fixed[class].is_none() && is_activation(graph, node.output);
        let clipped = quant.zip(tables.histograms[class].as_ref()).map_or(0.0, |(q, h)| h.clipped(q));
        OperatorNoise {
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
