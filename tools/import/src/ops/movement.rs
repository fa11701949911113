//! Operators that move elements: Reshape and similar, Transpose, Concat, Split, Slice, Pad, Expand, Cast.

use offshoot_ir::{DType, Op, PadMode, Quant, ValueId};

use crate::constant::{Constant, Elements, MAX_RANK, count};
use crate::context::{Context, Entry, Importing, Onnx, axis};

/// Binds the node's output to its input 0 in another shape.
fn reshaped(c: &mut Context<'_>, onnx: &Onnx<'_>, shape: Vec<usize>) -> Importing {
    if c.is_constant(onnx, 0) {
        let moved = c.wanted(onnx, 0)?.reshaped(shape)?;
        return c.bind(onnx, 0, Entry::Constant(moved));
    }
    let x = c.value(onnx, 0)?;
    c.finish(onnx, Op::Reshape, vec![x], Some(shape), 0)
}

/// Shape of input 0, whether constant or not.
fn input_shape(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing<Vec<usize>> {
    if c.is_constant(onnx, 0) {
        return Ok(c.wanted(onnx, 0)?.shape);
    }
    let x = c.value(onnx, 0)?;
    Ok(c.shape(x).to_vec())
}

pub(crate) fn reshape(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    let wanted = match onnx.ints("shape") {
        Some(s) => s,
        None => c.ints(onnx, 1)?.ok_or("the shape is missing")?,
    };
    let from = input_shape(c, onnx)?;
    let keep_zero = onnx.int("allowzero", 0) != 0;
    let total: usize = from.iter().product();
    let mut shape = Vec::new();
    let mut open = None;
    for (i, d) in wanted.iter().enumerate() {
        match *d {
            -1 if open.is_none() => {
                open = Some(i);
                shape.push(1);
            }
            0 if !keep_zero => shape.push(*from.get(i).ok_or("0 stands for an axis that the input lacks")?),
            d => shape.push(usize::try_from(d).map_err(|_| format!("extent {d}"))?),
        }
    }
    count(&shape).ok_or("shape is too large")?;
    let known: usize = shape.iter().product();
    if let Some(i) = open {
        if known == 0 || !total.is_multiple_of(known) {
            return Err(format!("{from:?} does not fill {wanted:?}"));
        }
        shape[i] = total / known;
    }
    // A fixed batch extent written by the exporter stands for one sample here.
    reshaped(c, onnx, shape)
}

pub(crate) fn flatten(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    let from = input_shape(c, onnx)?;
    let at = match onnx.int("axis", 1) {
        a if a == from.len() as i64 => from.len(),
        a => axis(a, from.len())?,
    };
    let shape = vec![from[..at].iter().product(), from[at..].iter().product()];
    reshaped(c, onnx, shape)
}

fn axes(c: &Context<'_>, onnx: &Onnx<'_>) -> Importing<Option<Vec<i64>>> {
    match onnx.ints("axes") {
        Some(a) => Ok(Some(a)),
        None => c.ints(onnx, 1),
    }
}

pub(crate) fn squeeze(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    let from = input_shape(c, onnx)?;
    let drop: Vec<usize> = match axes(c, onnx)? {
        Some(a) => a.iter().map(|a| axis(*a, from.len())).collect::<Importing<_>>()?,
        None => (0..from.len()).filter(|a| from[*a] == 1).collect(),
    };
    if let Some(a) = drop.iter().find(|a| from[**a] != 1) {
        return Err(format!("axis {a} of {from:?} has more than one element"));
    }
    let shape = (0..from.len()).filter(|a| !drop.contains(a)).map(|a| from[a]).collect();
    reshaped(c, onnx, shape)
}

pub(crate) fn unsqueeze(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    let from = input_shape(c, onnx)?;
    let given = axes(c, onnx)?.ok_or("axes are missing")?;
    let rank = from.len() + given.len();
    if rank > MAX_RANK {
        return Err(format!("result has {rank} axes; up to {MAX_RANK} are supported"));
    }
    let at: Vec<usize> = given.iter().map(|a| axis(*a, rank)).collect::<Importing<_>>()?;
    let mut rest = from.iter();
    let shape =
        (0..rank).map(|a| if at.contains(&a) { 1 } else { rest.next().copied().unwrap_or(1) }).collect();
    reshaped(c, onnx, shape)
}

pub(crate) fn transpose(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    let from = input_shape(c, onnx)?;
    let perm: Vec<usize> = match onnx.ints("perm") {
        Some(p) => p.iter().map(|a| axis(*a, from.len())).collect::<Importing<_>>()?,
        None => (0..from.len()).rev().collect(),
    };
    let mut sorted = perm.clone();
    sorted.sort_unstable();
    if !sorted.iter().copied().eq(0..from.len()) {
        return Err(format!("perm {perm:?} for {} axes", from.len()));
    }
    if c.is_constant(onnx, 0) {
        let moved = c.wanted(onnx, 0)?.transposed(&perm);
        return c.bind(onnx, 0, Entry::Constant(moved));
    }
    let x = c.value(onnx, 0)?;
    c.finish(onnx, Op::Transpose { perm }, vec![x], None, 0)
}

/// Dropout is the identity, unless its last input requests training.
pub(crate) fn dropout(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    let trains = c.constant(onnx, 2)?.is_some_and(|mode| mode.to_reals().iter().any(|v| *v != 0.0));
    let ratio = c.constant(onnx, 1)?.and_then(|ratio| ratio.to_reals().first().copied()).unwrap_or(0.5);
    if trains && ratio != 0.0 {
        return Err("training_mode: export the model for inference".into());
    }
    // The mask says that every element is kept.
    if let Some(mask) = onnx.output(1).map(str::to_owned) {
        let shape = input_shape(c, onnx)?;
        let kept = Constant::new(shape.clone(), Elements::Bool(vec![true; shape.iter().product()]));
        c.entries.insert(mask, Entry::Constant(kept));
    }
    let name = onnx.input(0).ok_or("input 0 is missing")?;
    let entry = c.entry(name)?.clone();
    c.bind(onnx, 0, entry)
}

pub(crate) fn identity(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    if onnx.output(1).is_some() {
        return Err("the mask as an output: export the model for inference".into());
    }
    let name = onnx.input(0).ok_or("input 0 is missing")?;
    let entry = c.entry(name)?.clone();
    c.bind(onnx, 0, entry)
}

pub(crate) fn cast(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    cast_to(c, onnx, onnx.int("to", 1))
}

/// Input 0 cast to the element type of this number.
pub(crate) fn cast_to(c: &mut Context<'_>, onnx: &Onnx<'_>, to: i64) -> Importing {
    if c.is_constant(onnx, 0) {
        return Err(format!("a constant cast to element type {to}"));
    }
    let x = c.value(onnx, 0)?;
    if c.graph.value(x).dtype == DType::I8 {
        if !matches!(to, 1) {
            return Err(format!(
                "cast of an integer tensor to element type {to} at run time; float32 is supported"
            ));
        }
        // Integers from a graph input: the input takes them as float32.
        if c.graph.inputs.contains(&x) && c.graph.value(x).quant.is_none() && !c.is_read(x) {
            c.graph.value_mut(x).dtype = DType::F32;
            c.unsigned.remove(&x);
            // An array of uint8 then holds real numbers.
            c.graph.declared.remove(&c.graph.value(x).name.clone());
            return identity(c, onnx);
        }
        // Elsewhere they are dequantised with a scale of 1.
        let zero_point = if c.is_unsigned(x) { -128 } else { 0 };
        let whole = Quant::per_tensor(1.0, zero_point);
        if c.graph.value(x).quant.as_ref().is_some_and(|q| *q != whole) {
            return Err("cast of a quantised tensor; use DequantizeLinear".into());
        }
        c.set_quant(x, &whole);
        return c.finish(onnx, Op::Dequantize, vec![x], None, 0);
    }
    // Bool: 1 where the number is not 0.
    if to == 9 && c.is_truth(x) {
        return identity(c, onnx);
    }
    if to == 9 && !super::integers::is_integer(c, x) {
        let mut p = crate::parts::Parts::of(c, onnx);
        let size = p.unary(offshoot_ir::UnaryKind::Abs, x)?;
        let zero = p.not_positive(size)?;
        let y = p.not(zero)?;
        return p.output(0, y);
    }
    super::integers::cast(c, onnx, x, to)
}

pub(crate) fn concat(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    let n = onnx.node.input.len();
    let empty = |i: &usize| c.is_constant(onnx, *i) && c.wanted(onnx, *i).is_ok_and(|v| v.len() == 0);
    let filled: Vec<usize> = (0..n).filter(|i| !empty(i)).collect();
    let inputs: Vec<ValueId> = filled.into_iter().map(|i| c.value(onnx, i)).collect::<Importing<_>>()?;
    let rank = inputs.first().map_or(0, |x| c.shape(*x).len());
    let axis = onnx.axis("axis", 1, rank)?;
    c.finish(onnx, Op::Concat { axis }, inputs, None, 0)
}

pub(crate) fn split(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    let x = c.value(onnx, 0)?;
    let shape = c.shape(x).to_vec();
    let axis = onnx.axis("axis", 0, shape.len())?;
    let parts = onnx.node.output.len();
    let given = match onnx.ints("split") {
        Some(s) => Some(s),
        None => c.ints(onnx, 1)?,
    };
    let sizes: Vec<usize> = match given {
        Some(s) => s
            .iter()
            .map(|v| usize::try_from(*v).map_err(|_| format!("part of {v}")))
            .collect::<Importing<_>>()?,
        None => {
            let chunk = shape[axis].div_ceil(parts.max(1));
            (0..parts).map(|i| chunk.min(shape[axis].saturating_sub(i * chunk))).collect()
        }
    };
    if sizes.iter().try_fold(0usize, |n, s| n.checked_add(*s)) != Some(shape[axis]) || sizes.len() < parts {
        return Err(format!("parts {sizes:?} for an axis of {}", shape[axis]));
    }
    let mut at = 0;
    for (i, size) in sizes.iter().enumerate() {
        let mut start = vec![0; shape.len()];
        start[axis] = at;
        let mut declared = shape.clone();
        declared[axis] = *size;
        at += size;
        if *size == 0 {
            let empty = Constant::new(declared, Elements::F32(Vec::new()));
            if onnx.output(i).is_some() {
                c.bind(onnx, i, Entry::Constant(empty))?;
            }
        } else if onnx.output(i).is_some() {
            let op = Op::Slice { start, step: vec![1; shape.len()] };
            c.finish(onnx, op, vec![x], Some(declared), i)?;
        }
    }
    Ok(())
}

pub(crate) fn slice(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    let shape = input_shape(c, onnx)?;
    let part = |name: &str, i: usize, c: &Context<'_>| -> Importing<Option<Vec<i64>>> {
        match onnx.ints(name) {
            Some(v) => Ok(Some(v)),
            None => c.ints(onnx, i),
        }
    };
    let starts = part("starts", 1, c)?.ok_or("starts are missing")?;
    let ends = part("ends", 2, c)?.ok_or("ends are missing")?;
    let axes = part("axes", 3, c)?.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = part("steps", 4, c)?.unwrap_or_else(|| vec![1; starts.len()]);
    if ends.len() != starts.len() || axes.len() != starts.len() || steps.len() != starts.len() {
        return Err("starts, ends, axes and steps have different lengths".into());
    }
    let (mut start, mut step, mut declared) =
        (vec![0usize; shape.len()], vec![1isize; shape.len()], shape.clone());
    for i in 0..starts.len() {
        let a = axis(axes[i], shape.len())?;
        let (n, by) = (shape[a] as i64, steps[i]);
        if by == 0 {
            return Err("a step of 0".into());
        }
        let from_end = |v: i64| if v < 0 { v.saturating_add(n) } else { v };
        let (first, end) = if by > 0 {
            (from_end(starts[i]).clamp(0, n), from_end(ends[i]).clamp(0, n))
        } else {
            (from_end(starts[i]).clamp(-1, n - 1), from_end(ends[i]).clamp(-1, n - 1))
        };
        let span = if by > 0 { end - first } else { first - end };
        let count = if span <= 0 { 0 } else { (span - 1) / by.saturating_abs() + 1 };
        declared[a] = count as usize;
        if count > 0 {
            start[a] = first as usize;
            step[a] = isize::try_from(by.clamp(-n, n)).map_err(|_| "step")?;
        }
    }
    // An empty part, as exporters write of a roll by 0, is a constant: nothing of it is computed.
    if declared.contains(&0) {
        let empty = Constant::new(declared, Elements::F32(Vec::new()));
        return c.bind(onnx, 0, Entry::Constant(empty));
    }
    let x = c.value(onnx, 0)?;
    c.finish(onnx, Op::Slice { start, step }, vec![x], Some(declared), 0)
}

pub(crate) fn pad(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    let mut x = c.value(onnx, 0)?;
    let shape = c.shape(x).to_vec();
    let rank = shape.len();
    let pads = match onnx.ints("pads") {
        Some(p) => p,
        None => c.ints(onnx, 1)?.ok_or("pads are missing")?,
    };
    let axes: Vec<usize> = match c.ints(onnx, 3)? {
        Some(a) => a.iter().map(|a| axis(*a, rank)).collect::<Importing<_>>()?,
        None => (0..rank).collect(),
    };
    if pads.len() != 2 * axes.len() {
        return Err(format!("{} pads for {} axes", pads.len(), axes.len()));
    }
    let value = match c.constant(onnx, 2)? {
        Some(v) => v.to_reals().first().copied().unwrap_or(0.0),
        None => onnx.float("value", 0.0),
    };
    let mode = onnx.text("mode", "constant");
    let device_mode = match mode.as_str() {
        "constant" | "wrap" => None,
        "reflect" => Some(PadMode::Reflect),
        "edge" => Some(PadMode::Edge),
        other => return Err(format!("mode `{other}`")),
    };
    let (mut before, mut after) = (vec![0; rank], vec![0; rank]);
    let (mut start, mut kept) = (vec![0; rank], shape.clone());
    for (i, &a) in axes.iter().enumerate() {
        let [less, more] = [pads[i], pads[i + axes.len()]];
        if less.unsigned_abs().max(more.unsigned_abs()) > u64::from(u16::MAX) {
            return Err(format!("padding {less} and {more}: up to 65535 is supported"));
        }
        // Negative padding crops.
        start[a] = less.min(0).unsigned_abs() as usize;
        let cropped = start[a] + more.min(0).unsigned_abs() as usize;
        kept[a] = shape[a].checked_sub(cropped).filter(|d| *d > 0).ok_or("it crops the whole axis")?;
        (before[a], after[a]) = (less.max(0) as usize, more.max(0) as usize);
    }
    let name = onnx.output(0).unwrap_or_default().to_owned();
    if kept != shape {
        let op = Op::Slice { start, step: vec![1; rank] };
        x = c.emit(onnx, op, vec![x], Some(kept.clone()), &format!("{name}/cropped"))?;
    }
    for a in 0..rank {
        // The device mirrors only once.
        let far = mode == "reflect" && before[a].max(after[a]) >= kept[a];
        if (mode == "wrap" || far) && before[a] + after[a] > 0 {
            let n = kept[a] as i64;
            let wrapped = |i: i64| i.rem_euclid(n);
            let mirrored =
                |i: i64| if n == 1 { 0 } else { n - 1 - (i.rem_euclid(2 * n - 2) - (n - 1)).abs() };
            let places = -(before[a] as i64)..n + after[a] as i64;
            let at: Vec<usize> =
                places.map(|i| if far { mirrored(i) as usize } else { wrapped(i) as usize }).collect();
            x = super::shape::picked(c, onnx, x, a, &at)?;
            (before[a], after[a]) = (0, 0);
        }
    }
    c.finish(onnx, Op::Pad { before, after, mode: device_mode, value }, vec![x], None, 0)
}

pub(crate) fn expand(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    let x = c.value(onnx, 0)?;
    let shape = c.shape(x).to_vec();
    let wanted = c.ints(onnx, 1)?.ok_or("the shape is missing")?;
    let rank = wanted.len().max(shape.len());
    if rank > MAX_RANK {
        return Err(format!("result has {rank} axes; up to {MAX_RANK} are supported"));
    }
    let mut out = vec![1; rank];
    for (i, slot) in out.iter_mut().enumerate() {
        let own = (i + shape.len()).checked_sub(rank).map_or(1, |k| shape[k]);
        let want = (i + wanted.len()).checked_sub(rank).map_or(1, |k| wanted[k]);
        *slot = own.max(usize::try_from(want).map_err(|_| format!("extent {want}"))?);
    }
    c.finish(onnx, Op::Expand, vec![x], Some(out), 0)
}
