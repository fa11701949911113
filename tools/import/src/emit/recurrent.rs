//! Recurrent layers: steps before samples, ONNX's gate order, two halves of biases.

use offshoot_ir::{Data, Node, RecurrentKind, Returns};
use tract_onnx::pb::NodeProto;

use super::nodes::{reshape, reshape_to};
use super::{Emitter, int, ints, text, texts};

/// Emits a recurrent layer.
pub(super) fn emit(
    e: &mut Emitter<'_>,
    node: &Node,
    kind: RecurrentKind,
    returns: Returns,
    reverse: bool,
) -> Result<(), String> {
    let shape = |i: usize| e.graph.value(node.inputs[i]).shape.clone();
    let ([samples, steps, inputs], units) = (shape(0)[..].try_into().unwrap_or([0; 3]), shape(2)[1]);
    let rows = kind.gates() * units;
    let constant = |i: usize| match e.graph.value(node.inputs[i]).data.as_deref() {
        Some(Data::F32(d)) => Ok(d.clone()),
        _ => Err("its weights are computed".to_owned()),
    };
    let (w, r, b) = (constant(1)?, constant(2)?, constant(3)?);
    let mut halves = gates(kind, &b[..rows], units);
    // The state's half of the biases is zero, except for a candidate gate that is reset after its product.
    halves.extend(vec![0.0; 2 * rows - b.len()]);
    halves.extend(&b[rows..]);
    let names: Vec<String> = node.inputs.iter().map(|id| e.name(*id)).collect();
    let w = e.constant(&names[1], &[1, rows, inputs], &Data::F32(gates(kind, &w, units * inputs)));
    let r = e.constant(&names[2], &[1, rows, units], &Data::F32(gates(kind, &r, units * units)));
    let b = e.constant(&names[3], &[1, 2 * rows], &Data::F32(halves));
    let x = e.fresh(&names[0]);
    e.node("Transpose", vec![names[0].clone()], &x, vec![ints("perm", [1, 0, 2])]);
    let mut given = vec![x, w, r, b];
    if let Some(name) = names.get(4) {
        given.push(String::new());
        initial(e, node, name, kind, [samples, units], &mut given);
    }
    let (operator, mut attributes) = match kind {
        RecurrentKind::Tanh => ("RNN", vec![]),
        RecurrentKind::Relu => ("RNN", vec![texts("activations", &["Relu"])]),
        RecurrentKind::Gru => ("GRU", vec![]),
        RecurrentKind::GruResetAfter => ("GRU", vec![int("linear_before_reset", 1)]),
        RecurrentKind::Lstm => ("LSTM", vec![]),
    };
    attributes.push(int("hidden_size", units as i64));
    attributes.push(text("direction", if reverse { "reverse" } else { "forward" }));
    let output = e.name(node.output);
    let (all, last, memory) = (e.fresh(&output), e.fresh(&output), e.fresh(&output));
    let outputs = match returns {
        Returns::Sequence => vec![all.clone()],
        Returns::Last => vec![String::new(), last.clone()],
        Returns::State => vec![String::new(), last.clone(), memory.clone()],
    };
    e.proto.node.push(NodeProto {
        op_type: operator.to_owned(),
        name: format!("{operator}:{output}"),
        input: given,
        output: outputs,
        attribute: attributes,
        ..NodeProto::default()
    });
    match returns {
        Returns::Sequence => {
            let flat = reshape(e, all, &[steps, samples, units]);
            e.node("Transpose", vec![flat], &output, vec![ints("perm", [1, 0, 2])]);
        }
        Returns::Last => reshape_to(e, last, &[samples, units], &output),
        Returns::State => {
            let both = e.fresh(&output);
            e.node("Concat", vec![last, memory], &both, vec![int("axis", 2)]);
            reshape_to(e, both, &[samples, 2 * units], &output);
        }
    }
    Ok(())
}

/// The initial state, one part per state, each (1, samples, units).
fn initial(
    e: &mut Emitter<'_>,
    node: &Node,
    name: &str,
    kind: RecurrentKind,
    [samples, units]: [usize; 2],
    given: &mut Vec<String>,
) {
    let states = kind.states();
    let rows = e.graph.value(node.inputs[4]).shape[0];
    for part in 0..states {
        let mut own = name.to_owned();
        if states > 1 {
            let ends = [part * units, (part + 1) * units].map(|v| Data::I64(vec![v as i64]));
            let ends = ends.map(|end| e.constant("bound", &[1], &end));
            let axis = e.constant("axis", &[1], &Data::I64(vec![1]));
            let [from, to] = ends;
            let cut = e.fresh(name);
            e.node("Slice", vec![own, from, to, axis], &cut, vec![]);
            own = cut;
        }
        if rows != samples {
            let shape = e.constant("shape", &[2], &Data::I64(vec![samples as i64, units as i64]));
            let wide = e.fresh(name);
            e.node("Expand", vec![own, shape], &wide, vec![]);
            own = wide;
        }
        let own = reshape(e, own, &[1, samples, units]);
        given.push(own);
    }
}

/// Reorders blocks of `len` elements to ONNX's gate order; the permutation of the LSTM is its own inverse.
fn gates(kind: RecurrentKind, own: &[f32], len: usize) -> Vec<f32> {
    let at = |k: usize| if kind == RecurrentKind::Lstm { [0, 2, 1, 3][k] } else { k };
    (0..kind.gates()).flat_map(|k| &own[at(k) * len..][..len]).copied().collect()
}
