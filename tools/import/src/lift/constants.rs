//! Constants that an int8 operator reads: quantised here where the exporter left them in float.

use offshoot_ir::{BinaryKind, DType, Data, Graph, Node, Op, Quant, Value};

use super::table::Table;

/// Whether the node's constants are quantised as its int8 form wants them.
pub(super) fn constants_fit(t: &Table, node: &Node) -> bool {
    let constants: Vec<&Value> =
        node.inputs.iter().map(|id| t.value(*id)).filter(|v| v.data.is_some()).collect();
    match node.op {
        // Parameters stay float: the exporter computes these in float anyway.
        // A recurrent layer has no int8 form between a pair: the one it has needs scales that no ONNX file gives.
        Op::Recurrent { .. } => false,
        Op::BatchNorm { .. } | Op::LayerNorm { .. } => constants.iter().all(|v| v.dtype == DType::F32),
        Op::Conv2d { .. } | Op::ConvTranspose2d { .. } | Op::FullyConnected { .. } => {
            constants.first().is_some_and(|w| weights_fit(w))
                && constants.get(1).is_none_or(|b| b.dtype == DType::I32)
        }
        _ => constants
            .iter()
            .all(|v| v.dtype == DType::I8 && v.quant.as_ref().is_some_and(|q| q.axis.is_none())),
    }
}

fn weights_fit(w: &Value) -> bool {
    w.dtype == DType::I8
        && w.quant
            .as_ref()
            .is_some_and(|q| q.axis.is_none_or(|a| a == 0) && q.zero_point.iter().all(|z| *z == 0))
}

/// The float bias of a convolution or fully connected layer becomes int32 with the input's scale times the weights',
/// which is what the sums it is added to have (TFLite's specification).
pub(super) fn float_bias(t: &mut Table, node: &mut Node) {
    if !matches!(node.op, Op::Conv2d { .. } | Op::ConvTranspose2d { .. } | Op::FullyConnected { .. }) {
        return;
    }
    let [x, w, b] = *node.inputs.as_slice() else {
        return;
    };
    let (x, w, b) = (t.value(x), t.value(w), t.value(b));
    let (Some(Data::F32(reals)), Some(input), Some(weights)) = (b.data.as_deref(), &x.quant, &w.quant) else {
        return;
    };
    let ([input], true) = (input.scale.as_slice(), weights_fit(w)) else {
        return;
    };
    let per_axis = weights.scale.len() > 1;
    if (per_axis && weights.scale.len() != reals.len()) || reals.iter().any(|v| !v.is_finite()) {
        return;
    }
    let scale: Vec<f32> = weights.scale.iter().map(|s| s * input).collect();
    if scale.iter().any(|s| !(s.is_finite() && *s > 0.0)) {
        return;
    }
    let quantised = reals.iter().enumerate().map(|(i, v)| {
        let s = f64::from(*input) * f64::from(weights.scale[if per_axis { i } else { 0 }]);
        // `as` saturates.
        (f64::from(*v) / s).round_ties_even() as i32
    });
    let data = Data::I32(quantised.collect());
    let quant = Quant { zero_point: vec![0; scale.len()], axis: per_axis.then_some(0), scale };
    let name = format!("{}/int32", b.name);
    let value = constant(name, b.shape.clone(), DType::I32, data, quant);
    node.inputs[2] = t.add(value);
}

/// Float constants of an elementwise operator become int8 with one scale and zero point 0; a single number is exact
/// up to the rounding of its scale.
pub(super) fn float_operands(t: &mut Table, node: &mut Node) {
    if !matches!(node.op, Op::Binary { .. }) {
        return;
    }
    for i in 0..node.inputs.len() {
        let c = t.value(node.inputs[i]);
        let Some(Data::F32(reals)) = c.data.as_deref() else {
            continue;
        };
        let largest = reals.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        let finite = reals.iter().all(|v| v.is_finite());
        // A division by a constant that rounds to 0 would not be the one that was asked for.
        let lost = |q: i8, v: f32| q == 0 && v != 0.0;
        let divides = i == 1 && matches!(node.op, Op::Binary { kind: BinaryKind::Div, .. });
        if !finite || reals.is_empty() {
            continue;
        }
        let scale = if largest > 0.0 { (largest / 127.0).max(f32::MIN_POSITIVE) } else { 1.0 };
        let q: Vec<i8> =
            reals.iter().map(|v| (v / scale).round_ties_even().clamp(-127.0, 127.0) as i8).collect();
        if divides && q.iter().zip(reals).any(|(q, v)| lost(*q, *v)) {
            continue;
        }
        let name = format!("{}/int8", c.name);
        let value = constant(name, c.shape.clone(), DType::I8, Data::I8(q), Quant::per_tensor(scale, 0));
        node.inputs[i] = t.add(value);
    }
}

fn constant(name: String, shape: Vec<usize>, dtype: DType, data: Data, quant: Quant) -> Value {
    Value { name, shape, dtype, quant: Some(quant), data: Some(data.into()), channels_first_outside: false }
}

/// Quantised constants that a float operator reads become float: only int8 operators read integers.
pub(super) fn float_constants(mut graph: Graph) -> Graph {
    let mut names: std::collections::HashSet<String> = graph.values.iter().map(|v| v.name.clone()).collect();
    for n in 0..graph.nodes.len() {
        let output = graph.value(graph.nodes[n].output);
        if output.dtype == DType::I8 {
            continue;
        }
        for i in 0..graph.nodes[n].inputs.len() {
            let value = graph.value(graph.nodes[n].inputs[i]).clone();
            let (Some(data), Some(quant)) = (&value.data, &value.quant) else {
                continue;
            };
            let integers: Vec<i32> = match data.as_ref() {
                Data::I8(v) => v.iter().map(|v| i32::from(*v)).collect(),
                Data::I32(v) => v.clone(),
                _ => continue,
            };
            let inner: usize =
                quant.axis.map_or(1, |a| value.shape[a + 1..].iter().product::<usize>().max(1));
            let at = |i: usize| quant.axis.map_or(0, |_| (i / inner) % quant.scale.len());
            let real = |(i, v): (usize, &i32)| {
                (i64::from(*v) - i64::from(quant.zero_point[at(i)])) as f32 * quant.scale[at(i)]
            };
            let reals = integers.iter().enumerate().map(real).collect();
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
