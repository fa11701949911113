//! Constants read by an int8 operator: quantised here if the exporter left them in float.

use offshoot_ir::grid::bounds;
use offshoot_ir::{BinaryKind, DType, Data, Graph, Node, Op, Quant, Value, ValueId};

use super::table::Table;

/// Whether the node's constants are quantised as its int8 form requires.
pub(super) fn constants_fit(t: &Table, node: &Node) -> bool {
    let constants: Vec<&Value> =
        node.inputs.iter().map(|id| t.value(*id)).filter(|v| v.data.is_some()).collect();
    let int16 = t.value(node.output).dtype == DType::I16;
    let dtype = if int16 { DType::I16 } else { DType::I8 };
    match node.op {
        // Parameters stay float, because the device computes these in float. A recurrent layer has no int8 form
        // between a QDQ pair: its int8 form needs scales that an ONNX file does not contain.
        // Batch normalisation that is not in a layer's weights is a product and a sum in float.
        Op::Recurrent { .. } | Op::BatchNorm { .. } => false,
        Op::LayerNorm { .. } => constants.iter().all(|v| v.dtype == DType::F32),
        Op::Conv2d { .. } | Op::ConvTranspose2d { .. } | Op::FullyConnected { .. } => {
            constants.first().is_some_and(|w| weights_fit(w))
                && constants.get(1).is_none_or(|b| b.dtype == DType::I32 || int16 && b.dtype == DType::I64)
        }
        _ => constants
            .iter()
            .filter(|v| !(v.dtype == DType::I32 && v.quant.is_none()))
            .all(|v| v.dtype == dtype && v.quant.as_ref().is_some_and(|q| q.axis.is_none())),
    }
}

/// Whether weights are int8 with zero point 0, with one scale or one per output channel.
pub(super) fn weights_fit(w: &Value) -> bool {
    w.dtype == DType::I8
        && w.quant
            .as_ref()
            .is_some_and(|q| q.axis.is_none_or(|a| a == 0) && q.zero_point.iter().all(|z| *z == 0))
}

/// Quantises float constants of an elementwise operator to the type of its output, int8 or int16, with one scale and zero point 0; a single number is
/// exact up to the rounding of its scale.
pub(super) fn float_operands(t: &mut Table, node: &mut Node) {
    if !matches!(node.op, Op::Binary { .. } | Op::PRelu) {
        return;
    }
    let int16 = t.value(node.output).dtype == DType::I16;
    let (dtype, most) = if int16 { (DType::I16, 32767.0) } else { (DType::I8, 127.0) };
    for i in 0..node.inputs.len() {
        let c = t.value(node.inputs[i]);
        let quantised = c.dtype == dtype && c.quant.as_ref().is_some_and(|q| q.axis.is_none());
        let Some(mut reals) = reals(c).filter(|_| !quantised) else { continue };
        if let Some((low, high)) = visible(t, node, i) {
            reals.iter_mut().for_each(|v| *v = v.max(low).min(high));
        }
        let largest = reals.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        let finite = reals.iter().all(|v| v.is_finite());
        // Dividing by a constant that rounds to 0 would be a different operation.
        let lost = |q: i16, v: f32| q == 0 && v != 0.0;
        let divides = i == 1 && matches!(node.op, Op::Binary { kind: BinaryKind::Div, .. });
        if !finite || reals.is_empty() {
            continue;
        }
        let scale = if largest > 0.0 { (largest / most).max(f32::MIN_POSITIVE) } else { 1.0 };
        let q: Vec<i16> =
            reals.iter().map(|v| (v / scale).round_ties_even().clamp(-most, most) as i16).collect();
        if divides && q.iter().zip(&reals).any(|(q, v)| lost(*q, *v)) {
            continue;
        }
        let name = format!("{}/{}", c.name, super::suffix(dtype));
        let data = if int16 { Data::I16(q) } else { Data::I8(q.into_iter().map(|q| q as i8).collect()) };
        let value = constant(name, c.shape.clone(), dtype, data, Quant::per_tensor(scale, 0));
        node.inputs[i] = t.add(value);
    }
}

/// Beyond which numbers the second operand of a sum saturates its result, as the smallest ones of masks do; a step of the result
/// added. Their scale would leave nothing of the other operand.
fn visible(t: &Table, node: &Node, i: usize) -> Option<(f32, f32)> {
    let Op::Binary { kind: BinaryKind::Add, .. } = node.op else { return None };
    let int8 = |id: ValueId| Some(t.value(id)).filter(|v| v.dtype == DType::I8);
    let quant = |id: ValueId| int8(id)?.quant.as_ref().filter(|q| q.axis.is_none());
    let (x, y) = (quant(*node.inputs.get(1 - i)?)?, quant(node.output)?);
    let ((x_low, x_high), (low, high)) = (bounds(x), bounds(y));
    Some((low - x_high - y.scale[0], high - x_low + y.scale[0]))
}

pub(super) fn constant(name: String, shape: Vec<usize>, dtype: DType, data: Data, quant: Quant) -> Value {
    Value { name, shape, dtype, quant: Some(quant), data: Some(data.into()), channels_first_outside: false }
}

/// Real values of a constant of any element type.
pub(super) fn reals(value: &Value) -> Option<Vec<f32>> {
    let integers: Vec<i64> = match value.data.as_deref()? {
        Data::F32(v) => return Some(v.clone()),
        Data::I8(v) => v.iter().map(|v| (*v).into()).collect(),
        Data::I16(v) => v.iter().map(|v| (*v).into()).collect(),
        Data::I32(v) => v.iter().map(|v| (*v).into()).collect(),
        Data::I64(v) => v.clone(),
    };
    let quant = value.quant.as_ref()?;
    let inner: usize = quant.axis.map_or(1, |a| value.shape[a + 1..].iter().product::<usize>().max(1));
    let at = |i: usize| quant.axis.map_or(0, |_| (i / inner) % quant.scale.len());
    let real =
        |(i, v): (usize, &i64)| v.saturating_sub(quant.zero_point[at(i)].into()) as f32 * quant.scale[at(i)];
    Some(integers.iter().enumerate().map(real).collect())
}

/// Dequantises constants that a float operator reads: only int8 operators read integers.
pub(super) fn float_constants(mut graph: Graph) -> Graph {
    let mut names: std::collections::HashSet<String> = graph.values.iter().map(|v| v.name.clone()).collect();
    for n in 0..graph.nodes.len() {
        let output = graph.value(graph.nodes[n].output);
        if matches!(output.dtype, DType::I8 | DType::I16) {
            continue;
        }
        for i in 0..graph.nodes[n].inputs.len() {
            let value = graph.value(graph.nodes[n].inputs[i]).clone();
            if value.quant.is_none() {
                continue;
            }
            let Some(reals) = reals(&value) else { continue };
            let mut name = format!("{}/float/{n}", value.name);
            while !names.insert(name.clone()) {
                name.push('#');
            }
            let float = graph.add_constant(name, value.shape.clone(), Data::F32(reals));
            graph.nodes[n].inputs[i] = float;
        }
    }
    graph
}
