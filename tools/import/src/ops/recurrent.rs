//! RNN, GRU, LSTM: weights are reordered to the IR's gate order; each direction becomes one operator.
//!
//! The IR is batch-first; ONNX has the steps first (`layout` 0) or the samples. Variants without a form in the IR are
//! unrolled: other activations than the defaults (RNN: Tanh or Relu), `clip`, `input_forget`, peepholes, different
//! sequence lengths.

use offshoot_ir::{Op, RecurrentKind, Returns, ValueId};

use crate::constant::{Constant, Elements};
use crate::context::{Context, Entry, Importing, Onnx};
use crate::parts::Parts;

/// The properties of a layer that ONNX leaves to attributes.
struct Layer {
    kind: RecurrentKind,
    /// For each direction, whether it runs from the last step to the first.
    reverse: Vec<bool>,
    units: usize,
    /// Whether samples come before steps.
    samples_first: bool,
}

/// Imports a recurrent layer.
pub(crate) fn recurrent(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    if is_unusual(c, onnx)? {
        return super::unrolled::recurrent(c, onnx);
    }
    let x = c.value(onnx, 0)?;
    let samples_first = onnx.int("layout", 0) != 0;
    let [a, b, inputs] = *c.shape(x) else {
        return Err(format!("input {:?} is not (steps, samples, inputs)", c.shape(x)));
    };
    let (steps, samples) = if samples_first { (b, a) } else { (a, b) };
    let recurrence = c.wanted(onnx, 2)?;
    let units = *recurrence.shape.last().ok_or("the state's weights are not a matrix")?;
    let wanted = onnx.int("hidden_size", units as i64);
    if usize::try_from(wanted) != Ok(units) || units == 0 {
        return Err(format!("hidden_size {wanted}, the state's weights have {units} columns"));
    }
    let reverse = match onnx.text("direction", "forward").as_str() {
        "forward" => vec![false],
        "reverse" => vec![true],
        "bidirectional" => vec![false, true],
        other => return Err(format!("direction `{other}`")),
    };
    let kind = kind(onnx, reverse.len())?;
    let layer = Layer { kind, reverse, units, samples_first };

    let perm = vec![1, 0, 2];
    let name = onnx.name.clone();
    let x = match samples_first {
        true => x,
        false => c.emit(onnx, Op::Transpose { perm }, vec![x], None, &format!("{name}/samples"))?,
    };
    let mut operands = Vec::new();
    for d in 0..layer.reverse.len() {
        let mut own = vec![x];
        own.extend(weights(c, onnx, &layer, d, inputs)?);
        own.extend(initial(c, onnx, &layer, d, samples)?);
        operands.push(own);
    }
    let (all, last, memory) = (onnx.output(0), onnx.output(1), onnx.output(2));
    if all.is_some() || last.is_some() {
        let states = sequences(c, onnx, &layer, &operands)?;
        if all.is_some() {
            sequence(c, onnx, &layer, &states)?;
        }
        if last.is_some() {
            let mut ends = Vec::new();
            for (&y, &reverse) in states.iter().zip(&layer.reverse) {
                let start = vec![0, if reverse { 0 } else { steps - 1 }, 0];
                let op = Op::Slice { start, step: vec![1; 3] };
                ends.push(c.emit(
                    onnx,
                    op,
                    vec![y],
                    Some(vec![samples, 1, units]),
                    &format!("{name}/last"),
                )?);
            }
            ends_as(c, onnx, &layer, ends, samples, 1)?;
        }
    }
    if memory.is_some() {
        let mut ends = Vec::new();
        for (own, &reverse) in operands.iter().zip(&layer.reverse) {
            let op = Op::Recurrent { kind, returns: Returns::State, reverse };
            let both = each_sample(c, onnx, &op, own, &format!("{name}/state"))?;
            let op = Op::Slice { start: vec![0, units], step: vec![1; 2] };
            ends.push(c.emit(onnx, op, vec![both], Some(vec![samples, units]), &format!("{name}/memory"))?);
        }
        ends_as(c, onnx, &layer, ends, samples, 2)?;
    }
    Ok(())
}

fn kind(onnx: &Onnx<'_>, directions: usize) -> Importing<RecurrentKind> {
    let activations: Option<Vec<String>> =
        onnx.texts("activations").map(|a| a.iter().map(|a| a.to_lowercase()).collect());
    let each = |own: &[&str]| {
        let wanted: Vec<&str> = own.iter().copied().cycle().take(own.len() * directions).collect();
        activations.as_ref().is_none_or(|given| given.is_empty() || *given == wanted)
    };
    let (kind, usual) = match onnx.node.op_type.as_str() {
        "RNN" if each(&["tanh"]) => (RecurrentKind::Tanh, true),
        "RNN" => (RecurrentKind::Relu, each(&["relu"])),
        "GRU" if onnx.int("linear_before_reset", 0) != 0 => {
            (RecurrentKind::GruResetAfter, each(&["sigmoid", "tanh"]))
        }
        "GRU" => (RecurrentKind::Gru, each(&["sigmoid", "tanh"])),
        _ => (RecurrentKind::Lstm, each(&["sigmoid", "tanh", "tanh"])),
    };
    match usual {
        true => Ok(kind),
        false => Err(format!(
            "activations {:?}: the defaults are supported, and Relu of an RNN in all directions",
            activations.unwrap_or_default()
        )),
    }
}

/// Whether the layer has no form in the IR: it is unrolled.
fn is_unusual(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing<bool> {
    let lstm = onnx.node.op_type == "LSTM";
    let computed = (1..4).any(|i| onnx.input(i).is_some() && !c.is_constant(onnx, i));
    if computed || onnx.has("clip") || (lstm && onnx.int("input_forget", 0) != 0) {
        return Ok(true);
    }
    let directions = if onnx.text("direction", "forward") == "bidirectional" { 2 } else { 1 };
    if kind(onnx, directions).is_err() {
        return Ok(true);
    }
    let x = c.value(onnx, 0)?;
    let steps = c.shape(x).get(usize::from(onnx.int("layout", 0) != 0)).copied();
    let whole = |l: &i64| usize::try_from(*l).ok() == steps;
    if c.ints(onnx, 4)?.is_some_and(|lengths| !lengths.iter().all(whole)) {
        return Ok(true);
    }
    if !lstm || onnx.input(7).is_none() {
        return Ok(false);
    }
    Ok(!c.is_constant(onnx, 7) || c.wanted(onnx, 7)?.to_reals().iter().any(|v| *v != 0.0))
}

/// Emits a layer for each sample, since the device runs one sequence at a time, and joins the results.
fn each_sample(
    c: &mut Context<'_>,
    onnx: &Onnx<'_>,
    op: &Op,
    own: &[ValueId],
    name: &str,
) -> Importing<ValueId> {
    let samples = c.shape(own[0])[0];
    if samples == 1 {
        return c.emit(onnx, op.clone(), own.to_vec(), None, name);
    }
    let mut results = Vec::new();
    for i in 0..samples {
        let mut alone = own.to_vec();
        let mut p = Parts::of(c, onnx);
        alone[0] = p.slice(own[0], 0, i, 1, 1)?;
        if let Some(initial) = own.get(4).filter(|v| p.shape(**v)[0] == samples) {
            alone[4] = p.slice(*initial, 0, i, 1, 1)?;
        }
        results.push(c.emit(onnx, op.clone(), alone, None, name)?);
    }
    c.emit(onnx, Op::Concat { axis: 0 }, results, None, name)
}

/// Position in ONNX of the IR's gate `k`: ONNX orders the LSTM's gates as input, output, forget, cell.
fn gate(kind: RecurrentKind, k: usize) -> usize {
    if kind == RecurrentKind::Lstm { [0, 2, 1, 3][k] } else { k }
}

/// Reorders blocks of `len` elements to the IR's gate order.
fn gates(kind: RecurrentKind, onnx: &[f32], len: usize) -> Vec<f32> {
    (0..kind.gates()).flat_map(|k| &onnx[gate(kind, k) * len..][..len]).copied().collect()
}

/// Weights of input and state, and biases, of one direction.
fn weights(
    c: &mut Context<'_>,
    onnx: &Onnx<'_>,
    layer: &Layer,
    direction: usize,
    inputs: usize,
) -> Importing<[ValueId; 3]> {
    let Layer { kind, units, .. } = *layer;
    let (directions, rows) = (layer.reverse.len(), kind.gates() * units);
    let read = |i: usize, columns: usize| -> Importing<Vec<f32>> {
        let whole = c.wanted(onnx, i)?;
        if whole.shape != [directions, rows, columns] {
            return Err(format!("weights {:?} are not {:?}", whole.shape, [directions, rows, columns]));
        }
        let all = whole.to_reals();
        Ok(gates(kind, &all[direction * rows * columns..][..rows * columns], units * columns))
    };
    let (input, state) = (read(1, inputs)?, read(2, units)?);
    let bias = match c.constant(onnx, 3)? {
        None => vec![0.0; kind.biases() * units],
        Some(b) if b.shape == [directions, 2 * rows] => {
            let all = b.to_reals();
            let both = &all[direction * 2 * rows..][..2 * rows];
            let (w, r) = (gates(kind, &both[..rows], units), gates(kind, &both[rows..], units));
            // A candidate gate that is reset after its product keeps the state's bias separate.
            let joint = if kind == RecurrentKind::GruResetAfter { rows - units } else { rows };
            let mut bias: Vec<f32> = w.iter().zip(&r).map(|(w, r)| w + r).collect();
            bias[joint..].copy_from_slice(&w[joint..]);
            bias.extend(&r[joint..]);
            bias
        }
        Some(b) => return Err(format!("biases {:?} are not {:?}", b.shape, [directions, 2 * rows])),
    };
    let suffix = if directions == 2 && direction == 1 { "/reverse" } else { "" };
    let name = |i: usize, other: &str| match onnx.input(i) {
        Some(name) => format!("{name}{suffix}"),
        None => format!("{}/{other}{suffix}", onnx.name),
    };
    let (w, r, b) = (name(1, "input"), name(2, "state"), name(3, "bias"));
    let biases = bias.len();
    Ok([
        c.add_reals(&w, vec![rows, inputs], input),
        c.add_reals(&r, vec![rows, units], state),
        c.add_reals(&b, vec![biases], bias),
    ])
}

/// The initial state of a direction, `[samples, states · units]`; `None` if it is zero.
fn initial(
    c: &mut Context<'_>,
    onnx: &Onnx<'_>,
    layer: &Layer,
    direction: usize,
    samples: usize,
) -> Importing<Option<ValueId>> {
    let Layer { units, .. } = *layer;
    let directions = layer.reverse.len();
    let mut parts = Vec::new();
    for i in 5..5 + layer.kind.states() {
        parts.push(match onnx.input(i) {
            None => None,
            Some(_) if c.is_constant(onnx, i) && c.wanted(onnx, i)?.to_reals().iter().all(|&v| v == 0.0) => {
                None
            }
            Some(_) => {
                let value = c.value(onnx, i)?;
                let (wanted, at) = match layer.samples_first {
                    true => (vec![samples, directions, units], vec![0, direction, 0]),
                    false => (vec![directions, samples, units], vec![direction, 0, 0]),
                };
                if c.shape(value) != wanted {
                    return Err(format!("initial state {:?} is not {wanted:?}", c.shape(value)));
                }
                let mut one = wanted;
                one[usize::from(layer.samples_first)] = 1;
                let name = format!("{}/initial", onnx.name);
                let op = Op::Slice { start: at, step: vec![1; 3] };
                let own = c.emit(onnx, op, vec![value], Some(one), &name)?;
                Some(c.emit(onnx, Op::Reshape, vec![own], Some(vec![samples, units]), &name)?)
            }
        });
    }
    if parts.iter().all(Option::is_none) {
        return Ok(None);
    }
    let mut whole = Vec::new();
    for part in parts {
        whole.push(match part {
            Some(part) => part,
            None => {
                let zeros = Constant::new(vec![samples, units], Elements::F32(vec![0.0; samples * units]));
                c.add_constant(&format!("{}/zeros", onnx.name), &zeros)
            }
        });
    }
    match whole[..] {
        [one] => Ok(Some(one)),
        _ => {
            let name = format!("{}/initial", onnx.name);
            Ok(Some(c.emit(onnx, Op::Concat { axis: 1 }, whole, None, &name)?))
        }
    }
}

/// States of all steps, one value per direction.
fn sequences(
    c: &mut Context<'_>,
    onnx: &Onnx<'_>,
    layer: &Layer,
    operands: &[Vec<ValueId>],
) -> Importing<Vec<ValueId>> {
    let mut all = Vec::new();
    for (own, &reverse) in operands.iter().zip(&layer.reverse) {
        let op = Op::Recurrent { kind: layer.kind, returns: Returns::Sequence, reverse };
        let name = onnx.output(0).unwrap_or(&onnx.name);
        all.push(each_sample(c, onnx, &op, own, &format!("{name}/states"))?);
    }
    Ok(all)
}

/// Output 0: (steps, directions, samples, units), or (samples, steps, directions, units).
fn sequence(c: &mut Context<'_>, onnx: &Onnx<'_>, layer: &Layer, states: &[ValueId]) -> Importing {
    let name = format!("{}/sequence", onnx.name);
    let mut parts = Vec::new();
    for &y in states {
        let [n, t, h] = *c.shape(y) else { return Err("states are not a sequence".into()) };
        let (y, shape) = match layer.samples_first {
            true => (y, vec![n, t, 1, h]),
            false => {
                let op = Op::Transpose { perm: vec![1, 0, 2] };
                (c.emit(onnx, op, vec![y], None, &name)?, vec![t, 1, n, h])
            }
        };
        parts.push(c.emit(onnx, Op::Reshape, vec![y], Some(shape), &name)?);
    }
    let axis = if layer.samples_first { 2 } else { 1 };
    joined(c, onnx, parts, axis, 0)
}

/// Output `i`: the states of all directions at one step, (directions, samples, units) or (samples, directions,
/// units).
fn ends_as(
    c: &mut Context<'_>,
    onnx: &Onnx<'_>,
    layer: &Layer,
    ends: Vec<ValueId>,
    samples: usize,
    i: usize,
) -> Importing {
    let (shape, axis) = match layer.samples_first {
        true => (vec![samples, 1, layer.units], 1),
        false => (vec![1, samples, layer.units], 0),
    };
    let mut parts = Vec::new();
    for end in ends {
        let name = format!("{}/end", onnx.name);
        parts.push(c.emit(onnx, Op::Reshape, vec![end], Some(shape.clone()), &name)?);
    }
    joined(c, onnx, parts, axis, i)
}

/// Concatenates the parts as output `i`.
fn joined(c: &mut Context<'_>, onnx: &Onnx<'_>, parts: Vec<ValueId>, axis: usize, i: usize) -> Importing {
    match parts[..] {
        [one] => c.bind(onnx, i, Entry::Value(one)),
        _ => c.finish(onnx, Op::Concat { axis }, parts, None, i),
    }
}
