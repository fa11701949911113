//! QDQ to quantised operators.
//!
//! The importer takes QuantizeLinear and DequantizeLinear as operators between float ones. Here
//! `Dequantize → operator → Quantize` becomes the operator on int8 values, its scales being those of the pairs around it.
//! Movements and clips in between are moved out of the way first:
//! Dequantize sinks below movements, Quantize rises above them, a clip is fused into the operator that feeds it.
//! What stays between a Dequantize and no Quantize is computed in float.

use offshoot_ir::{Activation, BinaryKind, DType, Data, Graph, Node, Op, Result, UnaryKind, Value, ValueId};

/// Lifts until nothing changes. The order of nodes stays topological.
pub(crate) fn lift(graph: Graph) -> Result<Graph> {
    let mut graph = graph;
    if !graph.nodes.iter().any(|n| matches!(n.op, Op::Quantize | Op::Dequantize)) {
        return Ok(float_constants(graph));
    }
    // Each rule moves a Dequantize down, a Quantize up or removes a node, so this ends well before.
    for _ in 0..graph.nodes.len() * graph.nodes.len() + 16 {
        let changed = clip_above_movement(&mut graph)
            || clip_into_producer(&mut graph)
            || bias_into_linear(&mut graph)
            || quantize_above_movement(&mut graph)
            || dequantize_below_movement(&mut graph)
            || operator_between(&mut graph)
            || quantize_of_dequantize(&mut graph);
        if !changed {
            break;
        }
        graph = graph.prune_unreachable();
    }
    Ok(float_constants(graph))
}

fn is_movement(op: &Op) -> bool {
    matches!(op, Op::Transpose { .. } | Op::Reshape | Op::Slice { .. } | Op::Expand)
}

/// The only node that reads `id`, if there is exactly one and `id` is no graph output.
fn sole_consumer(graph: &Graph, id: ValueId) -> Option<usize> {
    if graph.outputs.contains(&id) {
        return None;
    }
    match graph.consumers(id).as_slice() {
        [n] => Some(*n),
        _ => None,
    }
}

fn new_value(graph: &mut Graph, name: String, like: ValueId, dtype: DType, quant_of: Option<ValueId>) -> ValueId {
    let shape = graph.value(like).shape.clone();
    let quant = quant_of.and_then(|id| graph.value(id).quant.clone());
    graph.add_value(Value { name, shape, dtype, quant, data: None, channels_first_outside: false })
}

/// `movement → clip` to `clip → movement`, where a Quantize follows.
fn clip_above_movement(graph: &mut Graph) -> bool {
    for k in 0..graph.nodes.len() {
        let Op::Unary(UnaryKind::Clip { .. }) = graph.nodes[k].op else { continue };
        let Some(m) = graph.producer(graph.nodes[k].inputs[0]) else { continue };
        let feeds_quantize = sole_consumer(graph, graph.nodes[k].output)
            .is_some_and(|q| matches!(graph.nodes[q].op, Op::Quantize) || is_movement(&graph.nodes[q].op));
        if !is_movement(&graph.nodes[m].op)
            || sole_consumer(graph, graph.nodes[m].output) != Some(k)
            || !feeds_quantize
            || graph.value(graph.nodes[m].inputs[0]).dtype != DType::F32
        {
            continue;
        }
        let x = graph.nodes[m].inputs[0];
        let name = format!("{}/clipped", graph.value(x).name);
        let clipped = new_value(graph, name, x, DType::F32, None);
        let (movement, clip) = (graph.nodes[m].clone(), graph.nodes[k].clone());
        graph.nodes[m] = Node { inputs: vec![x], output: clipped, ..clip.clone() };
        graph.nodes[k] = Node { inputs: vec![clipped], output: clip.output, ..movement };
        return true;
    }
    false
}

/// A clip right behind an operator with a fused activation.
fn clip_into_producer(graph: &mut Graph) -> bool {
    for k in 0..graph.nodes.len() {
        let Op::Unary(UnaryKind::Clip { min, max }) = graph.nodes[k].op else { continue };
        let x = graph.nodes[k].inputs[0];
        let Some(p) = graph.producer(x) else { continue };
        if sole_consumer(graph, x) != Some(k) || graph.value(x).dtype != DType::F32 {
            continue;
        }
        let output = graph.nodes[k].output;
        let Some(activation) = graph.nodes[p].op.activation_mut() else { continue };
        if *activation != Activation::None {
            continue;
        }
        *activation =
            if min == 0.0 && max == f32::INFINITY { Activation::Relu } else { Activation::Clip { min, max } };
        graph.nodes[p].output = output;
        graph.nodes.remove(k);
        return true;
    }
    false
}

/// `fully connected → add of a constant vector` to a fully connected layer with a bias.
fn bias_into_linear(graph: &mut Graph) -> bool {
    for k in 0..graph.nodes.len() {
        let Op::Binary { kind: BinaryKind::Add, activation } = graph.nodes[k].op else { continue };
        for side in 0..2 {
            let (x, b) = (graph.nodes[k].inputs[side], graph.nodes[k].inputs[1 - side]);
            let Some(p) = graph.producer(x) else { continue };
            let bias = graph.value(b);
            let width = graph.value(x).shape.last().copied().unwrap_or(0);
            let fits = bias.data.is_some() && bias.quant.is_some() && bias.dtype == DType::I32 && bias.len() == width;
            let Op::FullyConnected { activation: Activation::None } = graph.nodes[p].op else { continue };
            if !fits || graph.nodes[p].inputs.len() != 2 || sole_consumer(graph, x) != Some(k) {
                continue;
            }
            graph.value_mut(b).shape = vec![width];
            if let Some(q) = &mut graph.value_mut(b).quant
                && q.axis.is_some()
            {
                q.axis = Some(0);
            }
            let output = graph.nodes[k].output;
            let linear = &mut graph.nodes[p];
            linear.op = Op::FullyConnected { activation };
            linear.inputs.push(b);
            linear.output = output;
            graph.nodes.remove(k);
            return true;
        }
    }
    false
}

/// `movement → quantize` to `quantize → movement`.
fn quantize_above_movement(graph: &mut Graph) -> bool {
    for k in 0..graph.nodes.len() {
        if !matches!(graph.nodes[k].op, Op::Quantize) {
            continue;
        }
        let y = graph.nodes[k].inputs[0];
        let Some(m) = graph.producer(y) else { continue };
        if !is_movement(&graph.nodes[m].op) || sole_consumer(graph, y) != Some(k) {
            continue;
        }
        let x = graph.nodes[m].inputs[0];
        let name = format!("{}/int8", graph.value(x).name);
        let q = new_value(graph, name, x, DType::I8, Some(graph.nodes[k].output));
        let (movement, quantize) = (graph.nodes[m].clone(), graph.nodes[k].clone());
        graph.nodes[m] = Node { inputs: vec![x], output: q, ..quantize.clone() };
        graph.nodes[k] = Node { inputs: vec![q], output: quantize.output, ..movement };
        return true;
    }
    false
}

/// `dequantize → movement` to `movement → dequantize`.
fn dequantize_below_movement(graph: &mut Graph) -> bool {
    for m in 0..graph.nodes.len() {
        if !is_movement(&graph.nodes[m].op) {
            continue;
        }
        let Some(d) = graph.producer(graph.nodes[m].inputs[0]) else { continue };
        if !matches!(graph.nodes[d].op, Op::Dequantize) {
            continue;
        }
        let x = graph.nodes[d].inputs[0];
        let output = graph.nodes[m].output;
        let name = format!("{}/int8", graph.value(output).name);
        let moved = new_value(graph, name, output, DType::I8, Some(x));
        let dequantize = Node { inputs: vec![moved], output, ..graph.nodes[d].clone() };
        graph.nodes[m].inputs[0] = x;
        graph.nodes[m].output = moved;
        graph.nodes.insert(m + 1, dequantize);
        return true;
    }
    false
}

/// `dequantize… → operator → quantize` to the operator on int8.
fn operator_between(graph: &mut Graph) -> bool {
    for n in 0..graph.nodes.len() {
        let op = &graph.nodes[n].op;
        if matches!(op, Op::Quantize | Op::Dequantize | Op::Requantize | Op::ArgMax { .. }) || is_movement(op) {
            continue;
        }
        let y = graph.nodes[n].output;
        if graph.value(y).dtype != DType::F32 {
            continue;
        }
        let Some(q) = sole_consumer(graph, y).filter(|q| matches!(graph.nodes[*q].op, Op::Quantize)) else { continue };
        let mut inputs = Vec::new();
        let mut lifted = false;
        for &x in &graph.nodes[n].inputs {
            if graph.value(x).data.is_some() {
                inputs.push(x);
                continue;
            }
            match graph.producer(x).map(|d| &graph.nodes[d]) {
                Some(Node { op: Op::Dequantize, inputs: from, .. }) => {
                    inputs.push(from[0]);
                    lifted = true;
                }
                _ => {
                    lifted = false;
                    break;
                }
            }
        }
        if !lifted || inputs.len() != graph.nodes[n].inputs.len() || !constants_fit(graph, n) {
            continue;
        }
        graph.nodes[n].inputs = inputs;
        graph.nodes[n].output = graph.nodes[q].output;
        graph.nodes.remove(q);
        return true;
    }
    false
}

/// Whether the node's constants are quantised as its int8 form wants them.
fn constants_fit(graph: &Graph, n: usize) -> bool {
    let node = &graph.nodes[n];
    let constants: Vec<&Value> = node.inputs.iter().map(|id| graph.value(*id)).filter(|v| v.data.is_some()).collect();
    match node.op {
        // Parameters stay float: the exporter computes these in float anyway.
        Op::BatchNorm { .. } | Op::LayerNorm { .. } => constants.iter().all(|v| v.dtype == DType::F32),
        Op::Conv2d { .. } | Op::ConvTranspose2d { .. } | Op::FullyConnected { .. } => {
            let weights_ok = constants.first().is_some_and(|w| {
                w.dtype == DType::I8 && w.quant.as_ref().is_some_and(|q| q.axis.is_none_or(|a| a == 0))
                    && w.quant.as_ref().is_some_and(|q| q.zero_point.iter().all(|z| *z == 0))
            });
            weights_ok && constants.get(1).is_none_or(|b| b.dtype == DType::I32)
        }
        _ => constants.iter().all(|v| v.dtype == DType::I8 && v.quant.as_ref().is_some_and(|q| q.axis.is_none())),
    }
}

/// `dequantize → quantize` to a requantisation.
fn quantize_of_dequantize(graph: &mut Graph) -> bool {
    for k in 0..graph.nodes.len() {
        if !matches!(graph.nodes[k].op, Op::Quantize) {
            continue;
        }
        let Some(d) = graph.producer(graph.nodes[k].inputs[0]) else { continue };
        if !matches!(graph.nodes[d].op, Op::Dequantize) {
            continue;
        }
        graph.nodes[k].inputs = vec![graph.nodes[d].inputs[0]];
        graph.nodes[k].op = Op::Requantize;
        return true;
    }
    false
}

/// Quantised constants that a float operator reads become float: only int8 operators read integers.
fn float_constants(mut graph: Graph) -> Graph {
    for n in 0..graph.nodes.len() {
        let output = graph.value(graph.nodes[n].output);
        if output.dtype == DType::I8 {
            continue;
        }
        for i in 0..graph.nodes[n].inputs.len() {
            let value = graph.value(graph.nodes[n].inputs[i]).clone();
            let (Some(data), Some(quant)) = (&value.data, &value.quant) else { continue };
            let integers: Vec<i32> = match data.as_ref() {
                Data::I8(v) => v.iter().map(|v| i32::from(*v)).collect(),
                Data::I32(v) => v.clone(),
                _ => continue,
            };
            let inner: usize = quant.axis.map_or(1, |a| value.shape[a + 1..].iter().product::<usize>().max(1));
            let at = |i: usize| quant.axis.map_or(0, |_| (i / inner) % quant.scale.len());
            let reals =
                integers.iter().enumerate().map(|(i, v)| (i64::from(*v) - i64::from(quant.zero_point[at(i)])) as f32 * quant.scale[at(i)]);
            let name = format!("{}/float/{n}", value.name);
            let float = graph.add_constant(name, value.shape.clone(), Data::F32(reals.collect()));
            graph.nodes[n].inputs[i] = float;
        }
    }
    graph
}
