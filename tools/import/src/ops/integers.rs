//! Integers that a run computes. They are int32 in the graph; arithmetic on them is float32, exact below 2^24, between
//! two conversions.

use offshoot_ir::{DType, Data, Op, UnaryKind, ValueId};

use crate::constant::Constant;
use crate::context::{Context, Entry, Importing, Onnx};

/// Operators whose outputs have the type of their data.
const KEEPS: &[&str] = &[
    "Abs",
    "Add",
    "Clip",
    "Concat",
    "CumSum",
    "DepthToSpace",
    "Div",
    "Einsum",
    "MatMul",
    "Max",
    "MaxPool",
    "Mean",
    "Min",
    "Mod",
    "Mul",
    "Neg",
    "Pad",
    "Pow",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceProd",
    "ReduceSum",
    "Relu",
    "Resize",
    "Scatter",
    "ScatterElements",
    "ScatterND",
    "Sign",
    "SpaceToDepth",
    "Sub",
    "Sum",
    "Tile",
    "TopK",
    "Trilu",
    "Where",
];

/// Whether the value is an integer of the ONNX graph: int32 without a scale.
pub(crate) fn is_integer(c: &Context<'_>, id: ValueId) -> bool {
    let value = c.graph.value(id);
    value.dtype == DType::I32 && value.quant.is_none()
}

/// Converts the outputs of an operator on integers back to integers.
pub(crate) fn settle(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    let operator = onnx.node.op_type.as_str();
    if !KEEPS.contains(&operator) {
        return Ok(());
    }
    let on_integers = onnx.node.input.iter().any(|name| match c.entries.get(name) {
        Some(Entry::Value(id)) => is_integer(c, *id),
        _ => false,
    });
    if !on_integers {
        return Ok(());
    }
    for i in 0..onnx.node.output.len() {
        let Some(name) = onnx.output(i) else { continue };
        let Some(Entry::Value(real)) = c.entries.get(name).cloned() else { continue };
        if c.graph.value(real).dtype != DType::F32 {
            continue;
        }
        let whole = c.emit(onnx, Op::Cast, vec![real], None, &format!("{name}/integer"))?;
        // A quotient loses its fraction on the way.
        if operator != "Div" {
            c.wholes.insert(whole, real);
        }
        c.bind(onnx, i, Entry::Value(whole))?;
    }
    Ok(())
}

/// A constant of integers as int32.
pub(crate) fn add_whole(c: &mut Context<'_>, name: &str, constant: &Constant) -> Importing<ValueId> {
    let values = constant.to_ints().ok_or_else(|| format!("`{name}` does not hold integers"))?;
    let fits: Option<Vec<i32>> = values.iter().map(|v| i32::try_from(*v).ok()).collect();
    let values = fits.ok_or_else(|| format!("`{name}` holds an integer beyond 32 bits"))?;
    Ok(c.add_data(name, constant.shape.clone(), Data::I32(values)))
}

/// Input `i` as int32 indices.
pub(crate) fn indices(c: &mut Context<'_>, onnx: &Onnx<'_>, i: usize) -> Importing<ValueId> {
    if c.is_constant(onnx, i) {
        let constant = c.wanted(onnx, i)?;
        if constant.len() == 0 {
            return Err("no indices".into());
        }
        return add_whole(c, onnx.input(i).unwrap_or_default(), &constant);
    }
    let id = c.value(onnx, i)?;
    match c.graph.value(id).dtype {
        DType::I32 => Ok(id),
        DType::F32 => {
            let name = format!("{}/integer", c.graph.value(id).name);
            c.emit(onnx, Op::Cast, vec![id], None, &name)
        }
        _ => Err("indices of 8 bits".into()),
    }
}

/// Cast of float32 or int32 to an ONNX element type.
pub(crate) fn cast(c: &mut Context<'_>, onnx: &Onnx<'_>, x: ValueId, to: i64) -> Importing {
    let whole = is_integer(c, x);
    match to {
        // float32, float16, float64, bfloat16
        1 | 10 | 11 | 16 if whole => match c.wholes.get(&x).copied() {
            Some(real) => c.bind(onnx, 0, Entry::Value(real)),
            None => c.finish(onnx, Op::Cast, vec![x], None, 0),
        },
        1 | 10 | 11 | 16 => c.bind(onnx, 0, Entry::Value(x)),
        // uint8, int8, uint16, int16, int32, int64, uint32, uint64
        2..=7 | 12 | 13 if whole => c.bind(onnx, 0, Entry::Value(x)),
        2..=7 | 12 | 13 => c.finish(onnx, Op::Cast, vec![x], None, 0),
        // bool: 1 for all numbers but 0
        9 => {
            let name = format!("{}/size", onnx.output(0).unwrap_or_default());
            let size = c.emit(onnx, Op::Unary(UnaryKind::Abs), vec![x], None, &name)?;
            let positive = UnaryKind::HardSigmoid { alpha: f32::MAX, beta: 0.0 };
            c.finish(onnx, Op::Unary(positive), vec![size], None, 0)
        }
        other => Err(format!("cast to element type {other} at run time")),
    }
}
