//! AveragePool, MaxPool, GlobalAveragePool, GlobalMaxPool.

use offshoot_ir::{Activation, Op, PoolKind, Window};

use crate::context::{Context, Importing, Onnx};
use crate::window;

pub(crate) fn pool(c: &mut Context<'_>, onnx: &Onnx<'_>, max: bool) -> Importing {
    if onnx.output(1).is_some() {
        return Err("the indices of the maxima are not computed".into());
    }
    if onnx.int("storage_order", 0) != 0 {
        return Err("storage_order".into());
    }
    let x = c.value(onnx, 0)?;
    let rank = c.shape(x).len();
    let attributes = window::attributes(onnx, window::spatial(rank)?, None)?;
    let x = c.nhwc(onnx, x)?;
    let s = c.shape(x).to_vec();
    let mut window = attributes.resolve([s[1], s[2]])?;
    let include = onnx.int("count_include_pad", 0) != 0;
    if onnx.int("ceil_mode", 0) != 0 {
        round_up(&mut window, [s[1], s[2]], include)?;
    }
    let kind = match (max, include) {
        (true, _) => PoolKind::Max,
        (false, true) if window.pad != [0; 4] => PoolKind::AverageIncludePad,
        (false, _) => PoolKind::Average,
    };
    let op = Op::Pool { kind, window, activation: Activation::None };
    let name = format!("{}/nhwc", onnx.output(0).unwrap_or_default());
    let y = c.emit(onnx, op, vec![x], None, &name)?;
    c.finish_nchw(onnx, y, rank)
}

/// `ceil_mode`: more padding after the input, so that the last window that begins in it (or in the padding before
/// it) counts.
fn round_up(window: &mut Window, extent: [usize; 2], include: bool) -> Importing {
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
        if more > 0 && include {
            return Err("ceil_mode together with count_include_pad".into());
        }
        window.pad[axis + 2] = u16::try_from(after + more).map_err(|_| "padding too large")?;
    }
    Ok(())
}

pub(crate) fn global(c: &mut Context<'_>, onnx: &Onnx<'_>, max: bool) -> Importing {
    let x = c.value(onnx, 0)?;
    let rank = c.shape(x).len();
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
