//! Softmax, LogSoftmax, BatchNormalization, LayerNormalization.

use offshoot_ir::{Activation, BinaryKind, Op, ReduceKind, UnaryKind, ValueId};

use crate::constant::{Constant, Elements};
use crate::context::{Context, Importing, Onnx, to_first, to_last};

pub(crate) fn softmax(c: &mut Context<'_>, onnx: &Onnx<'_>, log: bool) -> Importing {
    let x = c.value(onnx, 0)?;
    let shape = c.shape(x).to_vec();
    let name = onnx.output(0).unwrap_or_default().to_owned();
    let before_13 = c.opset < 13;
    let axis = onnx.axis("axis", if before_13 { 1 } else { -1 }, shape.len())?;
    // Before opset 13, everything from the axis on is one row.
    let flat = before_13 && shape[axis + 1..].iter().any(|d| *d != 1);
    if !flat {
        if !log {
            return c.finish(onnx, Op::Softmax { axis }, vec![x], None, 0);
        }
        let (shifted, log_sum) = log_softmax(c, onnx, x, axis, &name)?;
        return c.finish(onnx, SUB, vec![shifted, log_sum], None, 0);
    }
    let rows = shape[..axis].iter().product();
    let depth = shape[axis..].iter().product();
    let row = c.emit(onnx, Op::Reshape, vec![x], Some(vec![rows, depth]), &format!("{name}/rows"))?;
    let p = if log {
        let (shifted, log_sum) = log_softmax(c, onnx, row, 1, &name)?;
        c.emit(onnx, SUB, vec![shifted, log_sum], None, &format!("{name}/log"))?
    } else {
        c.emit(onnx, Op::Softmax { axis: 1 }, vec![row], None, &format!("{name}/softmax"))?
    };
    c.finish(onnx, Op::Reshape, vec![p], Some(shape), 0)
}

const SUB: Op = Op::Binary { kind: BinaryKind::Sub, activation: Activation::None };

/// `x - max` and `log(sum(exp(x - max)))`, whose difference is the logarithm of the softmax. The logarithm of a softmax
/// that has been computed would be -inf wherever that is below float32's range.
fn log_softmax(
    c: &mut Context<'_>,
    onnx: &Onnx<'_>,
    x: ValueId,
    axis: usize,
    name: &str,
) -> Importing<(ValueId, ValueId)> {
    let mut kept = c.shape(x).to_vec();
    kept[axis] = 1;
    let reduce = |kind| Op::Reduce { kind, axes: vec![axis] };
    let max = c.emit(onnx, reduce(ReduceKind::Max), vec![x], Some(kept.clone()), &format!("{name}/max"))?;
    let shifted = c.emit(onnx, SUB, vec![x, max], None, &format!("{name}/shifted"))?;
    let exp = c.emit(onnx, Op::Unary(UnaryKind::Exp), vec![shifted], None, &format!("{name}/exp"))?;
    let sum = c.emit(onnx, reduce(ReduceKind::Sum), vec![exp], Some(kept), &format!("{name}/sum"))?;
    let log_sum = c.emit(onnx, Op::Unary(UnaryKind::Log), vec![sum], None, &format!("{name}/log_sum"))?;
    Ok((shifted, log_sum))
}

pub(crate) fn batch_norm(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    if onnx.int("training_mode", 0) != 0 {
        return Err("training_mode: export the model for inference".into());
    }
    if onnx.int("spatial", 1) == 0 {
        return Err("spatial = 0: statistics for each position".into());
    }
    if (1..5).any(|i| onnx.output(i).is_some()) {
        return Err("running statistics as outputs: export the model for inference".into());
    }
    let x = c.value(onnx, 0)?;
    let rank = c.shape(x).len();
    if rank < 2 {
        return Err(format!("input with {rank} axes"));
    }
    let channels = c.shape(x)[1];
    let mut parameters = Vec::new();
    for i in 1..5 {
        let p = c.wanted(onnx, i)?;
        if p.len() != channels {
            return Err(format!("input {i} has {} elements for {channels} channels", p.len()));
        }
        parameters.push(c.add_constant(onnx.input(i).unwrap_or_default(), &p.reshaped(vec![channels])?));
    }
    let op = Op::BatchNorm { epsilon: onnx.float("epsilon", 1e-5) };
    if rank == 2 {
        let inputs = [vec![x], parameters].concat();
        return c.finish(onnx, op, inputs, None, 0);
    }
    let name = onnx.output(0).unwrap_or_default().to_owned();
    let last = c.emit(onnx, Op::Transpose { perm: to_last(rank) }, vec![x], None, &format!("{name}/x"))?;
    let y = c.emit(onnx, op, [vec![last], parameters].concat(), None, &format!("{name}/nhwc"))?;
    c.finish(onnx, Op::Transpose { perm: to_first(rank) }, vec![y], None, 0)
}

pub(crate) fn layer_norm(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    if onnx.output(1).is_some() || onnx.output(2).is_some() {
        return Err("mean and deviation as outputs".into());
    }
    let x = c.value(onnx, 0)?;
    let shape = c.shape(x).to_vec();
    let axis = onnx.axis("axis", -1, shape.len())?;
    let depth: usize = shape[axis..].iter().product();
    let name = onnx.output(0).unwrap_or_default().to_owned();
    let scale = c.wanted(onnx, 1)?;
    if scale.len() != depth {
        return Err(format!("scale {:?} for rows of {depth}", scale.shape));
    }
    let gamma = c.add_constant(onnx.input(1).unwrap_or_default(), &scale.reshaped(vec![depth])?);
    let beta = match c.constant(onnx, 2)? {
        Some(b) if b.len() == depth => {
            c.add_constant(onnx.input(2).unwrap_or_default(), &b.reshaped(vec![depth])?)
        }
        Some(b) => return Err(format!("bias {:?} for rows of {depth}", b.shape)),
        None => {
            let zeros = Constant::new(vec![depth], Elements::F32(vec![0.0; depth]));
            c.add_constant(&format!("{name}/bias"), &zeros)
        }
    };
    let op = Op::LayerNorm { epsilon: onnx.float("epsilon", 1e-5) };
    if axis + 1 == shape.len() {
        return c.finish(onnx, op, vec![x, gamma, beta], None, 0);
    }
    let rows = shape[..axis].iter().product();
    let row = c.emit(onnx, Op::Reshape, vec![x], Some(vec![rows, depth]), &format!("{name}/rows"))?;
    let y = c.emit(onnx, op, vec![row, gamma, beta], None, &format!("{name}/normed"))?;
    c.finish(onnx, Op::Reshape, vec![y], Some(shape), 0)
}
