//! Element-wise operators with two operands and broadcasting.

use offshoot::format::codec::Record;
use offshoot::format::record::{self, BinaryArith, Operand};
use offshoot_ir::quant_math::quantize_multiplier;
use offshoot_ir::{Activation, BinaryKind, BinaryRecord, DType, Data, Graph, Node, ValueId};

use super::{Context, layout};
use crate::blobs;
use crate::forms::parameters::{Lowering, Reason, clamp_f32, clamp_i8};
use crate::forms::requant::{self, Fixed, OVERFLOW};
use crate::lowered::Tensor;

/// The second operand: numbers, shape and place.
struct Second {
    tensor: Tensor,
    /// Constant bytes, if it stays in the blob section.
    blob: Option<u32>,
}

/// Lowers one binary operator of `a` and `b`, whose order is reversed if `swapped`. `a` is constant only if both are.
pub(super) fn binary(
    c: &mut Context<'_>,
    a: &Tensor,
    b: ValueId,
    swapped: bool,
    y: &Tensor,
    kind: BinaryKind,
    activation: Activation,
) -> Lowering {
    let comparing = matches!(kind, BinaryKind::Min | BinaryKind::Max);
    let (a, b) = if comparing && y.is_i8() {
        // The kernel compares int8 codes, so all three tensors need the same scale and zero point.
        let b = c.tensor(b)?;
        (c.with_numbers_of(a, y)?, Second { tensor: c.with_numbers_of(&b, y)?, blob: None })
    } else {
        (a.clone(), second(c, b, y)?)
    };
    if a.len() == y.len() {
        return record(c, a, b, y, kind, activation, swapped);
    }
    if b.tensor.len() == y.len() && b.blob.is_none() {
        return record(c, b.tensor, Second { tensor: a, blob: None }, y, kind, activation, !swapped);
    }
    let a = layout::expanded(c, &a, &y.shape)?;
    record(c, a, b, y, kind, activation, swapped)
}

/// The second operand: a constant as a blob; an activation unchanged, or in float32 if the output is.
fn second(c: &mut Context<'_>, v: ValueId, y: &Tensor) -> Lowering<Second> {
    let value = c.graph.value(v);
    let (scale, zp) = match (&value.quant, value.dtype) {
        (Some(q), DType::I8) if q.scale.len() == 1 => (q.scale[0], q.zero_point[0] as i8),
        _ => (0.0, 0),
    };
    let shape = value.shape.clone();
    let describe = |dtype, scale, zp| Tensor { buffer: usize::MAX, shape: shape.clone(), dtype, scale, zp };
    match (value.data.as_deref(), y.is_i8()) {
        (Some(Data::I8(d)), true) => {
            let blob = Some(c.blob(blobs::bytes(d), [d.len(), 0])?);
            Ok(Second { tensor: describe(record::DType::I8, scale, zp), blob })
        }
        (Some(_), false) => {
            let d = c.constant_f32(v)?;
            let blob = Some(c.blob(blobs::floats(&d), [4 * d.len(), 0])?);
            Ok(Second { tensor: describe(record::DType::F32, 0.0, 0), blob })
        }
        _ => {
            let tensor = c.tensor(v)?;
            let tensor = if y.is_i8() { tensor } else { c.as_f32(&tensor)? };
            Ok(Second { tensor, blob: None })
        }
    }
}

fn record(
    c: &mut Context<'_>,
    a: Tensor,
    b: Second,
    y: &Tensor,
    kind: BinaryKind,
    activation: Activation,
    swapped: bool,
) -> Lowering {
    let (dims, broadcast, b) = match merged_axes(&y.shape, &b.tensor.shape) {
        Some((dims, broadcast)) => (dims, broadcast, b),
        None if b.blob.is_none() => {
            let full = layout::expanded(c, &b.tensor, &y.shape)?;
            let (dims, broadcast) = merged_axes(&y.shape, &full.shape)
                .ok_or_else(|| format!("shape {:?} does not fit four axes of up to 65,535", y.shape))?;
            (dims, broadcast, Second { tensor: full, blob: None })
        }
        None => {
            return Err(format!(
                "a constant of {:?} broadcasts to {:?} in more than four axes",
                b.tensor.shape, y.shape
            ));
        }
    };
    let arith = if y.is_i8() {
        let clamp = clamp_i8(activation, y);
        let fixed = rescale([a.scale, b.tensor.scale, y.scale], kind).ok_or(OVERFLOW)?;
        let blob = rescale_blob(fixed, kind).map(|r| c.blob(r, [0, 0])).transpose()?.unwrap_or(0);
        BinaryArith::I8 { a_zp: a.zp, b_zp: b.tensor.zp, out_zp: y.zp, clamp, blob }
    } else {
        BinaryArith::F32 { clamp: clamp_f32(activation) }
    };
    let operand = match b.blob {
        Some(blob) => Operand::Blob(blob),
        None => Operand::Arena(0),
    };
    let r = match kind.record() {
        BinaryRecord::Binary(kind) => {
            Record::Binary(record::Binary { kind, swapped, a: 0, b: operand, dst: 0, dims, broadcast, arith })
        }
        BinaryRecord::Math(kind) => {
            let clamp = clamp_f32(activation);
            Record::BinaryMath(record::BinaryMath {
                kind,
                swapped,
                a: 0,
                b: operand,
                dst: 0,
                dims,
                broadcast,
                clamp,
            })
        }
    };
    let mut in_place = vec![&a];
    let in_arena = b.blob.is_none().then_some(&b.tensor);
    in_place.extend(in_arena.filter(|_| broadcast == 0));
    c.emit(r, [Some(&a), in_arena], y, &in_place);
    Ok(())
}

/// Why the int8 kernel cannot compute a node; `None` if it can.
pub(super) fn int8_obstacle(
    graph: &Graph,
    node: &Node,
    x: &Tensor,
    y: &Tensor,
    kind: BinaryKind,
) -> Option<Reason> {
    if kind == BinaryKind::Div {
        return Some("division has no int8 kernel".into());
    }
    let scale = |id: &ValueId| graph.value(*id).quant.as_ref().map_or(x.scale, |q| q.scale[0]);
    let mut scales = node.inputs.iter().map(scale);
    let (a, b) = (scales.next()?, scales.next()?);
    rescale([a, b, y.scale], kind).is_none().then(|| OVERFLOW.into())
}

/// Multipliers and shifts of both operands and the output for these scales, prepared as in TFLite Micro's kernels. `None` if
/// sums would overflow.
fn rescale(scales: [f32; 3], kind: BinaryKind) -> Option<[Fixed; 3]> {
    let [a, b, y] = scales.map(f64::from);
    match kind {
        BinaryKind::Add | BinaryKind::Sub => {
            let twice_max = 2.0 * a.max(b);
            let unit = f64::from(1 << 20);
            // Each operand is at most 255 steps of its scale.
            let largest = 255.0 * unit * (a + b) / twice_max;
            let out = requant::fitting(twice_max / (unit * y), largest.ceil() as u64 + 2)?;
            let [a, b] = [a / twice_max, b / twice_max].map(quantize_multiplier);
            Some([a, b, out])
        }
        BinaryKind::Mul => Some([(0, 0), (0, 0), requant::saturating(a * b / y, 255 * 255)]),
        BinaryKind::Div | BinaryKind::Min | BinaryKind::Max | BinaryKind::Math(_) => Some([(0, 0); 3]),
    }
}

/// The multipliers and shifts as in blobs; `None` if the kind uses none.
fn rescale_blob(fixed: [Fixed; 3], kind: BinaryKind) -> Option<Vec<u8>> {
    if !matches!(kind, BinaryKind::Add | BinaryKind::Sub | BinaryKind::Mul) {
        return None;
    }
    let mut blob = blobs::words(&fixed.map(|f| f.0));
    blob.extend(fixed.map(|f| f.1 as u8));
    blob.push(0);
    Some(blob)
}

/// The output's axes and the mask of those that `b` broadcasts over. Neighbouring axes of the same kind are merged;
/// `None` if more than four remain.
pub(super) fn merged_axes(out: &[usize], b: &[usize]) -> Option<([u16; 4], u8)> {
    let missing = out.len().checked_sub(b.len())?;
    let mut axes: Vec<(usize, bool)> = Vec::new();
    for (i, &extent) in out.iter().enumerate().filter(|(_, e)| **e != 1) {
        let spread = i < missing || b[i - missing] == 1;
        match axes.last_mut() {
            Some(last) if last.1 == spread && last.0 * extent <= usize::from(u16::MAX) => last.0 *= extent,
            _ => axes.push((extent, spread)),
        }
    }
    let mut dims = [1; 4];
    let mut broadcast = 0;
    let first = 4usize.checked_sub(axes.len())?;
    for (i, (extent, spread)) in axes.into_iter().enumerate() {
        dims[first + i] = u16::try_from(extent).ok()?;
        broadcast |= u8::from(spread) << (first + i);
    }
    Some((dims, broadcast))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merges_axes_of_equal_treatment() {
        assert_eq!(merged_axes(&[1, 4, 5, 3], &[3]), Some(([1, 1, 20, 3], 0b0100)));
        assert_eq!(merged_axes(&[2, 4, 5, 3], &[2, 1, 1, 3]), Some(([1, 2, 20, 3], 0b0100)));
        assert_eq!(merged_axes(&[2, 4, 5], &[2, 4, 5]), Some(([1, 1, 1, 40], 0)));
        assert_eq!(merged_axes(&[2, 3, 2, 3, 2], &[2, 1, 2, 1, 2]), None);
        assert_eq!(merged_axes(&[300, 300], &[]), Some(([1, 1, 300, 300], 0b1100)));
    }
}
