//! From a float network and calibration samples to the quantised network: options left open are compared on held-out
//! samples, then everything is fitted on all samples.

use ndarray::ArrayD;
use offshoot_ir::{Activation, Data, Graph, Op, Quant, ReduceKind};

use super::calibrate::{self, Expected};
use super::classes::{Classes, is_activation, is_sparse_mean};
use super::clip::Histogram;
use super::fit::{self, Seen, fit};
use super::form::Form;
use super::functions;
use super::options::{Clipping, QuantizeOptions, Rounding, Settings, Toggle};
use super::outliers;
use super::reach::{Observed, Reach};
use super::remedy;
use super::report::{OperatorNoise, QuantizeReport};
use super::simulate::{capture, probes, score};
use super::skeleton;
use super::source;
use crate::{Error, Result};

/// Below this, the output of an operator is mostly noise to its readers.
pub(super) const POOR_DB: f32 = 20.0;
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
    let (mut float, mut warnings) = source::float_nodes(graph, options)?;
    let bits = options.weight_bits.of(graph)?;

    let sequence = options.sequence;
    let outliers = outliers::find(graph, samples, sequence)?;
    warnings.extend(outliers.warnings);
    let all = without(samples, &outliers.samples);
    let fit_samples = affordable(graph, options.fit_samples);
    let compared = match fit_samples < options.fit_samples {
        true => evenly(&all, fit_samples + 1, sequence),
        false => all.clone(),
    };
    let options = &QuantizeOptions { fit_samples, ..options.clone() };
    let (fitting, held_out) = split(&compared, fit_samples, sequence);
    let (mut done, total) = (0, 2 * (all.len() + fitting.ranges.len()) + fits(options));
    let mut step = |n: usize| {
        done = (done + n).min(total);
        progress(done, total);
    };
    let mut observed = calibrate::observe(graph, &all, sequence, &mut step)?;
    warnings.extend(flat_softmaxes(graph, &observed, &mut float));
    let graph = &with_sparse_means(graph, &float, &mut observed);
    let mask = functions::joined(graph, &float);
    let search = Search { graph, float: &mask, bits: &bits, options, fitting: &fitting, held_out: &held_out };
    let choice = search.run(&mut step)?;
    let made = finish(graph, &mask, &bits, &all, &observed, options, choice, &mut step)?;
    let Made { quantized, noise, tables } = made;
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
        left_out: outliers.samples,
        warnings,
    };
    Ok((quantized, report))
}

/// All samples but those of these indices.
pub(super) fn without<'s>(samples: &'s [Vec<ArrayD<f32>>], left_out: &[usize]) -> Vec<&'s Vec<ArrayD<f32>>> {
    samples.iter().enumerate().filter(|(i, _)| !left_out.contains(i)).map(|(_, s)| s).collect()
}

/// A quantised network, and how it was made.
pub(super) struct Made {
    pub(super) quantized: Graph,
    pub(super) noise: Vec<fit::Noise>,
    pub(super) tables: Tables,
}

/// Quantises with the options chosen, on all samples. `graph` has its sparse means.
#[expect(clippy::too_many_arguments, reason = "each is one input of quantisation")]
pub(super) fn finish(
    graph: &Graph,
    float: &[bool],
    bits: &[Form],
    all: &[&Vec<ArrayD<f32>>],
    observed: &Observed,
    options: &QuantizeOptions,
    choice: Choice,
    step: &mut dyn FnMut(usize),
) -> Result<Made> {
    let last: Vec<_> = evenly(all, affordable(graph, options.fit_samples), options.sequence);
    let seen = if is_large(graph) { &last } else { all };
    let tables = Tables::new(graph, float, seen, observed, options.sequence, step)?;
    let quants = tables.quants(graph, options, choice.clipping);
    let skeleton = skeleton::build(graph, float, &quants, options.io);
    let (quantized, noise) = fit(graph, &skeleton, bits, tables.seen(), &last, choice.settings, true, None)?;
    Ok(Made { quantized, noise, tables })
}

/// Multiply-accumulates of a pass over the samples that weights are fitted on.
const PASS: u64 = 1_000_000_000;

/// Number of samples to fit on: fewer than `wanted` for large networks, each of whose samples has many windows.
fn affordable(graph: &Graph, wanted: usize) -> usize {
    let most = usize::try_from(PASS / remedy::macs(graph).max(1)).unwrap_or(usize::MAX);
    wanted.min(most.max(2))
}

/// Whether a usual number of samples to fit on is not affordable.
fn is_large(graph: &Graph) -> bool {
    let usual = QuantizeOptions::default().fit_samples;
    affordable(graph, usual) < usual
}

/// Samples for ranges and weights while options are compared.
struct Fitting<'s> {
    ranges: Vec<&'s Vec<ArrayD<f32>>>,
    weights: Vec<&'s Vec<ArrayD<f32>>>,
}

/// Holds out every fourth sample, or every fourth sequence of samples; the last quarter of a single sequence. With fewer than
/// four samples, all serve both purposes.
fn split<'s>(
    all: &[&'s Vec<ArrayD<f32>>],
    limit: usize,
    sequence: Option<usize>,
) -> (Fitting<'s>, Vec<&'s Vec<ArrayD<f32>>>) {
    if all.len() < 4 {
        return (Fitting { ranges: all.to_vec(), weights: evenly(all, limit, sequence) }, all.to_vec());
    }
    let length = sequence.unwrap_or(1).min(all.len().div_ceil(4));
    let held_out = |i: usize| i / length % 4 == 3;
    let part =
        |held: bool| all.iter().enumerate().filter(|(i, _)| held_out(*i) == held).map(|(_, s)| *s).collect();
    let (ranges, held): (Vec<_>, Vec<_>) = (part(false), part(true));
    let weights = evenly(&ranges, limit, sequence);
    (Fitting { ranges, weights }, evenly(&held, limit, sequence))
}

/// At most `limit` samples, evenly taken; the first ones of a sequence.
pub(super) fn evenly<'s>(
    samples: &[&'s Vec<ArrayD<f32>>],
    limit: usize,
    sequence: Option<usize>,
) -> Vec<&'s Vec<ArrayD<f32>>> {
    let n = samples.len().min(limit);
    (0..n).map(|i| samples[if sequence.is_some() { i } else { i * samples.len() / n }]).collect()
}

/// Replaces average pools of sparse maps by operators that have a scale of their own on the device, so that the sum is rounded
/// once: global ones by means, others by convolutions with constant weights. Pools whose windows count a varying number of
/// elements have no such form.
pub(super) fn with_sparse_means(graph: &Graph, float: &[bool], observed: &mut Observed) -> Graph {
    let mut out = graph.clone();
    for n in (0..graph.nodes.len()).filter(|&n| !float[n]) {
        let node = &graph.nodes[n];
        let Op::Pool { window, activation, .. } = node.op else { continue };
        let shape = &graph.value(node.inputs[0]).shape;
        if !is_sparse_mean(node, &observed.range) {
            continue;
        }
        let kernel = window.kernel.map(usize::from);
        let whole = kernel == [shape[1], shape[2]] && window.pad == [0; 4] && window.dilation == [1; 2];
        if whole && activation == Activation::None {
            out.nodes[n].op = Op::Reduce { kind: ReduceKind::Mean, axes: vec![1, 2] };
            continue;
        }
        let (channels, area) = (shape[3], kernel[0] * kernel[1]);
        let mean = Data::F32(vec![1.0 / area as f32; channels * area]);
        let name = format!("{}/mean", graph.value(node.output).name);
        let weights = out.add_constant(name, vec![channels, kernel[0], kernel[1], 1], mean);
        out.nodes[n].op = Op::Conv2d { window, groups: channels, activation };
        out.nodes[n].inputs.push(weights);
        observed.add_constant();
    }
    out
}

/// Softmaxes all of whose probabilities are small, as over many tokens: the specification's scale of 1/256 gives them a few codes.
/// They become float32; why.
pub(super) fn flat_softmaxes(graph: &Graph, observed: &Observed, float: &mut [bool]) -> Vec<String> {
    const FLAT: f32 = 1.0 / 16.0;
    let mut reasons = Vec::new();
    for (node, float) in graph.nodes.iter().zip(float) {
        let most = observed.range[node.output.0 as usize].1;
        if matches!(node.op, Op::Softmax { .. }) && !*float && most > 0.0 && most <= FLAT {
            *float = true;
            reasons.push(format!(
                "operator `{}` ({}) stays float: its largest probability is {most:.4}, and the steps of int8 are {:.4}",
                node.name,
                node.op.name(),
                1.0 / 256.0
            ));
        }
    }
    reasons
}

/// Number of weight fits needed to compare options.
fn fits(options: &QuantizeOptions) -> usize {
    clippings(options, false).len()
        + usize::from(options.rounding == Rounding::Auto)
        + usize::from(options.bias_correction == Toggle::Auto)
}

/// Ways of clipping to compare. Large networks go without the one that is seldom the best.
fn clippings(options: &QuantizeOptions, large: bool) -> Vec<Clipping> {
    match options.clipping {
        Clipping::Auto if large => vec![Clipping::MinMax, Clipping::Mse],
        Clipping::Auto => vec![Clipping::MinMax, Clipping::Percentile(USUAL_PERCENTILE), Clipping::Mse],
        one => vec![one],
    }
}

/// Classes, the reach of their values, and their histograms.
pub(super) struct Tables {
    pub(super) reach: Reach,
    channels: Vec<Vec<(f32, f32)>>,
    classes: Classes,
    histograms: Vec<Option<Histogram>>,
    expected: Expected,
}

impl Tables {
    fn new(
        graph: &Graph,
        float: &[bool],
        samples: &[&Vec<ArrayD<f32>>],
        observed: &Observed,
        sequence: Option<usize>,
        step: &mut dyn FnMut(usize),
    ) -> Result<Self> {
        let (reach, ranges) = calibrate::settle(graph, observed)?;
        let classes = Classes::new(graph, float, &ranges, true);
        let joined = calibrate::class_ranges(graph, &classes, &reach, &ranges);
        let histograms = calibrate::histograms(graph, &classes, &joined, samples, sequence, step)?;
        let expected = Expected::new(graph, &classes, &reach, observed, &ranges, &joined);
        Ok(Self { reach, channels: observed.channels.clone(), classes, histograms, expected })
    }

    fn seen(&self) -> Seen<'_> {
        Seen { reach: &self.reach, channels: &self.channels }
    }

    /// Scale and zero point of each value.
    fn quants(&self, graph: &Graph, options: &QuantizeOptions, clipping: Clipping) -> Vec<Quant> {
        let mut quants = calibrate::quants(graph, &self.classes, &self.histograms, &self.expected, clipping);
        if options.input_room > 0.0 {
            calibrate::widen_inputs(graph, &self.classes, options.input_room, &mut quants);
        }
        quants
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
pub(super) struct Choice {
    pub(super) clipping: Clipping,
    pub(super) settings: Settings,
    pub(super) score: f32,
}

impl Search<'_> {
    /// Makes one choice after the other, each kept if it is worth it: ranges, rounding, bias correction.
    fn run(&self, step: &mut dyn FnMut(usize)) -> Result<Choice> {
        let sequence = self.options.sequence;
        let observed = calibrate::observe(self.graph, &self.fitting.ranges, sequence, step)?;
        let tables = Tables::new(self.graph, self.float, &self.fitting.ranges, &observed, sequence, step)?;
        let probes = probes(self.graph);
        let ids: Vec<_> = probes.iter().map(|p| p.id).collect();
        let exact = capture(self.graph, self.held_out, &ids, &tables.reach, sequence)?;
        let mut cache = fit::cache(self.graph, self.fitting.weights.len());
        let mut attempt = |clipping: Clipping, settings: Settings| -> Result<Choice> {
            let quants = tables.quants(self.graph, self.options, clipping);
            let skeleton = skeleton::build(self.graph, self.float, &quants, self.options.io);
            let (weights, cache) = (&self.fitting.weights, cache.as_mut());
            let (quantized, _) =
                fit(self.graph, &skeleton, self.bits, tables.seen(), weights, settings, false, cache)?;
            let outputs = capture(&quantized, self.held_out, &ids, &tables.reach, sequence)?;
            let score = score(&probes, &exact, &outputs);
            step(1);
            Ok(Choice { clipping, settings, score })
        };
        let first = Settings {
            weight_scale: self.options.weight_scale,
            feedback: self.options.rounding == Rounding::ErrorFeedback,
            correct_bias: self.options.bias_correction != Toggle::Off,
            sequence,
        };
        let mut best: Option<Choice> = None;
        for clipping in clippings(self.options, is_large(self.graph)) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantize::simulate;
    use offshoot_ir::{DType, PoolKind, Value, Window};

    /// One large element in each window of a map: the mean has a ninth of the map's range.
    #[test]
    fn pools_of_sparse_maps_have_their_own_scale() {
        for pad in [0, 1] {
            let mut g = Graph::default();
            let side = 6 + 2 * usize::from(pad) - 3 + 1;
            let mut value = |name: &str, side: usize| {
                g.add_value(Value {
                    name: name.into(),
                    shape: vec![1, side, side, 2],
                    dtype: DType::F32,
                    quant: None,
                    data: None,
                    channels_first_outside: false,
                })
            };
            let (x, y) = (value("x", 6), value("y", side));
            let window = Window { kernel: [3; 2], stride: [1; 2], dilation: [1; 2], pad: [pad; 4] };
            let op = Op::Pool { kind: PoolKind::AverageIncludePad, window, activation: Activation::None };
            g.nodes.push(offshoot_ir::Node { name: "pool".into(), op, inputs: vec![x], output: y });
            (g.inputs, g.outputs) = (vec![x], vec![y]);
            let sample = |i: usize| {
                let at = |k: usize| (k / 2 % 6 + k / 12 + i).is_multiple_of(3) && (k / 12).is_multiple_of(3);
                let values = (0..72).map(|k| if at(k) { 1.0 + (k * 7 % 5) as f32 / 3.7 } else { 0.0 });
                vec![ArrayD::from_shape_vec(vec![1, 6, 6, 2], values.collect()).unwrap()]
            };
            let samples: Vec<_> = (0..16).map(sample).collect();
            let (quantized, _) = quantize(&g, &samples, &QuantizeOptions::default()).unwrap();
            let (want, got) = (simulate(&g, &samples).unwrap(), simulate(&quantized, &samples).unwrap());
            let (mut signal, mut noise) = (0.0, 0.0);
            for (a, b) in want.iter().flatten().flatten().zip(got.iter().flatten().flatten()) {
                (signal, noise) = (signal + a * a, noise + (a - b) * (a - b));
            }
            let db = 10.0 * (signal / noise).log10();
            assert!(db > 36.0, "{db}");
        }
    }
}
