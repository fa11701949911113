//! Operators on indices that a run computes.

use std::cmp::Ordering;

use ndarray::{ArrayD, Axis, IxDyn};
use offshoot::format::record::GridSample;
use offshoot_ir::indexed::Rows;
use offshoot_ir::{GridKind, GridOutside, Indexing, ScatterKind};

fn flat(a: &ArrayD<f32>) -> Vec<f32> {
    a.iter().copied().collect()
}

fn array(shape: &[usize], values: Vec<f32>) -> Result<ArrayD<f32>, String> {
    ArrayD::from_shape_vec(IxDyn(shape), values).map_err(|e| e.to_string())
}

/// Rows of `x`; indices outside are clamped.
pub(crate) fn gather(
    x: &ArrayD<f32>,
    index: &ArrayD<f32>,
    indexing: Indexing,
    shape: &[usize],
) -> Result<ArrayD<f32>, String> {
    let rows = Rows::new(indexing, x.shape(), index.shape())?;
    let (x, index) = (flat(x), flat(index));
    let mut out = Vec::with_capacity(rows.count() * rows.run);
    for row in 0..rows.count() {
        let at = rows.place(row, |k| index[k] as i64, true).unwrap_or(0);
        out.extend(x.get(at..at + rows.run).ok_or("a row lies outside the tensor")?);
    }
    array(shape, out)
}

/// `x` with rows joined with those of `updates`; rows with an index outside are left out.
pub(crate) fn scatter(
    x: &ArrayD<f32>,
    index: &ArrayD<f32>,
    updates: &ArrayD<f32>,
    indexing: Indexing,
    kind: ScatterKind,
) -> Result<ArrayD<f32>, String> {
    let rows = Rows::new(indexing, x.shape(), index.shape())?;
    let (mut out, index, updates) = (flat(x), flat(index), flat(updates));
    for row in 0..rows.count() {
        let Some(at) = rows.place(row, |k| index[k] as i64, false) else { continue };
        let from = updates.get(row * rows.run..(row + 1) * rows.run);
        let (Some(to), Some(from)) = (out.get_mut(at..at + rows.run), from) else {
            return Err("a row lies outside the tensor".into());
        };
        for (to, from) in to.iter_mut().zip(from) {
            *to = match kind {
                ScatterKind::Set => *from,
                ScatterKind::Add => *to + from,
                ScatterKind::Mul => *to * from,
                ScatterKind::Max => to.max(*from),
                ScatterKind::Min => to.min(*from),
            };
        }
    }
    array(x.shape(), out)
}

/// Indices of the best elements along an axis, best first; of equal ones the lower index first. NaN is the largest.
pub(crate) fn top_k(x: &ArrayD<f32>, axis: usize, largest: bool, shape: &[usize]) -> ArrayD<f32> {
    let mut out = ArrayD::zeros(IxDyn(shape));
    let order = |a: f32, b: f32| match (a.is_nan(), b.is_nan()) {
        (false, false) => a.partial_cmp(&b).unwrap_or(Ordering::Equal),
        (a, b) => a.cmp(&b),
    };
    for (lane, mut chosen) in x.lanes(Axis(axis)).into_iter().zip(out.lanes_mut(Axis(axis))) {
        let mut indices: Vec<usize> = (0..lane.len()).collect();
        indices.sort_by(|a, b| if largest { order(lane[*b], lane[*a]) } else { order(lane[*a], lane[*b]) });
        chosen.iter_mut().zip(indices).for_each(|(to, i)| *to = i as f32);
    }
    out
}

/// The device's kernel, whose float32 is the definition.
pub(crate) fn grid_sample(
    x: &ArrayD<f32>,
    grid: &ArrayD<f32>,
    (kind, outside, align_corners): (GridKind, GridOutside, bool),
    shape: &[usize],
) -> Result<ArrayD<f32>, String> {
    let small = |d: usize| u16::try_from(d).map_err(|_| format!("an extent of {d}"));
    let ([n, h, w, c], [_, out_h, out_w, _]) = (extents(x.shape())?, extents(shape)?);
    let r = GridSample {
        src: 0,
        grid: 0,
        dst: 0,
        n: small(n)?,
        h: small(h)?,
        w: small(w)?,
        c: small(c)?,
        out_h: small(out_h)?,
        out_w: small(out_w)?,
        kind,
        outside,
        align_corners,
    };
    let mut out = vec![0.0; shape.iter().product()];
    offshoot::kernels::portable::grid_sample(&r, &flat(x), &flat(grid), &mut out);
    array(shape, out)
}

fn extents(shape: &[usize]) -> Result<[usize; 4], String> {
    shape.try_into().map_err(|_| format!("{shape:?} is not [N, H, W, C]"))
}

/// A number as int32: without the fraction.
pub(crate) fn to_int(v: f32) -> f32 {
    v as i32 as f32
}
