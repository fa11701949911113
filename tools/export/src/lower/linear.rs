//! Operators with weights: convolutions, fully connected, and the product of two activations.

use offshoot::format::codec::Record;
use offshoot::format::record::{self, Arith, Window};
use offshoot_ir::quant_math::{linear_multiplier, quantize_multiplier};
use offshoot_ir::{Activation, DType, Data, Graph, Node, ValueId};

use super::{Context, Lowering, Reason, Tensor, blocked, clamp_f32, clamp_i8, nhwc, to_u16, to_u32};
use crate::blobs;

/// Why weights and bias do not suit the int8 kernels.
pub(super) fn int8_obstacle(graph: &Graph, node: &Node) -> Option<Reason> {
    let w = graph.value(node.inputs[1]);
    let Some(quant) = w.quant.as_ref().filter(|_| w.dtype == DType::I8) else {
        return Some("the weights are not int8".into());
    };
    if quant.zero_point.iter().any(|&z| z != 0) {
        return Some("the weights have a zero point other than 0".into());
    }
    let outer = matches!(quant.axis, None | Some(0));
    if !outer && quant.scale.len() > 1 {
        return Some("the weights' scales do not run along the output channels".into());
    }
    let bias = node.inputs.get(2).map(|&b| graph.value(b));
    bias.filter(|b| b.dtype != DType::I32).map(|_| "the bias is not int32".into())
}

/// Number format and blob of a linear operator with `out_c` output channels. `arrange` brings the weights from
/// OHWI into the record's layout. `float_product`: multiply the scales of input and weights in float32, as TFLite
/// does for per-tensor FullyConnected.
fn arithmetic(
    c: &mut Context<'_>,
    x: &Tensor,
    y: &Tensor,
    parameters: &[ValueId],
    out_c: usize,
    activation: Activation,
    float_product: bool,
    arrange: &dyn Fn(usize) -> usize,
) -> Lowering<(Arith, u32, u64)> {
    let weights = c.graph.value(parameters[0]);
    let count = weights.len();
    if !x.is_i8() {
        let w = c.constant_f32(parameters[0])?;
        let bias = match parameters.get(1).copied() {
            Some(b) => c.constant_f32(b)?,
            None => vec![0.0; out_c],
        };
        check_len("bias", bias.len(), out_c)?;
        let mut blob = blobs::floats(&bias);
        blob.extend(blobs::floats(&(0..count).map(|i| w[arrange(i)]).collect::<Vec<_>>()));
        let blob = c.blob(blob, (4 * count, 4 * out_c))?;
        return Ok((Arith::F32 { clamp: clamp_f32(activation) }, blob, count as u64));
    }
    let q = quantised(c, x, y, parameters, out_c, float_product)?;
    let mut blob = requant_blob(&q.bias, &q.fixed);
    blob.extend((0..count).map(|i| q.weights[arrange(i)] as u8));
    let blob = c.blob(blob, (count, 4 * out_c))?;
    let clamp = clamp_i8(activation, y);
    let arith = Arith::I8 { in_zp: x.zp, out_zp: y.zp, per_channel: q.fixed.len() > 1, clamp };
    Ok((arith, blob, count as u64))
}

/// Parameters of an int8 operator.
pub(super) struct Quantised<'g> {
    /// OHWI.
    pub(super) weights: &'g [i8],
    /// One a channel; TFLite's: zero points not folded.
    pub(super) bias: Vec<i32>,
    /// Multiplier and shift, one a channel or one for all.
    pub(super) fixed: Vec<(i32, i8)>,
}

/// Reads them. `float_product`: as [`arithmetic`].
pub(super) fn quantised<'g>(
    c: &Context<'g>,
    x: &Tensor,
    y: &Tensor,
    parameters: &[ValueId],
    out_c: usize,
    float_product: bool,
) -> Lowering<Quantised<'g>> {
    let weights = c.graph.value(parameters[0]);
    let Some(Data::I8(w)) = weights.data.as_deref() else {
        return Err(format!("weights `{}` must be an int8 constant", weights.name));
    };
    let quant = weights.quant.as_ref().ok_or_else(|| format!("weights `{}` have no scale", weights.name))?;
    let bias = match parameters.get(1).map(|&b| c.graph.value(b)) {
        Some(b) => match b.data.as_deref() {
            Some(Data::I32(d)) => d.clone(),
            _ => return Err(format!("bias `{}` must be an int32 constant", b.name)),
        },
        None => vec![0; out_c],
    };
    check_len("bias", bias.len(), out_c)?;
    let float_product = float_product && quant.scale.len() == 1;
    let real = |w: f32| linear_multiplier(x.scale, w, y.scale, float_product);
    let mut fixed: Vec<(i32, i8)> = quant.scale.iter().map(|&s| quantize_multiplier(real(s))).collect();
    if fixed.iter().all(|f| *f == fixed[0]) {
        fixed.truncate(1);
    } else {
        check_len("weight scales", fixed.len(), out_c)?;
    }
    Ok(Quantised { weights: w, bias, fixed })
}

/// Biases, multipliers and shifts as they begin a blob.
pub(super) fn requant_blob(bias: &[i32], fixed: &[(i32, i8)]) -> Vec<u8> {
    let mut blob = blobs::words(bias);
    blob.extend(blobs::words(&fixed.iter().map(|f| f.0).collect::<Vec<_>>()));
    blob.extend(fixed.iter().map(|f| f.1 as u8));
    blob.resize(blob.len().next_multiple_of(4), 0);
    blob
}

fn check_len(what: &str, found: usize, wanted: usize) -> Lowering {
    if found == wanted {
        Ok(())
    } else {
        Err(format!("{found} values of {what} for {wanted} output channels"))
    }
}

/// Convolution: 1×1 as fully connected, one group a channel as depthwise, else as it is.
pub(super) fn conv2d(
    c: &mut Context<'_>,
    x: &Tensor,
    y: &Tensor,
    parameters: &[ValueId],
    window: Window,
    groups: usize,
    activation: Activation,
) -> Lowering {
    let [n, h, w, in_c] = nhwc(x)?;
    let out_c = *y.shape.last().unwrap_or(&0);
    let plain = window.kernel == [1, 1] && window.stride == [1, 1] && window.pad == [0; 4];
    if plain && groups == 1 {
        return rows(c, x, y, parameters, activation, false);
    }
    let channels = usize::from(in_c);
    let taps = u64::from(window.kernel[0]) * u64::from(window.kernel[1]);
    if groups == 1 && blocked::conv(c, x, y, parameters, &window, activation, false)? {
        return Ok(());
    }
    if groups == channels && channels > 1 {
        if out_c == channels && blocked::depthwise(c, x, y, parameters, &window, activation)? {
            return Ok(());
        }
        // OHWI with I = 1 to HWO.
        let taps = taps as usize;
        let arrange = move |i: usize| i % out_c * taps + i / out_c;
        let (arith, blob, weights) = arithmetic(c, x, y, parameters, out_c, activation, false, &arrange)?;
        let multiplier = to_u16(out_c / channels, "the depth multiplier")?;
        let window = window.into();
        let r = record::Depthwise { src: 0, dst: 0, n, h, w, c: in_c, multiplier, window, arith, blob };
        let op = c.emit(Record::Depthwise(r), [Some(x), None], y, &[]);
        (op.macs, op.weights) = (y.len() as u64 * taps as u64, weights);
        return Ok(());
    }
    let (arith, blob, weights) = arithmetic(c, x, y, parameters, out_c, activation, false, &|i| i)?;
    let r = record::Conv2d {
        src: 0,
        dst: 0,
        n,
        h,
        w,
        c: in_c,
        out_c: to_u16(out_c, "the output channel count")?,
        groups: to_u16(groups, "the group count")?,
        window: window.into(),
        arith,
        blob,
    };
    let op = c.emit(Record::Conv2d(r), [Some(x), None], y, &[]);
    (op.macs, op.weights) = (y.len() as u64 * taps * (channels / groups.max(1)) as u64, weights);
    Ok(())
}

/// Transposed convolution.
pub(super) fn conv_transpose(
    c: &mut Context<'_>,
    x: &Tensor,
    y: &Tensor,
    parameters: &[ValueId],
    window: Window,
    groups: usize,
    activation: Activation,
) -> Lowering {
    let [n, h, w, in_c] = nhwc(x)?;
    let [_, out_h, out_w, out_c] = nhwc(y)?;
    let (arith, blob, weights) =
        arithmetic(c, x, y, parameters, usize::from(out_c), activation, false, &|i| i)?;
    let r = record::ConvTranspose {
        src: 0,
        dst: 0,
        n,
        h,
        w,
        c: in_c,
        out_h,
        out_w,
        out_c,
        groups: to_u16(groups, "the group count")?,
        window: window.into(),
        arith,
        blob,
    };
    let op = c.emit(Record::ConvTranspose(r), [Some(x), None], y, &[]);
    let pixels = u64::from(n) * u64::from(h) * u64::from(w);
    // Every weight of one input channel's group meets every input pixel once.
    (op.macs, op.weights) = (pixels * weights, weights);
    Ok(())
}

/// Fully connected over the last axis.
pub(super) fn fully_connected(
    c: &mut Context<'_>,
    x: &Tensor,
    y: &Tensor,
    parameters: &[ValueId],
    activation: Activation,
) -> Lowering {
    rows(c, x, y, parameters, activation, true)
}

fn rows(
    c: &mut Context<'_>,
    x: &Tensor,
    y: &Tensor,
    parameters: &[ValueId],
    activation: Activation,
    float_product: bool,
) -> Lowering {
    let (in_c, out_c) = (*x.shape.last().unwrap_or(&1), *y.shape.last().unwrap_or(&1));
    if blocked::rows(c, x, y, parameters, activation, float_product)? {
        return Ok(());
    }
    let (arith, blob, weights) = arithmetic(c, x, y, parameters, out_c, activation, float_product, &|i| i)?;
    let count = y.len() / out_c.max(1);
    if x.len() != count * in_c || weights != (in_c * out_c) as u64 {
        return Err(format!("{:?} times {weights} weights does not give {:?}", x.shape, y.shape));
    }
    let (rows, in_c) = (to_u32(count, "the row count")?, to_u32(in_c, "the input width")?);
    let out_c = to_u32(out_c, "the output width")?;
    let r = record::FullyConnected { src: 0, dst: 0, rows, in_c, out_c, arith, blob };
    let op = c.emit(Record::FullyConnected(r), [Some(x), None], y, &[]);
    (op.macs, op.weights) = (count as u64 * weights, weights);
    Ok(())
}

/// Product of two activations.
pub(super) fn matmul(c: &mut Context<'_>, x: &Tensor, b: ValueId, y: &Tensor, transposed: bool) -> Lowering {
    let b = c.tensor(b)?;
    let b = if x.dtype == b.dtype { b } else { c.as_f32(&b)? };
    let [.., m, k] = x.shape[..] else {
        return Err(format!("expects two axes or more, found {:?}", x.shape));
    };
    let n = *y.shape.last().unwrap_or(&1);
    let batch = x.len() / (m * k).max(1);
    if b.len() != batch * k * n || y.len() != batch * m * n {
        return Err(format!("{:?} times {:?} does not give {:?}", x.shape, b.shape, y.shape));
    }
    let arith = if x.is_i8() {
        // TFLite multiplies the input scales in float32.
        let real = f64::from(x.scale * b.scale) / f64::from(y.scale);
        let (multiplier, shift) = quantize_multiplier(real);
        record::MatMulArith::I8 { a_zp: x.zp, b_zp: b.zp, out_zp: y.zp, multiplier, shift }
    } else {
        record::MatMulArith::F32
    };
    let size = |v| to_u32(v, "an extent");
    let (batch, m, k, n) = (size(batch)?, size(m)?, size(k)?, size(n)?);
    let r = record::MatMul { a: 0, b: 0, dst: 0, batch, m, k, n, transposed, arith };
    let op = c.emit(Record::MatMul(r), [Some(x), Some(&b)], y, &[]);
    op.macs = [batch, m, k, n].iter().map(|&v| u64::from(v)).product();
    Ok(())
}
