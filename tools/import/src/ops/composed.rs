//! Operators that decompose into a few of the IR's.

use offshoot_ir::{DType, Op, PadMode, ReduceKind, UnaryKind, ValueId};

use crate::constant::{Constant, Elements};
use crate::context::{Context, Entry, Importing, MAX_VALUE, Onnx, axis};
use crate::parts::Parts;

/// Longest axis for which a matrix of its square is made.
pub(super) const MAX_SQUARE: usize = 2048;

/// CastLike: Cast to the element type of the second input.
pub(crate) fn cast_like(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    let name = onnx.input(1).ok_or("input 1 is missing")?;
    // ONNX's numbers of float32, int8, uint8, int32, int64 and bool.
    let to = match c.entry(name)? {
        Entry::Constant(constant) => match constant.elements {
            Elements::F32(_) | Elements::F64(_) => 1,
            Elements::I8(_) => 3,
            Elements::U8(_) => 2,
            Elements::I32(_) => 6,
            Elements::I64(_) | Elements::Short(..) => 7,
            Elements::Bool(_) => 9,
        },
        Entry::Value(id) if c.is_truth(*id) => 9,
        Entry::Value(id) => match c.graph.value(*id).dtype {
            DType::F32 => 1,
            DType::I8 => 3,
            DType::I16 => 5,
            DType::I32 => 6,
            DType::I64 => 7,
        },
        Entry::Unknown => return Err(String::new()),
    };
    if c.is_constant(onnx, 0) {
        let constant = c.wanted(onnx, 0)?;
        let reals = constant.to_reals();
        let elements = match to {
            1 => Elements::F32(reals),
            9 => Elements::Bool(reals.iter().map(|v| *v != 0.0).collect()),
            6 | 7 => {
                Elements::I64(constant.to_ints().unwrap_or_else(|| reals.iter().map(|v| *v as i64).collect()))
            }
            _ => return Err(format!("a constant cast to element type {to}")),
        };
        return c.bind(onnx, 0, Entry::Constant(Constant::new(constant.shape, elements)));
    }
    super::movement::cast_to(c, onnx, to)
}

/// Hardmax: 1 at the first of the largest elements along an axis, 0 elsewhere.
pub(crate) fn hardmax(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    let old = c.opset < 13;
    let mut p = Parts::of(c, onnx);
    let x = p.input(0)?;
    let shape = p.shape(x);
    let mut along = onnx.axis("axis", if old { 1 } else { -1 }, shape.len())?;
    // Before opset 13, all axes from `axis` on form one row.
    let mut rows = x;
    if old {
        let flat = [shape[..along].iter().product(), shape[along..].iter().product()];
        (rows, along) = (p.reshape(x, &flat)?, 1);
    }
    let n = p.shape(rows)[along];
    if n > MAX_SQUARE {
        return Err(format!("{n} elements along the axis; up to {MAX_SQUARE} are supported"));
    }
    let largest = p.reduce(ReduceKind::Max, rows, &[along])?;
    let short = p.sub(largest, rows)?;
    let equal = p.not_positive(short)?;
    let before = (0..n * n).map(|i| f32::from(u8::from(i % n < i / n))).collect();
    let earlier = p.along(equal, along, before, n)?;
    let first = p.not_positive(earlier)?;
    let y = p.mul(equal, first)?;
    let y = p.reshape(y, &shape)?;
    p.output(0, y)
}

/// Shrink: x + bias below -lambd, x - bias above lambd, otherwise 0.
pub(crate) fn shrink(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    let mut p = Parts::of(c, onnx);
    let (x, lambda, bias) = (p.input(0)?, onnx.float("lambd", 0.5), onnx.float("bias", 0.0));
    let (threshold, bias) = (p.number(lambda), p.number(bias));
    let above = p.sub(x, threshold)?;
    let above = p.positive(above)?;
    let sum = p.add(x, threshold)?;
    let below = p.unary(UnaryKind::Neg, sum)?;
    let below = p.positive(below)?;
    let (less, more) = (p.sub(x, bias)?, p.add(x, bias)?);
    let (high, low) = (p.mul(less, above)?, p.mul(more, below)?);
    let y = p.add(high, low)?;
    p.output(0, y)
}

/// PRelu with slopes of any shape that broadcasts, computed at run time or not: max(x, 0) + slope · min(x, 0).
pub(crate) fn prelu(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    let mut p = Parts::of(c, onnx);
    let (x, slope) = (p.input(0)?, p.input(1)?);
    let above = p.unary(UnaryKind::Clip { min: 0.0, max: f32::INFINITY }, x)?;
    let below = p.unary(UnaryKind::Clip { min: f32::NEG_INFINITY, max: 0.0 }, x)?;
    let below = p.mul(below, slope)?;
    let y = p.add(above, below)?;
    p.output(0, y)
}

/// The product of all elements along an axis: halves multiplied with each other until one element is left.
fn product(p: &mut Parts<'_, '_, '_>, x: ValueId, along: usize) -> Importing<ValueId> {
    let mut y = x;
    loop {
        let n = p.shape(y)[along];
        if n <= 1 {
            return Ok(y);
        }
        let half = n / 2;
        let (a, b) = (p.slice(y, along, 0, 1, half)?, p.slice(y, along, half, 1, half)?);
        let both = p.mul(a, b)?;
        y = match n % 2 {
            0 => both,
            _ => {
                let last = p.slice(y, along, n - 1, 1, 1)?;
                p.concat(&[both, last], along)?
            }
        };
    }
}

/// ReduceProd.
pub(crate) fn reduce_product(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    let x = c.value(onnx, 0)?;
    let shape = c.shape(x).to_vec();
    let Some(axes) = super::reduce::axes(c, onnx, &shape)? else {
        return c.bind(onnx, 0, Entry::Value(x));
    };
    let kept = super::reduce::reduced(&shape, &axes, onnx.int("keepdims", 1) != 0);
    let mut p = Parts::of(c, onnx);
    let mut y = x;
    for axis in axes {
        y = product(&mut p, y, axis)?;
    }
    let y = p.reshape(y, &kept)?;
    p.output(0, y)
}

/// SwiGLU (opset 28): a · sigmoid(alpha · a) · b.
pub(crate) fn swiglu(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    let mut p = Parts::of(c, onnx);
    let (a, b) = (p.input(0)?, p.input(1)?);
    let inner = p.times(a, onnx.float("alpha", 1.0))?;
    let gate = p.unary(UnaryKind::Sigmoid, inner)?;
    let swish = p.mul(a, gate)?;
    let y = p.mul(swish, b)?;
    p.output(0, y)
}

/// CenterCropPad.
pub(crate) fn center_crop_pad(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    let wanted = c.ints(onnx, 1)?.ok_or("the shape is missing")?;
    let mut p = Parts::of(c, onnx);
    let mut y = p.input(0)?;
    let rank = p.shape(y).len();
    let axes = onnx.ints("axes").unwrap_or_else(|| (0..rank as i64).collect());
    if axes.len() != wanted.len() {
        return Err(format!("{} extents for {} axes", wanted.len(), axes.len()));
    }
    let (mut before, mut after) = (vec![0; rank], vec![0; rank]);
    for (a, want) in axes.iter().zip(wanted) {
        let a = axis(*a, rank)?;
        let want = usize::try_from(want).ok().filter(|w| *w > 0 && *w <= MAX_VALUE);
        let want = want.ok_or("an extent of 0 or less")?;
        let extent = p.shape(y)[a];
        if want < extent {
            y = p.slice(y, a, (extent - want) / 2, 1, want)?;
        } else {
            before[a] = (want - extent) / 2;
            after[a] = want - extent - before[a];
        }
    }
    if before.iter().chain(&after).any(|n| *n > 0) {
        y = p.op(Op::Pad { before, after, mode: None::<PadMode>, value: 0.0 }, &[y], None)?;
    }
    p.output(0, y)
}

/// Gemm whose second factor or bias is computed at run time: alpha · A · B + beta · C.
pub(crate) fn gemm(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    let mut p = Parts::of(c, onnx);
    let (mut a, mut b) = (p.input(0)?, p.input(1)?);
    if p.shape(a).len() != 2 || p.shape(b).len() != 2 {
        return Err("a factor that is not a matrix".into());
    }
    if onnx.int("transA", 0) != 0 {
        a = p.transpose(a, &[1, 0])?;
    }
    if onnx.int("transB", 0) != 0 {
        b = p.transpose(b, &[1, 0])?;
    }
    let product = p.matmul(a, b)?;
    let mut y = p.times(product, onnx.float("alpha", 1.0))?;
    if let Some(bias) = p.optional(2)? {
        let bias = p.times(bias, onnx.float("beta", 1.0))?;
        y = p.add(y, bias)?;
    }
    p.output(0, y)
}

/// Det: by cofactors along the first row, for matrices of up to four rows.
pub(crate) fn determinant(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    let mut p = Parts::of(c, onnx);
    let x = p.input(0)?;
    let shape = p.shape(x);
    let [ref batch @ .., rows, columns] = *shape.as_slice() else {
        return Err(format!("an input of shape {shape:?}"));
    };
    if rows != columns || !(1..=4).contains(&rows) {
        return Err(format!("a matrix of {rows} × {columns}; up to 4 × 4 are supported"));
    }
    let all: Vec<usize> = (0..columns).collect();
    let y = minor(&mut p, x, 0, &all)?;
    let y = p.reshape(y, batch)?;
    p.output(0, y)
}

/// Determinant of the rows from `row` on and these columns.
fn minor(p: &mut Parts<'_, '_, '_>, x: ValueId, row: usize, columns: &[usize]) -> Importing<ValueId> {
    let rank = p.shape(x).len();
    let mut sum = None;
    for (i, column) in columns.iter().enumerate() {
        let line = p.slice(x, rank - 2, row, 1, 1)?;
        let mut term = p.slice(line, rank - 1, *column, 1, 1)?;
        let rest: Vec<usize> = columns.iter().copied().filter(|c| c != column).collect();
        if !rest.is_empty() {
            let below = minor(p, x, row + 1, &rest)?;
            term = p.mul(term, below)?;
        }
        sum = Some(match sum {
            None => term,
            Some(before) if i % 2 == 1 => p.sub(before, term)?,
            Some(before) => p.add(before, term)?,
        });
    }
    sum.ok_or_else(|| "an empty matrix".into())
}

/// AffineGrid: points of a regular grid times a matrix that is computed at run time.
pub(crate) fn affine_grid(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    let size = c.ints(onnx, 1)?.ok_or("the size is missing")?;
    let mut p = Parts::of(c, onnx);
    let theta = p.input(0)?;
    let extents: Vec<usize> = size
        .iter()
        .map(|d| usize::try_from(*d).ok().filter(|d| (1..=1 << 13).contains(d)))
        .collect::<Option<_>>()
        .ok_or("an extent of the size")?;
    let [n, _, ref spatial @ ..] = *extents.as_slice() else { return Err("a size without axes".into()) };
    let dims = spatial.len();
    if !(2..=3).contains(&dims) || p.shape(theta) != [n, dims, dims + 1] {
        return Err(format!("a matrix of shape {:?} for {dims} axes", p.shape(theta)));
    }
    let count: usize = spatial.iter().product();
    if count > MAX_VALUE / 8 {
        return Err("a size that is too large".into());
    }
    let corners = onnx.int("align_corners", 0) != 0;
    let place = |i: usize, extent: usize| -> f32 {
        let (i, n) = (i as f64, extent as f64);
        let at = match corners {
            true if extent > 1 => 2.0 * i / (n - 1.0) - 1.0,
            true => 0.0,
            false => (2.0 * i + 1.0) / n - 1.0,
        };
        at as f32
    };
    // Homogeneous points, the last axis first: x, y, (z,) 1.
    let mut points = Vec::with_capacity(count * (dims + 1));
    for point in 0..count {
        let mut rest = point;
        for extent in spatial.iter().rev() {
            points.push(place(rest % extent, *extent));
            rest /= extent;
        }
        points.push(1.0);
    }
    let points = p.reals(&[count, dims + 1], points);
    let mut grids = Vec::new();
    for sample in 0..n {
        let own = p.slice(theta, 0, sample, 1, 1)?;
        let own = p.reshape(own, &[dims, dims + 1])?;
        let own = p.transpose(own, &[1, 0])?;
        let grid = p.matmul(points, own)?;
        grids.push(p.reshape(grid, &[&[1], spatial, &[dims]].concat())?);
    }
    let y = p.concat(&grids, 0)?;
    p.output(0, y)
}

/// Col2Im: each pixel is the sum of the columns' entries that lie on it.
pub(crate) fn col2im(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    let sizes = |v: Option<Vec<i64>>| -> Importing<Vec<usize>> {
        let v = v.ok_or("a shape is missing")?;
        v.iter().map(|d| usize::try_from(*d).map_err(|_| format!("extent {d}"))).collect()
    };
    let (image, block) = (sizes(c.ints(onnx, 1)?)?, sizes(c.ints(onnx, 2)?)?);
    let dims = image.len();
    let attribute = |name: &str, n: usize, default: i64| -> Importing<Vec<usize>> {
        let given = sizes(Some(onnx.ints(name).unwrap_or_else(|| vec![default; n])))?;
        if given.len() == n { Ok(given) } else { Err(format!("{name} for {dims} axes")) }
    };
    let (stride, dilation) = (attribute("strides", dims, 1)?, attribute("dilations", dims, 1)?);
    let pads = attribute("pads", 2 * dims, 0)?;
    let mut p = Parts::of(c, onnx);
    let x = p.input(0)?;
    let [n, rows, columns] = p.shape(x)[..] else { return Err("an input without three axes".into()) };
    let (taps, pixels) = (block.iter().product::<usize>(), image.iter().product::<usize>());
    if dims == 0 || block.len() != dims || taps == 0 || rows % taps != 0 || stride.contains(&0) {
        return Err(format!("blocks {block:?} of an image {image:?}"));
    }
    let channels = rows / taps;
    let steps: Vec<usize> = (0..dims)
        .map(|a| {
            let reach = block[a].checked_sub(1)?.checked_mul(dilation[a])?.checked_add(1)?;
            let room = (image[a] + pads[a] + pads[a + dims]).checked_sub(reach)?;
            Some(room / stride[a] + 1)
        })
        .collect::<Option<_>>()
        .ok_or("a block larger than the image")?;
    if steps.iter().product::<usize>() != columns {
        return Err(format!("{columns} columns for {steps:?} blocks"));
    }
    let size = pixels.checked_mul(taps).and_then(|s| s.checked_mul(columns));
    if size.is_none_or(|s| s > 1 << 22) {
        return Err("an image that is too large".into());
    }
    let width = taps * columns;
    let mut matrix = vec![0.0; pixels * width];
    for tap in 0..taps {
        for column in 0..columns {
            let (mut t, mut s, mut pixel, mut scale, mut inside) = (tap, column, 0, 1, true);
            for a in (0..dims).rev() {
                let at = (s % steps[a]) * stride[a] + (t % block[a]) * dilation[a];
                match at.checked_sub(pads[a]).filter(|at| *at < image[a]) {
                    Some(at) => pixel += at * scale,
                    None => inside = false,
                }
                scale *= image[a];
                (t, s) = (t / block[a], s / steps[a]);
            }
            if inside {
                matrix[pixel * width + tap * columns + column] = 1.0;
            }
        }
    }
    let flat = p.reshape(x, &[n, channels, width])?;
    let y = p.along(flat, 2, matrix, pixels)?;
    let y = p.reshape(y, &[&[n, channels], image.as_slice()].concat())?;
    p.output(0, y)
}

/// ReverseSequence with constant lengths: a permutation of the steps of each sample.
pub(crate) fn reverse_sequence(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    let lengths = c.ints(onnx, 1)?.ok_or("lengths are missing")?;
    let (batch, time) = (onnx.int("batch_axis", 1), onnx.int("time_axis", 0));
    let mut p = Parts::of(c, onnx);
    let x = p.input(0)?;
    let shape = p.shape(x);
    let (batch, time) = (axis(batch, shape.len())?, axis(time, shape.len())?);
    if batch == time || lengths.len() != shape[batch] {
        return Err(format!("{} lengths for {} samples", lengths.len(), shape[batch]));
    }
    let mut samples = Vec::new();
    for (i, length) in lengths.iter().enumerate() {
        let own = p.slice(x, batch, i, 1, 1)?;
        let length = usize::try_from(*length).ok().filter(|l| *l <= shape[time]);
        let length = length.ok_or("a length beyond the sequence")?;
        if length < 2 {
            samples.push(own);
            continue;
        }
        let mut parts = vec![p.slice(own, time, length - 1, -1, length)?];
        if length < shape[time] {
            parts.push(p.slice(own, time, length, 1, shape[time] - length)?);
        }
        samples.push(p.concat(&parts, time)?);
    }
    let y = p.concat(&samples, batch)?;
    p.output(0, y)
}

/// TensorScatter (opset 24) at constant places: each sample of a cache with an update written over it.
pub(crate) fn tensor_scatter(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    let circular = match onnx.text("mode", "linear").as_str() {
        "linear" => false,
        "circular" => true,
        other => return Err(format!("mode `{other}`")),
    };
    let places = c.ints(onnx, 2)?;
    let mut p = Parts::of(c, onnx);
    let (past, update) = (p.input(0)?, p.input(1)?);
    let (shape, new) = (p.shape(past), p.shape(update));
    let along = onnx.axis("axis", -2, shape.len())?;
    if along == 0 || new.len() != shape.len() || new[along] > shape[along] {
        return Err(format!("an update {new:?} of a cache {shape:?}"));
    }
    let places = places.unwrap_or_else(|| vec![0; shape[0]]);
    if places.len() != shape[0] {
        return Err(format!("{} places for {} samples", places.len(), shape[0]));
    }
    let (n, length) = (shape[along], new[along]);
    let mut samples = Vec::new();
    for (i, place) in places.iter().enumerate() {
        let (old, own) = (p.slice(past, 0, i, 1, 1)?, p.slice(update, 0, i, 1, 1)?);
        let at = usize::try_from(*place).ok().filter(|at| *at < n && (circular || at + length <= n));
        let at = at.ok_or_else(|| format!("place {place} in a cache of {n}"))?;
        let wrapped = (at + length).saturating_sub(n);
        let mut parts = Vec::new();
        if wrapped > 0 {
            parts.push(p.slice(own, along, length - wrapped, 1, wrapped)?);
        }
        if at > wrapped {
            parts.push(p.slice(old, along, wrapped, 1, at - wrapped)?);
        }
        parts.push(p.slice(own, along, 0, 1, length - wrapped)?);
        let end = at + length - wrapped;
        if end < n {
            parts.push(p.slice(old, along, end, 1, n - end)?);
        }
        samples.push(p.concat(&parts, along)?);
    }
    let y = p.concat(&samples, 0)?;
    p.output(0, y)
}
