//! Operators that stay float32 so that the outputs are more than noise.
//!
//! Some networks have operators that enlarge small errors: a threshold turns a wrong last bit into a wrong decision. Their
//! operands then need more than 8 bits. Which operators to keep in float32 is measured: regions of the network upstream of an
//! output, or of an operator that loses most, are tried from the cheapest on, streams of sums before all others. The first one that
//! reaches the target is then reduced operator by operator.

use std::collections::BTreeSet;

use ndarray::ArrayD;
use offshoot_ir::{DType, Data, Graph, Node, Op, ValueId};

use super::calibrate;
use super::execute::execute;
use super::form::is_weighted;
use super::functions;
use super::options::{QuantizeOptions, Rounding, Settings, Toggle};
use super::post_training::{self, Choice, POOR_DB};
use super::reach::{Observed, Reach};
use super::report::QuantizeReport;
use super::simulate::capture;
use super::source;
use super::streams::streams;
use super::tensors::{Batch, decibels, energies, real_values, round};
use crate::Result;

/// Work of all trials, in multiply-accumulates.
const WORK: u64 = 20_000_000_000;
/// Most trials, and fewest: int8 alone, and two streams.
const MOST: u64 = 64;
const LEAST: u64 = 3;
/// An output below this is looked after: on other samples it may fall below 20 dB.
const START_DB: f32 = POOR_DB + 3.0;
/// A region should reach this much more.
const SPARE_DB: f32 = 2.0;
/// From this many samples on, a quarter of them judges and takes no part in calibration. A handful of samples is no judge of
/// decisions, such as those of a threshold.
const HELD_OUT: usize = 64;
/// A larger region must be this much better than a smaller one, in dB.
const WORTH_DB: f32 = 0.5;
/// An operator loses much if its output has this much less than its inputs, in dB.
const LOSS_DB: f32 = 6.0;
/// Operators with a loss that are tried.
const LOSERS: usize = 3;
/// Distances upstream of an operator that are tried.
const DISTANCES: [usize; 9] = [0, 1, 2, 3, 4, 6, 8, 12, usize::MAX];
/// Cost of a multiply-accumulate and of an element in float32, in instructions, roughly.
const COSTS: [u64; 2] = [10, 80];

/// Operators to keep in float32.
#[derive(Clone, Debug, PartialEq)]
pub struct Remedy {
    /// Names of the tensors that they complete, for [`QuantizeOptions::keep_float`].
    pub tensors: Vec<String>,
    /// Their names.
    pub operators: Vec<String>,
    /// Signal-to-noise ratio in dB of the output with the lowest one, in int8.
    pub before_db: f32,
    /// The same with these operators in float32.
    pub after_db: f32,
}

/// Looks for operators to keep in float32 if an output of the network that `report` describes has less than 23 dB, on samples
/// that its ranges and weights were not fitted on if there are enough. `None` if all have more, or if float32 operators do not
/// help. `options` are those of the report. Deterministic.
///
/// # Errors
/// The samples do not fit the graph.
pub fn remedy(
    graph: &Graph,
    samples: &[Vec<ArrayD<f32>>],
    options: &QuantizeOptions,
    report: &QuantizeReport,
) -> Result<Option<Remedy>> {
    let poor = |id: &ValueId| {
        let made = graph.producer(*id).and_then(|n| report.operators.get(n));
        // Other samples may be worse than those of calibration.
        made.is_some_and(|o| o.output_snr_db < START_DB + SPARE_DB)
    };
    if !graph.outputs.iter().any(poor) {
        return Ok(None);
    }
    let all = post_training::without(samples, &report.left_out);
    let (all, judging) = split(all, options.sequence);
    let (mut float, _) = source::float_nodes(graph, options)?;
    let mut observed = calibrate::observe(graph, &all, options.sequence, &mut |_| {})?;
    post_training::flat_softmaxes(graph, &observed, &mut float);
    let graph = &post_training::with_sparse_means(graph, &float, &mut observed);
    let (judging, exact) = reference(graph, &judging, options)?;
    let trials = (WORK / (macs(graph) * all.len() as u64).max(1)).clamp(LEAST, MOST);
    let mut search = Search {
        graph,
        all: &all,
        judging: &judging,
        options,
        observed: &observed,
        report,
        exact: &exact,
        left: trials,
        best: None,
    };
    let Some(before_db) = search.attempt(&float)?.filter(|db| *db < START_DB) else { return Ok(None) };
    search.best = None;
    let mut tried: BTreeSet<Vec<usize>> = BTreeSet::new();
    let mut regions: Vec<Vec<usize>> = Vec::new();
    for root in search.roots() {
        for distance in DISTANCES {
            let region = upstream(graph, root, distance, &float);
            if !region.is_empty() && tried.insert(region.clone()) {
                regions.push(region);
            }
        }
    }
    regions.sort_by_key(|region| (cost_of(graph, region), region.clone()));
    let mut streams = streams(graph, &float);
    streams.retain(|stream| tried.insert(stream.clone()));
    for region in streams.iter().chain(&regions) {
        let db = search.attempt(&with(&float, region))?;
        search.consider(region, db);
        if search.best.as_ref().is_some_and(|(_, db)| *db >= START_DB + SPARE_DB) {
            break;
        }
    }
    let Some((mut region, mut after_db)) = search.best.take() else { return Ok(None) };
    if after_db < before_db + 1.0 {
        return Ok(None);
    }
    // Without those that are not needed, from the upstream end: an operator between two in float32 saves nothing in int8. A stream
    // stays whole: it is cheap, and each end of a part of it is a conversion.
    if streams.contains(&region) {
        search.left = 0;
    }
    let enough = if after_db >= START_DB + SPARE_DB { START_DB + SPARE_DB } else { after_db - WORTH_DB };
    let mut settled: BTreeSet<usize> = BTreeSet::new();
    while let Some(node) = first_of(graph, &region, &settled) {
        let fewer: Vec<usize> = region.iter().copied().filter(|&n| n != node).collect();
        let db = if fewer.is_empty() { None } else { search.attempt(&with(&float, &fewer))? };
        match db.filter(|db| *db >= enough) {
            Some(db) => (region, after_db) = (fewer, db),
            None => drop(settled.insert(node)),
        }
    }
    let tensor = |n: &usize| graph.value(graph.nodes[*n].output).name.clone();
    let mut operators: Vec<String> = region.iter().map(|&n| graph.nodes[n].name.clone()).collect();
    operators.dedup();
    Ok(Some(Remedy { tensors: region.iter().map(tensor).collect(), operators, before_db, after_db }))
}

/// Signal-to-noise ratio in dB of the float network's output with the lowest one if only graph inputs and weights are rounded
/// to int8. No int8 form of the network can be expected to exceed it. `quantized` gives the scales of the inputs.
///
/// # Errors
/// The samples do not fit the graph.
pub fn rounded_oracle_db(
    graph: &Graph,
    quantized: &Graph,
    samples: &[Vec<ArrayD<f32>>],
    options: &QuantizeOptions,
) -> Result<f32> {
    let all: Vec<&Vec<ArrayD<f32>>> = samples.iter().collect();
    let (taken, exact) = reference(graph, &all, options)?;
    let mut rounded = graph.clone();
    for node in &graph.nodes {
        let weights = match node.op {
            _ if is_weighted(&node.op) => 1..2,
            Op::Recurrent { .. } => 1..3,
            _ => continue,
        };
        for &id in &node.inputs[weights] {
            if graph.value(id).data.is_some() {
                let value = rounded.value_mut(id);
                let codes = on_grid(&real_values(value), value.shape.first().copied().unwrap_or(1));
                value.data = Some(std::sync::Arc::new(Data::F32(codes)));
            }
        }
    }
    let mut outputs: Vec<Batch> = vec![Vec::new(); graph.outputs.len()];
    execute(&rounded, &taken, options.sequence, &mut |id, batch| {
        if let Some(at) = graph.inputs.iter().position(|i| *i == id) {
            round(quantized, quantized.inputs[at], batch);
        }
        for (output, wanted) in outputs.iter_mut().zip(&graph.outputs) {
            if *wanted == id {
                output.clone_from(batch);
            }
        }
        Ok(())
    })?;
    Ok(lowest(graph, &exact, &outputs))
}

/// Weights rounded to int8, with one scale for each of `channels`.
fn on_grid(weights: &[f32], channels: usize) -> Vec<f32> {
    let width = (weights.len() / channels.max(1)).max(1);
    let row = |row: &[f32]| {
        let scale = row.iter().fold(0.0f32, |m, v| m.max(v.abs())) / 127.0;
        row.iter().map(|v| if scale > 0.0 { (v / scale).round() * scale } else { 0.0 }).collect::<Vec<f32>>()
    };
    weights.chunks(width).flat_map(row).collect()
}

/// Samples to calibrate on, and samples to judge on: every fourth, if there are enough and no sequence is torn.
fn split(
    all: Vec<&Vec<ArrayD<f32>>>,
    sequence: Option<usize>,
) -> (Vec<&Vec<ArrayD<f32>>>, Vec<&Vec<ArrayD<f32>>>) {
    if all.len() < HELD_OUT || sequence.is_some() {
        return (all.clone(), all);
    }
    let part = |judges: bool| {
        let some = all.iter().enumerate().filter(|(i, _)| (i % 4 == 3) == judges);
        some.map(|(_, sample)| *sample).collect()
    };
    (part(false), part(true))
}

/// The samples that outputs are compared on, and the float network's outputs.
fn reference<'s>(
    graph: &Graph,
    all: &[&'s Vec<ArrayD<f32>>],
    options: &QuantizeOptions,
) -> Result<(Vec<&'s Vec<ArrayD<f32>>>, Vec<Batch>)> {
    let taken = post_training::evenly(all, options.fit_samples, options.sequence);
    let exact = capture(graph, &taken, &graph.outputs, &Reach::whole(graph), options.sequence)?;
    Ok((taken, exact))
}

/// The lowest signal-to-noise ratio of the outputs, in dB. Integers and outputs that are zero do not count.
pub(super) fn lowest(graph: &Graph, exact: &[Batch], got: &[Batch]) -> f32 {
    let outputs = graph.outputs.iter().zip(exact).zip(got);
    let one = |((id, exact), got): ((&ValueId, &Batch), &Batch)| {
        let (signal, noise) = energies(exact, got);
        (graph.value(*id).dtype == DType::F32 && signal > 0.0 && signal.is_finite())
            .then(|| decibels(signal, noise))
    };
    outputs.filter_map(one).fold(200.0, f32::min)
}

struct Search<'a> {
    graph: &'a Graph,
    all: &'a [&'a Vec<ArrayD<f32>>],
    /// Samples on which regions are judged.
    judging: &'a [&'a Vec<ArrayD<f32>>],
    options: &'a QuantizeOptions,
    observed: &'a Observed,
    report: &'a QuantizeReport,
    exact: &'a [Batch],
    /// Trials left.
    left: u64,
    /// Best region so far, and what it reaches.
    best: Option<(Vec<usize>, f32)>,
}

impl Search<'_> {
    /// What the outputs reach with these operators in float32; `None` if no trial is left.
    fn attempt(&mut self, float: &[bool]) -> Result<Option<f32>> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let float = &functions::joined(self.graph, float);
        let settings = Settings {
            weight_scale: self.report.weight_scale,
            feedback: self.report.rounding == Rounding::ErrorFeedback,
            correct_bias: self.report.bias_correction && self.options.bias_correction != Toggle::Off,
            sequence: self.options.sequence,
        };
        let choice = Choice { clipping: self.report.clipping, settings, score: 0.0 };
        let bits = self.options.weight_bits.of(self.graph)?;
        let made = post_training::finish(
            self.graph,
            float,
            &bits,
            self.all,
            self.observed,
            self.options,
            choice,
            &mut |_| {},
        )?;
        let outputs = capture(
            &made.quantized,
            self.judging,
            &made.quantized.outputs,
            &made.tables.reach,
            self.options.sequence,
        )?;
        Ok(Some(lowest(self.graph, self.exact, &outputs)))
    }

    /// Remembers a region if it is clearly better than the cheaper ones before it.
    fn consider(&mut self, region: &[usize], db: Option<f32>) {
        let Some(db) = db else { return };
        if self.best.as_ref().is_none_or(|(_, best)| db > best + WORTH_DB) {
            self.best = Some((region.to_vec(), db));
        }
    }

    /// Operators upstream of which float32 may help: those that lose most, and those that complete outputs.
    fn roots(&self) -> Vec<usize> {
        let g = self.graph;
        let after = |n: usize| self.report.operators.get(n).map_or(200.0, |o| o.output_snr_db);
        let loss = |n: usize| {
            let before = g.nodes[n].inputs.iter().filter_map(|&id| g.producer(id)).map(after);
            before.fold(60.0f32, f32::min) - after(n)
        };
        let mut losers: Vec<usize> = (0..g.nodes.len()).filter(|&n| loss(n) > LOSS_DB).collect();
        losers.sort_by(|&a, &b| loss(b).total_cmp(&loss(a)));
        losers.truncate(LOSERS);
        losers.extend(g.outputs.iter().filter_map(|&id| g.producer(id)));
        losers
    }
}

/// Operators at most `distance` upstream of `root`, itself included, that are not float32 already; ascending.
fn upstream(graph: &Graph, root: usize, distance: usize, float: &[bool]) -> Vec<usize> {
    let mut found = BTreeSet::from([root]);
    let mut edge = vec![root];
    for _ in 0..distance.min(graph.nodes.len()) {
        let before =
            edge.iter().flat_map(|&n| graph.nodes[n].inputs.iter().filter_map(|&id| graph.producer(id)));
        edge = before.filter(|&n| found.insert(n)).collect();
        if edge.is_empty() {
            break;
        }
    }
    found.into_iter().filter(|&n| !float[n]).collect()
}

/// The costliest operator of a region that reads no other one of it and is not settled.
fn first_of(graph: &Graph, region: &[usize], settled: &BTreeSet<usize>) -> Option<usize> {
    let inner = |id: &ValueId| graph.producer(*id).is_some_and(|n| region.contains(&n));
    let open =
        region.iter().copied().filter(|n| !settled.contains(n) && !graph.nodes[*n].inputs.iter().any(inner));
    open.max_by_key(|&n| cost(graph, &graph.nodes[n]))
}

fn with(float: &[bool], region: &[usize]) -> Vec<bool> {
    let mut float = float.to_vec();
    region.iter().for_each(|&n| float[n] = true);
    float
}

/// Multiply-accumulates of a run, roughly.
pub(super) fn macs(graph: &Graph) -> u64 {
    graph.nodes.iter().map(|n| node_macs(graph, n)).sum()
}

fn node_macs(graph: &Graph, node: &Node) -> u64 {
    let out = graph.value(node.output).len() as u64;
    let weight = node.inputs.get(1).map(|&id| graph.value(id));
    match node.op {
        _ if is_weighted(&node.op) => {
            let channels = weight.and_then(|w| w.shape.first()).copied().unwrap_or(1).max(1);
            out * (weight.map_or(0, |w| w.len()) / channels) as u64
        }
        Op::MatMul { .. } => out * graph.value(node.inputs[0]).shape.last().copied().unwrap_or(1) as u64,
        Op::Recurrent { .. } => {
            let x = graph.value(node.inputs[0]);
            let steps = x.shape.get(1).copied().unwrap_or(1);
            let weights: usize = node.inputs[1..3].iter().map(|&id| graph.value(id).len()).sum();
            (steps * weights) as u64
        }
        _ => out,
    }
}

fn cost(graph: &Graph, node: &Node) -> u64 {
    COSTS[0] * node_macs(graph, node) + COSTS[1] * graph.value(node.output).len() as u64
}

fn cost_of(graph: &Graph, region: &[usize]) -> u64 {
    region.iter().map(|&n| cost(graph, &graph.nodes[n])).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantize::quantize;
    use offshoot_ir::{Activation, BinaryKind, UnaryKind, Value};

    /// Sums of a product that are compared with a threshold: spikes.
    fn spiking() -> (Graph, Vec<Vec<ArrayD<f32>>>) {
        let mut g = Graph::default();
        let mut value = |name: &str, n: usize| {
            g.add_value(Value {
                name: name.into(),
                shape: vec![1, n],
                dtype: DType::F32,
                quant: None,
                data: None,
                channels_first_outside: false,
            })
        };
        let (x, s, m, d, y) = (value("x", 8), value("s", 64), value("m", 64), value("d", 64), value("y", 64));
        let mut seed = 1u32;
        let mut noise = |n: usize, scale: f32| -> Vec<f32> {
            (0..n)
                .map(|_| {
                    seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    ((seed >> 8) as f32 / 8_388_608.0 - 1.0) * scale
                })
                .collect()
        };
        let w = g.add_constant("w", vec![64, 8], Data::F32(noise(512, 1.0)));
        let t = g.add_constant("t", vec![64], Data::F32(noise(64, 0.2)));
        let scale = g.add_constant("scale", vec![64], Data::F32(noise(64, 4.0)));
        let mut node = |name: &str, op: Op, inputs: Vec<ValueId>, output: ValueId| {
            g.nodes.push(Node { name: name.into(), op, inputs, output });
        };
        let binary = |kind| Op::Binary { kind, activation: Activation::None };
        node("sum", Op::FullyConnected { activation: Activation::None }, vec![x, w], s);
        node("scaled", binary(BinaryKind::Mul), vec![s, scale], m);
        node("beyond", binary(BinaryKind::Sub), vec![m, t], d);
        node("spike", Op::Unary(UnaryKind::HardSigmoid { alpha: 1e30, beta: 0.0 }), vec![d], y);
        (g.inputs, g.outputs) = (vec![x], vec![y]);
        let samples =
            (0..16).map(|_| vec![ArrayD::from_shape_vec(vec![1, 8], noise(8, 1.0)).unwrap()]).collect();
        (g, samples)
    }

    #[test]
    fn what_a_threshold_reads_is_kept() {
        let (graph, samples) = spiking();
        let options = QuantizeOptions::default();
        let (quantized, report) = quantize(&graph, &samples, &options).unwrap();
        let found = remedy(&graph, &samples, &options, &report).unwrap().unwrap();
        assert!(found.before_db < POOR_DB && found.after_db > found.before_db + 1.0, "{found:?}");
        let kept = QuantizeOptions { keep_float: found.tensors.clone(), ..options.clone() };
        let (_, again) = quantize(&graph, &samples, &kept).unwrap();
        assert_eq!(again.operators.iter().filter(|o| o.float).count(), found.tensors.len());
        let oracle = rounded_oracle_db(&graph, &quantized, &samples, &options).unwrap();
        assert!(oracle > found.before_db, "{oracle} {found:?}");
    }

    #[test]
    fn a_good_network_needs_none() {
        let (mut graph, samples) = spiking();
        // Without the threshold.
        graph.nodes.pop();
        graph.outputs = vec![graph.nodes[2].output];
        let options = QuantizeOptions::default();
        let (_, report) = quantize(&graph, &samples, &options).unwrap();
        assert_eq!(remedy(&graph, &samples, &options, &report).unwrap(), None);
    }
}
