//! Convolutions, fully connected layers, matrix products, pools.

use offshoot_ir::{DType, Op, PoolKind, Quant, ValueId, Window};
use tract_tflite::tflite::{FullyConnectedOptionsWeightsFormat, Padding};

use crate::constant::{Constant, Elements};
use crate::context::Importing;
use crate::tflite::builder::{Builder, Fused};
use crate::tflite::file::Operator;

/// Height and width of a stride, kernel or dilation.
fn pair(h: i32, w: i32, what: &str) -> Importing<[u16; 2]> {
    let one = |v: i32| u16::try_from(v).ok().filter(|v| *v > 0).ok_or_else(|| format!("{what} {h} × {w}"));
    Ok([one(h)?, one(w)?])
}

/// Windows over an input of `extent`, with the padding that the scheme asks for.
fn window(
    extent: [usize; 2],
    padding: Padding,
    kernel: [u16; 2],
    stride: [u16; 2],
    dilation: [u16; 2],
) -> Importing<Window> {
    let mut pad = [0; 4];
    for axis in 0..2 {
        let (k, s, d) = (usize::from(kernel[axis]), usize::from(stride[axis]), usize::from(dilation[axis]));
        let total = match padding {
            Padding::SAME => {
                let out = extent[axis].div_ceil(s);
                ((out - 1) * s + (k - 1) * d + 1).saturating_sub(extent[axis])
            }
            Padding::VALID => 0,
            other => return Err(format!("padding {}", other.0)),
        };
        let narrow = |v: usize| u16::try_from(v).map_err(|_| format!("padding {v} is too large"));
        pad[axis] = narrow(total / 2)?;
        pad[axis + 2] = narrow(total - total / 2)?;
    }
    Ok(Window { kernel, stride, dilation, pad })
}

/// A value as [N, H, W, C].
fn nhwc(b: &Builder<'_>, x: ValueId) -> Importing<[usize; 4]> {
    let shape = b.shape(x);
    shape.as_slice().try_into().map_err(|_| format!("its input {shape:?} is not (N, H, W, C)"))
}

fn four(w: &Constant) -> Importing<[usize; 4]> {
    let fits = w.shape.as_slice().try_into().ok().filter(|s: &[usize; 4]| !s.contains(&0));
    fits.ok_or_else(|| format!("weights {:?}", w.shape))
}

fn kernel(h: usize, w: usize) -> Importing<[u16; 2]> {
    let one = |v: usize| u16::try_from(v).map_err(|_| format!("kernel {h} × {w}"));
    Ok([one(h)?, one(w)?])
}

/// Weights and bias of a layer with `channels` outputs as values of the graph. Between int8 or int16 tensors the bias counts in
/// steps of the input's scale times the weights', whatever the file says; otherwise both are float32.
fn parameters(
    b: &mut Builder<'_>,
    op: &Operator<'_>,
    x: ValueId,
    weights: (usize, Constant),
    bias: usize,
    channels: usize,
) -> Importing<Vec<ValueId>> {
    let (form, wanted) = (b.form_of(x), b.out_form(op, 0)?);
    if form.dtype != wanted.dtype {
        return Err(format!("turns {:?} into {:?}", form.dtype, wanted.dtype));
    }
    let (at, w) = weights;
    let name = b.tensors[b.input(op, at)?].name.clone();
    let int16 = form.dtype == DType::I16;
    let Some(input) = form.quant.filter(|_| int16 || form.dtype == DType::I8) else {
        let w = b.reals(&name, w.shape.clone(), w.to_reals())?;
        let mut inputs = vec![x, w];
        if b.has(op, bias) {
            let c = b.constant(op, bias)?;
            let name = b.tensors[b.input(op, bias)?].name.clone();
            inputs.push(b.reals(&name, vec![c.len()], c.to_reals())?);
        }
        return Ok(inputs);
    };
    let Some(quant) = w.quant.clone().filter(|_| matches!(w.elements, Elements::I8(_))) else {
        return Err(format!("weights `{name}` of a quantised layer have no int8 form"));
    };
    let mut inputs = vec![x, b.add(&name, &w)?];
    if b.has(op, bias) {
        let c = b.constant(op, bias)?;
        let name = b.tensors[b.input(op, bias)?].name.clone();
        let scale: Vec<f32> = quant.scale.iter().map(|s| s * input.scale[0]).collect();
        if scale.iter().any(|s| !(s.is_finite() && *s > 0.0)) {
            return Err(format!("the scale of `{name}` vanishes"));
        }
        let (count, codes) = match c.elements {
            Elements::I32(v) => (v.len(), Elements::I32(v)),
            Elements::I64(v) if int16 => (v.len(), Elements::I64(v)),
            _ => return Err(format!("bias `{name}` of a quantised layer is not int32")),
        };
        let axis = (scale.len() == channels && channels > 1).then_some(0);
        let quant = Quant { zero_point: vec![0; scale.len()], scale, axis };
        if quant.axis.is_none() && quant.scale.len() != 1 {
            return Err(format!("{} scales for {channels} channels", quant.scale.len()));
        }
        let bias = Constant { shape: vec![count], elements: codes, quant: Some(quant) };
        inputs.push(b.add(&name, &bias)?);
    }
    Ok(inputs)
}

/// CONV_2D: x, w [O, h, w, I], bias?
pub(super) fn conv(b: &mut Builder<'_>, op: &Operator<'_>) -> Importing {
    let o = op.options.builtin_options_as_conv_2_doptions().ok_or("its options are missing")?;
    let x = b.value(op, 0)?;
    let [_, h, w, c] = nhwc(b, x)?;
    let weights = b.constant(op, 1)?;
    let [out, kh, kw, i] = four(&weights)?;
    if c % i != 0 {
        return Err(format!("weights {:?} for {c} channels", weights.shape));
    }
    let stride = pair(o.stride_h(), o.stride_w(), "stride")?;
    let dilation = pair(o.dilation_h_factor(), o.dilation_w_factor(), "dilation")?;
    let window = window([h, w], o.padding(), kernel(kh, kw)?, stride, dilation)?;
    let fused = Fused::read(o.fused_activation_function())?;
    let inputs = parameters(b, op, x, (1, weights), 2, out)?;
    let kind = Op::Conv2d { window, groups: c / i, activation: fused.activation() };
    b.finish_activated(op, kind, inputs, fused)
}

/// DEPTHWISE_CONV_2D: x, w [1, h, w, O], bias?
pub(super) fn depthwise(b: &mut Builder<'_>, op: &Operator<'_>) -> Importing {
    let o = op.options.builtin_options_as_depthwise_conv_2_doptions().ok_or("its options are missing")?;
    let x = b.value(op, 0)?;
    let [_, h, w, c] = nhwc(b, x)?;
    let weights = b.constant(op, 1)?;
    let [one, kh, kw, out] = four(&weights)?;
    if one != 1 || out % c != 0 {
        return Err(format!("weights {:?} for {c} channels", weights.shape));
    }
    let stride = pair(o.stride_h(), o.stride_w(), "stride")?;
    let dilation = pair(o.dilation_h_factor(), o.dilation_w_factor(), "dilation")?;
    let window = window([h, w], o.padding(), kernel(kh, kw)?, stride, dilation)?;
    let fused = Fused::read(o.fused_activation_function())?;
    let ohwi = weights.transposed(&[3, 1, 2, 0]);
    let inputs = parameters(b, op, x, (1, ohwi), 2, out)?;
    let kind = Op::Conv2d { window, groups: c, activation: fused.activation() };
    b.finish_activated(op, kind, inputs, fused)
}

/// TRANSPOSE_CONV: output shape, w [O, h, w, I], x, bias?
pub(super) fn transpose_conv(b: &mut Builder<'_>, op: &Operator<'_>) -> Importing {
    let o = op.options.builtin_options_as_transpose_conv_options().ok_or("its options are missing")?;
    let x = b.value(op, 2)?;
    let [_, _, _, c] = nhwc(b, x)?;
    let weights = b.constant(op, 1)?;
    let [out, kh, kw, i] = four(&weights)?;
    if i != c {
        return Err(format!("weights {:?} for {c} channels", weights.shape));
    }
    let shape = b.out_shape(op, 0)?;
    let &[_, oh, ow, _] = shape.as_slice() else {
        return Err(format!("its output {shape:?} is not (N, H, W, C)"));
    };
    if oh == 0 || ow == 0 {
        return Err(format!("its output {shape:?} is empty"));
    }
    let stride = pair(o.stride_h(), o.stride_w(), "stride")?;
    // Padding is that of the convolution whose input is this operator's output.
    let window = window([oh, ow], o.padding(), kernel(kh, kw)?, stride, [1, 1])?;
    let fused = Fused::read(o.fused_activation_function())?;
    let inputs = parameters(b, op, x, (1, weights), 3, out)?;
    let kind = Op::ConvTranspose2d { window, groups: 1, activation: fused.activation() };
    b.finish_activated(op, kind, inputs, fused)
}

/// FULLY_CONNECTED: x, w [O, I], bias?
pub(super) fn fully_connected(b: &mut Builder<'_>, op: &Operator<'_>) -> Importing {
    let o = op.options.builtin_options_as_fully_connected_options();
    let fused = o.as_ref().map_or(Ok(Fused::Clip(offshoot_ir::Activation::None)), |o| {
        Fused::read(o.fused_activation_function())
    })?;
    if o.is_some_and(|o| o.weights_format() != FullyConnectedOptionsWeightsFormat::DEFAULT) {
        return Err("shuffled weights".into());
    }
    let x = b.value(op, 0)?;
    if !b.is_constant(op, 1) {
        return product(b, op, fused);
    }
    let weights = b.constant(op, 1)?;
    let (&out, inner) = weights.shape.split_first().ok_or("its weights are a scalar")?;
    let columns: usize = inner.iter().product();
    if out == 0 || columns == 0 {
        return Err(format!("weights {:?}", weights.shape));
    }
    let weights = weights.reshaped(vec![out, columns])?;
    let shape = b.out_shape(op, 0)?;
    let wanted = if shape.last() == Some(&out) { shape[..shape.len() - 1].to_vec() } else { vec![] };
    let x = rows(b, op, x, columns, wanted)?;
    let inputs = parameters(b, op, x, (1, weights), 2, out)?;
    let flat = b.shape(x)[..b.shape(x).len() - 1].iter().copied().chain([out]).collect::<Vec<_>>();
    let kind = Op::FullyConnected { activation: fused.activation() };
    if flat == shape || shape.is_empty() {
        return b.finish_activated(op, kind, inputs, fused);
    }
    let form = b.out_form(op, 0)?;
    if fused == Fused::Tanh {
        return Err("a fused TANH".into());
    }
    let name = b.part(op, "rows");
    let y = b.emit(op, kind, inputs, None, &form, &name)?;
    b.finish(op, Op::Reshape, vec![y], 0)
}

/// `x` as rows of `columns` numbers: with the leading axes `wanted` if they fit, or as a matrix.
fn rows(
    b: &mut Builder<'_>,
    op: &Operator<'_>,
    x: ValueId,
    columns: usize,
    mut wanted: Vec<usize>,
) -> Importing<ValueId> {
    let shape = b.shape(x);
    let len: usize = shape.iter().product();
    if !len.is_multiple_of(columns) {
        return Err(format!("its input {shape:?} is not rows of {columns}"));
    }
    if wanted.is_empty() || wanted.iter().product::<usize>() != len / columns {
        wanted = vec![len / columns];
    }
    wanted.push(columns);
    if shape == wanted {
        return Ok(x);
    }
    let (form, name) = (b.form_of(x), b.part(op, "matrix"));
    b.emit(op, Op::Reshape, vec![x], Some(wanted), &form, &name)
}

/// A fully connected layer whose weights are computed at run time.
fn product(b: &mut Builder<'_>, op: &Operator<'_>, fused: Fused) -> Importing {
    if b.has(op, 2) || fused != Fused::Clip(offshoot_ir::Activation::None) {
        return Err("weights computed at run time together with a bias or an activation".into());
    }
    let (x, w) = (b.value(op, 0)?, b.value(op, 1)?);
    let &[_, columns] = b.shape(w).as_slice() else { return Err("its weights are not a matrix".into()) };
    let x = rows(b, op, x, columns, vec![])?;
    if b.form_of(x).dtype != b.form_of(w).dtype {
        return Err("operands with different number formats".into());
    }
    let (form, name) = (b.out_form(op, 0)?, b.part(op, "rows"));
    let y = b.emit(op, Op::MatMul { transpose_b: true }, vec![x, w], None, &form, &name)?;
    b.finish(op, Op::Reshape, vec![y], 0)
}

/// BATCH_MATMUL: the product of the last two axes.
pub(super) fn batch_matmul(b: &mut Builder<'_>, op: &Operator<'_>) -> Importing {
    let o = op.options.builtin_options_as_batch_mat_mul_options();
    let (adj_x, adj_y) = o.map_or((false, false), |o| (o.adj_x(), o.adj_y()));
    let (mut x, mut y) = (b.value(op, 0)?, b.value(op, 1)?);
    if !b.out_form(op, 0)?.is_quantised() {
        (x, y) = (b.real(op, 0)?, b.real(op, 1)?);
    }
    let out = b.out_shape(op, 0)?;
    let batch = out.get(..out.len().saturating_sub(2)).unwrap_or_default().to_vec();
    if adj_x {
        x = swapped(b, op, x)?;
    }
    let (x, y) = (spread(b, op, x, &batch, "a")?, spread(b, op, y, &batch, "b")?);
    b.finish(op, Op::MatMul { transpose_b: adj_y }, vec![x, y], 0)
}

/// The last two axes swapped.
fn swapped(b: &mut Builder<'_>, op: &Operator<'_>, x: ValueId) -> Importing<ValueId> {
    let rank = b.shape(x).len();
    if rank < 2 {
        return Err("an operand is not a matrix".into());
    }
    let mut perm: Vec<usize> = (0..rank).collect();
    perm.swap(rank - 2, rank - 1);
    let (form, name) = (b.form_of(x), b.part(op, "swapped"));
    b.emit(op, Op::Transpose { perm }, vec![x], None, &form, &name)
}

/// The operand with these batch axes.
fn spread(
    b: &mut Builder<'_>,
    op: &Operator<'_>,
    x: ValueId,
    batch: &[usize],
    which: &str,
) -> Importing<ValueId> {
    let shape = b.shape(x);
    let Some((own, matrix)) = shape.split_last_chunk::<2>() else {
        return Err("an operand is not a matrix".into());
    };
    if own == batch {
        return Ok(x);
    }
    let wanted: Vec<usize> = batch.iter().chain(matrix).copied().collect();
    let (form, name) = (b.form_of(x), b.part(op, which));
    b.emit(op, Op::Expand, vec![x], Some(wanted), &form, &name)
}

/// Pools. The int8 kernels keep the input's scale.
pub(super) fn pool(b: &mut Builder<'_>, op: &Operator<'_>, kind: PoolKind) -> Importing {
    let o = op.options.builtin_options_as_pool_2_doptions().ok_or("its options are missing")?;
    let x = b.value(op, 0)?;
    let [_, h, w, _] = nhwc(b, x)?;
    let kernel = pair(o.filter_height(), o.filter_width(), "kernel")?;
    let stride = pair(o.stride_h(), o.stride_w(), "stride")?;
    let window = window([h, w], o.padding(), kernel, stride, [1, 1])?;
    let fused = Fused::read(o.fused_activation_function())?;
    let op_kind = Op::Pool { kind, window, activation: fused.activation() };
    b.finish_activated(op, op_kind, vec![x], fused)
}
