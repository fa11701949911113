//! Linear layers that a quantised network leaves in float because no QuantizeLinear follows them: quantisation-aware
//! exports often end so. Samples give the range of their output; weights that came from integers are those integers again.

use std::collections::{HashMap, HashSet};

use ndarray::ArrayD;
use offshoot_ir::grid::quant_of_range;
use offshoot_ir::{DType, Data, Graph, Node, Op, Quant, Value, ValueId};

use super::calibrate::check;
use super::measure;
use super::source::is_meant;
use super::tensors::real_values;
use crate::Result;

/// Largest code of a weight.
const TOP: i32 = 127;
/// How far from a whole number of steps a weight may lie that came from an integer.
const ON_GRID: f64 = 1e-3;

/// Gives an int8 output to each convolution and fully connected layer that reads an int8 tensor and writes float32: its range
/// is that of the samples. Returns the graph and the names of these layers. Values keep their places in the graph; new ones
/// follow. Layers whose name or kind `keep_float` lists stay as they are.
///
/// # Errors
/// The samples do not fit the graph.
pub fn complete(
    graph: &Graph,
    samples: &[Vec<ArrayD<f32>>],
    keep_float: &[String],
) -> Result<(Graph, Vec<String>)> {
    check(graph, samples)?;
    let candidates = candidates(graph, keep_float);
    let ids: Vec<ValueId> = candidates.iter().map(|&n| graph.nodes[n].output).collect();
    if ids.is_empty() {
        return Ok((graph.clone(), Vec::new()));
    }
    let ranges = measure::ranges(graph, samples, &ids)?;
    let range = |&n: &usize| {
        let (low, high) = *ranges.get(&graph.nodes[n].output)?;
        Some((n, quant_of_range(low, high)))
    };
    let ranges: HashMap<usize, Quant> = candidates.iter().filter_map(range).collect();
    Ok(rebuild(graph, &ranges))
}

/// Nodes that could be int8 but for the range of their output. A layer may read another's output.
fn candidates(graph: &Graph, keep_float: &[String]) -> Vec<usize> {
    let constant = |id: &ValueId| graph.value(*id).data.is_some();
    let mut int8: HashSet<ValueId> = HashSet::new();
    let mut found = Vec::new();
    for (n, node) in graph.nodes.iter().enumerate() {
        if matches!(node.op, Op::Dequantize) || is_movement(node) && int8.contains(&node.inputs[0]) {
            int8.insert(node.output);
            continue;
        }
        let linear =
            matches!(node.op, Op::Conv2d { .. } | Op::ConvTranspose2d { .. } | Op::FullyConnected { .. });
        let quantised_after =
            graph.consumers(node.output).iter().any(|&c| matches!(graph.nodes[c].op, Op::Quantize));
        let kept = keep_float.iter().any(|k| is_meant(graph, node, k));
        if linear
            && graph.value(node.output).dtype == DType::F32
            && int8.contains(&node.inputs[0])
            && node.inputs[1..].iter().all(constant)
            && !quantised_after
            && !kept
        {
            int8.insert(node.output);
            found.push(n);
        }
    }
    found
}

/// Whether the operator hands on the numbers of its input: it does so in int8 as well.
fn is_movement(node: &Node) -> bool {
    matches!(node.op, Op::Reshape | Op::Transpose { .. })
}

/// Tensors that lie between a Dequantize and a layer of `ranges`.
fn moved(graph: &Graph, ranges: &HashMap<usize, Quant>) -> HashSet<ValueId> {
    let mut wanted: HashSet<ValueId> = ranges.keys().map(|&n| graph.nodes[n].inputs[0]).collect();
    for node in graph.nodes.iter().rev().filter(|n| is_movement(n)) {
        if wanted.contains(&node.output) {
            wanted.insert(node.inputs[0]);
        }
    }
    wanted
}

fn rebuild(graph: &Graph, ranges: &HashMap<usize, Quant>) -> (Graph, Vec<String>) {
    let mut new = Graph { nodes: Vec::new(), ..graph.clone() };
    let mut names: HashSet<String> = graph.values.iter().map(|v| v.name.clone()).collect();
    // The int8 tensor behind each dequantised one.
    let mut int8: HashMap<ValueId, ValueId> = HashMap::new();
    let mut done = Vec::new();
    let moved = moved(graph, ranges);
    for (n, node) in graph.nodes.iter().enumerate() {
        if matches!(node.op, Op::Dequantize) {
            int8.insert(node.output, node.inputs[0]);
        }
        let source = int8.get(&node.inputs[0]).copied();
        if let Some(x) = source.filter(|_| is_movement(node) && moved.contains(&node.output)) {
            let quant = new.value(x).quant.clone();
            let output = int8_value(graph.value(node.output), quant);
            let output = add(&mut new, &mut names, output);
            new.nodes.push(Node { inputs: vec![x], output, ..node.clone() });
            new.nodes.push(dequantize(node, output));
            int8.insert(node.output, output);
            continue;
        }
        let layer = ranges.get(&n).zip(source).and_then(|(quant, x)| {
            let scale = new.value(x).quant.as_ref().filter(|q| q.axis.is_none())?.scale[0];
            Some((quant, x, constants(graph, node, scale, quant.scale[0])?))
        });
        let Some((quant, x, [weights, bias])) = layer else {
            new.nodes.push(node.clone());
            continue;
        };
        let output = int8_value(graph.value(node.output), Some(quant.clone()));
        let [weights, bias, output] = [weights, bias, output].map(|value| add(&mut new, &mut names, value));
        new.nodes.push(Node { inputs: vec![x, weights, bias], output, ..node.clone() });
        new.nodes.push(dequantize(node, output));
        int8.insert(node.output, output);
        done.push(node.name.clone());
    }
    drop_unread(&mut new);
    (new, done)
}

/// Removes nodes whose output nothing reads any more; values keep their places.
fn drop_unread(graph: &mut Graph) {
    let mut read: HashSet<ValueId> = graph.outputs.iter().copied().collect();
    let mut kept: Vec<Node> = Vec::with_capacity(graph.nodes.len());
    for node in std::mem::take(&mut graph.nodes).into_iter().rev() {
        if read.contains(&node.output) {
            read.extend(&node.inputs);
            kept.push(node);
        }
    }
    kept.reverse();
    graph.nodes = kept;
}

fn int8_value(of: &Value, quant: Option<Quant>) -> Value {
    let name = format!("{}/int8", of.name);
    Value { name, dtype: DType::I8, quant, channels_first_outside: false, ..of.clone() }
}

/// What gives the node's float output from its int8 one.
fn dequantize(node: &Node, int8: ValueId) -> Node {
    let name = format!("{}/dequantize", node.name);
    Node { name, op: Op::Dequantize, inputs: vec![int8], output: node.output }
}

/// Appends a value, under a name that no other has.
fn add(graph: &mut Graph, names: &mut HashSet<String>, mut value: Value) -> ValueId {
    while !names.insert(value.name.clone()) {
        value.name.push('#');
    }
    graph.add_value(value)
}

/// Weights and bias in the numbers of the int8 kernels; `None` where sums could leave int32. `input`, `output`: scales.
fn constants(graph: &Graph, node: &Node, input: f32, output: f32) -> Option<[Value; 2]> {
    let given = graph.value(node.inputs[1]);
    let channels = given.shape.first().copied().filter(|c| *c > 0)?;
    let reals = real_values(given);
    let bias = node.inputs.get(2).map_or_else(|| vec![0.0; channels], |b| real_values(graph.value(*b)));
    if bias.len() != channels || reals.iter().chain(&bias).any(|v| !v.is_finite()) {
        return None;
    }
    let fan_in = reals.len() / channels;
    let usual = step(&reals);
    let scales: Vec<f32> = match on_grid(&reals, usual) {
        true => vec![usual],
        false => reals
            .chunks(fan_in.max(1))
            .map(|row| if row.iter().all(|w| *w == 0.0) { usual } else { step(row) })
            .collect(),
    };
    let scale = |o: usize| scales[if scales.len() == 1 { 0 } else { o }];
    let mut codes = Vec::with_capacity(reals.len());
    let mut sums = Vec::with_capacity(channels);
    for (o, b) in bias.iter().enumerate() {
        let row = &reals[o * fan_in..(o + 1) * fan_in];
        let start = codes.len();
        codes.extend(row.iter().map(|w| (w / scale(o)).round().clamp(-TOP as f32, TOP as f32) as i8));
        let sum = (f64::from(*b) / (f64::from(input) * f64::from(scale(o)))).round();
        let products: f64 = codes[start..].iter().map(|w| 255.0 * f64::from(w.unsigned_abs())).sum();
        let multiplier = input * scale(o) / output;
        if sum.abs() + products > f64::from(i32::MAX) || !multiplier.is_normal() {
            return None;
        }
        sums.push(sum as i32);
    }
    let quant = |scale: Vec<f32>| Quant {
        zero_point: vec![0; scale.len()],
        axis: (scale.len() > 1).then_some(0),
        scale,
    };
    let constant = |name: &str, shape: &[usize], dtype: DType, data: Data, quant: Quant| Value {
        name: format!("{}/{name}", node.name),
        shape: shape.to_vec(),
        dtype,
        quant: Some(quant),
        data: Some(data.into()),
        channels_first_outside: false,
    };
    let sums_scales = scales.iter().map(|s| s * input).collect();
    Some([
        constant("weights", &given.shape, DType::I8, Data::I8(codes), quant(scales)),
        constant("bias", &[channels], DType::I32, Data::I32(sums), quant(sums_scales)),
    ])
}

/// The largest step of which all weights are multiples, if one with codes within ±127 exists; else that of the full range.
fn step(weights: &[f32]) -> f32 {
    let largest = weights.iter().fold(0.0f32, |m, w| m.max(w.abs()));
    if largest == 0.0 {
        return 1.0;
    }
    let found = (1..=TOP).map(|code| largest / code as f32).find(|&s| on_grid(weights, s));
    found.unwrap_or(largest / TOP as f32)
}

fn on_grid(weights: &[f32], step: f32) -> bool {
    let whole = |w: &f32| {
        let steps = f64::from(*w) / f64::from(step);
        (steps - steps.round()).abs() <= ON_GRID
    };
    weights.iter().all(whole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use offshoot_ir::Activation;

    /// int8 → Dequantize → Reshape → fully connected, as quantisation-aware exports end.
    fn tail() -> Graph {
        let mut graph = Graph::default();
        let mut value = |name: &str, shape: &[usize], quant: Option<Quant>| {
            let dtype = if quant.is_some() { DType::I8 } else { DType::F32 };
            let (name, shape) = (name.to_owned(), shape.to_vec());
            graph.add_value(Value { name, shape, dtype, quant, data: None, channels_first_outside: false })
        };
        let x = value("x", &[1, 1, 1, 3], Some(Quant::per_tensor(0.5, 0)));
        let [real, flat, y] = [("real", vec![1, 1, 1, 3]), ("flat", vec![1, 3]), ("y", vec![1, 2])]
            .map(|(n, s)| value(n, &s, None));
        let weights = [3i8, -7, 100, 1, 2, 0].map(|c| f32::from(c) * 0.25);
        let w = graph.add_constant("w", vec![2, 3], Data::F32(weights.to_vec()));
        let b = graph.add_constant("b", vec![2], Data::F32(vec![1.0, -0.5]));
        let mut node = |name: &str, op: Op, inputs: &[ValueId], output: ValueId| {
            graph.nodes.push(Node { name: name.into(), op, inputs: inputs.to_vec(), output });
        };
        node("d", Op::Dequantize, &[x], real);
        node("r", Op::Reshape, &[real], flat);
        node("f", Op::FullyConnected { activation: Activation::None }, &[flat, w, b], y);
        (graph.inputs, graph.outputs) = (vec![x], vec![y]);
        graph
    }

    #[test]
    fn a_last_layer_takes_its_scale_from_the_samples() {
        let graph = tail();
        let sample = |v: [f32; 3]| vec![ArrayD::from_shape_vec(vec![1, 1, 1, 3], v.to_vec()).unwrap()];
        let samples = [sample([0.0, 0.0, 1.0]), sample([2.0, 0.5, -1.0])];
        let (whole, names) = complete(&graph, &samples, &[]).unwrap();
        whole.validate().unwrap();
        assert_eq!(names, ["f"]);
        let ops: Vec<&str> = whole.nodes.iter().map(|n| n.op.name()).collect();
        assert_eq!(ops, ["reshape", "fully_connected", "dequantize"]);
        assert_eq!(whole.outputs, graph.outputs);
        assert_eq!(whole.values[..graph.values.len()], graph.values[..]);
        let layer = &whole.nodes[1];
        let numbers = |at: usize| whole.value(layer.inputs[at]).data.as_deref().unwrap();
        assert_eq!(numbers(1), &Data::I8(vec![3, -7, 100, 1, 2, 0]));
        assert_eq!(numbers(2), &Data::I32(vec![8, -4]));
        // From -23.375 to 26.
        let scale = whole.value(layer.output).quant.as_ref().unwrap().scale[0];
        assert!((scale * 255.0 - 49.375).abs() < 1e-3, "{scale}");
        assert!(complete(&graph, &samples, &["FullyConnected".into(), "f".into()]).unwrap().1.is_empty());
        assert!(complete(&graph, &[], &[]).is_err());
    }

    #[test]
    fn a_step_is_found_again() {
        let codes = [-96i8, 3, 40, 77, -1];
        let weights: Vec<f32> = codes.iter().map(|c| f32::from(*c) * 0.0123).collect();
        assert!((step(&weights) / 0.0123 - 1.0).abs() < 1e-6);
        assert_eq!(step(&[0.0; 3]), 1.0);
        let odd = [1.0, 0.1377, 0.6181, 0.2718];
        assert_eq!(step(&odd), 1.0 / 127.0);
    }
}
