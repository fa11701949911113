//! Operators that only move elements. Each becomes one strided copy with as few axes as possible.

use offshoot::format::codec::Record;
use offshoot::format::record::{self, Axes, Axis, PadMode};
use offshoot_ir::ValueId;

use super::Context;
use crate::blobs;
use crate::forms::parameters::{Lowering, to_u16, to_u32};
use crate::lowered::Tensor;

/// One axis of a copy before merging: extent, source stride, destination stride (elements).
pub(super) type Stride = (usize, i64, i64);

/// Strides of a row-major tensor.
pub(super) fn strides(shape: &[usize]) -> Vec<i64> {
    let mut strides = vec![1i64; shape.len()];
    for i in (1..shape.len()).rev() {
        strides[i - 1] = strides[i] * shape[i] as i64;
    }
    strides
}

/// The same copy with the fewest axes: axes of extent 1 are dropped, and contiguous neighbours are merged.
pub(super) fn merge(axes: &[Stride]) -> Vec<Stride> {
    let mut merged: Vec<Stride> = Vec::new();
    for &(extent, src, dst) in axes.iter().filter(|a| a.0 != 1) {
        match merged.last_mut() {
            Some(outer) if outer.1 == src * extent as i64 && outer.2 == dst * extent as i64 => {
                *outer = (outer.0 * extent, src, dst);
            }
            _ => merged.push((extent, src, dst)),
        }
    }
    if merged.is_empty() {
        merged.push((1, 1, 1));
    }
    merged
}

/// Copies from `x` at `x_start` to `y` at `y_start` (elements).
fn copy(
    c: &mut Context<'_>,
    x: &Tensor,
    x_start: i64,
    y: &Tensor,
    y_start: i64,
    axes: &[Stride],
) -> Lowering {
    let size = x.dtype.size();
    // The device copies elements of one or four bytes: an int16 is an axis of two.
    let merged = match size {
        2 => {
            let doubled = axes.iter().map(|&(extent, src, dst)| (extent, 2 * src, 2 * dst));
            merge(&doubled.chain([(2, 1, 1)]).collect::<Vec<_>>())
        }
        _ => merge(axes),
    };
    let stride = |v: i64| {
        i32::try_from(v).map_err(|_| format!("a stride of {v} elements is too large for the format"))
    };
    let mut fixed = Vec::with_capacity(merged.len());
    for &(extent, src, dst) in &merged {
        let extent = to_u32(extent, "an extent")?;
        fixed.push(Axis { extent, src_stride: stride(src)?, dst_stride: stride(dst)? });
    }
    let axes = Axes::from_slice(&fixed)
        .ok_or_else(|| format!("needs a copy over {} axes, but the device supports up to 6", fixed.len()))?;
    let bytes = |start: i64| to_u32(start.unsigned_abs() as usize * size, "an offset");
    let size = if size == 4 { 4 } else { 1 };
    let r = record::Copy { src: bytes(x_start)?, dst: bytes(y_start)?, size, axes };
    c.emit(Record::Copy(r), [Some(x), None], y, &[]);
    Ok(())
}

/// Copies a whole tensor without reordering.
pub(super) fn copy_all(c: &mut Context<'_>, x: &Tensor, y: &Tensor) -> Lowering {
    copy(c, x, 0, y, 0, &[(x.len(), 1, 1)])
}

/// Copies `x` with its axes in the order `perm` into a new tensor.
pub(super) fn transposed(c: &mut Context<'_>, x: &Tensor, perm: &[usize]) -> Lowering<Tensor> {
    let shape: Vec<usize> = perm.iter().map(|&p| x.shape[p]).collect();
    let y = c.temp(&shape, x.dtype, x.scale, x.zp)?;
    transpose_into(c, x, &y, perm)?;
    Ok(y)
}

/// Copies `x` with its axes in the order `perm` into `y`.
pub(super) fn transpose_into(c: &mut Context<'_>, x: &Tensor, y: &Tensor, perm: &[usize]) -> Lowering {
    copy(c, x, 0, y, 0, &permuted(x, perm))
}

fn permuted(x: &Tensor, perm: &[usize]) -> Vec<Stride> {
    let src = strides(&x.shape);
    let shape: Vec<usize> = perm.iter().map(|&p| x.shape[p]).collect();
    let dst = strides(&shape);
    perm.iter().enumerate().map(|(i, &p)| (x.shape[p], src[p], dst[i])).collect()
}

/// Broadcasts `x` to `shape` into a new tensor.
pub(super) fn expanded(c: &mut Context<'_>, x: &Tensor, shape: &[usize]) -> Lowering<Tensor> {
    let y = c.temp(shape, x.dtype, x.scale, x.zp)?;
    expand_into(c, x, &y)?;
    Ok(y)
}

fn expand_into(c: &mut Context<'_>, x: &Tensor, y: &Tensor) -> Lowering {
    let missing = y.shape.len().checked_sub(x.shape.len());
    let missing = missing.ok_or_else(|| format!("{:?} does not broadcast to {:?}", x.shape, y.shape))?;
    let (src, dst) = (strides(&x.shape), strides(&y.shape));
    let axis = |i: usize| {
        let own = i.checked_sub(missing).filter(|&j| x.shape[j] != 1);
        (y.shape[i], own.map_or(0, |j| src[j]), dst[i])
    };
    let axes: Vec<Stride> = (0..y.shape.len()).map(axis).collect();
    copy(c, x, 0, y, 0, &axes)
}

/// The operand in the number format of output `y`, and the output.
fn operands(c: &mut Context<'_>, x: ValueId, y: ValueId) -> Lowering<(Tensor, Tensor)> {
    let x = c.tensor(x)?;
    let y = c.output(y)?;
    let x = c.with_numbers_of(&x, &y)?;
    Ok((x, y))
}

/// The operand, if the output can be another name for it: the same number format, and not a constant.
fn to_alias(c: &mut Context<'_>, x: ValueId, y: ValueId) -> Lowering<Option<Tensor>> {
    let (from, to) = (c.graph.value(x), c.graph.value(y));
    let same = from.data.is_none() && from.dtype == to.dtype && from.quant == to.quant;
    if same { Ok(Some(c.tensor(x)?)) } else { Ok(None) }
}

/// Reshape: the same buffer by another name.
pub(super) fn reshape(c: &mut Context<'_>, x: ValueId, y: ValueId) -> Lowering {
    if let Some(x) = to_alias(c, x, y)? {
        c.alias(y, &x);
        return Ok(());
    }
    let x = c.tensor(x)?;
    let y = c.output(y)?;
    if x.same_numbers(&y) { copy_all(c, &x, &y) } else { c.convert(&x, &y) }
}

/// Transpose: a copy, or nothing if only axes of extent 1 move.
pub(super) fn transpose(c: &mut Context<'_>, x: ValueId, y: ValueId, perm: &[usize]) -> Lowering {
    if let Some(from) = to_alias(c, x, y)?
        && let [(_, 1, 1)] = merge(&permuted(&from, perm))[..]
    {
        c.alias(y, &from);
        return Ok(());
    }
    let (x, y) = operands(c, x, y)?;
    transpose_into(c, &x, &y, perm)
}

/// Concatenation: one copy per input.
pub(super) fn concat(c: &mut Context<'_>, inputs: &[ValueId], y: ValueId, axis: usize) -> Lowering {
    let mut start = 0;
    for &x in inputs {
        let (x, y) = operands(c, x, y)?;
        let (src, dst) = (strides(&x.shape), strides(&y.shape));
        let axes: Vec<Stride> = (0..x.shape.len()).map(|i| (x.shape[i], src[i], dst[i])).collect();
        copy(c, &x, 0, &y, start, &axes)?;
        start += dst[axis] * x.shape[axis] as i64;
    }
    Ok(())
}

/// Slice: a copy from an offset.
pub(super) fn slice(
    c: &mut Context<'_>,
    x: ValueId,
    y: ValueId,
    start: &[usize],
    step: &[isize],
) -> Lowering {
    let x = c.tensor(x)?;
    let y = c.output(y)?;
    let (src, dst) = (strides(&x.shape), strides(&y.shape));
    let axes: Vec<Stride> =
        (0..x.shape.len()).map(|i| (y.shape[i], src[i] * step[i] as i64, dst[i])).collect();
    let begin: i64 = start.iter().zip(&src).map(|(&s, &stride)| s as i64 * stride).sum();
    if x.same_numbers(&y) {
        return copy(c, &x, begin, &y, 0, &axes);
    }
    let part = c.temp(&y.shape, x.dtype, x.scale, x.zp)?;
    copy(c, &x, begin, &part, 0, &axes)?;
    c.convert(&part, &y)
}

/// Broadcast to the output's shape.
pub(super) fn expand(c: &mut Context<'_>, x: ValueId, y: ValueId) -> Lowering {
    let (x, y) = operands(c, x, y)?;
    expand_into(c, &x, &y)
}

/// The input behind the end of earlier runs. Axes before that of the steps have extent 1, so the state is one piece.
pub(super) fn history(c: &mut Context<'_>, x: ValueId, y: ValueId, fill: f32) -> Lowering {
    let (x, y) = operands(c, x, y)?;
    let (size, of_one) = unit(&y);
    let len = to_u32(of_one * x.len(), "elements")?;
    let state = to_u32(of_one * y.len().saturating_sub(x.len()), "elements")?;
    let fill = fill_code(&y, fill)?;
    let r = record::History { src: 0, dst: 0, kept: 0, state, len, size, fill };
    let words = usize::try_from(r.kept_words()).map_err(|_| "its state is too large")?;
    let kept = c.allocate(4 * words)?;
    c.emit(Record::History(r), [Some(&x), None], &y, &[]).kept = Some(kept);
    Ok(())
}

/// The element that stands for a real value: an int8 code, or the bits of a float32.
fn code(y: &Tensor, value: f32) -> i32 {
    match y.dtype {
        record::DType::I8 => ((value / y.scale).round() + f32::from(y.zp)).clamp(-128.0, 127.0) as i32,
        record::DType::I16 => (value / y.scale).round().clamp(-32768.0, 32767.0) as i32,
        record::DType::F32 => value.to_bits() as i32,
        record::DType::I32 => value as i32,
    }
}

/// Bytes of what the device moves, and how many of them an element is: it moves int16 as bytes.
fn unit(y: &Tensor) -> (u8, usize) {
    match y.dtype.size() {
        2 => (1, 2),
        size => (size as u8, 1),
    }
}

/// [`code`], for what the device moves.
fn fill_code(y: &Tensor, value: f32) -> Lowering<i32> {
    let code = code(y, value);
    if !y.is_i16() {
        return Ok(code);
    }
    let [low, high] = (code as i16).to_le_bytes();
    if low != high {
        return Err(format!("fills int16 with {value}, which is not 0"));
    }
    Ok(i32::from(low as i8))
}

/// Padding: constant padding as Fill and Copy, other modes as Pad.
pub(super) fn pad(
    c: &mut Context<'_>,
    x: ValueId,
    y: ValueId,
    before: &[usize],
    after: &[usize],
    mode: Option<PadMode>,
    value: f32,
) -> Lowering {
    let (x, y) = operands(c, x, y)?;
    if let Some(mode) = mode {
        return pad_from_inside(c, &x, &y, before, after, mode);
    }
    fill(c, &y, value)?;
    let (src, dst) = (strides(&x.shape), strides(&y.shape));
    let begin: i64 = before.iter().zip(&dst).map(|(&b, &stride)| b as i64 * stride).sum();
    let axes: Vec<Stride> = (0..x.shape.len()).map(|i| (x.shape[i], src[i], dst[i])).collect();
    copy(c, &x, 0, &y, begin, &axes)
}

/// Fills a tensor with a number.
fn fill(c: &mut Context<'_>, y: &Tensor, value: f32) -> Lowering {
    let (size, of_one) = unit(y);
    if let Ok(value) = fill_code(y, value) {
        let len = to_u32(of_one * y.len(), "elements")?;
        let r = record::Fill { dst: 0, len, size, value };
        c.emit(Record::Fill(r), [None, None], y, &[]);
        return Ok(());
    }
    // The two bytes of its code differ: they are copied from a constant.
    let one = c.temp(&vec![1; y.shape.len()], y.dtype, y.scale, y.zp)?;
    let blob = c.blob(blobs::halves(&[code(y, value) as i16]), [0, 0])?;
    c.emit(Record::Constant(record::Constant { dst: 0, len: 2, blob }), [None, None], &one, &[]);
    expand_into(c, &one, y)
}

fn pad_from_inside(
    c: &mut Context<'_>,
    x: &Tensor,
    y: &Tensor,
    before: &[usize],
    after: &[usize],
    mode: PadMode,
) -> Lowering {
    let mut axes: Vec<(usize, usize, usize)> =
        (0..x.shape.len()).map(|i| (x.shape[i], before[i], after[i])).collect();
    let (size, of_one) = unit(x);
    match axes.last_mut() {
        Some((extent, 0, 0)) => *extent *= of_one,
        _ if of_one > 1 => axes.push((of_one, 0, 0)),
        _ => {}
    }
    while axes.len() > 4 {
        let unpadded = |a: &(usize, usize, usize)| a.1 == 0 && a.2 == 0;
        let pair = (0..axes.len() - 1).find(|&i| unpadded(&axes[i]) && unpadded(&axes[i + 1]));
        let i = pair.ok_or("pads more than four axes, which the device does not support")?;
        axes[i].0 *= axes[i + 1].0;
        axes.remove(i + 1);
    }
    while axes.len() < 4 {
        axes.insert(0, (1, 0, 0));
    }
    let (mut dims, mut pad) = ([0; 4], [[0; 2]; 4]);
    for (i, &(extent, b, a)) in axes.iter().enumerate() {
        dims[i] = to_u16(extent, "an extent")?;
        pad[i] = [to_u16(b, "padding")?, to_u16(a, "padding")?];
    }
    let r = record::Pad { src: 0, dst: 0, size, dims, pad, mode };
    c.emit(Record::Pad(r), [Some(x), None], y, &[]);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merges_to_the_fewest_axes() {
        // NHWC to NCHW of [1, 4, 5, 3]: two axes.
        let x = [1, 4, 5, 3];
        let (src, dst) = (strides(&x), strides(&[1, 3, 4, 5]));
        let axes: Vec<Stride> =
            [0, 3, 1, 2].iter().enumerate().map(|(i, &p)| (x[p], src[p], dst[i])).collect();
        assert_eq!(merge(&axes), [(3, 1, 20), (20, 3, 1)]);
        assert_eq!(merge(&[(1, 7, 7), (1, 1, 1)]), [(1, 1, 1)]);
        assert_eq!(merge(&[(4, 6, 6), (6, 1, 1)]), [(24, 1, 1)]);
    }
}
