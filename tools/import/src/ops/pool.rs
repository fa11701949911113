//! AveragePool, MaxPool, GlobalAveragePool, GlobalMaxPool.

use offshoot_ir::{Activation, BinaryKind, Op, PoolKind, ReduceKind, UnaryKind, ValueId, Window};

use crate::context::{Context, Importing, Onnx, to_first};
use crate::parts::Parts;
use crate::window;

pub(crate) fn pool(c: &mut Context<'_>, onnx: &Onnx<'_>, max: bool) -> Importing {
    let x = c.value(onnx, 0)?;
    let rank = c.shape(x).len();
    if rank == 5 {
        if onnx.output(1).is_some() {
            return Err("the indices of the maxima of a volume".into());
        }
        return super::volume::pool(c, onnx, max);
    }
    let attributes = window::attributes(onnx, window::spatial(rank)?, None)?;
    let outside = x;
    let x = c.nhwc(onnx, x)?;
    let s = c.shape(x).to_vec();
    let mut window = attributes.resolve([s[1], s[2]])?;
    let include = onnx.int("count_include_pad", 0) != 0;
    let asked = window.pad;
    if onnx.int("ceil_mode", 0) != 0 {
        round_up(&mut window, [s[1], s[2]])?;
    }
    let kind = match (max, include) {
        (true, _) => PoolKind::Max,
        (false, true) if window.pad != [0; 4] => PoolKind::AverageIncludePad,
        (false, _) => PoolKind::Average,
    };
    let op = Op::Pool { kind, window, activation: Activation::None };
    let name = format!("{}/nhwc", onnx.output(0).unwrap_or_default());
    let mut y = c.emit(onnx, op, vec![x], None, &name)?;
    if kind == PoolKind::AverageIncludePad && window.pad != asked {
        y = without_rounding_up(c, onnx, y, &window, asked, [s[1], s[2]])?;
    }
    if onnx.output(1).is_some() {
        let out = [c.shape(y)[1], c.shape(y)[2]];
        super::unpool::pool_indices(c, onnx, outside, &window, out)?;
    }
    c.finish_nchw(onnx, y, rank)
}

/// LpPool: the p-th root of the sum of the p-th powers of the sizes in each window.
pub(crate) fn lp(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    let x = c.value(onnx, 0)?;
    let rank = c.shape(x).len();
    let exponent = onnx.int("p", 2);
    if !(1..=64).contains(&exponent) {
        return Err(format!("p = {exponent}"));
    }
    let exponent = exponent as f32;
    let mut p = Parts::of(c, onnx);
    let size = p.unary(UnaryKind::Abs, x)?;
    let powers = match exponent {
        1.0 => size,
        _ => p.unary(UnaryKind::Pow { exponent }, size)?,
    };
    let (sums, taps) = match rank {
        5 => super::volume::sums(c, onnx, powers)?,
        _ => {
            let attributes = window::attributes(onnx, window::spatial(rank)?, None)?;
            let last = c.nhwc(onnx, powers)?;
            let s = c.shape(last).to_vec();
            let mut window = attributes.resolve([s[1], s[2]])?;
            if onnx.int("ceil_mode", 0) != 0 {
                round_up(&mut window, [s[1], s[2]])?;
            }
            let op = Op::Pool { kind: PoolKind::AverageIncludePad, window, activation: Activation::None };
            let y = c.emit(onnx, op, vec![last], None, &format!("{}/nhwc", onnx.name))?;
            (y, usize::from(window.kernel[0]) * usize::from(window.kernel[1]))
        }
    };
    let mut p = Parts::of(c, onnx);
    let sums = p.times(sums, taps as f32)?;
    let y = match exponent {
        1.0 => sums,
        2.0 => p.unary(UnaryKind::Sqrt, sums)?,
        _ => p.unary(UnaryKind::Pow { exponent: 1.0 / exponent }, sums)?,
    };
    match rank {
        5 => {
            let y = p.transpose(y, &to_first(5))?;
            p.output(0, y)
        }
        _ => c.finish_nchw(onnx, y, rank),
    }
}

/// Corrects an average over whole windows to an average over the input and the requested padding, without the padding
/// that `ceil_mode` added. One factor per row and per column.
fn without_rounding_up(
    c: &mut Context<'_>,
    onnx: &Onnx<'_>,
    y: ValueId,
    window: &Window,
    asked: [u16; 4],
    extent: [usize; 2],
) -> Importing<ValueId> {
    let out = [c.shape(y)[1], c.shape(y)[2]];
    let factors = |axis: usize| -> Vec<f32> {
        let (kernel, stride) = (usize::from(window.kernel[axis]), usize::from(window.stride[axis]));
        let end = usize::from(asked[axis]) + extent[axis] + usize::from(asked[axis + 2]);
        let inside = |o: usize| {
            (0..kernel).filter(|k| o * stride + k * usize::from(window.dilation[axis]) < end).count()
        };
        (0..out[axis]).map(|o| kernel as f32 / inside(o).max(1) as f32).collect()
    };
    let (rows, columns) = (factors(0), factors(1));
    let all = rows.iter().flat_map(|r| columns.iter().map(move |c| r * c)).collect();
    let name = onnx.output(0).unwrap_or_default().to_owned();
    let factor = c.add_reals(&format!("{name}/share"), vec![1, out[0], out[1], 1], all);
    let op = Op::Binary { kind: BinaryKind::Mul, activation: Activation::None };
    c.emit(onnx, op, vec![y, factor], None, &format!("{name}/counted"))
}

/// `ceil_mode`: adds padding after the input, so that the last window that begins in the input (or in the padding
/// before it) counts.
fn round_up(window: &mut Window, extent: [usize; 2]) -> Importing {
    for (axis, extent) in extent.into_iter().enumerate() {
        let (before, after) = (usize::from(window.pad[axis]), usize::from(window.pad[axis + 2]));
        let stride = usize::from(window.stride[axis]);
        let padded = extent + before + after;
        let room =
            padded.checked_sub(window::reach(window, axis)).ok_or("the window is larger than the input")?;
        let mut out = room.div_ceil(stride) + 1;
        if (out - 1) * stride >= extent + before {
            out -= 1;
        }
        let more = ((out - 1) * stride + window::reach(window, axis)).saturating_sub(padded);
        window.pad[axis + 2] = u16::try_from(after + more).map_err(|_| "padding too large")?;
    }
    Ok(())
}

/// GlobalLpPool: [`lp`] over all spatial axes.
pub(crate) fn global_lp(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    let exponent = onnx.int("p", 2);
    if !(1..=64).contains(&exponent) {
        return Err(format!("p = {exponent}"));
    }
    let exponent = exponent as f32;
    let x = c.value(onnx, 0)?;
    let axes: Vec<usize> = (2..c.shape(x).len()).collect();
    let mut p = Parts::of(c, onnx);
    let size = p.unary(UnaryKind::Abs, x)?;
    let y = match exponent {
        1.0 => p.reduce(ReduceKind::Sum, size, &axes)?,
        _ => {
            let powers = p.unary(UnaryKind::Pow { exponent }, size)?;
            let sums = p.reduce(ReduceKind::Sum, powers, &axes)?;
            p.unary(UnaryKind::Pow { exponent: 1.0 / exponent }, sums)?
        }
    };
    p.output(0, y)
}

pub(crate) fn global(c: &mut Context<'_>, onnx: &Onnx<'_>, max: bool) -> Importing {
    let x = c.value(onnx, 0)?;
    let rank = c.shape(x).len();
    if rank > 4 {
        // A reduction takes any number of axes.
        let kind = if max { ReduceKind::Max } else { ReduceKind::Mean };
        let mut kept = c.shape(x).to_vec();
        kept[2..].fill(1);
        return c.finish(onnx, Op::Reduce { kind, axes: (2..rank).collect() }, vec![x], Some(kept), 0);
    }
    let x = c.nhwc(onnx, x)?;
    let s = c.shape(x).to_vec();
    let extent = |d: usize| u16::try_from(d).map_err(|_| format!("extent {d} is too large"));
    let window =
        Window { kernel: [extent(s[1])?, extent(s[2])?], stride: [1, 1], dilation: [1, 1], pad: [0; 4] };
    let kind = if max { PoolKind::Max } else { PoolKind::Average };
    let op = Op::Pool { kind, window, activation: Activation::None };
    let name = format!("{}/nhwc", onnx.output(0).unwrap_or_default());
    let y = c.emit(onnx, op, vec![x], None, &name)?;
    c.finish_nchw(onnx, y, rank)
}
