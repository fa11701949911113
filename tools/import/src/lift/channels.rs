//! Products with one number per channel that a common int8 scale would not hold: depthwise convolutions of one tap, whose
//! weights have a scale per channel.

use offshoot_ir::grid::{bounds, quant_of_range};
use offshoot_ir::{Activation, BinaryKind, DType, Node, Op, UnaryKind, Value, ValueId};

use super::constants::reals;
use super::normalise::{Affine, as_convolution};
use super::table::Table;

/// How far, in steps of the output, a product may lie beside the exact one because its factor is rounded to int8.
const MOST_STEPS: f64 = 0.25;

/// `dequantize → product with or quotient by numbers per channel → quantize`.
pub(super) fn scaled(t: &mut Table, n: usize) -> Option<usize> {
    let node = t.node(n).clone();
    let Op::Binary { kind, activation: Activation::None } = node.op else { return None };
    let step = step_behind(t, node.output)?;
    let side = match kind {
        BinaryKind::Mul => (0..2).find(|&i| dequantised(t, node.inputs[i]).is_some())?,
        BinaryKind::Div => 0,
        _ => return None,
    };
    let (x, c) = (node.inputs[side], node.inputs[1 - side]);
    let largest = dequantised(t, x)?;
    let (value, shape) = (t.value(c), &t.value(node.output).shape);
    if t.value(x).shape != *shape || value.shape.len() > shape.len() || value.data.is_none() {
        return None;
    }
    let axis = along(&value.shape, shape)?;
    let numbers: Vec<f64> = reals(value)?.into_iter().map(f64::from).collect();
    let factors: Vec<f64> = match kind {
        BinaryKind::Div => numbers.iter().map(|v| 1.0 / v).collect(),
        _ => numbers,
    };
    let own_scale = value.dtype == DType::I8 && value.quant.as_ref().is_some_and(|q| q.axis.is_none());
    if !factors.iter().all(|f| f.is_finite())
        || kind == BinaryKind::Mul && (own_scale || error(&factors) * largest <= MOST_STEPS * step)
    {
        return None;
    }
    let affine = Affine { shift: vec![0.0; factors.len()], scale: factors };
    if axis + 1 == shape.len() {
        let alone = Node { inputs: vec![x], ..node };
        t.replace(n, alone);
        return as_convolution(t, n, &affine);
    }
    // Kernels take channels on the last axis.
    let mut perm: Vec<usize> = (0..shape.len()).filter(|a| *a != axis).collect();
    perm.push(axis);
    let back = (0..perm.len()).map(|a| perm.iter().position(|p| *p == a)).collect::<Option<Vec<usize>>>()?;
    let moved: Vec<usize> = perm.iter().map(|a| shape[*a]).collect();
    let value = |t: &Table, of: ValueId, suffix: &str| {
        let of = t.value(of);
        Value { name: format!("{}/{suffix}", of.name), shape: moved.clone(), ..of.clone() }
    };
    let (last, scaled) = (value(t, x, "channels_last"), value(t, node.output, "channels_last"));
    let (last, scaled) = (t.add(last), t.add(scaled));
    t.insert_before(n, Node { op: Op::Transpose { perm }, inputs: vec![x], output: last, ..node.clone() });
    t.insert_before(n, Node { inputs: vec![last], output: scaled, ..node.clone() });
    let inner = t.len() - 1;
    t.replace(n, Node { op: Op::Transpose { perm: back }, inputs: vec![scaled], ..node });
    as_convolution(t, inner, &affine)
}

/// `dequantize → PRelu with slopes of unlike sizes → quantize`: what lies above zero, plus what lies below times its slope.
pub(super) fn slopes(t: &mut Table, n: usize) -> Option<usize> {
    let node = t.node(n).clone();
    if node.op != Op::PRelu {
        return None;
    }
    let step = step_behind(t, node.output)?;
    let x = node.inputs[0];
    dequantised(t, x)?;
    let int8 = t.node(t.producer(x)?).inputs[0];
    let grid = t.value(int8).quant.clone()?;
    let slope = t.value(node.inputs[1]);
    let factors: Vec<f64> = reals(slope)?.into_iter().map(f64::from).collect();
    let own_scale = slope.dtype == DType::I8 && slope.quant.as_ref().is_some_and(|q| q.axis.is_none());
    let least = f64::from(-bounds(&grid).0);
    if own_scale || !factors.iter().all(|f| f.is_finite()) || error(&factors) * least <= MOST_STEPS * step {
        return None;
    }
    let result = bounds(t.value(t.node(t.sole_reader(node.output)?).output).quant.as_ref()?);
    // Below zero nothing is added to the products, so those beyond the output's range saturate.
    let products = factors.iter().map(|f| (-f * least) as f32);
    let (low, high) = products.fold((0.0f32, 0.0f32), |r, v| (r.0.min(v), r.1.max(v)));
    let inner = quant_of_range(low.max(result.0), high.min(result.1));

    let code = |t: &mut Table, suffix: &str| t.new_value(x, suffix, DType::I8, Some(int8));
    let real = |t: &mut Table, suffix: &str| t.new_value(x, suffix, DType::F32, None);
    let push = |t: &mut Table, op: Op, inputs: Vec<ValueId>, output: ValueId| {
        t.insert_before(n, Node { name: node.name.clone(), op, inputs, output });
        t.len() - 1
    };
    let clip = |min, max| Op::Unary(UnaryKind::Clip { min, max });
    let (above, below, scaled) = (code(t, "above"), code(t, "below"), code(t, "product/int8"));
    let (a, b) = (real(t, "above/real"), real(t, "below/real"));
    let (product, c) = (real(t, "product"), real(t, "product/real"));
    t.set_quant(scaled, inner);
    push(t, clip(0.0, f32::INFINITY), vec![int8], above);
    push(t, clip(f32::NEG_INFINITY, 0.0), vec![int8], below);
    push(t, Op::Dequantize, vec![above], a);
    push(t, Op::Dequantize, vec![below], b);
    let product_at = push(t, Op::PRelu, vec![b], product);
    push(t, Op::Quantize, vec![product], scaled);
    push(t, Op::Dequantize, vec![scaled], c);
    let op = Op::Binary { kind: BinaryKind::Add, activation: Activation::None };
    t.replace(n, Node { op, inputs: vec![a, c], ..node.clone() });
    let affine = Affine { shift: vec![0.0; factors.len()], scale: factors };
    as_convolution(t, product_at, &affine);
    Some(n)
}

/// The largest number that the tensor dequantises to; `None` if it is not dequantised.
fn dequantised(t: &Table, x: ValueId) -> Option<f64> {
    let d = t.node(t.producer(x)?);
    let codes = Some(t.value(*d.inputs.first()?)).filter(|v| v.dtype == DType::I8)?;
    let quant = codes.quant.as_ref().filter(|q| q.axis.is_none())?;
    let (low, high) = bounds(quant);
    matches!(d.op, Op::Dequantize).then_some(f64::from(high.max(-low)))
}

/// The step that the only reader of a tensor quantises it to.
fn step_behind(t: &Table, y: ValueId) -> Option<f64> {
    let q = t.node(t.sole_reader(y)?);
    let codes = Some(t.value(q.output)).filter(|v| v.dtype == DType::I8)?;
    let quant = codes.quant.as_ref().filter(|q| q.axis.is_none())?;
    (matches!(q.op, Op::Quantize) && t.value(y).dtype == DType::F32).then(|| f64::from(quant.scale[0]))
}

/// The largest error of numbers that are rounded to int8 with one scale.
fn error(numbers: &[f64]) -> f64 {
    let largest = numbers.iter().fold(0.0f64, |m, v| m.max(v.abs()));
    let step = largest / 127.0;
    if step == 0.0 {
        return 0.0;
    }
    numbers.iter().map(|v| (v - (v / step).round() * step).abs()).fold(0.0, f64::max)
}

/// The only axis of `shape` along which a constant of this shape varies.
pub(super) fn along(constant: &[usize], shape: &[usize]) -> Option<usize> {
    let missing = shape.len() - constant.len();
    let mut long = constant.iter().enumerate().filter(|(_, d)| **d > 1).map(|(i, _)| i + missing);
    let axis = long.next().filter(|axis| shape[*axis] == constant[*axis - missing])?;
    long.next().is_none().then_some(axis)
}
