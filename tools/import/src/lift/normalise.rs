//! Batch normalisation that was not folded before quantisation: its scale and shift go into the int8 weights and the
//! bias of the operator before it, or it becomes a depthwise convolution with one tap.

use offshoot_ir::{Activation, DType, Data, Node, Op, Quant, Value, ValueId, Window};

use super::constants::{constant, reals};
use super::table::Table;

/// `y = x · scale + shift`, per channel.
pub(super) struct Affine {
    pub(super) scale: Vec<f64>,
    pub(super) shift: Vec<f64>,
}

/// Replaces node `n` if it is a batch normalisation behind a Dequantize or an operator with int8 weights.
pub(super) fn into_weights(t: &mut Table, n: usize) -> Option<usize> {
    let affine = affine(t, n)?;
    let before = t.producer(t.node(n).inputs[0])?;
    if matches!(t.node(before).op, Op::Dequantize) {
        return as_convolution(t, n, &affine);
    }
    let before = behind_transposes(t, n)?;
    into_linear(t, n, before, &affine)
}

/// The node whose output `n` reads, and nothing else, if transposes between them undo each other.
fn behind_transposes(t: &Table, n: usize) -> Option<usize> {
    let mut x = t.node(n).inputs[0];
    let mut axes: Vec<usize> = (0..t.value(x).shape.len()).collect();
    let mut reader = n;
    loop {
        let before = t.producer(x).filter(|_| t.sole_reader(x) == Some(reader))?;
        let node = t.node(before);
        let Op::Transpose { perm } = &node.op else {
            return axes.is_sorted().then_some(before);
        };
        axes = axes.iter().map(|&axis| perm.get(axis).copied()).collect::<Option<_>>()?;
        (x, reader) = (*node.inputs.first()?, before);
    }
}

fn affine(t: &Table, n: usize) -> Option<Affine> {
    let node = t.node(n);
    let Op::BatchNorm { epsilon } = node.op else { return None };
    let channels = *t.value(node.output).shape.last()?;
    let parameter = |i: usize| match t.value(*node.inputs.get(i)?).data.as_deref()? {
        Data::F32(v) if v.len() == channels => Some(v.iter().map(|v| f64::from(*v)).collect::<Vec<f64>>()),
        _ => None,
    };
    let (gamma, beta, mean, variance) = (parameter(1)?, parameter(2)?, parameter(3)?, parameter(4)?);
    let scale: Vec<f64> =
        gamma.iter().zip(variance).map(|(g, v)| g / (v + f64::from(epsilon)).sqrt()).collect();
    let shift: Vec<f64> = beta.iter().zip(mean.iter().zip(&scale)).map(|(b, (m, s))| b - m * s).collect();
    let usable = |v: &f64| v.is_finite() && (*v == 0.0 || (*v as f32).is_normal());
    (t.value(node.output).dtype == DType::F32 && scale.iter().chain(&shift).all(usable))
        .then_some(Affine { scale, shift })
}

/// Replaces node `n`, whose first input has the same shape as its output, by a depthwise convolution with one int8 weight per
/// channel: ±127 in steps of the scale's 127th part.
pub(super) fn as_convolution(t: &mut Table, n: usize, affine: &Affine) -> Option<usize> {
    let node = t.node(n).clone();
    let y = t.value(node.output).clone();
    let &[batch, ref inner @ .., channels] = y.shape.as_slice() else { return None };
    let codes = affine.scale.iter().map(|s| if *s == 0.0 { 0 } else { 127 * s.signum() as i8 }).collect();
    let steps: Vec<f32> =
        affine.scale.iter().map(|s| if *s == 0.0 { 1.0 } else { (s.abs() / 127.0) as f32 }).collect();
    if !steps.iter().all(|s| s.is_normal()) {
        return None;
    }
    let quant = Quant { zero_point: vec![0; channels], scale: steps, axis: Some(0) };
    let name = format!("{}/scale", node.name);
    let w = t.add(constant(name, vec![channels, 1, 1, 1], DType::I8, Data::I8(codes), quant));
    let b = bias(t, format!("{}/shift", node.name), affine.shift.iter().map(|s| *s as f32).collect());
    let window = Window { kernel: [1; 2], stride: [1; 2], dilation: [1; 2], pad: [0; 4] };
    let op = Op::Conv2d { window, groups: channels, activation: Activation::None };
    if inner.len() == 2 {
        t.replace(n, Node { op, inputs: vec![node.inputs[0], w, b], ..node });
        return Some(n);
    }
    // Kernels take images: all axes between batch and channels are one row.
    let image = vec![batch, 1, inner.iter().product(), channels];
    let value = |suffix: &str| Value {
        name: format!("{}/{suffix}", y.name),
        shape: image.clone(),
        ..Value { quant: None, data: None, channels_first_outside: false, ..y.clone() }
    };
    let (x_row, y_row) = (t.add(value("row")), t.add(value("scaled")));
    let to_row = Node { op: Op::Reshape, inputs: vec![node.inputs[0]], output: x_row, ..node.clone() };
    t.insert_before(n, to_row);
    t.insert_before(n, Node { op, inputs: vec![x_row, w, b], output: y_row, ..node.clone() });
    t.replace(n, Node { op: Op::Reshape, inputs: vec![y_row], ..node });
    Some(n)
}

/// Changes the scales of the weights and, where a channel's factor is negative, the signs of its integers.
fn into_linear(t: &mut Table, n: usize, before: usize, affine: &Affine) -> Option<usize> {
    let mut linear = t.node(before).clone();
    let free = linear.op.activation() == Some(Activation::None);
    if !matches!(linear.op, Op::Conv2d { .. } | Op::FullyConnected { .. }) || !free {
        return None;
    }
    let w = t.value(linear.inputs[1]);
    let channels = affine.scale.len();
    let (Some(Data::I8(codes)), Some(quant)) = (w.data.as_deref(), &w.quant) else { return None };
    let outer = quant.axis.is_none_or(|a| a == 0) && w.shape.first() == Some(&channels);
    if !outer || channels == 0 || quant.zero_point.iter().any(|z| *z != 0) {
        return None;
    }
    let fan_in = codes.len() / channels;
    let (mut changed, mut steps) = (codes.clone(), Vec::with_capacity(channels));
    for (o, factor) in affine.scale.iter().enumerate() {
        let row = &mut changed[o * fan_in..(o + 1) * fan_in];
        let step = f64::from(quant.scale[if quant.scale.len() == channels { o } else { 0 }]);
        if *factor == 0.0 {
            row.fill(0);
            steps.push(step as f32);
            continue;
        }
        if *factor < 0.0 {
            // -128 has no opposite in int8.
            if row.contains(&i8::MIN) {
                return None;
            }
            row.iter_mut().for_each(|code| *code = -*code);
        }
        steps.push((step * factor.abs()) as f32);
    }
    let old = match linear.inputs.get(2) {
        None => vec![0.0; channels],
        Some(id) => reals(t.value(*id))?,
    };
    if old.len() != channels || !steps.iter().all(|s| s.is_normal()) {
        return None;
    }
    let (name, shape) = (format!("{}/normalised", w.name), w.shape.clone());
    let shifted = old.iter().zip(affine.scale.iter().zip(&affine.shift));
    let shifted = shifted.map(|(b, (s, shift))| (f64::from(*b) * s + shift) as f32).collect();
    let quant = Quant { zero_point: vec![0; channels], scale: steps, axis: Some(0) };
    linear.inputs[1] = t.add(constant(name, shape, DType::I8, Data::I8(changed), quant));
    linear.inputs.truncate(2);
    let b = bias(t, format!("{}/shift", t.node(n).name), shifted);
    linear.inputs.push(b);
    linear.output = t.node(n).output;
    // Transposes between them go too: nothing reads them.
    let mut gone = t.node(n).inputs[0];
    t.remove(n);
    while let Some(between) = t.producer(gone).filter(|between| *between != before) {
        gone = t.node(between).inputs[0];
        t.remove(between);
    }
    t.replace(before, linear);
    Some(before)
}

fn bias(t: &mut Table, name: String, values: Vec<f32>) -> ValueId {
    let shape = vec![values.len()];
    let data = Some(Data::F32(values).into());
    t.add(Value { name, shape, dtype: DType::F32, quant: None, data, channels_first_outside: false })
}
