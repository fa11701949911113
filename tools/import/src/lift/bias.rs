//! Sums with constants behind layers become their biases.

use offshoot_ir::{Activation, BinaryKind, DType, Data, Node, Op, Value, ValueId};

use super::channels::along;
use super::constants::reals;
use super::table::Table;

/// `layer → add of one number per channel, or of one for all` to a layer with a bias, whatever transposes lie between.
pub(super) fn into_linear(t: &mut Table, n: usize) -> Option<usize> {
    let Op::Binary { kind: BinaryKind::Add, activation } = t.node(n).op else {
        return None;
    };
    (0..2).find_map(|side| from_side(t, n, side, activation))
}

fn from_side(t: &mut Table, n: usize, side: usize, activation: Activation) -> Option<usize> {
    let (x, b) = (t.node(n).inputs[side], t.node(n).inputs[1 - side]);
    let (layer, channels) = layer_before(t, n, x)?;
    let linear = t.node(layer).clone();
    let is_linear =
        matches!(linear.op, Op::Conv2d { .. } | Op::ConvTranspose2d { .. } | Op::FullyConnected { .. });
    if !is_linear || linear.op.activation() != Some(Activation::None) {
        return None;
    }
    let width = *t.value(linear.output).shape.last()?;
    let (bias, shape) = (t.value(b), &t.value(x).shape);
    let numbers = bias.dtype == DType::F32 || bias.quant.is_some();
    let sums = t.value(x).dtype == DType::F32 && t.value(t.node(n).output).shape == *shape;
    if bias.data.is_none() || !numbers || !sums || bias.shape.len() > shape.len() {
        return None;
    }
    let single = bias.len() == 1;
    if !single && (bias.len() != width || along(&bias.shape, shape) != Some(channels)) {
        return None;
    }
    let mut vector = Value { shape: vec![width], ..bias.clone() };
    if let Some(quant) = &mut vector.quant {
        quant.axis = quant.axis.map(|_| 0);
    }
    let own = linear.inputs.get(2).map(|id| reals(t.value(*id)));
    if own.is_some() || single && width != 1 {
        let own = own.unwrap_or_else(|| Some(vec![0.0; width]))?;
        let added = reals(bias)?;
        let sum = own.iter().zip(added.iter().cycle()).map(|(a, b)| a + b).collect();
        vector = Value { dtype: DType::F32, quant: None, data: Some(Data::F32(sum).into()), ..vector };
    }
    let b = t.add(vector);
    let mut linear = linear;
    linear.inputs.truncate(2);
    linear.inputs.push(b);
    // It commutes with transposes.
    *linear.op.activation_mut()? = activation;
    let output = t.node(n).output;
    t.remove(n);
    match t.producer(x) {
        Some(last) if last != layer => {
            t.replace(layer, linear);
            let moved = Node { output, ..t.node(last).clone() };
            t.replace(last, moved);
        }
        _ => t.replace(layer, Node { output, ..linear }),
    }
    Some(layer)
}

/// The operator whose output node `n` reads as `x`, and nothing else, behind transposes; and the axis of `x` that is the last one of
/// that output.
fn layer_before(t: &Table, n: usize, x: ValueId) -> Option<(usize, usize)> {
    let (mut tensor, mut reader) = (x, n);
    let mut axes: Vec<usize> = (0..t.value(x).shape.len()).collect();
    loop {
        let before = t.producer(tensor).filter(|_| t.sole_reader(tensor) == Some(reader))?;
        let node = t.node(before);
        let Op::Transpose { perm } = &node.op else {
            let last = axes.len().checked_sub(1)?;
            return Some((before, axes.iter().position(|axis| *axis == last)?));
        };
        axes = axes.iter().map(|&axis| perm.get(axis).copied()).collect::<Option<_>>()?;
        (tensor, reader) = (*node.inputs.first()?, before);
    }
}
