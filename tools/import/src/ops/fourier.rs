//! DFT: a product with the constant matrix of roots of unity.

use offshoot_ir::{Activation, Op};

use crate::constant::{Constant, Elements};
use crate::context::{Context, Importing, Onnx, axis};

/// Most elements of the matrix.
const MAX_MATRIX: usize = 1 << 22;

/// DFT along an axis of `[…, 1 or 2]`; the last axis holds the real and the imaginary part.
pub(crate) fn dft(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    let x = c.value(onnx, 0)?;
    let shape = c.shape(x).to_vec();
    let rank = shape.len();
    let parts =
        *shape.last().filter(|p| rank > 1 && (1..=2).contains(*p)).ok_or("the last axis is not 1 or 2")?;
    let number =
        |i: usize| -> Importing<Option<i64>> { Ok(c.ints(onnx, i)?.and_then(|v| v.first().copied())) };
    // Before opset 20 the axis is an attribute.
    let along = match number(2)? {
        Some(given) => given,
        None if c.opset < 20 => onnx.int("axis", 1),
        None => -2,
    };
    let along = axis(along, rank)?;
    if along + 1 == rank {
        return Err("a transform along the axis of real and imaginary parts".into());
    }
    let n = shape[along];
    let length = match number(1)? {
        Some(given) => usize::try_from(given).ok().filter(|l| *l > 0).ok_or("dft_length must be positive")?,
        None => n,
    };
    let (inverse, onesided) = (onnx.int("inverse", 0) != 0, onnx.int("onesided", 0) != 0);
    if inverse && onesided {
        return Err("an inverse transform of one side".into());
    }
    let bins = if onesided { length / 2 + 1 } else { length };
    let size = bins.checked_mul(2).and_then(|rows| rows.checked_mul(n)?.checked_mul(parts));
    if size.is_none_or(|size| size > MAX_MATRIX) {
        return Err(format!("{length} points for {n} elements: the matrix is too large"));
    }
    let mut matrix = Vec::with_capacity(bins * 2 * n * parts);
    for row in 0..bins * 2 {
        let (bin, imaginary) = (row / 2, row % 2 == 1);
        for column in 0..n * parts {
            let (at, from_imaginary) = (column / parts, column % parts == 1);
            // The product is reduced modulo the length first: angles stay small, and are exact where possible.
            let turn = (bin * at % length) as f64 / length as f64 * std::f64::consts::TAU;
            let (sine, cosine) = if inverse { (-turn).sin_cos() } else { turn.sin_cos() };
            let weight = match (imaginary, from_imaginary) {
                (false, false) | (true, true) => cosine,
                (false, true) => sine,
                (true, false) => -sine,
            };
            let scale = if inverse { 1.0 / length as f64 } else { 1.0 };
            matrix.push(if at < length { (weight * scale) as f32 } else { 0.0 });
        }
    }
    let name = onnx.output(0).unwrap_or_default().to_owned();
    let matrix = Constant::new(vec![bins * 2, n * parts], Elements::F32(matrix));
    let w = c.add_constant(&format!("{name}/roots"), &matrix);
    // Moves the axis next to the parts and joins both.
    let mut perm: Vec<usize> = (0..rank).filter(|a| *a != along && a + 1 != rank).collect();
    perm.extend([along, rank - 1]);
    let y = c.emit(onnx, Op::Transpose { perm: perm.clone() }, vec![x], None, &format!("{name}/last"))?;
    let mut flat: Vec<usize> = perm[..rank - 2].iter().map(|a| shape[*a]).collect();
    flat.push(n * parts);
    let y = c.emit(onnx, Op::Reshape, vec![y], Some(flat.clone()), &format!("{name}/flat"))?;
    let op = Op::FullyConnected { activation: Activation::None };
    let y = c.emit(onnx, op, vec![y, w], None, &format!("{name}/bins"))?;
    flat.pop();
    flat.extend([bins, 2]);
    let y = c.emit(onnx, Op::Reshape, vec![y], Some(flat), &format!("{name}/parts"))?;
    let back = (0..rank).map(|a| perm.iter().position(|p| *p == a).unwrap_or(a)).collect();
    c.finish(onnx, Op::Transpose { perm: back }, vec![y], None, 0)
}
