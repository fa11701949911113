//! Gemm, MatMul.

use offshoot_ir::{Activation, BinaryKind, Op, Quant};

use crate::constant::{Constant, Elements};
use crate::context::{Context, Importing, Onnx};

pub(crate) fn gemm(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    let (alpha, beta) = (onnx.float("alpha", 1.0), onnx.float("beta", 1.0));
    let mut x = c.value(onnx, 0)?;
    let weights = c.wanted(onnx, 1)?;
    if weights.shape.len() != 2 {
        return Err(format!("weights {:?} are not a matrix", weights.shape));
    }
    if onnx.int("transA", 0) != 0 {
        x = c.emit(onnx, Op::Transpose { perm: vec![1, 0] }, vec![x], None, &format!("{}/t", onnx.name))?;
    }
    let oi = if onnx.int("transB", 0) != 0 { weights } else { weights.transposed(&[1, 0]) };
    let oi = scaled(&oi, alpha)?;
    let o = oi.shape[0];
    let w = c.take_constant(onnx.input(1).unwrap_or_default(), oi);
    let mut inputs = vec![x, w];
    let mut rest = None;
    if let Some(bias) = c.constant(onnx, 2)? {
        let name = onnx.input(2).unwrap_or_default();
        let mut bias = scaled(&bias, beta)?;
        // One number for all columns.
        if bias.len() == 1 && bias.shape.len() <= 2 && bias.quant.as_ref().is_none_or(|q| q.scale.len() == 1)
        {
            let elements = bias.elements.gather(&vec![0; o]);
            let quant = bias.quant.map(|q| Quant { axis: None, ..q });
            bias = Constant { shape: vec![o], elements, quant };
        }
        // One number per column; [o, 1] would be one per row.
        let by_column = match *bias.shape.as_slice() {
            [n] | [1, n] => n == o,
            _ => false,
        };
        if by_column {
            inputs.push(c.add_constant(name, &bias.reshaped(vec![o])?));
        } else {
            // NumPy broadcasting: one number for all, one per row, or a whole matrix.
            if bias.shape.len() > 2 {
                return Err(format!("bias {:?} for a matrix", bias.shape));
            }
            rest = Some(c.add_constant(name, &bias));
        }
    }
    let op = Op::FullyConnected { activation: Activation::None };
    match rest {
        None => c.finish(onnx, op, inputs, None, 0),
        Some(bias) => {
            let y = c.emit(onnx, op, inputs, None, &format!("{}/product", onnx.name))?;
            let add = Op::Binary { kind: BinaryKind::Add, activation: Activation::None };
            c.finish(onnx, add, vec![y, bias], None, 0)
        }
    }
}

fn scaled(c: &Constant, factor: f32) -> Importing<Constant> {
    if factor == 1.0 {
        return Ok(c.clone());
    }
    if let Some(quant) = c.quant.as_ref().filter(|_| factor.is_finite() && factor > 0.0) {
        let scale = quant.scale.iter().map(|s| s * factor).collect();
        return Ok(Constant { quant: Some(Quant { scale, ..quant.clone() }), ..c.clone() });
    }
    let values = c.to_reals().into_iter().map(|v| v * factor).collect();
    Ok(Constant::new(c.shape.clone(), Elements::F32(values)))
}

pub(crate) fn matmul(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    if c.is_constant(onnx, 1) {
        let weights = c.wanted(onnx, 1)?;
        if weights.shape.len() == 2 {
            let x = c.value(onnx, 0)?;
            let w = c.take_constant(onnx.input(1).unwrap_or_default(), weights.transposed(&[1, 0]));
            return c.finish(onnx, Op::FullyConnected { activation: Activation::None }, vec![x, w], None, 0);
        }
    }
    let (mut a, mut b) = (c.value(onnx, 0)?, c.value(onnx, 1)?);
    // A vector is a row on the left and a column on the right; the product drops its axis of extent 1.
    let vectors = [c.shape(a).len() == 1, c.shape(b).len() == 1];
    let n = [c.shape(a).to_vec(), c.shape(b).to_vec()];
    if vectors[0] {
        a = c.emit(onnx, Op::Reshape, vec![a], Some(vec![1, n[0][0]]), &format!("{}/row", onnx.name))?;
    }
    if vectors[1] {
        b = c.emit(onnx, Op::Reshape, vec![b], Some(vec![n[1][0], 1]), &format!("{}/column", onnx.name))?;
    }
    let (sa, sb) = (c.shape(a).to_vec(), c.shape(b).to_vec());
    if sa.len() < 2 || sb.len() < 2 {
        return Err(format!("{sa:?} times {sb:?}: a scalar is not a matrix"));
    }
    // NumPy broadcasts the batch axes; the IR requires them to be equal.
    let rank = sa.len().max(sb.len());
    let batch = |s: &[usize]| -> Vec<usize> {
        let mut full = vec![1; rank - s.len()];
        full.extend(&s[..s.len() - 2]);
        full
    };
    let (ba, bb) = (batch(&sa), batch(&sb));
    let mut joint = Vec::new();
    for (x, y) in ba.iter().zip(&bb) {
        match (*x, *y) {
            (x, y) if x == y || y == 1 => joint.push(x),
            (1, y) => joint.push(y),
            _ => return Err(format!("{sa:?} times {sb:?}: batch axes differ")),
        }
    }
    for (i, (id, own, shape)) in [(&mut a, &ba, &sa), (&mut b, &bb, &sb)].into_iter().enumerate() {
        let tail = &shape[shape.len() - 2..];
        let name = c.graph.value(*id).name.clone();
        if shape.len() < rank && c.is_constant(onnx, i) && !vectors[i] {
            // Scales per channel go along with the constant's axis.
            let matrix = c.wanted(onnx, i)?.reshaped([own.as_slice(), tail].concat())?;
            *id = c.take_constant(&format!("{name}/batched"), matrix);
        } else if shape.len() < rank {
            let full = [own.as_slice(), tail].concat();
            *id = c.emit(onnx, Op::Reshape, vec![*id], Some(full), &format!("{name}/batched"))?;
        }
        if *own != joint {
            let full = [joint.as_slice(), tail].concat();
            *id = c.emit(onnx, Op::Expand, vec![*id], Some(full), &format!("{name}/expanded"))?;
        }
    }
    let op = Op::MatMul { transpose_b: false };
    if vectors == [false; 2] {
        return c.finish(onnx, op, vec![a, b], None, 0);
    }
    let y = c.emit(onnx, op, vec![a, b], None, &format!("{}/product", onnx.name))?;
    let (mut shape, rank) = (c.shape(y).to_vec(), c.shape(y).len());
    if vectors[1] {
        shape.remove(rank - 1);
    }
    if vectors[0] {
        shape.remove(rank - 2);
    }
    c.finish(onnx, Op::Reshape, vec![y], Some(shape), 0)
}
