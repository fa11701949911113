//! The indices of MaxPool, and MaxUnpool.

use offshoot_ir::{Activation, BinaryKind, Data, Indexing, Op, ScatterKind, ValueId, Window};

use super::integers::indices;
use crate::constant::count;
use crate::context::{Context, Entry, Importing, MAX_VALUE, Onnx};
use crate::window;

/// Binds output 1 of a MaxPool of `x` (channels-first): for each maximum, its place in the flat input.
///
/// The elements under each window are gathered, and the place of the largest is looked up. Under padding lies the
/// first element of the window that is none, which changes neither the maximum nor which of equal ones is the first.
pub(crate) fn pool_indices(
    c: &mut Context<'_>,
    onnx: &Onnx<'_>,
    x: ValueId,
    window: &Window,
    out: [usize; 2],
) -> Importing {
    let shape = c.shape(x).to_vec();
    let (planes, spatial) = (shape[0] * shape[1], &shape[2..]);
    let [h, w] = if let [h, w] = *spatial { [h, w] } else { [1, spatial[0]] };
    let by_column = onnx.int("storage_order", 0) != 0;
    let (mut taps, mut places) = (Vec::new(), Vec::new());
    for y in 0..out[0] {
        for x in 0..out[1] {
            let own = under(window, [y, x], [h, w]);
            let first = own.iter().flatten().next().copied().ok_or("a window over padding alone")?;
            for [row, column] in own.into_iter().map(|tap| tap.unwrap_or(first)) {
                taps.push((row * w + column) as i32);
                places.push(if by_column { column * h + row } else { row * w + column } as f32);
            }
        }
    }
    let (pixels, taken) = (out[0] * out[1], taps.len() / (out[0] * out[1]).max(1));
    if count(&[planes, pixels, taken]).is_none_or(|n| n > MAX_VALUE) {
        return Err("too many elements under the windows".into());
    }
    let name = onnx.output(1).unwrap_or_default().to_owned();
    let part = |p: &str| format!("{name}/{p}");
    let flat = c.emit(onnx, Op::Reshape, vec![x], Some(vec![planes, h * w]), &part("planes"))?;
    let taps = c.add_data(&part("taps"), vec![pixels * taken], Data::I32(taps));
    let under =
        c.emit(onnx, Op::Gather(Indexing::Slices { axis: 1 }), vec![flat, taps], None, &part("windows"))?;
    let under =
        c.emit(onnx, Op::Reshape, vec![under], Some(vec![planes, pixels, taken]), &part("by_window"))?;
    let largest = Op::ArgMax { axis: 2, select_last: false };
    let at = c.emit(onnx, largest, vec![under], Some(vec![planes, pixels, 1]), &part("largest"))?;
    let places = c.add_reals(&part("places"), vec![1, pixels, taken], places);
    let lookup = Op::Gather(Indexing::Elements { axis: 2 });
    let place = c.emit(onnx, lookup, vec![places, at], None, &part("place"))?;
    let first = (0..planes).map(|p| (p * h * w) as f32).collect();
    let first = c.add_reals(&part("first"), vec![planes, 1, 1], first);
    let add = Op::Binary { kind: BinaryKind::Add, activation: Activation::None };
    let place = c.emit(onnx, add, vec![place, first], None, &part("flat"))?;
    let whole = c.emit(onnx, Op::Cast, vec![place], None, &part("integer"))?;
    let declared = [&shape[..2], if spatial.len() == 2 { &out[..] } else { &out[1..] }].concat();
    c.finish(onnx, Op::Reshape, vec![whole], Some(declared), 1)
}

/// The elements under the window of an output pixel, `None` where it lies on padding.
fn under(window: &Window, at: [usize; 2], extent: [usize; 2]) -> Vec<Option<[usize; 2]>> {
    let place = |axis: usize, k: usize| {
        let (stride, dilation) = (usize::from(window.stride[axis]), usize::from(window.dilation[axis]));
        (at[axis] * stride + k * dilation).checked_sub(window.pad[axis].into()).filter(|i| *i < extent[axis])
    };
    let [rows, columns] = window.kernel.map(usize::from);
    (0..rows)
        .flat_map(|r| (0..columns).map(move |c| (r, c)))
        .map(|(r, c)| Some([place(0, r)?, place(1, c)?]))
        .collect()
}

/// MaxUnpool: zeros with each number at the place that its index says.
pub(crate) fn max_unpool(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    let x = c.value(onnx, 0)?;
    let index = indices(c, onnx, 1)?;
    let shape = c.shape(x).to_vec();
    let attributes = window::attributes(onnx, window::spatial(shape.len())?, None)?;
    let rank = shape.len();
    let [h, w] = if rank == 4 { [shape[2], shape[3]] } else { [1, shape[2]] };
    if let Some(mode) = attributes.auto_pad {
        return Err(format!("auto_pad `{mode}`"));
    }
    let own = attributes.window;
    let extent = |axis: usize, given: usize| -> Importing<usize> {
        let [kernel, stride] = [own.kernel[axis], own.stride[axis]].map(usize::from);
        ((given - 1) * stride + kernel)
            .checked_sub(usize::from(own.pad[axis]) + usize::from(own.pad[axis + 2]))
            .filter(|n| *n > 0)
            .ok_or_else(|| "padding exceeds the output".into())
    };
    let mut out = shape[..2].to_vec();
    if rank == 4 {
        out.push(extent(0, h)?);
    }
    out.push(extent(1, w)?);
    let total = count(&out).filter(|n| *n <= MAX_VALUE).ok_or_else(|| format!("output {out:?}"))?;
    let name = onnx.output(0).unwrap_or_default().to_owned();
    let part = |p: &str| format!("{name}/{p}");
    let elements = c.graph.value(x).len();
    let values = c.emit(onnx, Op::Reshape, vec![x], Some(vec![elements]), &part("values"))?;
    let index = c.emit(onnx, Op::Reshape, vec![index], Some(vec![elements]), &part("indices"))?;
    let zeros = c.add_reals(&part("zeros"), vec![total], vec![0.0; total]);
    let op = Op::Scatter { indexing: Indexing::Elements { axis: 0 }, kind: ScatterKind::Set };
    let flat = c.emit(onnx, op, vec![zeros, index, values], None, &part("flat"))?;
    let y = c.emit(onnx, Op::Reshape, vec![flat], Some(out.clone()), &part("unpooled"))?;
    let Some(wanted) = c.ints(onnx, 2)? else { return c.bind(onnx, 0, Entry::Value(y)) };
    // A larger output has the same content at its beginning.
    let after: Option<Vec<usize>> =
        wanted.iter().zip(&out).map(|(to, own)| usize::try_from(*to).ok()?.checked_sub(*own)).collect();
    let after = after.filter(|a| a.len() == rank && wanted.len() == rank);
    let after = after.ok_or_else(|| format!("output_shape {wanted:?} for {out:?}"))?;
    let op = Op::Pad { before: vec![0; rank], after, mode: None, value: 0.0 };
    c.finish(onnx, op, vec![y], None, 0)
}
