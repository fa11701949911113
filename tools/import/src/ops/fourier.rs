//! DFT and STFT: one-sided transforms of real signals to a power of two elements by the fast transform; others as products with
//! the constant matrix of roots of unity.

use offshoot::format::spectral::SIZES;
use offshoot_ir::{Activation, Data, Op, SpectrumPart, ValueId};

use crate::constant::{Constant, Elements};
use crate::context::{Context, Importing, Onnx, axis};
use crate::parts::Parts;

/// Most elements of the matrix.
const MAX_MATRIX: usize = 1 << 22;

/// Whether the fast transform has this size.
fn is_fast(size: usize) -> bool {
    SIZES.iter().any(|(fast, _)| usize::from(*fast) == size)
}

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
        return from_one_side(c, onnx, x, along, number(1)?);
    }
    if onesided && parts == 1 && is_fast(length) {
        return real_dft(c, onnx, x, along, length);
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

/// The one-sided transform of real signals along an axis, cut or filled with zeros to `length` elements.
fn real_dft(c: &mut Context<'_>, onnx: &Onnx<'_>, x: ValueId, along: usize, length: usize) -> Importing {
    let mut p = Parts::of(c, onnx);
    let shape = p.shape(x);
    let (rank, n) = (shape.len(), shape[along]);
    let mut perm: Vec<usize> = (0..rank).filter(|a| *a != along && a + 1 != rank).collect();
    perm.extend([along, rank - 1]);
    let y = p.transpose(x, &perm)?;
    let mut outer: Vec<usize> = perm[..rank - 2].iter().map(|a| shape[*a]).collect();
    let y = p.reshape(y, &[outer.iter().product(), n])?;
    let op = Op::Spectrum { frame: n.min(length), hop: n, size: length, part: SpectrumPart::Complex };
    let y = p.op(op, &[y], None)?;
    outer.extend([length / 2 + 1, 2]);
    let y = p.reshape(y, &outer)?;
    let back: Vec<usize> = (0..rank).map(|a| perm.iter().position(|p| *p == a).unwrap_or(a)).collect();
    let y = p.transpose(y, &back)?;
    p.output(0, y)
}

/// The real signal of half a spectrum: the other half is the conjugate.
fn from_one_side(
    c: &mut Context<'_>,
    onnx: &Onnx<'_>,
    x: ValueId,
    along: usize,
    length: Option<i64>,
) -> Importing {
    let mut p = Parts::of(c, onnx);
    let shape = p.shape(x);
    let (rank, bins) = (shape.len(), shape[along]);
    let length = match length {
        Some(n) => usize::try_from(n).ok().filter(|n| *n > 0).ok_or("dft_length must be positive")?,
        None => 2 * bins.saturating_sub(1),
    };
    if shape[rank - 1] != 2 || length == 0 || length.checked_mul(bins).is_none_or(|n| n > MAX_MATRIX / 2) {
        return Err(format!("an inverse transform of {shape:?} to {length} elements"));
    }
    // Sums of cosines for the real parts and of sines for the imaginary ones.
    let mut parts = Vec::new();
    for imaginary in [false, true] {
        let part = p.slice(x, rank - 1, usize::from(imaginary), 1, 1)?;
        let mut matrix = Vec::with_capacity(length * bins);
        for n in 0..length {
            for bin in 0..bins {
                let turn = (n * bin % length) as f64 / length as f64 * std::f64::consts::TAU;
                // The first bin, and the last one of an even length, stand for themselves alone.
                let count = match bin {
                    _ if bin > length / 2 => 0.0,
                    0 => 1.0,
                    _ if 2 * bin == length => 1.0,
                    _ => 2.0,
                };
                let wave = if imaginary { -turn.sin() } else { turn.cos() };
                matrix.push((count * wave / length as f64) as f32);
            }
        }
        parts.push(p.along(part, along, matrix, length)?);
    }
    let y = p.add(parts[0], parts[1])?;
    p.output(0, y)
}

/// Transforms of frames. Zeros at the end of the window make frames shorter, unless there would be more of them.
fn fast_stft(
    p: &mut Parts<'_, '_, '_>,
    x: ValueId,
    window: Option<ValueId>,
    [hop, size, frames]: [usize; 3],
) -> Importing<ValueId> {
    let length = p.shape(x)[1];
    let values = window.and_then(|w| match p.c.graph.value(w).data.as_deref() {
        Some(Data::F32(values)) => Some(values.clone()),
        _ => None,
    });
    let mut inputs = vec![x];
    let mut frame = size;
    if let Some(mut values) = values {
        let used = values.iter().rposition(|v| *v != 0.0).map_or(1, |last| last + 1);
        if (length - used) / hop + 1 == frames {
            frame = used;
        }
        values.truncate(frame);
        inputs.push(p.reals(&[frame], values));
    } else {
        inputs.extend(window);
    }
    p.op(Op::Spectrum { frame, hop, size, part: SpectrumPart::Complex }, &inputs, None)
}

/// STFT: frames of the signal times the window, and their transforms.
pub(crate) fn stft(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    let number =
        |i: usize| -> Importing<Option<i64>> { Ok(c.ints(onnx, i)?.and_then(|v| v.first().copied())) };
    let whole = |v: i64| usize::try_from(v).ok().filter(|v| *v > 0).ok_or("a length of 0 or less");
    let step = whole(number(1)?.ok_or("frame_step is missing")?)?;
    let given = number(3)?.map(whole).transpose()?;
    let onesided = onnx.int("onesided", 1) != 0;
    let mut p = Parts::of(c, onnx);
    let x = p.input(0)?;
    let (samples, length) = match *p.shape(x) {
        [n, length] | [n, length, 1] => (n, length),
        ref other => return Err(format!("a signal of shape {other:?}; real ones are supported")),
    };
    let window = p.optional(2)?;
    let size = match (window, given) {
        (_, Some(given)) => given,
        (Some(window), None) => p.shape(window).iter().product(),
        (None, None) => return Err("neither a window nor frame_length is given".into()),
    };
    if window.is_some_and(|w| p.shape(w) != [size]) || size > length {
        return Err(format!("frames of {size} of a signal of {length}"));
    }
    let frames = (length - size) / step + 1;
    let constant = window.is_none_or(|w| p.c.graph.value(w).data.is_some());
    if onesided && is_fast(size) && constant && frames <= usize::from(u16::MAX) {
        let flat = p.reshape(x, &[samples, length])?;
        let y = fast_stft(&mut p, flat, window, [step, size, frames])?;
        return p.output(0, y);
    }
    let bins = if onesided { size / 2 + 1 } else { size };
    if bins.checked_mul(2 * size).is_none_or(|n| n > MAX_MATRIX) || frames > 1 << 14 {
        return Err(format!("{frames} frames of {size}: the matrix is too large"));
    }
    let flat = p.reshape(x, &[samples, length])?;
    let mut rows = Vec::new();
    for frame in 0..frames {
        let row = p.slice(flat, 1, frame * step, 1, size)?;
        rows.push(p.reshape(row, &[samples, 1, size])?);
    }
    let mut y = p.concat(&rows, 1)?;
    if let Some(window) = window {
        y = p.mul(y, window)?;
    }
    let mut matrix = Vec::with_capacity(bins * 2 * size);
    for row in 0..bins * 2 {
        for n in 0..size {
            let turn = (row / 2 * n % size) as f64 / size as f64 * std::f64::consts::TAU;
            matrix.push(if row % 2 == 0 { turn.cos() } else { -turn.sin() } as f32);
        }
    }
    let y = p.along(y, 2, matrix, bins * 2)?;
    let y = p.reshape(y, &[samples, frames, bins, 2])?;
    p.output(0, y)
}
