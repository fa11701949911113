//! Conv, ConvTranspose.

use offshoot_ir::{Activation, Op};

use crate::constant::{Constant, Elements};
use crate::context::{Context, Importing, Onnx};
use crate::ops::volume;
use crate::window;

/// Weights with two spatial axes.
fn two_dimensional(w: Constant) -> Importing<Constant> {
    match *w.shape.as_slice() {
        [o, i, k] => w.reshaped(vec![o, i, 1, k]),
        [_, _, _, _] => Ok(w),
        _ => Err(format!("weights {:?}: one- and two-dimensional convolutions are supported", w.shape)),
    }
}

fn with_bias(c: &mut Context<'_>, onnx: &Onnx<'_>, inputs: &mut Vec<offshoot_ir::ValueId>) -> Importing {
    if onnx.input(2).is_some() {
        let bias = c.wanted(onnx, 2)?;
        let name = onnx.input(2).unwrap_or_default();
        inputs.push(c.add_constant(name, &bias));
    }
    Ok(())
}

pub(crate) fn conv(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    let x = c.value(onnx, 0)?;
    if !c.is_constant(onnx, 1) && onnx.input(1).is_some() {
        return volume::conv_of_values(c, onnx);
    }
    if c.shape(x).len() == 5 {
        let weights = c.wanted(onnx, 1)?;
        return volume::conv(c, onnx, &weights);
    }
    let weights = c.wanted(onnx, 1)?;
    let rank = c.shape(x).len();
    if weights.shape.len() != rank {
        return Err(format!("weights {:?} for an input of {rank} axes", weights.shape));
    }
    let attributes = window::attributes(onnx, window::spatial(rank)?, weights.shape.get(2..))?;
    let groups =
        usize::try_from(onnx.int("group", 1)).ok().filter(|g| *g > 0).ok_or("group must be positive")?;
    let x = c.nhwc(onnx, x)?;
    let s = c.shape(x).to_vec();
    let window = attributes.resolve([s[1], s[2]])?;
    let ohwi = two_dimensional(weights)?.transposed(&[0, 2, 3, 1]);
    let w = c.take_constant(onnx.input(1).unwrap_or_default(), ohwi);
    let mut inputs = vec![x, w];
    with_bias(c, onnx, &mut inputs)?;
    let op = Op::Conv2d { window, groups, activation: Activation::None };
    let name = format!("{}/nhwc", onnx.output(0).unwrap_or_default());
    let y = c.emit(onnx, op, inputs, None, &name)?;
    c.finish_nchw(onnx, y, rank)
}

pub(crate) fn conv_transpose(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    let x = c.value(onnx, 0)?;
    let weights = c.wanted(onnx, 1)?;
    let rank = c.shape(x).len();
    if weights.shape.len() != rank {
        return Err(format!("weights {:?} for an input of {rank} axes", weights.shape));
    }
    if rank == 5 {
        return volume::conv_transpose(c, onnx, &weights);
    }
    let spatial = window::spatial(rank)?;
    let attributes = window::attributes(onnx, spatial, weights.shape.get(2..))?;
    let groups =
        usize::try_from(onnx.int("group", 1)).ok().filter(|g| *g > 0).ok_or("group must be positive")?;
    let x = c.nhwc(onnx, x)?;
    let s = c.shape(x).to_vec();
    if weights.shape[0] != s[3] || weights.shape.contains(&0) {
        return Err(format!("weights {:?} for {} channels", weights.shape, s[3]));
    }
    let mut window = attributes.window;
    let two = |values: Option<Vec<i64>>, default: usize| -> Importing<[usize; 2]> {
        let mut out = [default; 2];
        if let Some(values) = values {
            for (slot, v) in out[2 - spatial.min(2)..].iter_mut().zip(&values) {
                *slot = usize::try_from(*v).map_err(|_| format!("{v} is negative"))?;
            }
        }
        Ok(out)
    };
    let extra = two(onnx.ints("output_padding"), 0)?;
    let wanted = onnx.ints("output_shape").map(|v| v[v.len().saturating_sub(spatial)..].to_vec());
    let mut out = [0; 2];
    for axis in 0..2 {
        let full =
            usize::from(window.stride[axis]) * (s[axis + 1] - 1) + extra[axis] + window::reach(&window, axis);
        let total = match (&wanted, attributes.auto_pad.as_deref()) {
            (Some(_), _) => {
                // What the input does not reach is zero, as with `output_padding`.
                full.saturating_sub(two(wanted.clone(), 1)?[axis])
            }
            (None, Some("SAME_UPPER" | "SAME_LOWER")) => {
                full.saturating_sub(s[axis + 1] * usize::from(window.stride[axis]))
            }
            (None, Some(_)) => 0,
            (None, None) => usize::from(window.pad[axis]) + usize::from(window.pad[axis + 2]),
        };
        if wanted.is_some() || attributes.auto_pad.is_some() {
            let upper = attributes.auto_pad.as_deref() == Some("SAME_UPPER");
            let before = if upper { total / 2 } else { total - total / 2 };
            let narrow = |v: usize| u16::try_from(v).map_err(|_| format!("padding {v} is too large"));
            window.pad[axis] = narrow(before)?;
            window.pad[axis + 2] = narrow(total - before)?;
        }
        out[axis] = full.checked_sub(total).filter(|v| *v > 0).ok_or("padding leaves no output")?;
        if wanted.is_some() {
            out[axis] = two(wanted.clone(), 1)?[axis];
        }
    }
    let w = two_dimensional(weights)?;
    let ohwi = transposed_weights(&w, groups)?;
    let o = ohwi.shape[0];
    let w = c.take_constant(onnx.input(1).unwrap_or_default(), ohwi);
    let mut inputs = vec![x, w];
    with_bias(c, onnx, &mut inputs)?;
    let op = Op::ConvTranspose2d { window, groups, activation: Activation::None };
    let name = format!("{}/nhwc", onnx.output(0).unwrap_or_default());
    let y = c.emit(onnx, op, inputs, Some(vec![s[0], out[0], out[1], o]), &name)?;
    c.finish_nchw(onnx, y, rank)
}

/// `[C, M/g, h, w]` to OHWI with I = C/g.
fn transposed_weights(w: &Constant, groups: usize) -> Importing<Constant> {
    let [c, m, h, k] = *w.shape.as_slice() else {
        return Err("weights".into());
    };
    if c % groups != 0 {
        return Err(format!("{c} input channels in {groups} groups"));
    }
    if groups == 1 {
        return Ok(w.transposed(&[1, 2, 3, 0]));
    }
    if w.quant.as_ref().is_some_and(|q| q.axis.is_some()) {
        return Err("scales per channel together with groups".into());
    }
    let per = c / groups;
    let (elements, quant) = (&w.elements, w.quant.clone());
    let mut source = Vec::with_capacity(w.len());
    for o in 0..groups * m {
        let (g, om) = (o / m, o % m);
        for y in 0..h {
            for x in 0..k {
                source.extend((0..per).map(|i| (((g * per + i) * m + om) * h + y) * k + x));
            }
        }
    }
    let elements: Elements = elements.gather(&source);
    Ok(Constant { shape: vec![groups * m, h, k, per], elements, quant })
}
