//! Operators that commute with dequantisation: their outputs are elements of their input, and so have its scale.

use offshoot_ir::{Activation, DType, Node, Op, PoolKind, Quant, ReduceKind, UnaryKind, ValueId, grid};

use super::table::Table;

/// Distance from the int8 grid, in steps, within which a bound counts as exact.
const ON_GRID: f32 = 1e-3;
/// How much coarser than a tensor's own scale the common scale of joined tensors may be.
const COARSER: f32 = 4.0;

/// `dequantize… → operator` to `operator → dequantize`, where nothing quantises the operator's output.
pub(super) fn dequantize_below(t: &mut Table, n: usize) -> Option<usize> {
    let (node, y) = (t.node(n).clone(), t.node(n).output);
    if t.value(y).dtype != DType::F32 {
        return None;
    }
    let mut from = Vec::new();
    for &x in &node.inputs {
        // An index.
        if node.op == Op::Switch && t.value(x).dtype == DType::I32 {
            continue;
        }
        let d = t.node(t.producer(x)?);
        if !matches!(d.op, Op::Dequantize) {
            return None;
        }
        from.push(d.inputs[0]);
    }
    let first = *from.first()?;
    let (dtype, quant) = (t.value(first).dtype, t.value(first).quant.clone()?);
    if quant.axis.is_some()
        || !commutes(&node.op, &quant, dtype)
        || from.iter().any(|x| t.value(*x).dtype != dtype)
    {
        return None;
    }
    let quant = match node.op {
        Op::Concat { .. } | Op::Switch => common(t, &from, dtype)?,
        _ => quant,
    };
    let dequantize = t.node(t.producer(node.inputs[0])?).clone();
    for x in &mut from {
        if t.value(*x).quant.as_ref() != Some(&quant) {
            let coarse = t.new_value(*x, "rescaled", dtype, None);
            t.set_quant(coarse, quant.clone());
            t.insert_before(n, Node { op: Op::Requantize, inputs: vec![*x], output: coarse, ..node.clone() });
            *x = coarse;
        }
    }
    if node.op == Op::Switch {
        from.extend(node.inputs.last());
    }
    let moved = t.new_value(y, super::suffix(dtype), dtype, None);
    t.set_quant(moved, quant);
    t.replace(n, Node { inputs: from, output: moved, ..node });
    t.insert_after(n, Node { inputs: vec![moved], output: y, ..dequantize });
    Some(n)
}

/// Whether the operator outputs only elements of its input, or zero.
fn commutes(op: &Op, quant: &Quant, dtype: DType) -> bool {
    let exact = |bound: f32| !bound.is_finite() || on_grid(bound, quant, dtype);
    let bounded = |activation: Activation| {
        let (low, high) = activation.bounds();
        exact(low) && exact(high)
    };
    match op {
        Op::Pool { kind: PoolKind::Max, activation, .. } => bounded(*activation),
        Op::Unary(UnaryKind::Clip { min, max }) => exact(*min) && exact(*max),
        Op::Reduce { kind: ReduceKind::Max | ReduceKind::Min, .. } | Op::Concat { .. } | Op::Switch => true,
        Op::Pad { mode, value, .. } => mode.is_some() || on_grid(*value, quant, dtype),
        Op::Resize(rule) => !rule.bilinear,
        _ => false,
    }
}

/// Whether int8 or int16 represents the number almost exactly.
fn on_grid(value: f32, quant: &Quant, dtype: DType) -> bool {
    let range = if dtype == DType::I16 { -32768.0..=32767.0 } else { -128.0..=127.0 };
    let steps = value / quant.scale[0];
    let code = steps.round() + quant.zero_point[0] as f32;
    (steps - steps.round()).abs() <= ON_GRID && range.contains(&code)
}

/// Scale and zero point that cover the ranges of all the tensors, if the scale is not much coarser than any of
/// theirs.
fn common(t: &Table, tensors: &[ValueId], dtype: DType) -> Option<Quant> {
    let quants: Vec<&Quant> = tensors.iter().map(|id| t.value(*id).quant.as_ref()).collect::<Option<_>>()?;
    let first = *quants.first()?;
    if quants.iter().any(|q| q.axis.is_some()) {
        return None;
    }
    if quants.iter().all(|q| *q == first) {
        return Some(first.clone());
    }
    if dtype == DType::I16 {
        // Symmetric: the largest of the scales covers all.
        let largest = quants.iter().map(|q| q.scale[0]).fold(0.0, f32::max);
        return Some(Quant::per_tensor(largest, 0));
    }
    let (low, high) = quants
        .iter()
        .map(|q| grid::bounds(q))
        .fold((0.0f32, 0.0f32), |(low, high), (l, h)| (low.min(l), high.max(h)));
    let all = grid::quant_of_range(low, high);
    quants.iter().all(|q| all.scale[0] <= COARSER * q.scale[0]).then_some(all)
}
