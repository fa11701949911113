//! Removes channels from weights, biases, scales and shapes.

use std::sync::Arc;

use super::super::edit;
use super::linear::{Known, Linear};
use crate::{Data, Graph, Op, Quant, Value, ValueId};

/// New parameters of one operator.
struct Parameters {
    node: usize,
    weights: Value,
    bias: Option<Value>,
}

/// Keeps only the channels marked in `keep`; the contribution of the others to operators that mix channels is added
/// to the biases of those operators.
pub(super) fn apply(graph: &mut Graph, known: &[Vec<Known>], keep: &[Vec<bool>]) {
    let changed: Vec<Parameters> =
        (0..graph.nodes.len()).filter_map(|node| parameters(graph, node, known, keep)).collect();
    for Parameters { node, weights, bias } in changed {
        let ids = graph.nodes[node].inputs.clone();
        let mut inputs = vec![ids[0], replaced(graph, ids[1], weights)];
        if let Some(bias) = bias {
            inputs.push(match ids.get(2) {
                Some(&old) => replaced(graph, old, bias),
                None => added(graph, bias),
            });
        }
        let channels = kept(&keep[ids[0].0 as usize]);
        let node = &mut graph.nodes[node];
        node.inputs = inputs;
        if let Op::Conv2d { groups, .. } = &mut node.op
            && *groups > 1
        {
            *groups = channels;
        }
    }
    for (value, keep) in graph.values.iter_mut().zip(keep) {
        if let Some(last) = value.shape.last_mut().filter(|_| value.data.is_none()) {
            *last = kept(keep);
        }
    }
}

fn kept(keep: &[bool]) -> usize {
    keep.iter().filter(|k| **k).count()
}

/// The operator's parameters without the removed rows and columns; `None` if it has none or nothing is removed.
fn parameters(graph: &Graph, at: usize, known: &[Vec<Known>], keep: &[Vec<bool>]) -> Option<Parameters> {
    let node = &graph.nodes[at];
    let linear = Linear::of(graph, node)?;
    let (x, rows) = (node.inputs[0].0 as usize, &keep[node.output.0 as usize]);
    // The columns of a depthwise filter are removed with its rows.
    let cols = if linear.groups == 1 { keep[x].clone() } else { vec![true; linear.cols] };
    if rows.iter().chain(&cols).all(|k| *k) {
        return None;
    }
    let w = graph.value(linear.weights_id());
    let elements: Vec<usize> =
        (0..w.len()).filter(|i| rows[i / (linear.taps * linear.cols)] && cols[i % linear.cols]).collect();
    let mut shape = w.shape.clone();
    let last = shape.len() - 1;
    (shape[0], shape[last]) = (kept(rows), kept(&cols));
    let weights = Value {
        shape,
        data: w.data.as_deref().map(|d| Arc::new(edit::gather(d, &elements))),
        quant: w.quant.as_ref().map(|q| of_rows(q, rows)),
        ..w.clone()
    };
    // The contribution of a depthwise filter is removed with the filter.
    let folded: Vec<Known> = if linear.groups == 1 {
        let gone = known[x].iter().zip(&cols);
        gone.map(|(v, kept)| v.filter(|_| !kept)).collect()
    } else {
        vec![None; keep[x].len()]
    };
    let sums: Vec<f64> =
        (0..linear.rows).filter(|&row| rows[row]).map(|row| linear.folded_bias(row, &folded)).collect();
    let old = node.inputs.get(2).map(|&b| graph.value(b));
    let bias = (old.is_some() || sums.iter().any(|s| *s != 0.0)).then(|| {
        let data = match weights.data.as_deref() {
            // Integer sums within int32: checked by liveness.
            Some(Data::I8(_)) => Data::I32(sums.iter().map(|s| *s as i32).collect()),
            _ => Data::F32(sums.iter().map(|s| *s as f32).collect()),
        };
        bias(graph, node.inputs[0], &weights, old, rows, data)
    });
    Some(Parameters { node: at, weights, bias })
}

/// The bias `old` with its remaining rows `data`, or a new bias for `weights`.
fn bias(graph: &Graph, x: ValueId, weights: &Value, old: Option<&Value>, rows: &[bool], data: Data) -> Value {
    let shape = vec![kept(rows)];
    if let Some(old) = old {
        return Value {
            shape,
            quant: old.quant.as_ref().map(|q| of_rows(q, rows)),
            data: Some(Arc::new(data)),
            ..old.clone()
        };
    }
    let scale_x = graph.value(x).quant.as_ref().map_or(1.0, |q| q.scale[0]);
    let quant = weights.quant.as_ref().map(|q| Quant {
        scale: q.scale.iter().map(|s| s * scale_x).collect(),
        zero_point: vec![0; q.scale.len()],
        axis: (q.scale.len() > 1).then_some(0),
    });
    let mut scratch = Graph::default();
    let id = scratch.add_constant(format!("{}.bias", weights.name), shape, data);
    Value { quant, ..scratch.value(id).clone() }
}

/// Scales of the remaining rows.
fn of_rows(quant: &Quant, rows: &[bool]) -> Quant {
    if quant.axis != Some(0) {
        return quant.clone();
    }
    let stay = |i: &usize| rows[*i];
    Quant {
        scale: (0..rows.len()).filter(stay).map(|i| quant.scale[i]).collect(),
        zero_point: (0..rows.len()).filter(stay).map(|i| quant.zero_point[i]).collect(),
        axis: quant.axis,
    }
}

/// Replaces constant `old` by `new`, or adds `new` if others read `old` too.
fn replaced(graph: &mut Graph, old: ValueId, new: Value) -> ValueId {
    let reads = graph.nodes.iter().flat_map(|n| &n.inputs).filter(|i| **i == old);
    if reads.count() > 1 || graph.outputs.contains(&old) {
        return added(graph, new);
    }
    *graph.value_mut(old) = new;
    old
}

fn added(graph: &mut Graph, new: Value) -> ValueId {
    let name = edit::fresh_name(graph, &new.name);
    graph.add_value(Value { name, ..new })
}
