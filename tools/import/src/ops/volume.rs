//! Three-dimensional windows, and convolutions whose weights are computed at run time, as two-dimensional ones.
//!
//! A convolution over depth becomes one over channels: the slices of the input in a window are joined along the
//! channels, and every depth of the output is a sample. A pool over depth follows one over height and width.

use offshoot_ir::{Activation, BinaryKind, Op, PoolKind, ValueId, Window};

use crate::constant::Constant;
use crate::context::{Context, Importing, Onnx, to_first, to_last};
use crate::window;

/// Attributes of three spatial axes, split into those of depth and a window over height and width.
struct Volume {
    kernel: usize,
    stride: usize,
    dilation: usize,
    pad: [usize; 2],
    window: Window,
}

fn narrow(v: i64, what: &str) -> Importing<u16> {
    u16::try_from(v).map_err(|_| format!("{what} {v} is not supported"))
}

/// `kernel` overrides `kernel_shape`.
fn volume(onnx: &Onnx<'_>, kernel: Option<&[usize]>) -> Importing<Volume> {
    if onnx.text("auto_pad", "NOTSET") != "NOTSET" || onnx.int("ceil_mode", 0) != 0 {
        return Err("auto_pad and ceil_mode over three axes".into());
    }
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
    let (stride, dilation, pad) = (all("strides", 3, 1)?, all("dilations", 3, 1)?, all("pads", 6, 0)?);
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
    })
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
    let v = volume(onnx, weights.shape.get(2..))?;
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
    let v = volume(onnx, weights.shape.get(2..))?;
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

/// MaxPool and AveragePool with five axes: over height and width, then over depth.
pub(crate) fn pool(c: &mut Context<'_>, onnx: &Onnx<'_>, max: bool) -> Importing {
    let v = volume(onnx, None)?;
    let kind = match (max, onnx.int("count_include_pad", 0) != 0) {
        (true, _) => PoolKind::Max,
        (false, true) => PoolKind::AverageIncludePad,
        (false, false) => PoolKind::Average,
    };
    let name = format!("{}/flat", onnx.output(0).unwrap_or_default());
    let x = channels_last(c, onnx, [0; 2], 0.0)?;
    let [n, d, h, w, channels] = *c.shape(x) else { return Err("five axes are expected".into()) };
    let y = c.emit(onnx, Op::Reshape, vec![x], Some(vec![n * d, h, w, channels]), &name)?;
    let pool = |window| Op::Pool { kind, window, activation: Activation::None };
    let y = c.emit(onnx, pool(v.window), vec![y], None, &name)?;
    let [_, h, w, _] = *c.shape(y) else { return Err("four axes are expected".into()) };
    let y = c.emit(onnx, Op::Reshape, vec![y], Some(vec![n, d, h * w, channels]), &name)?;
    let one = |v: usize| narrow(v as i64, "an extent");
    let window = Window {
        kernel: [one(v.kernel)?, 1],
        stride: [one(v.stride)?, 1],
        dilation: [one(v.dilation)?, 1],
        pad: [one(v.pad[0])?, 0, one(v.pad[1])?, 0],
    };
    let y = c.emit(onnx, pool(window), vec![y], None, &name)?;
    let depths = c.shape(y)[1];
    let y = c.emit(onnx, Op::Reshape, vec![y], Some(vec![n * depths, h, w, channels]), &name)?;
    finish(c, onnx, y, n, depths)
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
