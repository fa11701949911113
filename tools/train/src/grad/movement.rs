//! Operators that move elements: gradients return to the source of each element.

use ndarray::{ArrayD, Axis, IxDyn, Slice, Zip};
use offshoot_ir::indexed::Rows;
use offshoot_ir::resize::resize_tables;
use offshoot_ir::{Indexing, PadMode, ReduceKind, ResizeRule};

use super::Tensor;
use crate::error::Result;

pub(super) fn concat(
    x: &[Tensor],
    dy: &ArrayD<f32>,
    axis: usize,
    wanted: &[bool],
) -> Vec<Option<ArrayD<f32>>> {
    let mut start = 0;
    let parts = x.iter().zip(wanted).map(|(x, wanted)| {
        let range = start..start + x.shape()[axis];
        start = range.end;
        wanted.then(|| dy.slice_axis(Axis(axis), Slice::from(range)).as_standard_layout().into_owned())
    });
    parts.collect()
}

/// Scatters `dy` into zeros of `shape`, at the positions from which `source` says the output's elements came.
fn scatter(
    shape: &[usize],
    dy: &ArrayD<f32>,
    mut source: impl FnMut(usize, usize) -> Option<usize>,
) -> ArrayD<f32> {
    let mut dx = ArrayD::zeros(IxDyn(shape));
    let mut from = vec![0; shape.len()];
    'elements: for (at, d) in dy.indexed_iter() {
        for (axis, from) in from.iter_mut().enumerate() {
            match source(axis, at[axis]) {
                Some(i) => *from = i,
                None => continue 'elements,
            }
        }
        dx[IxDyn(&from)] += *d;
    }
    dx
}

/// Gradients of the rows that indices chose; a row chosen more than once gets their sum.
pub(super) fn gather(
    x: &ArrayD<f32>,
    index: &ArrayD<f32>,
    dy: &ArrayD<f32>,
    indexing: Indexing,
) -> Option<ArrayD<f32>> {
    let rows = Rows::new(indexing, x.shape(), index.shape()).ok()?;
    let (index, dy) = (super::flat(index), super::flat(dy));
    let mut out = vec![0.0; x.len()];
    for row in 0..rows.count() {
        let at = rows.place(row, |k| index[k] as i64, true)?;
        let from = dy.get(row * rows.run..(row + 1) * rows.run)?;
        out.get_mut(at..at + rows.run)?.iter_mut().zip(from).for_each(|(to, d)| *to += d);
    }
    Some(super::array(x.shape(), out))
}

pub(super) fn slice(shape: &[usize], dy: &ArrayD<f32>, start: &[usize], step: &[isize]) -> ArrayD<f32> {
    scatter(shape, dy, |axis, i| start[axis].checked_add_signed(i as isize * step[axis]))
}

pub(super) fn pad(shape: &[usize], dy: &ArrayD<f32>, before: &[usize], mode: Option<PadMode>) -> ArrayD<f32> {
    scatter(shape, dy, |axis, i| {
        let (i, n) = (i as isize - before[axis] as isize, shape[axis] as isize);
        let from = match mode {
            None if !(0..n).contains(&i) => return None,
            None => i,
            Some(PadMode::Edge) => i.clamp(0, n - 1),
            Some(PadMode::Reflect) => if i < 0 {
                -i
            } else if i >= n {
                2 * (n - 1) - i
            } else {
                i
            }
            .clamp(0, n - 1),
        };
        usize::try_from(from).ok()
    })
}

pub(super) fn resize(shape: &[usize], dy: &ArrayD<f32>, rule: &ResizeRule) -> Result<ArrayD<f32>> {
    let output = [dy.shape()[1], dy.shape()[2]];
    let (rows, columns) = resize_tables(rule, [shape[1], shape[2]], output)?;
    let mut dx = ArrayD::zeros(IxDyn(shape));
    for (at, d) in dy.indexed_iter() {
        let (r, c) = (&rows[at[1]], &columns[at[2]]);
        for (y, row) in [(r.low, 1.0 - r.weight), (r.high, r.weight)] {
            for (x, column) in [(c.low, 1.0 - c.weight), (c.high, c.weight)] {
                dx[[at[0], y, x, at[3]]] += d * row * column;
            }
        }
    }
    Ok(dx)
}

/// Gradient of a mean or sum; `dy` keeps the axes.
pub(super) fn spread(shape: &[usize], dy: &ArrayD<f32>, axes: &[usize], kind: ReduceKind) -> ArrayD<f32> {
    let count: usize = axes.iter().map(|a| shape[*a]).product();
    let share = if kind == ReduceKind::Mean { 1.0 / count.max(1) as f32 } else { 1.0 };
    let dx = dy.broadcast(IxDyn(shape)).map(|v| v.to_owned());
    dx.unwrap_or_else(|| ArrayD::zeros(IxDyn(shape))) * share
}

/// Gradient of a maximum or minimum: divided evenly among the elements that attain it. `y` and `dy` keep the axes.
pub(super) fn to_extremes(x: &ArrayD<f32>, y: &ArrayD<f32>, dy: &ArrayD<f32>) -> ArrayD<f32> {
    let shape = x.raw_dim();
    let (Some(y), Some(wide)) = (y.broadcast(shape.clone()), dy.broadcast(shape.clone())) else {
        return ArrayD::zeros(shape);
    };
    let mut dx = ArrayD::<f32>::zeros(shape.clone());
    Zip::from(&mut dx).and(x).and(&y).for_each(|d, x, y| *d = f32::from(x == y));
    let count = super::elementwise::sum_to(dx.clone(), dy.shape());
    if let Some(count) = count.broadcast(shape) {
        Zip::from(&mut dx).and(&wide).and(&count).for_each(|d, dy, n| *d *= dy / n.max(1.0));
    }
    dx
}
