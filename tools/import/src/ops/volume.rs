//! Three-dimensional windows, and convolutions whose weights are computed at run time, as two-dimensional ones.
//!
//! A convolution over depth becomes one over channels: the slices of the input in a window are joined along the
//! channels, and every depth of the output is a sample. A pool over depth follows one over height and width.

use offshoot_ir::{Activation, BinaryKind, Op, PoolKind, ValueId, Window};

use crate::constant::Constant;
use crate::context::{Context, Importing, Onnx, to_first, to_last};
use crate::parts::Parts;
use crate::window;

/// Attributes of three spatial axes, split into those of depth and a window over height and width.
struct Volume {
    kernel: usize,
    stride: usize,
    dilation: usize,
    pad: [usize; 2],
    window: Window,
    /// For each axis, the end of the input with the padding that was asked for: `ceil_mode` may add more behind it.
    end: [usize; 3],
}

fn narrow(v: i64, what: &str) -> Importing<u16> {
    u16::try_from(v).map_err(|_| format!("{what} {v} is not supported"))
}

/// Reads the attributes for an input of these extents. `kernel` overrides `kernel_shape`.
fn volume(onnx: &Onnx<'_>, kernel: Option<&[usize]>, extents: [usize; 3]) -> Importing<Volume> {
    let all = |name: &str, n: usize, default: i64| -> Importing<Vec<u16>> {
        let values = onnx.ints(name).unwrap_or_else(|| vec![default; n]);
        if values.len() != n || (default > 0 && values.iter().any(|v| *v < 1)) {
            return Err(format!("{name} {values:?} for three spatial axes"));
        }
        values.iter().map(|v| narrow(*v, name)).collect()
    };
    let kernel = match kernel {
        Some(k) => k.iter().map(|k| narrow(*k as i64, "kernel")).collect::<Importing<Vec<u16>>>()?,
        None => onnx
            .ints("kernel_shape")
            .ok_or("kernel_shape is missing")?
            .iter()
            .map(|k| narrow(*k, "kernel"))
            .collect::<Importing<Vec<u16>>>()?,
    };
    let [d, h, w] = kernel[..] else { return Err(format!("kernel {kernel:?} for three spatial axes")) };
    if d == 0 || h == 0 || w == 0 {
        return Err("a kernel of 0".into());
    }
    let (stride, dilation, mut pad) = (all("strides", 3, 1)?, all("dilations", 3, 1)?, all("pads", 6, 0)?);
    let auto_pad = onnx.text("auto_pad", "NOTSET");
    let mut end = [0; 3];
    for (axis, extent) in extents.into_iter().enumerate() {
        let step = usize::from(stride[axis]);
        let reach = usize::from(dilation[axis]) * (usize::from(kernel[axis]) - 1) + 1;
        match auto_pad.as_str() {
            "NOTSET" => {}
            "VALID" => (pad[axis], pad[axis + 3]) = (0, 0),
            mode @ ("SAME_UPPER" | "SAME_LOWER") => {
                let total = ((extent.div_ceil(step) - 1) * step + reach).saturating_sub(extent) as i64;
                let (less, more) = (narrow(total / 2, "padding")?, narrow(total - total / 2, "padding")?);
                (pad[axis], pad[axis + 3]) = if mode == "SAME_UPPER" { (less, more) } else { (more, less) };
            }
            other => return Err(format!("auto_pad `{other}`")),
        }
        let (before, after) = (usize::from(pad[axis]), usize::from(pad[axis + 3]));
        end[axis] = before + extent + after;
        if onnx.int("ceil_mode", 0) != 0 {
            let room = end[axis].checked_sub(reach).ok_or("the window is larger than the input")?;
            let mut out = room.div_ceil(step) + 1;
            if (out - 1) * step >= extent + before {
                out -= 1;
            }
            let more = ((out - 1) * step + reach).saturating_sub(end[axis]);
            pad[axis + 3] = narrow((after + more) as i64, "padding")?;
        }
    }
    Ok(Volume {
        kernel: d.into(),
        stride: stride[0].into(),
        dilation: dilation[0].into(),
        pad: [pad[0].into(), pad[3].into()],
        window: Window {
            kernel: [h, w],
            stride: [stride[1], stride[2]],
            dilation: [dilation[1], dilation[2]],
            pad: [pad[1], pad[2], pad[4], pad[5]],
        },
        end,
    })
}

/// Extents of depth, height and width of input 0.
fn extents(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing<[usize; 3]> {
    let x = c.value(onnx, 0)?;
    match *c.shape(x) {
        [_, _, d, h, w] if d > 0 && h > 0 && w > 0 => Ok([d, h, w]),
        _ => Err("five axes are expected".into()),
    }
}

/// `(N, C, D, H, W)` as `(N, D, H, W, C)`, padded along the depth.
fn channels_last(c: &mut Context<'_>, onnx: &Onnx<'_>, pad: [usize; 2], value: f32) -> Importing<ValueId> {
    let x = c.value(onnx, 0)?;
    let name = format!("{}/last", onnx.output(0).unwrap_or_default());
    let y = c.emit(onnx, Op::Transpose { perm: to_last(5) }, vec![x], None, &name)?;
    if pad == [0; 2] {
        return Ok(y);
    }
    let op = Op::Pad { before: vec![0, pad[0], 0, 0, 0], after: vec![0, pad[1], 0, 0, 0], mode: None, value };
    c.emit(onnx, op, vec![y], None, &format!("{name}/padded"))
}

/// Joins the `kernel` slices of each of `depths` outputs along the channels; depths become samples.
fn gathered(
    c: &mut Context<'_>,
    onnx: &Onnx<'_>,
    x: ValueId,
    depths: usize,
    [kernel, stride, dilation]: [usize; 3],
) -> Importing<ValueId> {
    let [n, _, h, w, channels] = *c.shape(x) else { return Err("five axes are expected".into()) };
    let name = format!("{}/slices", onnx.output(0).unwrap_or_default());
    let mut slices = Vec::new();
    for k in 0..kernel {
        let step = isize::try_from(stride).map_err(|_| "stride")?;
        let op = Op::Slice { start: vec![0, k * dilation, 0, 0, 0], step: vec![1, step, 1, 1, 1] };
        slices.push(c.emit(onnx, op, vec![x], Some(vec![n, depths, h, w, channels]), &name)?);
    }
    let joined = match slices[..] {
        [one] => one,
        _ => c.emit(onnx, Op::Concat { axis: 4 }, slices, None, &name)?,
    };
    c.emit(onnx, Op::Reshape, vec![joined], Some(vec![n * depths, h, w, channels * kernel]), &name)
}

/// Binds a result whose samples are depths to the node's output, channels first.
fn finish(c: &mut Context<'_>, onnx: &Onnx<'_>, y: ValueId, n: usize, depths: usize) -> Importing {
    let [_, h, w, channels] = *c.shape(y) else { return Err("four axes are expected".into()) };
    let name = format!("{}/volume", onnx.output(0).unwrap_or_default());
    let y = c.emit(onnx, Op::Reshape, vec![y], Some(vec![n, depths, h, w, channels]), &name)?;
    c.finish(onnx, Op::Transpose { perm: to_first(5) }, vec![y], None, 0)
}

fn bias(c: &mut Context<'_>, onnx: &Onnx<'_>, inputs: &mut Vec<ValueId>) -> Importing {
    if let Some(bias) = c.constant(onnx, 2)? {
        inputs.push(c.add_constant(onnx.input(2).unwrap_or_default(), &bias));
    }
    Ok(())
}

/// Conv with five axes. Weights `[O, I, kd, kh, kw]`.
pub(crate) fn conv(c: &mut Context<'_>, onnx: &Onnx<'_>, weights: &Constant) -> Importing {
    let [o, i, kd, kh, kw] = *weights.shape.as_slice() else {
        return Err("weights do not have five axes".into());
    };
    let v = volume(onnx, weights.shape.get(2..), extents(c, onnx)?)?;
    if onnx.int("group", 1) != 1 {
        return Err("groups over three spatial axes".into());
    }
    let x = channels_last(c, onnx, v.pad, 0.0)?;
    let [n, d, ..] = *c.shape(x) else { return Err("five axes are expected".into()) };
    let span = (kd - 1) * v.dilation + 1;
    let depths = d.checked_sub(span).ok_or("the window is larger than the input")? / v.stride + 1;
    let x = gathered(c, onnx, x, depths, [v.kernel, v.stride, v.dilation])?;
    let ohwi = weights.transposed(&[0, 3, 4, 2, 1]).reshaped(vec![o, kh, kw, kd * i])?;
    let mut inputs = vec![x, c.add_constant(onnx.input(1).unwrap_or_default(), &ohwi)];
    bias(c, onnx, &mut inputs)?;
    let op = Op::Conv2d { window: v.window, groups: 1, activation: Activation::None };
    let name = format!("{}/samples", onnx.output(0).unwrap_or_default());
    let y = c.emit(onnx, op, inputs, None, &name)?;
    finish(c, onnx, y, n, depths)
}

/// ConvTranspose with five axes. Weights `[I, O, kd, kh, kw]`. Along the depth, zeros are inserted between the
/// slices, and the kernel runs over them in reverse.
pub(crate) fn conv_transpose(c: &mut Context<'_>, onnx: &Onnx<'_>, weights: &Constant) -> Importing {
    let [i, o, kd, kh, kw] = *weights.shape.as_slice() else {
        return Err("weights do not have five axes".into());
    };
    if onnx.text("auto_pad", "NOTSET") != "NOTSET" {
        return Err("auto_pad over three spatial axes".into());
    }
    let v = volume(onnx, weights.shape.get(2..), extents(c, onnx)?)?;
    if onnx.int("group", 1) != 1 || onnx.has("output_shape") || weights.shape.contains(&0) {
        return Err("groups and output_shape over three spatial axes".into());
    }
    let extra = onnx.ints("output_padding").unwrap_or_else(|| vec![0; 3]);
    let extra: Vec<usize> = extra
        .iter()
        .map(|v| usize::try_from(*v).map_err(|_| format!("output_padding {v}")))
        .collect::<Importing<_>>()?;
    let [extra_d, extra_h, extra_w] = extra[..] else { return Err("output_padding".into()) };
    let name = format!("{}/spread", onnx.output(0).unwrap_or_default());
    let mut x = channels_last(c, onnx, [0; 2], 0.0)?;
    let [n, d, h, w, channels] = *c.shape(x) else { return Err("five axes are expected".into()) };
    if channels != i {
        return Err(format!("weights {:?} for {channels} channels", weights.shape));
    }
    if v.stride > 1 {
        // Each slice, followed by `stride - 1` slices of zeros.
        let split = vec![n * d, 1, h, w, channels];
        x = c.emit(onnx, Op::Reshape, vec![x], Some(split), &name)?;
        let after = vec![0, v.stride - 1, 0, 0, 0];
        x = c.emit(
            onnx,
            Op::Pad { before: vec![0; 5], after, mode: None, value: 0.0 },
            vec![x],
            None,
            &name,
        )?;
        x = c.emit(onnx, Op::Reshape, vec![x], Some(vec![n, d * v.stride, h, w, channels]), &name)?;
    }
    // The zeros behind the last slice are part of the padding.
    let reach = (kd - 1) * v.dilation;
    let before = reach as i64 - v.pad[0] as i64;
    let after = reach as i64 - v.pad[1] as i64 + extra_d as i64 - (v.stride as i64 - 1);
    let spread = (d * v.stride) as i64;
    let depths = usize::try_from(spread + before + after - reach as i64).ok().filter(|d| *d > 0);
    let depths = depths.ok_or("padding leaves no output")?;
    let cropped = [before.min(0).unsigned_abs() as usize, after.min(0).unsigned_abs() as usize];
    if cropped != [0; 2] {
        let kept = (spread as usize)
            .checked_sub(cropped[0] + cropped[1])
            .filter(|d| *d > 0)
            .ok_or("padding leaves no output")?;
        let op = Op::Slice { start: vec![0, cropped[0], 0, 0, 0], step: vec![1; 5] };
        x = c.emit(onnx, op, vec![x], Some(vec![n, kept, h, w, channels]), &name)?;
    }
    let (before, after) = (before.max(0) as usize, after.max(0) as usize);
    if before + after > 0 {
        let op = Op::Pad {
            before: vec![0, before, 0, 0, 0],
            after: vec![0, after, 0, 0, 0],
            mode: None,
            value: 0.0,
        };
        x = c.emit(onnx, op, vec![x], None, &name)?;
    }
    let x = gathered(c, onnx, x, depths, [kd, 1, v.dilation])?;
    let mut ohwi = weights.transposed(&[1, 3, 4, 2, 0]);
    ohwi = ohwi.reversed(3).reshaped(vec![o, kh, kw, kd * i])?;
    let mut inputs = vec![x, c.add_constant(onnx.input(1).unwrap_or_default(), &ohwi)];
    bias(c, onnx, &mut inputs)?;
    let out = |axis: usize, extent: usize, extra: usize| -> Importing<usize> {
        let full = usize::from(v.window.stride[axis]) * (extent - 1) + extra + window::reach(&v.window, axis);
        let pad = usize::from(v.window.pad[axis]) + usize::from(v.window.pad[axis + 2]);
        full.checked_sub(pad).filter(|d| *d > 0).ok_or_else(|| "padding leaves no output".into())
    };
    let declared = vec![n * depths, out(0, h, extra_h)?, out(1, w, extra_w)?, o];
    let op = Op::ConvTranspose2d { window: v.window, groups: 1, activation: Activation::None };
    let y = c.emit(onnx, op, inputs, Some(declared), &format!("{name}/samples"))?;
    finish(c, onnx, y, n, depths)
}

/// MaxPool and AveragePool with five axes.
pub(crate) fn pool(c: &mut Context<'_>, onnx: &Onnx<'_>, max: bool) -> Importing {
    let kind = match (max, onnx.int("count_include_pad", 0) != 0) {
        (true, _) => PoolKind::Max,
        (false, true) => PoolKind::AverageIncludePad,
        (false, false) => PoolKind::Average,
    };
    let x = c.value(onnx, 0)?;
    let (y, v) = windows(c, onnx, x, kind)?;
    let mut p = Parts::of(c, onnx);
    let mut y = y;
    if kind == PoolKind::AverageIncludePad {
        // Padding that `ceil_mode` added does not count.
        let shape = p.shape(y);
        for axis in 0..3 {
            let (kernel, stride, dilation) = match axis {
                0 => (v.kernel, v.stride, v.dilation),
                _ => {
                    let w = &v.window;
                    (w.kernel[axis - 1].into(), w.stride[axis - 1].into(), w.dilation[axis - 1].into())
                }
            };
            let inside = |o: usize| (0..kernel).filter(|k| o * stride + k * dilation < v.end[axis]).count();
            let factors: Vec<f32> =
                (0..shape[axis + 1]).map(|o| kernel as f32 / inside(o).max(1) as f32).collect();
            if factors.iter().any(|f| *f != 1.0) {
                let mut along = vec![1; 5];
                along[axis + 1] = factors.len();
                let factors = p.reals(&along, factors);
                y = p.mul(y, factors)?;
            }
        }
    }
    let y = p.transpose(y, &to_first(5))?;
    p.output(0, y)
}

/// Averages of whole windows of `(N, C, D, H, W)`, channels last, and the number of elements of a window.
pub(crate) fn sums(c: &mut Context<'_>, onnx: &Onnx<'_>, x: ValueId) -> Importing<(ValueId, usize)> {
    let (y, v) = windows(c, onnx, x, PoolKind::AverageIncludePad)?;
    let [h, w] = v.window.kernel.map(usize::from);
    Ok((y, v.kernel * h * w))
}

/// A pool over height and width, then over depth. The result has the channels last.
fn windows(c: &mut Context<'_>, onnx: &Onnx<'_>, x: ValueId, kind: PoolKind) -> Importing<(ValueId, Volume)> {
    let v = volume(onnx, None, extents(c, onnx)?)?;
    let mut p = Parts::of(c, onnx);
    let x = p.transpose(x, &to_last(5))?;
    let [n, d, h, w, channels] = p.shape(x)[..] else { return Err("five axes are expected".into()) };
    let pool = |window| Op::Pool { kind, window, activation: Activation::None };
    let y = p.reshape(x, &[n * d, h, w, channels])?;
    let y = p.op(pool(v.window), &[y], None)?;
    let [_, h, w, _] = p.shape(y)[..] else { return Err("four axes are expected".into()) };
    let y = p.reshape(y, &[n, d, h * w, channels])?;
    let one = |v: usize| narrow(v as i64, "an extent");
    let window = Window {
        kernel: [one(v.kernel)?, 1],
        stride: [one(v.stride)?, 1],
        dilation: [one(v.dilation)?, 1],
        pad: [one(v.pad[0])?, 0, one(v.pad[1])?, 0],
    };
    let y = p.op(pool(window), &[y], None)?;
    let depths = p.shape(y)[1];
    Ok((p.reshape(y, &[n, depths, h, w, channels])?, v))
}

/// Conv whose weights are computed at run time: the windows as rows of a matrix, multiplied by the weights.
pub(crate) fn conv_of_values(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    let (x, w) = (c.value(onnx, 0)?, c.value(onnx, 1)?);
    let rank = c.shape(x).len();
    let [o, i, ref kernel @ ..] = *c.shape(w).to_vec() else { return Err("weights have no channels".into()) };
    let attributes = window::attributes(onnx, window::spatial(rank)?, Some(kernel))?;
    let groups =
        usize::try_from(onnx.int("group", 1)).ok().filter(|g| *g > 0).ok_or("group must be positive")?;
    let x = c.nhwc(onnx, x)?;
    let s = c.shape(x).to_vec();
    if i * groups != s[3] || !o.is_multiple_of(groups) {
        return Err(format!("weights {o} by {i} channels for {} channels in {groups} groups", s[3]));
    }
    let window = attributes.resolve([s[1], s[2]])?;
    let name = format!("{}/windows", onnx.output(0).unwrap_or_default());
    let pad = window.pad.map(usize::from);
    let op = Op::Pad {
        before: vec![0, pad[0], pad[1], 0],
        after: vec![0, pad[2], pad[3], 0],
        mode: None,
        value: 0.0,
    };
    let x = c.emit(onnx, op, vec![x], None, &name)?;
    let padded = c.shape(x).to_vec();
    let out = |axis: usize| -> Importing<usize> {
        let room = padded[axis + 1].checked_sub(window::reach(&window, axis));
        Ok(room.ok_or("the window is larger than the input")? / usize::from(window.stride[axis]) + 1)
    };
    let (h, width) = (out(0)?, out(1)?);
    let [kh, kw] = window.kernel.map(usize::from);
    let mut products = Vec::new();
    for g in 0..groups {
        let mut slices = Vec::new();
        for at in 0..kh * kw {
            let [dy, dx] = window.dilation.map(usize::from);
            let start = vec![0, at / kw * dy, at % kw * dx, g * i];
            let step = vec![1, window.stride[0] as isize, window.stride[1] as isize, 1];
            slices.push(c.emit(
                onnx,
                Op::Slice { start, step },
                vec![x],
                Some(vec![s[0], h, width, i]),
                &name,
            )?);
        }
        let rows = match slices[..] {
            [one] => one,
            _ => c.emit(onnx, Op::Concat { axis: 3 }, slices, None, &name)?,
        };
        let depth = kh * kw * i;
        let rows = c.emit(onnx, Op::Reshape, vec![rows], Some(vec![1, s[0] * h * width, depth]), &name)?;
        // From OIHW to the order of the windows: height, width, channel.
        let own = match groups {
            1 => w,
            _ => {
                let mut start = vec![0; kernel.len() + 2];
                start[0] = g * (o / groups);
                let shape = [&[o / groups, i], kernel].concat();
                let op = Op::Slice { step: vec![1; start.len()], start };
                c.emit(onnx, op, vec![w], Some(shape), &format!("{name}/weights"))?
            }
        };
        let perm = to_last(kernel.len() + 2);
        let own = c.emit(onnx, Op::Transpose { perm }, vec![own], None, &format!("{name}/weights"))?;
        let own = c.emit(
            onnx,
            Op::Reshape,
            vec![own],
            Some(vec![1, o / groups, depth]),
            &format!("{name}/weights"),
        )?;
        products.push(c.emit(
            onnx,
            Op::MatMul { transpose_b: true },
            vec![rows, own],
            None,
            &format!("{name}/product"),
        )?);
    }
    let y = match products[..] {
        [one] => one,
        _ => c.emit(onnx, Op::Concat { axis: 2 }, products, None, &format!("{name}/groups"))?,
    };
    let mut y =
        c.emit(onnx, Op::Reshape, vec![y], Some(vec![s[0], h, width, o]), &format!("{name}/image"))?;
    if onnx.input(2).is_some() {
        let bias = c.value(onnx, 2)?;
        let op = Op::Binary { kind: BinaryKind::Add, activation: Activation::None };
        y = c.emit(onnx, op, vec![y, bias], None, &format!("{name}/biased"))?;
    }
    c.finish_nchw(onnx, y, rank)
}
