//! Number format of the inputs and outputs of a quantised graph: int8, as the device holds them, or float32, as the
//! ONNX file declares them.
//!
//! A QDQ file declares float32 inputs and quantises them in its first operators. A device that keeps the float tensor
//! spends four times its bytes on the arena, and instructions on the conversion. [`integer_io`] moves the conversion to
//! the caller: the file states scale and zero point, and host tool, runtime and wire convert.

use super::edit::{self, Index};
use super::io_layout;
use crate::{DType, Graph, Node, Op, Result, ValueId};

/// Removes the Quantize after a graph input and the Dequantize before a graph output: the input or output is then int8
/// with their scale. An input stays float32 if something else reads it too, or if its readers quantise with several
/// scales. Then the layout of the int8 tensors is settled as [`super::lossless`] does it.
///
/// # Errors
/// None for a valid graph.
pub fn integer_io(graph: Graph) -> Result<Graph> {
    let mut graph = graph;
    for id in graph.inputs.clone() {
        input(&mut graph, id);
    }
    for at in 0..graph.outputs.len() {
        output(&mut graph, at);
    }
    io_layout::run(graph)
}

/// Adds a Quantize after each int8 or int16 input and a Dequantize before each such output, so that callers pass and get
/// float32.
///
/// # Errors
/// None for a valid graph.
pub fn float_io(graph: Graph) -> Result<Graph> {
    let mut graph = graph;
    for id in graph.inputs.clone() {
        let value = graph.value(id).clone();
        if !matches!(value.dtype, DType::I8 | DType::I16) {
            continue;
        }
        let base = format!("{}_quantised", value.name);
        let inner = edit::tensor(&mut graph, &base, value.shape, value.dtype, value.quant);
        edit::redirect(&mut graph, id, inner);
        let outside = graph.value_mut(id);
        (outside.dtype, outside.quant) = (DType::F32, None);
        let name = outside.name.clone();
        graph.nodes.insert(0, Node { name, op: Op::Quantize, inputs: vec![id], output: inner });
    }
    for at in 0..graph.outputs.len() {
        let id = graph.outputs[at];
        let value = graph.value(id).clone();
        if !matches!(value.dtype, DType::I8 | DType::I16) || graph.inputs.contains(&id) {
            continue;
        }
        let base = format!("{}_dequantised", value.name);
        let outside = edit::tensor(&mut graph, &base, value.shape, DType::F32, None);
        graph.value_mut(outside).channels_first_outside = value.channels_first_outside;
        graph.value_mut(id).channels_first_outside = false;
        graph.outputs[at] = outside;
        graph.nodes.push(Node { name: value.name, op: Op::Dequantize, inputs: vec![id], output: outside });
    }
    Ok(graph)
}

fn input(graph: &mut Graph, id: ValueId) {
    let index = Index::new(graph);
    let readers = graph.consumers(id);
    let outputs: Vec<ValueId> = readers.iter().map(|&i| graph.nodes[i].output).collect();
    let Some(first) = outputs.first().map(|&first| graph.value(first)) else { return };
    let (dtype, Some(quant)) = (first.dtype, first.quant.clone()) else { return };
    let one_scale = readers.iter().zip(&outputs).all(|(&i, &out)| {
        let same = graph.value(out).quant.as_ref() == Some(&quant) && graph.value(out).dtype == dtype;
        matches!(graph.nodes[i].op, Op::Quantize) && same && !index.is_output(out)
    });
    if !one_scale || index.is_output(id) || quant.axis.is_some() {
        return;
    }
    graph.nodes.retain(|n| !outputs.contains(&n.output));
    for out in outputs {
        edit::redirect(graph, out, id);
    }
    let value = graph.value_mut(id);
    (value.dtype, value.quant) = (dtype, Some(quant));
}

fn output(graph: &mut Graph, at: usize) {
    let (index, out) = (Index::new(graph), graph.outputs[at]);
    let Some(producer) = index.producer(out) else { return };
    let x = graph.nodes[producer].inputs[0];
    let listed_once = graph.outputs.iter().filter(|&&o| o == out).count() == 1;
    let fits = matches!(graph.nodes[producer].op, Op::Dequantize)
        && listed_once
        && graph.consumers(out).is_empty()
        && index.producer(x).is_some()
        && !index.is_output(x);
    if !fits {
        return;
    }
    let first_outside = graph.value(out).channels_first_outside;
    graph.nodes.remove(producer);
    graph.outputs[at] = x;
    graph.value_mut(x).channels_first_outside = first_outside;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Quant, Value};

    fn value(graph: &mut Graph, name: &str, dtype: DType, quant: Option<Quant>) -> ValueId {
        graph.add_value(Value {
            name: name.into(),
            shape: vec![1, 4],
            dtype,
            quant,
            data: None,
            channels_first_outside: false,
        })
    }

    /// `x` quantised with each of the scales, and the sum of both dequantised.
    fn network(scales: [f32; 2]) -> Graph {
        let mut g = Graph::default();
        let x = value(&mut g, "x", DType::F32, None);
        let quant = |scale| Some(Quant::per_tensor(scale, 3));
        let [a, b] = scales.map(|s| value(&mut g, &format!("q{s}"), DType::I8, quant(s)));
        let sum = value(&mut g, "sum", DType::I8, quant(0.5));
        let y = value(&mut g, "y", DType::F32, None);
        let add = Op::Binary { kind: crate::BinaryKind::Add, activation: crate::Activation::None };
        for (name, op, inputs, output) in [
            ("qa", Op::Quantize, vec![x], a),
            ("qb", Op::Quantize, vec![x], b),
            ("add", add, vec![a, b], sum),
            ("dq", Op::Dequantize, vec![sum], y),
        ] {
            g.nodes.push(Node { name: name.into(), op, inputs, output });
        }
        (g.inputs, g.outputs) = (vec![x], vec![y]);
        g
    }

    #[test]
    fn conversions_at_the_border_move_to_the_caller_and_back() {
        let inner = integer_io(network([0.25, 0.25])).unwrap();
        inner.validate().unwrap();
        assert_eq!(inner.nodes.len(), 1);
        assert_eq!(inner.value(inner.inputs[0]).quant, Some(Quant::per_tensor(0.25, 3)));
        assert_eq!(inner.value(inner.outputs[0]).dtype, DType::I8);
        let outer = float_io(inner).unwrap();
        outer.validate().unwrap();
        assert_eq!(outer.nodes.len(), 3);
        assert_eq!(outer.value(outer.inputs[0]).dtype, DType::F32);
        assert_eq!(outer.value(outer.outputs[0]).dtype, DType::F32);
    }

    #[test]
    fn an_input_with_two_scales_stays_float() {
        let graph = integer_io(network([0.25, 0.5])).unwrap();
        assert_eq!(graph.value(graph.inputs[0]).dtype, DType::F32);
        assert_eq!(graph.nodes.len(), 3);
    }
}
