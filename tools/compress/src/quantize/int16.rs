//! Post-training quantisation to int16 activations and int8 weights ("16x8"), for networks that int8 hurts.
//!
//! As TensorFlow Lite defines it: symmetric activations with one scale per tensor, from calibration data; symmetric weights with
//! one scale per output channel, rounded to nearest; biases of scale input × weight, int32 where the layer's sums fit, else
//! int64. Sixteen bits leave room, so that ranges are widened by [`ROOM`], and nothing is searched; only numbers that say "never",
//! such as a mask's, saturate. Biases take up what rounded weights change in the mean of a channel (Nagel et al. 2019,
//! arXiv:1906.04721).

use std::collections::{HashMap, HashSet};

use ndarray::ArrayD;
use offshoot_ir::{BinaryKind, DType, Data, Graph, Node, Op, PoolKind, Quant, UnaryKind, Value, ValueId};

use super::calibrate;
use super::classes::is_activation;
use super::execute;
use super::form::is_weighted;
use super::options::QuantizeOptions;
use super::source;
use super::tensors::real_values;
use crate::{Error, Result};

/// Ranges seen are widened by this factor, at the price of a third of a bit.
const ROOM: f32 = 1.25;
/// Samples whose activations are held in memory at once.
const CHUNK: usize = 16;
/// Largest code of an activation.
const LARGEST: f32 = 32767.0;
/// Scale of the outputs of softmax, sigmoid and tanh: the kernels' own.
const UNIT: f32 = 1.0 / 32768.0;

/// Quantises `graph` (float, after the lossless passes). `samples` holds for each calibration sample one array for each graph
/// input, as real values. Operators without an int16 kernel, and those of `options.keep_float`, stay float32. Inputs and
/// outputs become int16.
///
/// # Errors
/// The data are missing, do not fit the graph, or contain a NaN or an infinity; the graph is already quantised.
pub fn quantize_int16(
    graph: &Graph,
    samples: &[Vec<ArrayD<f32>>],
    options: &QuantizeOptions,
) -> Result<Graph> {
    source::check(graph)?;
    calibrate::check(graph, samples)?;
    let (kept, _) = source::float_nodes(graph, options)?;
    let all: Vec<&Vec<ArrayD<f32>>> = samples.iter().collect();
    let observed = calibrate::observe(graph, &all, options.sequence, &mut |_| {})?;
    // Numbers that only say "never" saturate, as in int8.
    let (_, ranges) = calibrate::settle(graph, &observed)?;
    let mut b = Builder { graph: Graph { nodes: Vec::new(), ..graph.clone() }, converted: HashMap::new() };
    let scales = scales(graph, &ranges, &observed.whole);
    let means = means(graph, &all, options.sequence)?;
    for &id in &graph.inputs {
        if is_activation(graph, id) {
            b.set(id, scales[id.0 as usize]);
        }
    }
    for (node, kept) in graph.nodes.iter().zip(kept) {
        let mut node = node.clone();
        if kept || !has_kernel(graph, &node, &scales) {
            node.inputs = node.inputs.iter().map(|&id| b.as_float(id)).collect();
            b.graph.nodes.push(node);
            continue;
        }
        let inputs = node.inputs.clone();
        for (at, &id) in inputs.iter().enumerate() {
            let value = graph.value(id);
            node.inputs[at] = match &value.data {
                _ if value.dtype != DType::F32 => id,
                None => b.as_int16(id, scales[id.0 as usize]),
                Some(_) if is_weighted(&node.op) => id,
                Some(_) => {
                    b.constant(value, constant_ends(graph, &node.op, &inputs, at, node.output, &scales))
                }
            };
        }
        if is_weighted(&node.op) {
            let mean = means.get(&inputs[0]).map_or(&[][..], Vec::as_slice);
            b.layer(&mut node, scales[inputs[0].0 as usize], mean);
        }
        if is_activation(graph, node.output) {
            b.set(node.output, scales[node.output.0 as usize]);
        }
        b.graph.nodes.push(node);
    }
    for at in 0..graph.outputs.len() {
        let id = graph.outputs[at];
        if !is_activation(graph, id) {
            continue;
        }
        let new = b.as_int16(id, scales[id.0 as usize]);
        if new != id {
            let outside = b.graph.value(id).channels_first_outside;
            b.graph.value_mut(new).channels_first_outside = outside;
            if !graph.inputs.contains(&id) {
                b.graph.value_mut(id).channels_first_outside = false;
            }
        }
        b.graph.outputs[at] = new;
    }
    let fault = |e| Error::Execution { node: graph.name.clone(), source: Box::new(e) };
    b.graph.validate().map_err(fault)?;
    Ok(b.graph)
}

/// Whether int16 has a kernel for the node, which moves elements included.
fn has_kernel(graph: &Graph, node: &Node, scales: &[f32]) -> bool {
    use UnaryKind::{
        Abs, Clip, Elu, Erf, Exp, Gelu, GeluTanh, HardSigmoid, HardSwish, LeakyRelu, Neg, Sigmoid, Softplus,
        Tanh,
    };
    let constant = |i: usize| node.inputs.get(i).is_none_or(|&id| graph.value(id).data.is_some());
    match &node.op {
        Op::Conv2d { .. } | Op::FullyConnected { .. } => {
            constant(1) && constant(2) && graph.value(node.inputs[0]).data.is_none()
        }
        Op::Pool { kind, .. } => matches!(kind, PoolKind::Average | PoolKind::Max),
        Op::Binary { kind, .. } => {
            use BinaryKind::{Add, Max, Min, Mul, Sub};
            matches!(kind, Add | Sub | Mul | Min | Max)
        }
        // Between two entries of a table, which are 128 steps apart, a step would become a ramp.
        Op::Unary(HardSigmoid { alpha, .. }) => {
            f64::from(alpha.abs()) * 128.0 * f64::from(scales[node.inputs[0].0 as usize]) <= 1.0
        }
        Op::Unary(kind) => matches!(
            kind,
            Abs | Clip { .. }
                | Elu { .. }
                | Erf
                | Exp
                | Gelu
                | GeluTanh
                | HardSwish
                | LeakyRelu { .. }
                | Neg
                | Sigmoid
                | Softplus
                | Tanh
        ),
        Op::Pad { mode, value, .. } => mode.is_some() || *value == 0.0,
        Op::History { fill, .. } => *fill == 0.0,
        Op::Softmax { .. }
        | Op::Reduce { .. }
        | Op::Reshape
        | Op::Transpose { .. }
        | Op::Concat { .. }
        | Op::Slice { .. }
        | Op::Expand
        | Op::Gather(_) => true,
        _ => false,
    }
}

/// Useful range of the constant operand `at` of arithmetic: beyond it the output saturates, or stays at zero, whatever the other
/// operand is.
fn constant_ends(
    graph: &Graph,
    op: &Op,
    inputs: &[ValueId],
    at: usize,
    output: ValueId,
    scales: &[f32],
) -> f32 {
    let (Op::Binary { kind, .. }, Some(&other)) = (op, inputs.get(1 - at.min(1))) else {
        return f32::INFINITY;
    };
    if !is_activation(graph, output) || !is_activation(graph, other) {
        return f32::INFINITY;
    }
    let (output, other) = (scales[output.0 as usize], scales[other.0 as usize]);
    match kind {
        BinaryKind::Add | BinaryKind::Sub => LARGEST * (output + other),
        // The least magnitude of the other operand, except zero, is one step.
        BinaryKind::Mul => 2.0 * LARGEST * output / other,
        _ => f32::INFINITY,
    }
}

/// Largest whole numbers that stay exact in tables, whose entries are 128 steps apart.
const WHOLE: f32 = 255.0;

/// The scale of each value: that of its range, and a power of two for whole numbers, which stay exact; what only moves or selects elements keeps the scale of its input.
fn scales(graph: &Graph, ranges: &[(f32, f32)], whole: &[bool]) -> Vec<f32> {
    let of_range = |(low, high): (f32, f32)| {
        let largest = low.abs().max(high.abs()) * ROOM;
        if largest > 0.0 && largest.is_finite() { (largest / LARGEST).max(f32::MIN_POSITIVE) } else { UNIT }
    };
    // An error of a step in a truth value would let a mask of -1e9 through.
    let exact = |i: usize, (low, high): (f32, f32)| {
        let largest = low.abs().max(high.abs());
        let fits = whole.get(i).is_some_and(|w| *w) && (1.0..=WHOLE).contains(&largest);
        fits.then(|| (largest / LARGEST).log2().ceil().exp2())
    };
    let each = ranges.iter().enumerate();
    let mut scales: Vec<f32> =
        each.map(|(i, range)| exact(i, *range).unwrap_or_else(|| of_range(*range))).collect();
    for node in &graph.nodes {
        let out = node.output.0 as usize;
        // Nothing was observed of constants, and a padding that is not zero may lie beyond all that was.
        let moved = node.inputs.first().is_some_and(|&id| graph.value(id).data.is_none());
        match &node.op {
            Op::Softmax { .. } | Op::Unary(UnaryKind::Sigmoid | UnaryKind::Tanh) => scales[out] = UNIT,
            Op::Reshape
            | Op::Transpose { .. }
            | Op::Slice { .. }
            | Op::Expand
            | Op::Pad { .. }
            | Op::History { .. }
            | Op::Gather(_)
            | Op::Pool { .. }
                if moved && has_kernel(graph, node, &[]) =>
            {
                scales[out] = scales[node.inputs[0].0 as usize];
            }
            _ => {}
        }
    }
    scales
}

/// The mean of each channel (last axis) of what layers read.
fn means(
    graph: &Graph,
    samples: &[&Vec<ArrayD<f32>>],
    sequence: Option<usize>,
) -> Result<HashMap<ValueId, Vec<f64>>> {
    let layers = graph.nodes.iter().filter(|n| is_weighted(&n.op));
    let read: HashSet<ValueId> = layers.filter_map(|n| n.inputs.first().copied()).collect();
    let mut sums: HashMap<ValueId, (Vec<f64>, u64)> = HashMap::new();
    for chunk in samples.chunks(execute::chunk(CHUNK, samples.len(), sequence)) {
        execute::execute(graph, chunk, sequence, &mut |id, batch| {
            let Some(&channels) = graph.value(id).shape.last().filter(|_| read.contains(&id)) else {
                return Ok(());
            };
            for array in batch.iter() {
                let (sums, rows) = sums.entry(id).or_insert_with(|| (vec![0.0; channels], 0));
                // Memory may be in another order than the axes.
                array
                    .iter()
                    .zip((0..channels).cycle())
                    .for_each(|(v, channel)| sums[channel] += f64::from(*v));
                *rows += (array.len() / channels.max(1)) as u64;
            }
            Ok(())
        })?;
    }
    let mean = |(id, (sums, rows)): (ValueId, (Vec<f64>, u64))| {
        (id, sums.into_iter().map(|sum| sum / rows.max(1) as f64).collect())
    };
    Ok(sums.into_iter().map(mean).collect())
}

struct Builder {
    graph: Graph,
    /// Conversions made so far: (value, the bits of the scale of the int16 form, or None for float).
    converted: HashMap<(ValueId, Option<u32>), ValueId>,
}

impl Builder {
    fn set(&mut self, id: ValueId, scale: f32) {
        let value = self.graph.value_mut(id);
        (value.dtype, value.quant) = (DType::I16, Some(Quant::per_tensor(scale, 0)));
    }

    /// The value in float32.
    fn as_float(&mut self, id: ValueId) -> ValueId {
        if self.graph.value(id).dtype != DType::I16 {
            return id;
        }
        self.convert(id, Op::Dequantize, None)
    }

    /// The value in int16 with this scale.
    fn as_int16(&mut self, id: ValueId, scale: f32) -> ValueId {
        let value = self.graph.value(id);
        match (&value.quant, value.dtype) {
            (Some(quant), DType::I16) if quant.scale == [scale] => id,
            (_, DType::I16) => self.convert(id, Op::Requantize, Some(scale)),
            _ => self.convert(id, Op::Quantize, Some(scale)),
        }
    }

    fn convert(&mut self, id: ValueId, op: Op, scale: Option<f32>) -> ValueId {
        let key = (id, scale.map(f32::to_bits));
        if let Some(&done) = self.converted.get(&key) {
            return done;
        }
        let of = self.graph.value(id);
        let (dtype, suffix) = if scale.is_some() { (DType::I16, "int16") } else { (DType::F32, "float") };
        let value = Value {
            name: format!("{}.{suffix}.{}", of.name, self.graph.values.len()),
            shape: of.shape.clone(),
            dtype,
            quant: scale.map(|scale| Quant::per_tensor(scale, 0)),
            data: None,
            channels_first_outside: false,
        };
        let name = of.name.clone();
        let output = self.graph.add_value(value);
        self.graph.nodes.push(Node { name, op, inputs: vec![id], output });
        self.converted.insert(key, output);
        output
    }

    /// A constant operand in int16, whose magnitudes beyond `ends` saturate.
    fn constant(&mut self, value: &Value, ends: f32) -> ValueId {
        let mut reals = real_values(value);
        let largest_of =
            |reals: &[f32]| reals.iter().filter(|v| v.is_finite()).fold(0.0f32, |m, v| m.max(v.abs()));
        // Only where the range becomes much narrower: elsewhere every value counts.
        let infinite = reals.iter().any(|v| v.is_infinite());
        if ends.is_finite() && (infinite || largest_of(&reals) >= 2.0 * ends) {
            reals.iter_mut().for_each(|v| *v = v.clamp(-ends, ends));
        }
        let largest = largest_of(&reals);
        let scale = if largest > 0.0 { (largest / LARGEST).max(f32::MIN_POSITIVE) } else { UNIT };
        let codes = reals.iter().map(|v| (v / scale).round().clamp(-LARGEST, LARGEST) as i16).collect();
        let name = format!("{}.int16.{}", value.name, self.graph.values.len());
        let id = self.graph.add_constant(name, value.shape.clone(), Data::I16(codes));
        self.graph.value_mut(id).quant = Some(Quant::per_tensor(scale, 0));
        id
    }

    /// Weights and biases of a layer whose input has the scale `input`, and these means in each channel.
    fn layer(&mut self, node: &mut Node, input: f32, means: &[f64]) {
        let weights = self.graph.value(node.inputs[1]).clone();
        let channels = weights.shape[0].max(1);
        let reals = real_values(&weights);
        let fan_in = (reals.len() / channels).max(1);
        let depth = weights.shape.last().copied().unwrap_or(1).max(1);
        let groups = if let Op::Conv2d { groups, .. } = node.op { groups } else { 1 };
        let (mut codes, mut scales, mut sums) = (Vec::with_capacity(reals.len()), Vec::new(), Vec::new());
        let bias = node.inputs.get(2).map(|&id| real_values(self.graph.value(id)));
        let mut wide = false;
        for (channel, row) in reals.chunks(fan_in).enumerate() {
            let largest = row.iter().fold(0.0f32, |m, v| m.max(v.abs()));
            // A scale that vanishes next to the input's would leave no step for the bias.
            let scale = if largest > 0.0 { (largest / 127.0).max(1e-20) } else { 1.0 };
            let exact = row;
            let row: Vec<i8> = row.iter().map(|v| (v / scale).round().clamp(-127.0, 127.0) as i8).collect();
            // The inputs of this channel's group.
            let first = channel / (channels / groups).max(1) * depth;
            let means = means.get(first..first + depth).unwrap_or(&[]);
            let lost = exact.iter().zip(&row).enumerate().map(|(i, (w, q))| {
                let mean = means.get(i % depth).copied().unwrap_or(0.0);
                (f64::from(*w) - f64::from(*q) * f64::from(scale)) * mean
            });
            let real = bias.as_ref().and_then(|b| b.get(channel)).copied().unwrap_or(0.0);
            let real = f64::from(real) + lost.sum::<f64>();
            let sum = (real / (f64::from(scale) * f64::from(input))).round() as i64;
            let products: i64 = row.iter().map(|&w| i64::from(w.unsigned_abs())).sum::<i64>() << 15;
            wide |= products.saturating_add(sum.saturating_abs()) > i64::from(i32::MAX);
            codes.extend(row);
            scales.push(scale);
            sums.push(sum);
        }
        let quant = |scale: Vec<f32>| Quant { zero_point: vec![0; scale.len()], scale, axis: Some(0) };
        let steps: Vec<f32> = scales.iter().map(|s| (s * input).max(f32::MIN_POSITIVE)).collect();
        let (name, count) = (format!("{}.{}", node.name, weights.name), sums.len());
        let id = self.graph.add_constant(format!("{name}.int8"), weights.shape, Data::I8(codes));
        self.graph.value_mut(id).quant = Some(quant(scales));
        node.inputs.truncate(1);
        node.inputs.push(id);
        let data = match wide {
            true => Data::I64(sums),
            false => Data::I32(sums.into_iter().map(|s| s as i32).collect()),
        };
        let id = self.graph.add_constant(format!("{name}.sums"), vec![count], data);
        self.graph.value_mut(id).quant = Some(quant(steps));
        node.inputs.push(id);
    }
}
