//! Quantisation with known numbers: step sizes of weights and ranges of activations that training has found. Nothing
//! is calibrated or fitted, so that the result is the network that was trained.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use offshoot_ir::grid::{self, quant_of_range};
use offshoot_ir::{DType, Data, Graph, Node, Op, Quant, ValueId};

use super::calibrate;
use super::classes::{Classes, is_activation};
use super::form::{Form, is_weighted};
use super::options::QuantizeOptions;
use super::reach::Reach;
use super::skeleton;
use super::source;
use super::tensors::real_values;
use super::trained::Learned;
use crate::{Error, Result};

/// Quantises `graph` (float, after the lossless passes) with the step sizes and ranges of `learned`. Of `options`,
/// only the weight bits, the float operators and the element type of inputs and outputs count. Weights without step
/// sizes get those that represent the largest weight of each channel.
///
/// # Errors
/// A tensor has no range; step sizes do not fit the network; options are out of range.
pub fn quantize_learned(graph: &Graph, learned: &Learned, options: &QuantizeOptions) -> Result<Graph> {
    source::check(graph)?;
    let (float, _) = source::float_nodes(graph, options)?;
    let forms = options.weight_bits.of(graph)?;
    let ranges: Vec<(f32, f32)> = (graph.values.iter())
        .map(|v| learned.ranges.get(&v.name).copied().unwrap_or_default())
        .map(|(low, high)| (low.min(0.0), high.max(0.0)))
        .collect();
    let classes = Classes::new(graph, &float, &ranges, false);
    check_ranges(graph, &float, learned, &classes)?;
    let widened = calibrate::class_ranges(graph, &classes, &Reach::whole(graph), &ranges);
    let fixed = calibrate::fixed_classes(graph, &classes);
    let quant = |i: usize| {
        let class = classes.find(ValueId(i as u32)) as usize;
        fixed[class].clone().unwrap_or_else(|| quant_of_range(widened[class].0, widened[class].1))
    };
    let quants: Vec<Quant> = (0..graph.values.len()).map(quant).collect();
    let built = skeleton::build(graph, &float, &quants, options.io);
    let mut out = built.graph;
    for (at, origin) in built.origin.iter().enumerate() {
        let node = out.nodes[at].clone();
        let Some(k) = *origin else { continue };
        if is_weighted(&node.op) && out.value(node.output).dtype == DType::I8 {
            let steps = learned.steps.get(&graph.nodes[k].name);
            write_weights(&mut out, &node, forms[k], steps.map(Vec::as_slice))?;
        }
    }
    Ok(out)
}

/// Every tensor that becomes int8 needs a range of its own or from its class.
fn check_ranges(graph: &Graph, float: &[bool], learned: &Learned, classes: &Classes) -> Result<()> {
    for (name, &(low, high)) in &learned.ranges {
        if !(low.is_finite() && high.is_finite() && low <= high) {
            return Err(bad("ranges", format!("`{name}` has the invalid range {low} to {high}")));
        }
    }
    if let Some(name) = learned.ranges.keys().find(|n| !graph.values.iter().any(|v| v.name == **n)) {
        return Err(bad("ranges", format!("the network has no tensor `{name}`")));
    }
    if let Some(name) = learned.steps.keys().find(|n| !graph.nodes.iter().any(|v| v.name == **n)) {
        return Err(bad("steps", format!("the network has no operator `{name}`")));
    }
    let fixed = calibrate::fixed_classes(graph, classes);
    let known: BTreeSet<u32> = (0..graph.values.len() as u32)
        .filter(|&i| learned.ranges.contains_key(&graph.values[i as usize].name))
        .map(|i| classes.find(ValueId(i)))
        .collect();
    let whole = graph.nodes.iter().zip(float).filter(|(_, float)| !**float).map(|(n, _)| n);
    let used = whole.flat_map(|n| n.inputs.iter().copied().chain([n.output]));
    for id in graph.inputs.iter().copied().chain(used) {
        let class = classes.find(id);
        if is_activation(graph, id) && !known.contains(&class) && fixed[class as usize].is_none() {
            return Err(bad("ranges", format!("there is none for tensor `{}`", graph.value(id).name)));
        }
    }
    Ok(())
}

fn bad(option: &'static str, reason: String) -> Error {
    Error::Option { option, reason }
}

/// Rounds weights and biases to the nearest codes.
fn write_weights(graph: &mut Graph, node: &Node, form: Form, steps: Option<&[f32]>) -> Result<()> {
    let Form::Even(bits) = form else {
        return Err(bad("levels", format!("`{}`: a codebook is fitted to data, not learned", node.name)));
    };
    let (x, w, b) = (node.inputs[0], node.inputs[1], node.inputs[2]);
    let scale_of = |id: ValueId| graph.value(id).quant.as_ref().map_or(1.0, |q| q.scale[0]);
    let (input, output) = (scale_of(x), scale_of(node.output));
    let (real, bias) = (real_values(graph.value(w)), real_values(graph.value(b)));
    let channels = graph.value(w).shape.first().copied().unwrap_or(0);
    let width = real.len().checked_div(channels).unwrap_or(0).max(1);
    let (top, spread) = (grid::top(bits), grid::spread(bits));
    let steps: Vec<f32> = match steps {
        Some(steps) if steps.len() != channels => {
            let (name, found) = (&node.name, steps.len());
            return Err(bad(
                "steps",
                format!("`{name}` has {channels} output channels, but {found} steps are given"),
            ));
        }
        Some(steps) => steps.to_vec(),
        None => real.chunks(width).map(|w| w.iter().fold(0.0f32, |m, v| m.max(v.abs())) / top).collect(),
    };
    if let Some(step) = steps.iter().find(|s| !(s.is_finite() && **s >= 0.0)) {
        return Err(bad("steps", format!("`{}`: {step} is no step", node.name)));
    }
    // For a channel of zeros: the largest step size of the tensor.
    let usual = steps.iter().copied().fold(0.0f32, f32::max);
    let usual = if usual > 0.0 { usual } else { 1.0 };
    let scales: Vec<f32> = (steps.iter().zip(&bias))
        .map(|(step, b)| {
            let least = super::fit::least_scale(*b, input, output) * f32::from(spread);
            let step = if *step == 0.0 { usual } else { *step };
            step.max(least)
        })
        .collect();
    let codes: Vec<i8> = (real.iter().enumerate())
        .map(|(i, v)| grid::weight_code(*v, scales[i / width], top) * spread)
        .collect();
    let scales: Vec<f32> = scales.iter().map(|s| s / f32::from(spread)).collect();
    let bias_scales: Vec<f32> = scales.iter().map(|s| input * s).collect();
    let biases: Vec<i32> = (bias.iter().zip(&bias_scales))
        .map(|(b, s)| (f64::from(*b) / f64::from(*s)).round().clamp(-2147483647.0, 2147483647.0) as i32)
        .collect();
    let quant = |scale: Vec<f32>| Some(Quant { zero_point: vec![0; channels], scale, axis: Some(0) });
    let value = graph.value_mut(w);
    (value.dtype, value.quant, value.data) = (DType::I8, quant(scales), Some(Arc::new(Data::I8(codes))));
    let value = graph.value_mut(b);
    (value.dtype, value.quant) = (DType::I32, quant(bias_scales));
    value.data = Some(Arc::new(Data::I32(biases)));
    Ok(())
}

/// The step sizes and ranges of `quantized`, the post-training quantisation of `graph` with `options`: the starting
/// point of training.
///
/// # Errors
/// `quantized` was not made from `graph`.
pub fn numbers(graph: &Graph, quantized: &Graph, options: &QuantizeOptions) -> Result<Learned> {
    let forms = options.weight_bits.of(graph)?;
    // Skeletons keep operators in order, with conversions between them.
    let by_output: HashMap<ValueId, &Node> = quantized.nodes.iter().map(|n| (n.output, n)).collect();
    let mut out = Learned::default();
    for (node, form) in graph.nodes.iter().zip(&forms) {
        let Some(made) = by_output.get(&node.output).filter(|n| is_weighted(&n.op)) else { continue };
        if let (Some(quant), Form::Even(bits)) = (&quantized.value(made.inputs[1]).quant, form) {
            let spread = f32::from(grid::spread(*bits));
            out.steps.insert(node.name.clone(), quant.scale.iter().map(|s| s * spread).collect());
        }
    }
    let own = (0..graph.values.len() as u32).map(|i| (ValueId(i), ValueId(i)));
    // A value that stays float is converted for readers that take int8.
    let converted = quantized.nodes.iter().filter(|n| n.op == Op::Quantize).map(|n| (n.inputs[0], n.output));
    for (id, holder) in own.chain(converted) {
        let known = graph.values.get(id.0 as usize).filter(|_| is_activation(graph, id));
        if let (Some(value), Some(quant)) = (known, &quantized.value(holder).quant) {
            out.ranges.insert(value.name.clone(), grid::bounds(quant));
        }
    }
    Ok(out)
}
