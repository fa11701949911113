//! Computations on shapes, done while importing: Constant, Shape, Gather, ConstantOfShape, Range.

use offshoot_ir::Op;

use crate::constant::{Constant, Elements, count};
use crate::context::{Context, Entry, Importing, Onnx, axis};

/// Most elements that a shape computation may make.
const MAX: i64 = 1 << 24;

pub(crate) fn constant(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    let value = if let Some(t) = onnx.tensor("value") {
        Constant::read(t, c.folder)?
    } else if let Some(v) = onnx.ints("value_ints") {
        Constant::ints(v)
    } else if onnx.has("value_int") {
        Constant::new(vec![], Elements::I64(vec![onnx.int("value_int", 0)]))
    } else if let Some(v) = onnx.floats("value_floats") {
        Constant::new(vec![v.len()], Elements::F32(v))
    } else if onnx.has("value_float") {
        Constant::new(vec![], Elements::F32(vec![onnx.float("value_float", 0.0)]))
    } else {
        return Err("a value that is neither a tensor of numbers nor a number".into());
    };
    c.bind(onnx, 0, Entry::Constant(value))
}

pub(crate) fn constant_of_shape(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    let shape = c.ints(onnx, 0)?.ok_or("the shape is missing")?;
    let wrong = || format!("shape {shape:?}");
    let shape: Vec<usize> =
        shape.iter().map(|d| usize::try_from(*d).ok()).collect::<Option<_>>().ok_or_else(wrong)?;
    count(&shape).filter(|n| *n <= MAX as usize).ok_or_else(wrong)?;
    let total = shape.iter().product();
    let one = match onnx.tensor("value") {
        Some(t) => Constant::read(t, c.folder)?,
        None => Constant::new(vec![1], Elements::F32(vec![0.0])),
    };
    if one.len() != 1 {
        return Err("a value that is not one number".into());
    }
    let elements = one.elements.gather(&vec![0; total]);
    c.bind(onnx, 0, Entry::Constant(Constant::new(shape, elements)))
}

pub(crate) fn shape(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    let full: Vec<i64> = if c.is_constant(onnx, 0) {
        c.wanted(onnx, 0)?.shape.iter().map(|d| *d as i64).collect()
    } else {
        let x = c.value(onnx, 0)?;
        c.shape(x).iter().map(|d| *d as i64).collect()
    };
    let n = full.len() as i64;
    let bound = |v: i64| (if v < 0 { v + n } else { v }).clamp(0, n) as usize;
    let (from, to) = (bound(onnx.int("start", 0)), bound(onnx.int("end", n)));
    c.bind(onnx, 0, Entry::Constant(Constant::ints(full[from..to.max(from)].to_vec())))
}

/// Of constants, or one index of a run-time tensor (then a slice).
pub(crate) fn gather(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    let indices = c.wanted(onnx, 1)?;
    let at = indices.to_ints().ok_or("indices are no integers")?;
    if c.is_constant(onnx, 0) {
        let x = c.wanted(onnx, 0)?;
        if x.shape.len() != 1 {
            return Err(format!("of a constant of shape {:?}", x.shape));
        }
        let at = at.iter().map(|i| axis(*i, x.shape[0])).collect::<Importing<Vec<_>>>()?;
        let picked = Constant::new(indices.shape, x.elements.gather(&at));
        return c.bind(onnx, 0, Entry::Constant(picked));
    }
    let x = c.value(onnx, 0)?;
    let shape = c.shape(x).to_vec();
    let along = onnx.axis("axis", 0, shape.len())?;
    let consecutive = at.windows(2).all(|w| w[0].checked_add(1) == Some(w[1]));
    if at.is_empty() || !consecutive {
        return Err("indices that are not consecutive".into());
    }
    let mut start = vec![0; shape.len()];
    start[along] = axis(at[0], shape[along])?;
    let mut cut = shape.clone();
    cut[along] = at.len();
    if start[along] + at.len() > shape[along] {
        return Err(format!("indices {at:?} of an axis of {}", shape[along]));
    }
    let op = Op::Slice { start, step: vec![1; shape.len()] };
    let name = format!("{}/slice", onnx.output(0).unwrap_or_default());
    let y = c.emit(onnx, op, vec![x], Some(cut), &name)?;
    let mut out = shape[..along].to_vec();
    out.extend(&indices.shape);
    out.extend(&shape[along + 1..]);
    c.finish(onnx, Op::Reshape, vec![y], Some(out), 0)
}

pub(crate) fn range(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    let mut parts = Vec::new();
    for i in 0..3 {
        let v = c.ints(onnx, i)?.and_then(|v| v.first().copied());
        parts.push(v.ok_or("only ranges of integers are supported")?);
    }
    let (start, limit, delta) = (parts[0], parts[1], parts[2]);
    if delta == 0 {
        return Err("a step of 0".into());
    }
    let count =
        limit.checked_sub(start).and_then(|d| d.checked_div(delta)).filter(|n| n.unsigned_abs() < MAX as u64);
    let count = count.ok_or("too many elements")?;
    let values: Vec<i64> = (0..=count)
        .filter_map(|i| i.checked_mul(delta)?.checked_add(start))
        .filter(|v| if delta > 0 { *v < limit } else { *v > limit })
        .collect();
    c.bind(onnx, 0, Entry::Constant(Constant::ints(values)))
}
