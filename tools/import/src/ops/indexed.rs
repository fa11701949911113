//! Gather, GatherElements, GatherND, ScatterElements, ScatterND, TopK, OneHot, GridSample.

use offshoot_ir::{DType, Data, GridKind, GridOutside, Indexing, Op, ScatterKind, ValueId};

use super::integers::{add_whole, indices};
use crate::constant::{Constant, Elements, count};
use crate::context::{Context, Entry, Importing, MAX_VALUE, Onnx, axis};

/// Gather, GatherElements, GatherND.
pub(crate) fn gather(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    let x = rows(c, onnx)?;
    let rank = c.shape(x).len();
    let indexing = match onnx.node.op_type.as_str() {
        "Gather" => Indexing::Slices { axis: onnx.axis("axis", 0, rank)? },
        "GatherElements" => Indexing::Elements { axis: onnx.axis("axis", 0, rank)? },
        _ => Indexing::Tuples { batch: batch(onnx)? },
    };
    let index = indices(c, onnx, 1)?;
    inside(c, x, index, indexing)?;
    if c.graph.value(x).dtype == DType::I8 && c.is_constant(onnx, 0) {
        // A dequantised table: its readers expect real numbers.
        let name = format!("{}/int8", onnx.output(0).unwrap_or_default());
        let chosen = c.emit(onnx, Op::Gather(indexing), vec![x, index], None, &name)?;
        return match c.graph.value(chosen).quant {
            Some(_) => c.finish(onnx, Op::Dequantize, vec![chosen], None, 0),
            None => c.bind(onnx, 0, Entry::Value(chosen)),
        };
    }
    c.finish(onnx, Op::Gather(indexing), vec![x, index], None, 0)
}

/// Input 0: integers stay integers, and a table with one scale stays int8.
fn rows(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing<ValueId> {
    if !c.is_constant(onnx, 0) {
        return c.value(onnx, 0);
    }
    let (table, name) = (c.wanted(onnx, 0)?, onnx.input(0).unwrap_or_default());
    if table.len() == 0 {
        return Err("an empty table".into());
    }
    match (&table.quant, &table.elements) {
        (Some(q), Elements::I8(_)) if q.axis.is_none() => Ok(c.add_constant(name, &table)),
        (None, Elements::I32(_) | Elements::I64(_)) => add_whole(c, name, &table),
        _ => Ok(c.add_reals(name, table.shape.clone(), table.to_reals())),
    }
}

fn batch(onnx: &Onnx<'_>) -> Importing<usize> {
    usize::try_from(onnx.int("batch_dims", 0)).map_err(|_| "negative batch_dims".into())
}

/// Checks constant indices: ONNX allows none outside.
fn inside(c: &Context<'_>, x: ValueId, index: ValueId, indexing: Indexing) -> Importing {
    let Some(Data::I32(values)) = c.graph.value(index).data.as_deref() else { return Ok(()) };
    let (shape, depth) = (c.shape(x), c.shape(index).last().copied().unwrap_or(1).max(1));
    for (i, &v) in values.iter().enumerate() {
        let along = match indexing {
            Indexing::Slices { axis } | Indexing::Elements { axis } => axis,
            Indexing::Tuples { batch } => batch + i % depth,
        };
        axis(v.into(), shape.get(along).copied().unwrap_or(0))
            .map_err(|_| format!("index {v} along axis {along} of {shape:?}"))?;
    }
    Ok(())
}

/// ScatterElements (once Scatter), ScatterND.
pub(crate) fn scatter(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    let kind = match onnx.text("reduction", "none").as_str() {
        "none" => ScatterKind::Set,
        "add" => ScatterKind::Add,
        "mul" => ScatterKind::Mul,
        "max" => ScatterKind::Max,
        "min" => ScatterKind::Min,
        other => return Err(format!("reduction `{other}`")),
    };
    let x = c.value(onnx, 0)?;
    let rank = c.shape(x).len();
    let indexing = match onnx.node.op_type.as_str() {
        "ScatterND" => Indexing::Tuples { batch: 0 },
        _ => Indexing::Elements { axis: onnx.axis("axis", 0, rank)? },
    };
    let index = indices(c, onnx, 1)?;
    inside(c, x, index, indexing)?;
    let updates = c.value(onnx, 2)?;
    c.finish(onnx, Op::Scatter { indexing, kind }, vec![x, index, updates], None, 0)
}

/// TopK: the indices, and the elements at them.
pub(crate) fn top_k(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    let x = c.value(onnx, 0)?;
    let shape = c.shape(x).to_vec();
    let along = onnx.axis("axis", -1, shape.len())?;
    let k = match c.ints(onnx, 1)? {
        Some(k) => k.first().copied().unwrap_or(0),
        None => onnx.int("k", 0),
    };
    let k = usize::try_from(k).map_err(|_| format!("the best {k}"))?;
    let op = Op::TopK { axis: along, k, largest: onnx.int("largest", 1) != 0 };
    let name = onnx.output(1).or(onnx.output(0)).unwrap_or_default();
    let index = c.emit(onnx, op, vec![x], None, &format!("{name}/indices"))?;
    if onnx.output(0).is_some() {
        c.finish(onnx, Op::Gather(Indexing::Elements { axis: along }), vec![x, index], None, 0)?;
    }
    if onnx.output(1).is_some() {
        c.bind(onnx, 1, Entry::Value(index))?;
    }
    Ok(())
}

/// OneHot: `on` written over `off`. An index outside leaves its row as it is, as ONNX says.
pub(crate) fn one_hot(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    let index = indices(c, onnx, 0)?;
    let depth = c.wanted(onnx, 1)?.to_reals().first().copied().unwrap_or(0.0);
    let values = c.wanted(onnx, 2)?;
    if values.len() != 2 {
        return Err(format!("{} values; off and on are expected", values.len()));
    }
    let mut shape = c.shape(index).to_vec();
    let along = onnx.axis("axis", -1, shape.len() + 1)?;
    shape.insert(along, 1);
    let mut out = shape.clone();
    out[along] = depth as usize;
    if depth < 1.0 || count(&out).is_none_or(|n| n > MAX_VALUE) {
        return Err(format!("output {out:?}"));
    }
    let name = onnx.output(0).unwrap_or_default().to_owned();
    let index = c.emit(onnx, Op::Reshape, vec![index], Some(shape.clone()), &format!("{name}/indices"))?;
    let filled = |shape: &[usize], which: usize| {
        Constant::new(shape.to_vec(), values.elements.gather(&vec![which; shape.iter().product()]))
    };
    let mut constant = |part: &str, filled: &Constant| -> Importing<ValueId> {
        let name = format!("{name}/{part}");
        match filled.elements {
            Elements::I32(_) | Elements::I64(_) => add_whole(c, &name, filled),
            _ => Ok(c.add_reals(&name, filled.shape.clone(), filled.to_reals())),
        }
    };
    let (off, on) = (constant("off", &filled(&out, 0))?, constant("on", &filled(&shape, 1))?);
    let op = Op::Scatter { indexing: Indexing::Elements { axis: along }, kind: ScatterKind::Set };
    c.finish(onnx, op, vec![off, index, on], None, 0)
}

/// GridSample on images.
pub(crate) fn grid_sample(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    let kind = match onnx.text("mode", "linear").as_str() {
        "nearest" => GridKind::Nearest,
        "linear" | "bilinear" => GridKind::Bilinear,
        "cubic" | "bicubic" => GridKind::Bicubic,
        other => return Err(format!("mode `{other}`")),
    };
    let outside = match onnx.text("padding_mode", "zeros").as_str() {
        "zeros" => GridOutside::Zeros,
        "border" => GridOutside::Border,
        "reflection" => GridOutside::Reflection,
        other => return Err(format!("padding_mode `{other}`")),
    };
    let (x, grid) = (c.value(onnx, 0)?, c.value(onnx, 1)?);
    if c.shape(x).len() != 4 {
        return Err(format!("input has {} axes; (N, C, H, W) is supported", c.shape(x).len()));
    }
    let x = c.nhwc(onnx, x)?;
    let op = Op::GridSample { kind, outside, align_corners: onnx.int("align_corners", 0) != 0 };
    let name = format!("{}/nhwc", onnx.output(0).unwrap_or_default());
    let y = c.emit(onnx, op, vec![x, grid], None, &name)?;
    c.finish_nchw(onnx, y, 4)
}
