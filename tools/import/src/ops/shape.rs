//! Constant, ConstantOfShape, Shape, and Gather with constant indices.

use offshoot_ir::{Op, ValueId};

use crate::constant::{Constant, Elements, count};
use crate::context::{Context, Entry, Importing, Onnx, axis};

/// Most elements that a shape computation may produce.
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
        return Err("a value that is neither a numeric tensor nor a number".into());
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

/// Size: the number of elements, which is known.
pub(crate) fn size(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    let x = c.value(onnx, 0)?;
    let elements = Elements::I64(vec![c.graph.value(x).len() as i64]);
    c.bind(onnx, 0, Entry::Constant(Constant::new(vec![], elements)))
}

/// EyeLike: ones on a diagonal. Only the shape of the input counts.
pub(crate) fn eye_like(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    let shape = match c.is_constant(onnx, 0) {
        true => c.wanted(onnx, 0)?.shape,
        false => {
            let x = c.value(onnx, 0)?;
            c.shape(x).to_vec()
        }
    };
    let [rows, columns] = shape[..] else { return Err(format!("an identity of shape {shape:?}")) };
    let k = onnx.int("k", 0);
    let ones = (0..rows as i64).flat_map(|r| (0..columns as i64).map(move |c| c == r.saturating_add(k)));
    let elements = match onnx.int("dtype", 1) {
        6 | 7 => Elements::I64(ones.map(i64::from).collect()),
        9 => Elements::Bool(ones.collect()),
        1 | 10 | 11 => Elements::F32(ones.map(|one| if one { 1.0 } else { 0.0 }).collect()),
        other => return Err(format!("element type {other}")),
    };
    c.bind(onnx, 0, Entry::Constant(Constant::new(shape, elements)))
}

/// Most slices into which one Gather is split.
const MAX_SLICES: usize = 1024;

/// Gather with constant indices: one slice per run of equally spaced indices, concatenated.
pub(crate) fn gather(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    if !c.is_constant(onnx, 1) {
        return super::indexed::gather(c, onnx);
    }
    let indices = c.wanted(onnx, 1)?;
    let at = indices.to_ints().ok_or("indices are not integers")?;
    if runs_of(&at) > MAX_SLICES {
        return super::indexed::gather(c, onnx);
    }
    let x = c.value(onnx, 0)?;
    let shape = c.shape(x).to_vec();
    let along = onnx.axis("axis", 0, shape.len())?;
    let at = at.iter().map(|i| axis(*i, shape[along])).collect::<Importing<Vec<usize>>>()?;
    let y = picked(c, onnx, x, along, &at)?;
    let mut out = shape[..along].to_vec();
    out.extend(&indices.shape);
    out.extend(&shape[along + 1..]);
    c.finish(onnx, Op::Reshape, vec![y], Some(out), 0)
}

/// Compress by a constant condition: the slices, or the elements, for which it holds.
pub(crate) fn compress(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    let chosen = c.wanted(onnx, 1)?.to_reals();
    let mut x = c.value(onnx, 0)?;
    let mut along = 0;
    if onnx.has("axis") {
        along = onnx.axis("axis", 0, c.shape(x).len())?;
    } else {
        let name = format!("{}/flat", onnx.output(0).unwrap_or_default());
        let elements = c.graph.value(x).len();
        x = c.emit(onnx, Op::Reshape, vec![x], Some(vec![elements]), &name)?;
    }
    let extent = c.shape(x)[along];
    let at: Vec<usize> = (0..extent).filter(|i| chosen.get(*i).is_some_and(|v| *v != 0.0)).collect();
    let y = picked(c, onnx, x, along, &at)?;
    c.bind(onnx, 0, Entry::Value(y))
}

/// The value at these indices along an axis.
pub(crate) fn picked(
    c: &mut Context<'_>,
    onnx: &Onnx<'_>,
    x: ValueId,
    along: usize,
    at: &[usize],
) -> Importing<ValueId> {
    let shape = c.shape(x).to_vec();
    let runs = runs(at);
    if runs.is_empty() || runs.len() > MAX_SLICES {
        return Err(format!(
            "{} indices in {} runs; from 1 to {MAX_SLICES} runs are supported",
            at.len(),
            runs.len()
        ));
    }
    let name = format!("{}/slice", onnx.output(0).unwrap_or_default());
    let mut parts = Vec::new();
    for (first, by, n) in runs {
        let (mut start, mut step, mut cut) = (vec![0; shape.len()], vec![1; shape.len()], shape.clone());
        (start[along], step[along], cut[along]) = (first, by, n);
        parts.push(c.emit(onnx, Op::Slice { start, step }, vec![x], Some(cut), &name)?);
    }
    match parts[..] {
        [one] => Ok(one),
        _ => c.emit(onnx, Op::Concat { axis: along }, parts, None, &format!("{name}s")),
    }
}

/// Upper bound on the number of runs of equally spaced indices.
fn runs_of(at: &[i64]) -> usize {
    let at: Vec<usize> = at.iter().map(|i| i.rem_euclid(1 << 40) as usize).collect();
    runs(&at).len()
}

/// Splits indices into runs of equal steps: first index, step and count of each.
fn runs(at: &[usize]) -> Vec<(usize, isize, usize)> {
    let mut runs: Vec<(usize, isize, usize)> = Vec::new();
    for (i, &index) in at.iter().enumerate() {
        let gap = i.checked_sub(1).map(|before| index as isize - at[before] as isize);
        match (runs.last_mut(), gap) {
            (Some((_, by, n)), Some(gap)) if gap != 0 && (*n == 1 || *by == gap) => (*by, *n) = (gap, *n + 1),
            _ => runs.push((index, 1, 1)),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_indices() {
        assert_eq!(runs(&[0, 1, 2, 5, 3, 3]), [(0, 1, 3), (5, -2, 2), (3, 1, 1)]);
        assert_eq!(runs(&[4]), [(4, 1, 1)]);
    }
}
