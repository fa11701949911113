//! Puts pairs into a graph, and gives layers between them int8 weights.

use std::collections::{HashMap, HashSet};

use offshoot_ir::{DType, Data, Graph, Integers, Node, Op, Quant, Value, ValueId};

use super::is_linear;

/// Gives each of the tensors a pair: its operator writes another value, which is quantised, and what is dequantised takes its
/// place. Where a reader quantises it to the same grid, that Quantize is the first half. Weights in float become integers.
pub(super) fn insert(graph: Graph, found: &HashMap<ValueId, Quant>) -> Graph {
    let mut new = Graph { nodes: Vec::with_capacity(graph.nodes.len()), ..graph.clone() };
    let mut names: HashSet<String> = graph.values.iter().map(|v| v.name.clone()).collect();
    let mut add = |new: &mut Graph, mut value: Value| {
        while !names.insert(value.name.clone()) {
            value.name.push('#');
        }
        new.add_value(value)
    };
    let like = |of: ValueId, suffix: &str, dtype: DType, quant: Option<&Quant>| {
        let of = graph.value(of);
        let (name, quant) = (format!("{}/{suffix}", of.name), quant.cloned());
        Value { name, dtype, quant, channels_first_outside: false, ..of.clone() }
    };
    // The Quantize behind a tensor that becomes the first half of its pair.
    let halves: HashMap<ValueId, usize> = graph
        .nodes
        .iter()
        .enumerate()
        .filter_map(|(n, node)| {
            let x = *node.inputs.first()?;
            let codes = graph.value(node.output);
            let same = codes.dtype == DType::I8 && codes.quant.as_ref() == Some(found.get(&x)?);
            (matches!(node.op, Op::Quantize) && same).then_some((x, n))
        })
        .collect();
    let moved: HashSet<usize> = halves.values().copied().collect();
    // What the other readers of a graph input read.
    let mut instead: HashMap<ValueId, ValueId> = HashMap::new();
    let pair = |new: &mut Graph, int8: ValueId, [real, y]: [ValueId; 2], name: &str| {
        let node = |op, x, y| Node { name: name.to_owned(), op, inputs: vec![x], output: y };
        new.nodes.push(node(Op::Quantize, real, int8));
        new.nodes.push(node(Op::Dequantize, int8, y));
    };
    for x in &graph.inputs {
        let Some(quant) = found.get(x) else { continue };
        let int8 = match halves.get(x) {
            Some(&n) => graph.nodes[n].output,
            None => add(&mut new, like(*x, "int8", DType::I8, Some(quant))),
        };
        let y = add(&mut new, like(*x, "rounded", DType::F32, None));
        instead.insert(*x, y);
        pair(&mut new, int8, [*x, y], &graph.value(*x).name);
    }
    for node in graph.nodes.iter().enumerate().filter(|(n, _)| !moved.contains(n)).map(|(_, node)| node) {
        let mut node = node.clone();
        node.inputs.iter_mut().for_each(|id| *id = instead.get(id).copied().unwrap_or(*id));
        let Some(quant) = found.get(&node.output) else {
            new.nodes.push(node);
            continue;
        };
        let weights = node.inputs.get(1).filter(|_| is_linear(&node.op)).map(|w| graph.value(*w));
        if let Some(w) = weights.filter(|w| w.dtype == DType::F32)
            && let Some((codes, quant)) = integers(w).or_else(|| rounded(w))
        {
            let data = Some(Data::I8(codes).into());
            let (name, quant) = (format!("{}/int8", w.name), Some(quant));
            node.inputs[1] = add(&mut new, Value { name, dtype: DType::I8, quant, data, ..w.clone() });
        }
        let real = add(&mut new, like(node.output, "real", DType::F32, None));
        let int8 = match halves.get(&node.output) {
            Some(&n) => graph.nodes[n].output,
            None => add(&mut new, like(node.output, "int8", DType::I8, Some(quant))),
        };
        let (name, y) = (node.name.clone(), node.output);
        new.nodes.push(Node { output: real, ..node });
        pair(&mut new, int8, [real, y], &name);
    }
    new
}

/// The integers and scales, one per output channel, of weights that came from integers.
pub(super) fn integers(w: &Value) -> Option<(Vec<i8>, Quant)> {
    let (Some(Data::F32(reals)), Some(&channels)) = (w.data.as_deref(), w.shape.first()) else { return None };
    let taps = reals.len() / channels.max(1);
    let found = Integers::find(reals, taps).filter(|found| found.block == taps)?;
    let offset = |o: usize| found.offsets.get(o).map_or(0, |v| i32::from(*v));
    let sign = |o: usize| if found.scales[o] < 0.0 { -1 } else { 1 };
    let whole = |(i, code): (usize, &i8)| sign(i / taps) * (i32::from(*code) + offset(i / taps));
    let codes: Option<Vec<i8>> =
        found.codes.iter().enumerate().map(whole).map(|v| i8::try_from(v).ok()).collect();
    let scale: Vec<f32> = found.scales.iter().map(|s| if *s == 0.0 { 1.0 } else { s.abs() }).collect();
    let quant = Quant { zero_point: vec![0; channels], scale, axis: Some(0) };
    Some((codes?, quant)).filter(|(_, quant)| quant.scale.iter().all(|s| s.is_normal()))
}

/// Weights in float, in steps of a 127th of the largest of each channel.
fn rounded(w: &Value) -> Option<(Vec<i8>, Quant)> {
    let (Some(Data::F32(reals)), Some(&channels)) = (w.data.as_deref(), w.shape.first()) else { return None };
    let taps = (reals.len() / channels.max(1)).max(1);
    let largest = reals.chunks(taps).map(|row| row.iter().fold(0.0f32, |m, v| m.max(v.abs())));
    let scale: Vec<f32> = largest.map(|m| if m > 0.0 { m / 127.0 } else { 1.0 }).collect();
    let whole = |(i, v): (usize, &f32)| (v / scale[i / taps]).round_ties_even().clamp(-127.0, 127.0) as i8;
    let codes = reals.iter().enumerate().map(whole).collect();
    let fits = scale.len() == channels && scale.iter().all(|s| s.is_normal());
    let quant = Quant { zero_point: vec![0; channels], scale, axis: Some(0) };
    fits.then_some((codes, quant))
}
