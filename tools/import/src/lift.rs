//! QDQ to quantised operators.
//!
//! The importer treats QuantizeLinear and DequantizeLinear as operators between float ones. Here `Dequantize →
//! operator → Quantize` becomes one operator on int8 values with the scales of the surrounding pairs. Data movements
//! and clips in between are moved out of the way first: Dequantize sinks below movements, Quantize rises above them,
//! and a clip is fused into the operator that feeds it. Where no Quantize follows, Dequantize sinks below operators
//! that it commutes with, such as MaxPool. An operator after a Dequantize that no Quantize follows is computed in
//! float.

mod bias;
mod channels;
mod commute;
mod constants;
mod function;
mod normalise;
mod pairs;
mod pool;
mod pool_counts;
mod table;
mod weights;

use std::collections::{HashMap, HashSet};

use offshoot_ir::{Activation, BinaryKind, DType, Data, Graph, Node, Op, Result, UnaryKind, Value, ValueId};

use constants::{constants_fit, float_constants, float_operands, reals};
pub use pairs::open;
use table::Table;

/// Most times that pairs are added: each makes others known.
const MOST_ROUNDS: usize = 8;

/// Applies the rules until nothing changes. The order of nodes stays topological.
pub(crate) fn lift(graph: Graph) -> Result<Graph> {
    if !graph.nodes.iter().any(|n| matches!(n.op, Op::Quantize | Op::Dequantize)) {
        return Ok(float_constants(graph));
    }
    let mut table = Table::new(graph);
    apply_rules(&mut table);
    Ok(float_constants(pool_counts::apply(table.into_graph())))
}

/// Adds the pairs that a quantised file leaves out, so that operators between its pairs compute in int8 too: where a range
/// follows from the numbers around a tensor, or `ranges` has one that samples gave. Tensors that `kept` lists stay as they
/// are. Values keep their places in the graph; new ones follow. Returns the graph, and the names of operators whose outputs
/// have a measured range.
///
/// # Errors
/// `graph` is not well formed.
pub fn complete(
    graph: Graph,
    ranges: &HashMap<ValueId, (f32, f32)>,
    kept: &HashSet<ValueId>,
) -> Result<(Graph, Vec<String>)> {
    graph.validate()?;
    let ranges = &ranges.iter().filter(|(id, _)| !kept.contains(*id)).map(|(id, r)| (*id, *r)).collect();
    let mut measured = Vec::new();
    let (mut next, mut added) = pairs::add(Table::new(graph.clone()), ranges, kept);
    for _ in 0..MOST_ROUNDS {
        let Some(names) = added else { break };
        measured.extend(names);
        let mut table = Table::new(next);
        apply_rules(&mut table);
        (next, added) = pairs::add(table, ranges, kept);
    }
    if next.values.len() == graph.values.len() {
        return Ok((graph, measured));
    }
    let graph = float_constants(pool_counts::apply(next));
    graph.validate()?;
    Ok((graph, measured))
}

fn apply_rules(table: &mut Table) {
    let rules: [fn(&mut Table, usize) -> Option<usize>; 12] = [
        normalise::into_weights,
        clip_above_movement,
        clip_into_producer,
        bias::into_linear,
        quantize_above_movement,
        dequantize_below_movement,
        function::function_between,
        channels::scaled,
        channels::slopes,
        operator_between,
        quantize_of_dequantize,
        commute::dequantize_below,
    ];
    // Each change moves a Dequantize down, a Quantize or a clip up, or removes a node, so this terminates by itself,
    // and far below the bound for graphs written by a framework. The rest of any other graph is computed in float.
    let mut budget = 16 * table.len() + 1000;
    'again: loop {
        for rule in rules {
            let mut changed = false;
            for first in 0..table.len() {
                let mut at = Some(first);
                while let Some(n) = at.filter(|n| table.is_alive(*n) && budget > 0) {
                    at = rule(table, n);
                    if at.is_some() {
                        changed = true;
                        budget -= 1;
                    }
                }
            }
            if changed && budget > 0 {
                continue 'again;
            }
        }
        break;
    }
}

/// Gives linear operators whose int8 weights have a zero point, as in old uint8 networks, the form of the kernels, and
/// float operators float constants. For graphs whose operators compute in int8 already.
pub(crate) fn for_kernels(graph: Graph) -> Graph {
    let asymmetric = |graph: &Graph, n: &Node| {
        let zero = |id: &ValueId| {
            graph.value(*id).quant.as_ref().is_none_or(|q| q.zero_point.iter().all(|z| *z == 0))
        };
        let linear =
            matches!(n.op, Op::Conv2d { .. } | Op::ConvTranspose2d { .. } | Op::FullyConnected { .. });
        linear && graph.value(n.output).dtype == DType::I8 && !n.inputs.get(1).is_none_or(zero)
    };
    let found: Vec<usize> = (0..graph.nodes.len()).filter(|&n| asymmetric(&graph, &graph.nodes[n])).collect();
    if found.is_empty() {
        return float_constants(graph);
    }
    let mut table = Table::new(graph);
    for n in found {
        if !table.is_alive(n) {
            continue;
        }
        let mut node = table.node(n).clone();
        weights::fit(&mut table, &mut node);
        table.replace(n, node);
    }
    float_constants(table.into_graph())
}

/// What the name of a value of this type ends with.
fn suffix(dtype: DType) -> &'static str {
    if dtype == DType::I16 { "int16" } else { "int8" }
}

fn is_movement(op: &Op) -> bool {
    matches!(op, Op::Transpose { .. } | Op::Reshape | Op::Slice { .. } | Op::Expand)
}

// Every rule looks at node `n`, and returns the node to look at next if it changed something.

/// `movement → clip` to `clip → movement`, where a Quantize follows.
fn clip_above_movement(t: &mut Table, n: usize) -> Option<usize> {
    let Op::Unary(UnaryKind::Clip { .. }) = t.node(n).op else {
        return None;
    };
    let between = t.node(n).inputs[0];
    let m = t.producer(between)?;
    let after = t.sole_reader(t.node(n).output)?;
    let x = *t.node(m).inputs.first()?;
    if !is_movement(&t.node(m).op)
        || t.sole_reader(between) != Some(n)
        || !(matches!(t.node(after).op, Op::Quantize) || is_movement(&t.node(after).op))
        || t.value(x).dtype != DType::F32
    {
        return None;
    }
    let clipped = t.new_value(x, "clipped", DType::F32, None);
    let (movement, clip) = (t.node(m).clone(), t.node(n).clone());
    t.swap(
        m,
        Node { inputs: vec![x], output: clipped, ..clip.clone() },
        n,
        Node { inputs: vec![clipped], output: clip.output, ..movement },
    );
    Some(m)
}

/// Fuses a clip into an operator right before it that has a fused activation.
fn clip_into_producer(t: &mut Table, n: usize) -> Option<usize> {
    let Op::Unary(UnaryKind::Clip { min, max }) = t.node(n).op else {
        return None;
    };
    let x = t.node(n).inputs[0];
    let p = t.producer(x)?;
    if t.sole_reader(x) != Some(n) || t.value(x).dtype != DType::F32 {
        return None;
    }
    let mut fused = t.node(p).clone();
    match fused.op.activation_mut() {
        Some(activation) => {
            let (low, high) = activation.bounds();
            let (min, max) = (low.max(min).min(max), high.max(min).min(max));
            let relu = min == 0.0 && max == f32::INFINITY;
            *activation = if relu { Activation::Relu } else { Activation::Clip { min, max } };
        }
        None => return None,
    }
    fused.output = t.node(n).output;
    t.remove(n);
    t.replace(p, fused);
    Some(p)
}

/// `movement → quantize` to `quantize → movement`.
fn quantize_above_movement(t: &mut Table, n: usize) -> Option<usize> {
    if !matches!(t.node(n).op, Op::Quantize) {
        return None;
    }
    let y = t.node(n).inputs[0];
    let m = t.producer(y)?;
    let output = t.node(n).output;
    let mut op = t.node(m).op.clone();
    if let Op::Pad { mode: None, value, .. } = &mut op {
        // What pads is rounded with the rest.
        *value = rounded(*value, t.value(output))?;
    }
    if !(is_movement(&op) || matches!(op, Op::Pad { .. })) || t.sole_reader(y) != Some(n) {
        return None;
    }
    let x = t.node(m).inputs[0];
    let dtype = t.value(output).dtype;
    let q = t.new_value(x, suffix(dtype), dtype, Some(output));
    let (movement, quantize) = (t.node(m).clone(), t.node(n).clone());
    t.swap(
        m,
        Node { inputs: vec![x], output: q, ..quantize.clone() },
        n,
        Node { op, inputs: vec![q], output: quantize.output, ..movement },
    );
    Some(m)
}

/// A number on the grid of a quantised tensor, as ONNX rounds it.
fn rounded(value: f32, on: &Value) -> Option<f32> {
    let quant = on.quant.as_ref().filter(|q| q.axis.is_none())?;
    let (scale, zero) = (quant.scale[0], quant.zero_point[0] as f32);
    let (least, most) = if on.dtype == DType::I16 { (-32768.0, 32767.0) } else { (-128.0, 127.0) };
    let code = ((value / scale).round_ties_even() + zero).clamp(least, most);
    (!value.is_nan()).then_some((code - zero) * scale)
}

/// `dequantize → movement` to `movement → dequantize`.
fn dequantize_below_movement(t: &mut Table, n: usize) -> Option<usize> {
    if !is_movement(&t.node(n).op) {
        return None;
    }
    let d = t.producer(t.node(n).inputs[0])?;
    if !matches!(t.node(d).op, Op::Dequantize) {
        return None;
    }
    let x = t.node(d).inputs[0];
    let output = t.node(n).output;
    let dtype = t.value(x).dtype;
    let moved = t.new_value(output, suffix(dtype), dtype, Some(x));
    let dequantize = Node { inputs: vec![moved], output, ..t.node(d).clone() };
    let movement = Node { inputs: vec![x], output: moved, ..t.node(n).clone() };
    t.replace(n, movement);
    t.insert_after(n, dequantize);
    Some(n)
}

/// `dequantize… → operator → quantize` to the operator on int8.
fn operator_between(t: &mut Table, n: usize) -> Option<usize> {
    let op = &t.node(n).op;
    if matches!(
        op,
        Op::Quantize | Op::Dequantize | Op::Requantize | Op::ArgMax { .. } | Op::TopK { .. } | Op::Cast
    ) || is_movement(op)
    {
        return None;
    }
    let y = t.node(n).output;
    if t.value(y).dtype != DType::F32 {
        return None;
    }
    let q = t.sole_reader(y).filter(|q| matches!(t.node(*q).op, Op::Quantize))?;
    let dtype = t.value(t.node(q).output).dtype;
    let mut inputs = Vec::new();
    let mut lifted = false;
    for &x in &t.node(n).inputs {
        // Indices are integers.
        if t.value(x).data.is_some() || t.value(x).dtype == DType::I32 {
            inputs.push(x);
            continue;
        }
        match t.producer(x).map(|d| t.node(d)) {
            Some(Node { op: Op::Dequantize, inputs: from, .. }) if t.value(from[0]).dtype == dtype => {
                inputs.push(from[0]);
                lifted = true;
            }
            _ => return None,
        }
    }
    if !lifted {
        return None;
    }
    let mut node = Node { inputs, output: t.node(q).output, ..t.node(n).clone() };
    product_of_quotient(t, &mut node);
    weights::fit(t, &mut node);
    float_operands(t, &mut node);
    if !constants_fit(t, &node) || !pool::one_rounding(t, &mut node) {
        return None;
    }
    t.remove(q);
    t.replace(n, node);
    Some(n)
}

/// A division by a constant is a product: no integer kernel divides.
fn product_of_quotient(t: &mut Table, node: &mut Node) {
    let Op::Binary { kind: kind @ BinaryKind::Div, .. } = &mut node.op else { return };
    let divisor = t.value(node.inputs[1]);
    let Some(numbers) = reals(divisor) else { return };
    let factors: Vec<f32> = numbers.iter().map(|v| 1.0 / v).collect();
    if !factors.iter().all(|f| f.is_normal()) {
        return;
    }
    let (name, dtype) = (format!("{}/reciprocal", divisor.name), DType::F32);
    let value = Value { name, dtype, quant: None, data: Some(Data::F32(factors).into()), ..divisor.clone() };
    *kind = BinaryKind::Mul;
    node.inputs[1] = t.add(value);
}

/// `dequantize → quantize` to a requantisation.
fn quantize_of_dequantize(t: &mut Table, n: usize) -> Option<usize> {
    if !matches!(t.node(n).op, Op::Quantize) {
        return None;
    }
    let d = t.producer(t.node(n).inputs[0])?;
    if !matches!(t.node(d).op, Op::Dequantize) {
        return None;
    }
    let node = Node { op: Op::Requantize, inputs: t.node(d).inputs.clone(), ..t.node(n).clone() };
    t.replace(n, node);
    Some(n)
}
