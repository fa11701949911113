//! Recurrent layers.

use offshoot::format::codec::Record;
use offshoot::format::record::{self, RecurrentArith, RecurrentKind, Returns};
use offshoot_ir::{DType, Data, Graph, Node, Op, Value, ValueId};

use super::{Context, Lowering, Reason, Tensor, to_u16, to_u32};
use crate::blobs;

/// Why a layer with int8 input and output has no int8 form; `None` if it has.
pub(super) fn int8_obstacle(graph: &Graph, node: &Node) -> Option<Reason> {
    let Op::Recurrent { kind, returns, .. } = node.op else { return None };
    if returns == Returns::State {
        return Some("state and memory have no common scale".into());
    }
    if kind == RecurrentKind::Lstm && node.inputs.len() > 4 {
        return Some("an int8 LSTM begins with zeros: its memory is float32".into());
    }
    let weights = node.inputs[1..3].iter().map(|&v| graph.value(v));
    for w in weights {
        let fits = |w: &Value| {
            let quant = w.quant.as_ref().filter(|_| w.dtype == DType::I8)?;
            (quant.axis.is_none_or(|a| a == 0) && quant.zero_point.iter().all(|&z| z == 0)).then_some(())
        };
        if fits(w).is_none() {
            return Some("the weights are not int8 with a scale for each row".into());
        }
    }
    (graph.value(node.inputs[3]).dtype != DType::F32).then(|| "the bias is not float32".into())
}

/// A layer over one sample.
pub(super) fn recurrent(
    c: &mut Context<'_>,
    x: &Tensor,
    y: &Tensor,
    node: &Node,
    (kind, returns, reverse): (RecurrentKind, Returns, bool),
) -> Lowering {
    let [samples, steps, inputs] = x.shape[..] else {
        return Err(format!("expects samples, steps, inputs, found {:?}", x.shape));
    };
    if samples != 1 {
        return Err(format!("{samples} sequences at once, the device runs one"));
    }
    let units = *c.graph.value(node.inputs[2]).shape.last().unwrap_or(&0);
    let (arith, blob) = if x.is_i8() {
        let arith = RecurrentArith::I8 { in_zp: x.zp, out_zp: y.zp, out_scale: y.scale };
        (arith, codes(c, &node.inputs[1..4], [x.scale, y.scale])?)
    } else {
        (RecurrentArith::F32, floats(c, &node.inputs[1..4])?)
    };
    let initial = match node.inputs.get(4) {
        None => None,
        Some(&v) => {
            let given = c.tensor(v)?;
            Some(if y.is_i8() { c.with_numbers_of(&given, y)? } else { c.as_f32(&given)? })
        }
    };
    let r = record::Recurrent {
        src: 0,
        dst: 0,
        initial: initial.as_ref().map(|_| 0),
        kept: None,
        scratch: 0,
        steps: to_u16(steps, "the number of steps")?,
        inputs: to_u16(inputs, "the input width")?,
        units: to_u16(units, "the number of units")?,
        kind,
        returns,
        reverse,
        arith,
        blob,
    };
    let scratch = c.allocate(4 * r.room().words())?;
    let kept = c.stateful.then(|| c.allocate(4 * r.room().kept_words())).transpose()?;
    let weights = (kind.gates() * units * (inputs + units)) as u64;
    let r = record::Recurrent { kept: kept.map(|_| 0), ..r };
    let op = c.emit(Record::Recurrent(r), [Some(x), initial.as_ref()], y, &[]);
    (op.scratch, op.kept) = (Some(scratch), kept);
    (op.macs, op.weights) = (weights * steps as u64, weights);
    Ok(())
}

/// The blob of the float32 form.
fn floats(c: &mut Context<'_>, parameters: &[ValueId]) -> Lowering<u32> {
    let [w, r, b] = [0, 1, 2].map(|i| c.constant_f32(parameters[i]));
    let (w, r, b) = (w?, r?, b?);
    let (weights, biases) = (4 * (w.len() + r.len()), 4 * b.len());
    let mut blob = blobs::floats(&b);
    blob.extend(blobs::floats(&w));
    blob.extend(blobs::floats(&r));
    c.blob(blob, (weights, biases))
}

/// The blob of the int8 form; `scales` are those of input and state.
fn codes(c: &mut Context<'_>, parameters: &[ValueId], scales: [f32; 2]) -> Lowering<u32> {
    let bias = c.constant_f32(parameters[2])?;
    let mut blob = blobs::floats(&bias);
    let mut weights = Vec::new();
    for (&id, scale) in parameters.iter().zip(scales) {
        let value = c.graph.value(id);
        let (Some(Data::I8(codes)), Some(quant)) = (value.data.as_deref(), &value.quant) else {
            return Err(format!("weights `{}` must be an int8 constant", value.name));
        };
        let rows = value.shape.first().copied().unwrap_or(0);
        let of = |row: usize| quant.scale[row.min(quant.scale.len() - 1)];
        let products: Vec<f32> = (0..rows).map(|row| scale * of(row)).collect();
        blob.extend(blobs::floats(&products));
        weights.push(codes);
    }
    let mut count = 0;
    for codes in weights {
        blob.extend(blobs::bytes(codes));
        blob.resize(blob.len().next_multiple_of(4), 0);
        count += codes.len();
    }
    to_u32(blob.len(), "bytes of a recurrent layer")?;
    c.blob(blob, (count, 4 * bias.len()))
}
