//! Operators on indices that a run computes: Gather, Scatter, TopK, conversions between int32 and float32, GridSample.

use offshoot::format::codec::Record;
use offshoot::format::record::{self, Operand, Pick, RowAxis};
use offshoot_ir::indexed::Rows;
use offshoot_ir::{Data, GridKind, GridOutside, Indexing, ScatterKind, ValueId};

use super::Context;
use super::layout::copy_all;
use super::reduce::grouped;
use crate::blobs;
use crate::forms::parameters::{Lowering, nhwc, to_u32};
use crate::lowered::Tensor;

/// An operand of which only chosen rows are read: a constant stays in the blob section.
enum Place {
    Arena(Tensor),
    Blob(u32),
}

impl Place {
    fn operand(&self) -> Operand {
        match self {
            Self::Arena(_) => Operand::Arena(0),
            Self::Blob(blob) => Operand::Blob(*blob),
        }
    }

    fn tensor(&self) -> Option<&Tensor> {
        match self {
            Self::Arena(tensor) => Some(tensor),
            Self::Blob(_) => None,
        }
    }
}

fn place(c: &mut Context<'_>, v: ValueId) -> Lowering<Place> {
    let value = c.graph.value(v);
    let Some(data) = &value.data else { return Ok(Place::Arena(c.tensor(v)?)) };
    let blob = match &**data {
        Data::F32(d) => blobs::floats(d),
        Data::I8(d) => blobs::bytes(d),
        Data::I16(d) => blobs::halves(d),
        Data::I32(d) => blobs::words(d),
        Data::I64(_) => {
            return Err(format!("constant `{}` is int64, which the device does not support", value.name));
        }
    };
    let bytes = blob.len();
    Ok(Place::Blob(c.blob(blob, [bytes, 0])?))
}

/// The rows of a record; `index` is where the indices lie.
fn rows(index: Operand, indexing: Indexing, x: &[usize], indices: &[usize]) -> Lowering<record::Rows> {
    let rows = Rows::new(indexing, x, indices)?.merged();
    let mut axes = [RowAxis { extent: 1, stride: 0, index_stride: 0 }; 4];
    let first = axes
        .len()
        .checked_sub(rows.axes.len())
        .ok_or_else(|| format!("indices over {} axes, but the device supports up to 4", rows.axes.len()))?;
    let size = |v: usize| {
        to_u32(v, "an extent").ok().filter(|v| *v <= 1 << 27).ok_or_else(|| format!("an extent of {v}"))
    };
    for (to, [extent, stride, index_stride]) in axes[first..].iter_mut().zip(&rows.axes) {
        *to = RowAxis { extent: size(*extent)?, stride: size(*stride)?, index_stride: size(*index_stride)? };
    }
    let mut picks = [Pick::default(); 4];
    if rows.picks.len() > picks.len() {
        return Err(format!("tuples of {} indices, but the device supports up to 4", rows.picks.len()));
    }
    for (to, [extent, stride]) in picks.iter_mut().zip(&rows.picks) {
        *to = Pick { extent: size(*extent)?, stride: size(*stride)? };
    }
    Ok(record::Rows { index, axes, indices: rows.picks.len() as u8, picks, run: size(rows.run)? })
}

/// Rows of int16 as rows of bytes, which the device moves.
fn of_bytes(mut rows: record::Rows) -> record::Rows {
    rows.axes.iter_mut().for_each(|axis| axis.stride *= 2);
    rows.picks.iter_mut().for_each(|pick| pick.stride *= 2);
    rows.run *= 2;
    rows
}

/// Reads rows of a tensor or a constant.
pub(super) fn gather(c: &mut Context<'_>, inputs: &[ValueId], y: ValueId, indexing: Indexing) -> Lowering {
    let (x, index) = (place(c, inputs[0])?, place(c, inputs[1])?);
    let y = c.output(y)?;
    // The buffer of a constant is not used.
    let from = match &x {
        Place::Arena(tensor) => tensor.clone(),
        Place::Blob(_) => c.describe(inputs[0], y.buffer)?,
    };
    let out =
        if from.same_numbers(&y) { y.clone() } else { c.temp(&y.shape, from.dtype, from.scale, from.zp)? };
    let mut rows = rows(index.operand(), indexing, &from.shape, &c.graph.value(inputs[1]).shape)?;
    let mut size = from.dtype.size() as u8;
    if from.is_i16() {
        (rows, size) = (of_bytes(rows), 1);
    }
    let r = record::Gather { src: x.operand(), dst: 0, size, rows };
    c.emit(Record::Gather(r), [x.tensor(), index.tensor()], &out, &[]);
    if from.same_numbers(&y) { Ok(()) } else { c.convert(&out, &y) }
}

/// Copies data to the output, then writes rows there.
pub(super) fn scatter(
    c: &mut Context<'_>,
    inputs: &[ValueId],
    y: ValueId,
    indexing: Indexing,
    kind: ScatterKind,
) -> Lowering {
    let y = c.output(y)?;
    let joins = matches!(kind, ScatterKind::Add | ScatterKind::Mul) && y.is_i8()
        || kind != ScatterKind::Set && y.is_i16();
    let out = if joins { c.temp(&y.shape, record::DType::F32, 0.0, 0)? } else { y.clone() };
    if !fill(c, inputs[0], &out)? {
        let data = c.tensor(inputs[0])?;
        if data.same_numbers(&out) { copy_all(c, &data, &out)? } else { c.convert(&data, &out)? }
    }
    let updates = c.tensor(inputs[2])?;
    let updates = c.with_numbers_of(&updates, &out)?;
    let index = place(c, inputs[1])?;
    let mut rows = rows(index.operand(), indexing, &out.shape, &c.graph.value(inputs[1]).shape)?;
    let mut dtype = out.dtype;
    if out.is_i16() {
        (rows, dtype) = (of_bytes(rows), record::DType::I8);
    }
    let r = record::Scatter { src: 0, dst: 0, dtype, kind, rows };
    c.emit(Record::Scatter(r), [Some(&updates), index.tensor()], &out, &[]);
    if out.same_numbers(&y) { Ok(()) } else { c.convert(&out, &y) }
}

/// Fills the output with a constant whose elements are all the same; returns whether it is one, in that number format.
fn fill(c: &mut Context<'_>, data: ValueId, y: &Tensor) -> Lowering<bool> {
    let value = c.graph.value(data);
    let Some(all) = &value.data else { return Ok(false) };
    let bits: Vec<i32> = match &**all {
        Data::F32(d) if y.dtype == record::DType::F32 => d.iter().map(|v| v.to_bits() as i32).collect(),
        Data::I32(d) if y.dtype == record::DType::I32 => d.clone(),
        Data::I8(d) if c.describe(data, y.buffer)?.same_numbers(y) => {
            d.iter().map(|v| i32::from(*v)).collect()
        }
        _ => return Ok(false),
    };
    let Some(&first) = bits.first().filter(|first| bits.iter().all(|v| v == *first)) else {
        return Ok(false);
    };
    let len = to_u32(y.len(), "elements")?;
    let r = record::Fill { dst: 0, len, size: y.dtype.size() as u8, value: first };
    c.emit(Record::Fill(r), [None, None], y, &[]);
    Ok(true)
}

/// Indices of the best elements along an axis.
pub(super) fn top_k(
    c: &mut Context<'_>,
    x: &Tensor,
    y: &Tensor,
    axis: usize,
    k: usize,
    largest: bool,
) -> Lowering {
    let (x, [outer, extent, inner]) = grouped(c, x, &[axis])?;
    let size = |v| to_u32(v, "an extent");
    let (outer, extent, inner, k) = (size(outer)?, size(extent)?, size(inner)?, size(k)?);
    let r = record::TopK { src: 0, dst: 0, outer, extent, inner, k, largest, dtype: x.dtype };
    c.emit(Record::TopK(r), [Some(&x), None], y, &[]);
    Ok(())
}

/// int32 to float32 or back, through int8 scales where there are any.
pub(super) fn cast(c: &mut Context<'_>, x: &Tensor, y: &Tensor) -> Lowering {
    let x = if x.is_i8() { c.as_f32(x)? } else { x.clone() };
    let out = if y.is_i8() { c.temp(&y.shape, record::DType::F32, 0.0, 0)? } else { y.clone() };
    if x.dtype == out.dtype {
        return Err(format!("converts {:?} to itself", x.dtype));
    }
    let r = record::Cast { src: 0, dst: 0, len: to_u32(x.len(), "elements")?, to: out.dtype };
    c.emit(Record::Cast(r), [Some(&x), None], &out, &[]);
    if y.is_i8() { c.quantize(&out, y) } else { Ok(()) }
}

/// Samples an image at computed places; float32 only.
pub(super) fn grid_sample(
    c: &mut Context<'_>,
    x: &Tensor,
    grid: ValueId,
    y: &Tensor,
    (kind, outside, align_corners): (GridKind, GridOutside, bool),
) -> Lowering {
    let grid = c.tensor(grid)?;
    let grid = c.as_f32(&grid)?;
    let ([n, h, w, channels], [_, out_h, out_w, _]) = (nhwc(x)?, nhwc(y)?);
    let r = record::GridSample {
        src: 0,
        grid: 0,
        dst: 0,
        n,
        h,
        w,
        c: channels,
        out_h,
        out_w,
        kind,
        outside,
        align_corners,
    };
    c.emit(Record::GridSample(r), [Some(x), Some(&grid)], y, &[]);
    Ok(())
}
