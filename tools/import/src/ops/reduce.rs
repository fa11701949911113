//! Reductions: ReduceMean, ReduceSum, ReduceMax, ReduceMin, the norms and logarithms of sums, ArgMax, ArgMin.

use offshoot_ir::{Activation, BinaryKind, Op, ReduceKind, UnaryKind};

use crate::context::{Context, Entry, Importing, Onnx, axis};

/// The axes that a reduction of a tensor of this shape reduces, ascending; `None` if it reduces nothing.
pub(crate) fn axes(c: &Context<'_>, onnx: &Onnx<'_>, shape: &[usize]) -> Importing<Option<Vec<usize>>> {
    let given = match onnx.ints("axes") {
        Some(a) => Some(a),
        None => c.ints(onnx, 1)?,
    };
    let mut axes = match given {
        Some(a) if !a.is_empty() => {
            a.iter().map(|a| axis(*a, shape.len())).collect::<Importing<Vec<usize>>>()?
        }
        _ if onnx.int("noop_with_empty_axes", 0) != 0 => return Ok(None),
        _ => (0..shape.len()).collect(),
    };
    axes.sort_unstable();
    axes.dedup();
    Ok(Some(axes))
}

pub(crate) fn reduce(c: &mut Context<'_>, onnx: &Onnx<'_>, kind: ReduceKind) -> Importing {
    let x = c.value(onnx, 0)?;
    let shape = c.shape(x).to_vec();
    let Some(axes) = axes(c, onnx, &shape)? else {
        return c.bind(onnx, 0, Entry::Value(x));
    };
    let keep = onnx.int("keepdims", 1) != 0;
    c.finish(onnx, Op::Reduce { kind, axes: axes.clone() }, vec![x], Some(reduced(&shape, &axes, keep)), 0)
}

/// ReduceL1, ReduceL2, ReduceSumSquare, ReduceLogSum, ReduceLogSumExp: a sum between two unary functions.
pub(crate) fn norm(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    let x = c.value(onnx, 0)?;
    let shape = c.shape(x).to_vec();
    let axes = axes(c, onnx, &shape)?;
    let keep = onnx.int("keepdims", 1) != 0;
    let name = onnx.output(0).unwrap_or_default().to_owned();
    let operator = onnx.node.op_type.as_str();
    let declared = axes.as_ref().map(|axes| reduced(&shape, axes, keep));
    let mut inner = x;
    let mut largest = None;
    match operator {
        "ReduceL1" => {
            inner = c.emit(onnx, Op::Unary(UnaryKind::Abs), vec![x], None, &format!("{name}/size"))?
        }
        "ReduceL2" | "ReduceSumSquare" => {
            inner = c.emit(onnx, SQUARE, vec![x], None, &format!("{name}/square"))?;
        }
        "ReduceLogSumExp" => {
            // Without subtracting the maximum, which is added back afterwards, exp would overflow.
            if let Some(axes) = &axes {
                let op = Op::Reduce { kind: ReduceKind::Max, axes: axes.clone() };
                let kept = Some(reduced(&shape, axes, true));
                let max = c.emit(onnx, op, vec![x], kept, &format!("{name}/max"))?;
                let sub = Op::Binary { kind: BinaryKind::Sub, activation: Activation::None };
                inner = c.emit(onnx, sub, vec![x, max], None, &format!("{name}/shifted"))?;
                largest = Some(max);
            }
            inner = c.emit(onnx, Op::Unary(UnaryKind::Exp), vec![inner], None, &format!("{name}/exp"))?;
        }
        _ => {}
    }
    let outer = match operator {
        "ReduceL2" => Some(UnaryKind::Sqrt),
        "ReduceLogSum" | "ReduceLogSumExp" => Some(UnaryKind::Log),
        _ => None,
    };
    let mut y = inner;
    if let Some(axes) = axes {
        let op = Op::Reduce { kind: ReduceKind::Sum, axes };
        y = c.emit(onnx, op, vec![y], declared.clone(), &format!("{name}/sum"))?;
    }
    if let Some(kind) = outer {
        y = c.emit(onnx, Op::Unary(kind), vec![y], None, &format!("{name}/outer"))?;
    }
    if let Some(max) = largest {
        let max = c.emit(onnx, Op::Reshape, vec![max], declared, &format!("{name}/max"))?;
        let add = Op::Binary { kind: BinaryKind::Add, activation: Activation::None };
        y = c.emit(onnx, add, vec![y, max], None, &format!("{name}/log_sum"))?;
    }
    c.bind(onnx, 0, Entry::Value(y))
}

const SQUARE: Op = Op::Unary(UnaryKind::Pow { exponent: 2.0 });

pub(crate) fn reduced(shape: &[usize], axes: &[usize], keep: bool) -> Vec<usize> {
    let mut out = Vec::new();
    for (a, d) in shape.iter().enumerate() {
        match (axes.contains(&a), keep) {
            (false, _) => out.push(*d),
            (true, true) => out.push(1),
            (true, false) => {}
        }
    }
    out
}

/// ArgMax; ArgMin is the ArgMax of the negative.
pub(crate) fn argmax(c: &mut Context<'_>, onnx: &Onnx<'_>, least: bool) -> Importing {
    let mut x = c.value(onnx, 0)?;
    if least {
        let name = format!("{}/negative", onnx.output(0).unwrap_or_default());
        x = c.emit(onnx, Op::Unary(UnaryKind::Neg), vec![x], None, &name)?;
    }
    let shape = c.shape(x).to_vec();
    let axis = onnx.axis("axis", 0, shape.len())?;
    let select_last = onnx.int("select_last_index", 0) != 0;
    let keep = onnx.int("keepdims", 1) != 0;
    c.finish(onnx, Op::ArgMax { axis, select_last }, vec![x], Some(reduced(&shape, &[axis], keep)), 0)
}
