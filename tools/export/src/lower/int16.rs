//! Operators between int16 tensors, as TensorFlow Lite's 16x8 kernels compute them: int8 weights, symmetric activations.

use offshoot::format::codec::Record;
use offshoot::format::record::{self, Int16Change, Operand, PoolKind, ReduceKind, Window};
use offshoot_ir::quant_math::{
    activation_range_int16, linear_multiplier, mean_multiplier, quantize_multiplier,
};
use offshoot_ir::{Activation, BinaryKind, BinaryRecord, DType, Data, Graph, Node, Op, UnaryKind, ValueId};

use super::binary::merged_axes;
use super::reduce::grouped;
use super::{Context, int16_tables as tables, layout, normalise};
use crate::blobs;
use crate::forms::parameters::{Lowering, Reason, nhwc, to_u16, to_u32};
use crate::forms::requant::{Fixed, OVERFLOW, fits};
use crate::lowered::Tensor;

/// Largest magnitude of an int16 value.
const LARGEST: u64 = 1 << 15;
/// Scale of the outputs of softmax, sigmoid and tanh.
pub(super) const UNIT: f32 = 1.0 / 32768.0;
/// Sums of this magnitude or more would overflow TFLite's int64 requantisation.
const WIDEST: u64 = 1 << 47;

/// Why a node cannot run in int16; `None` if it can.
pub(super) fn obstacle(graph: &Graph, node: &Node, x: &Tensor, y: &Tensor) -> Option<Reason> {
    let variable = |v: &&ValueId| graph.value(**v).data.is_none();
    let others = node.inputs.iter().filter(variable).any(|&v| graph.value(v).dtype != DType::I16);
    if !x.is_i16() || !y.is_i16() || others {
        return Some("its operands have mixed number formats".into());
    }
    match &node.op {
        Op::Conv2d { .. } | Op::FullyConnected { .. } => {
            let channels = *y.shape.last()?;
            Parameters::read(graph, [x, y], &node.inputs[1..], channels).err()
        }
        Op::Pool { kind: PoolKind::Average | PoolKind::Max, .. } => changed(x.scale, y.scale).err(),
        Op::Binary { kind, .. } => binary_obstacle(graph, node, x, y, *kind),
        Op::Softmax { axis } => softmax_scaling(x.scale)
            .err()
            .or_else(|| (x.shape[*axis] > usize::from(u16::MAX)).then(|| "its rows are too long".into()))
            .or_else(|| changed(UNIT, y.scale).err()),
        Op::Unary(UnaryKind::Clip { .. }) => changed(x.scale, y.scale).err(),
        Op::Unary(UnaryKind::Sigmoid | UnaryKind::Tanh) => changed(UNIT, y.scale).err(),
        Op::Unary(kind) => tables::obstacle(*kind, x, y),
        Op::Reduce { kind, axes } => {
            let extent = axes.iter().filter_map(|&a| x.shape.get(a)).product();
            scaled_sum(x, y, *kind, extent).err()
        }
        op => Some(format!("{} has no int16 kernel", op.name())),
    }
}

/// Lowers a node without an [`obstacle`].
pub(super) fn lower(c: &mut Context<'_>, node: &Node, x: &Tensor, y: &Tensor, swapped: bool) -> Lowering {
    let inputs = &node.inputs;
    match &node.op {
        Op::Conv2d { window, groups, activation } => {
            let [n, h, w, channels] = nhwc(x)?;
            conv(c, x, y, &inputs[1..], [n, h, w, channels], (*window, *groups), *activation)
        }
        Op::FullyConnected { activation } => {
            let depth = x.channels(1);
            let rows = to_u16(x.len() / depth.max(1), "the row count")?;
            let window = Window { kernel: [1; 2], stride: [1; 2], dilation: [1; 2], pad: [0; 4] };
            let input = [1, 1, rows, to_u16(depth, "the channel count")?];
            conv(c, x, y, &inputs[1..], input, (window, 1), *activation)
        }
        Op::Pool { kind, window, activation } => pool(c, x, y, *kind, *window, *activation),
        Op::Binary { kind, activation } => {
            binary(c, x, inputs[usize::from(!swapped)], swapped, y, *kind, *activation)
        }
        Op::Unary(kind) => unary(c, x, y, *kind),
        Op::Softmax { axis } => normalise::softmax(c, x, y, *axis),
        Op::Reduce { kind, axes } => reduce(c, x, y, *kind, axes),
        other => Err(format!("{} is not lowered here", other.name())),
    }
}

/// Weights, biases and scales of a layer.
struct Parameters {
    weights: Vec<i8>,
    bias: Vec<i64>,
    /// int64 sums, whose multipliers have 15 bits.
    wide: bool,
    /// Multiplier and shift, per channel or one for all.
    fixed: Vec<Fixed>,
}

impl Parameters {
    /// Reads the parameters of a layer from `x` to `y`. An int32 bias asks for int32 sums, if they fit; an int64 bias, or
    /// none, for int64 sums: as in TFLite.
    fn read(graph: &Graph, [x, y]: [&Tensor; 2], parameters: &[ValueId], channels: usize) -> Lowering<Self> {
        let value = graph.value(parameters[0]);
        let (Some(Data::I8(weights)), Some(quant)) = (value.data.as_deref(), &value.quant) else {
            return Err("the weights are not int8".into());
        };
        if quant.zero_point.iter().any(|&z| z != 0) {
            return Err("the weights have a zero point other than 0".into());
        }
        if quant.scale.len() != 1 && (quant.axis != Some(0) || quant.scale.len() != channels) {
            return Err("the weights' scales are not along the output channels".into());
        }
        let (bias, narrow): (Vec<i64>, bool) = match parameters.get(1).map(|&b| graph.value(b)) {
            None => (vec![0; channels], false),
            Some(b) => match b.data.as_deref() {
                Some(Data::I32(d)) => (d.iter().map(|&v| v.into()).collect(), true),
                Some(Data::I64(d)) => (d.clone(), false),
                _ => return Err("the bias is neither int32 nor int64".into()),
            },
        };
        if bias.len() != channels || channels == 0 || weights.len() % channels != 0 {
            return Err(format!("{} biases for {channels} output channels", bias.len()));
        }
        let rows = weights.chunks((weights.len() / channels).max(1));
        let largest: Vec<u64> = rows
            .zip(&bias)
            .map(|(row, b)| {
                let products = row.iter().map(|w| u64::from(w.unsigned_abs())).sum::<u64>() * LARGEST;
                products.saturating_add(b.unsigned_abs())
            })
            .collect();
        let of_scale = |i: usize| match quant.scale.len() {
            1 => largest.iter().copied().max().unwrap_or(0),
            _ => largest[i],
        };
        let reals: Vec<(f64, u64)> = (quant.scale.iter().enumerate())
            .map(|(i, &s)| (linear_multiplier(x.scale, s, y.scale), of_scale(i)))
            .collect();
        let exact: Vec<Fixed> = reals.iter().map(|r| quantize_multiplier(r.0)).collect();
        if narrow && exact.iter().zip(&reals).all(|(f, r)| fits(*f, r.1)) {
            return Ok(Self { weights: weights.clone(), bias, wide: false, fixed: exact });
        }
        let mut fixed = Vec::with_capacity(exact.len());
        for (&(multiplier, shift), &(real, largest)) in exact.iter().zip(&reals) {
            if shift > 7 || largest >= WIDEST || largest as f64 * real >= f64::from(i32::MAX) {
                return Err(OVERFLOW.into());
            }
            let reduced = if multiplier < 0x7fff_0000 { (multiplier + (1 << 15)) >> 16 } else { 0x7fff };
            fixed.push((reduced, shift));
        }
        Ok(Self { weights: weights.clone(), bias, wide: true, fixed })
    }

    fn blob(&self) -> Vec<u8> {
        let mut blob: Vec<u8> = match self.wide {
            true => self.bias.iter().flat_map(|b| b.to_le_bytes()).collect(),
            false => self.bias.iter().flat_map(|&b| (b as i32).to_le_bytes()).collect(),
        };
        blob.extend(self.fixed.iter().flat_map(|f| f.0.to_le_bytes()));
        blob.extend(self.fixed.iter().map(|f| f.1 as u8));
        blob.resize(blob.len().next_multiple_of(4), 0);
        blob.extend(self.weights.iter().map(|&w| w as u8));
        blob
    }
}

/// Bounds of a fused activation, as in records.
fn clamp(activation: Activation, y: &Tensor) -> Option<(i16, i16)> {
    activation_range_int16(activation.bounds(), y.scale)
}

/// A convolution over an input of these extents (NHWC).
fn conv(
    c: &mut Context<'_>,
    x: &Tensor,
    y: &Tensor,
    parameters: &[ValueId],
    [n, h, w, channels]: [u16; 4],
    (window, groups): (Window, usize),
    activation: Activation,
) -> Lowering {
    let out = y.channels(1);
    let parameters = Parameters::read(c.graph, [x, y], parameters, out)?;
    let weights = parameters.weights.len();
    let biases = out * if parameters.wide { 8 } else { 4 };
    let blob = c.blob(parameters.blob(), [weights, biases])?;
    let r = record::ConvInt16 {
        src: 0,
        dst: 0,
        n,
        h,
        w,
        c: channels,
        out_c: to_u16(out, "the number of output channels")?,
        groups: to_u16(groups, "the group count")?,
        window: window.into(),
        per_channel: parameters.fixed.len() > 1,
        wide: parameters.wide,
        clamp: clamp(activation, y),
        blob,
    };
    let op = c.emit(Record::ConvInt16(r), [Some(x), None], y, &[]);
    (op.macs, op.weights) = ((y.len() / out.max(1) * weights) as u64, weights as u64);
    Ok(())
}

/// Multiplier and shift from one int16 scale to another.
pub(super) fn changed(from: f32, to: f32) -> Lowering<Fixed> {
    let fixed = quantize_multiplier(f64::from(from) / f64::from(to));
    if fits(fixed, LARGEST) { Ok(fixed) } else { Err(OVERFLOW.into()) }
}

/// Between int16 and int8, or to another scale.
pub(super) fn requantize(c: &mut Context<'_>, x: &Tensor, y: &Tensor, clamp: Option<(i16, i16)>) -> Lowering {
    let change = match (x.is_i8(), y.is_i8()) {
        (false, false) => Int16Change::Scale,
        (true, _) => Int16Change::FromI8,
        (false, true) => Int16Change::ToI8,
    };
    let (multiplier, shift) = changed(x.scale, y.scale)?;
    let len = to_u32(x.len(), "elements")?;
    let zp = if x.is_i8() { x.zp } else { y.zp };
    let r = record::RequantizeInt16 { src: 0, dst: 0, len, change, zp, multiplier, shift, clamp };
    let in_place: &[&Tensor] = if change == Int16Change::Scale { &[x] } else { &[] };
    c.emit(Record::RequantizeInt16(r), [Some(x), None], y, in_place);
    Ok(())
}

/// Pools keep the scale; if it changes, a requantisation follows.
fn pool(
    c: &mut Context<'_>,
    x: &Tensor,
    y: &Tensor,
    kind: PoolKind,
    window: Window,
    activation: Activation,
) -> Lowering {
    let [n, h, w, channels] = nhwc(x)?;
    let changes = !x.same_numbers(y);
    let pooled = if changes { c.temp(&y.shape, x.dtype, x.scale, 0)? } else { y.clone() };
    let bounds = clamp(activation, y);
    let r = record::PoolInt16 {
        src: 0,
        dst: 0,
        n,
        h,
        w,
        c: channels,
        window: window.into(),
        kind,
        clamp: bounds.filter(|_| !changes),
    };
    c.emit(Record::PoolInt16(r), [Some(x), None], &pooled, &[]);
    if changes { requantize(c, &pooled, y, bounds) } else { Ok(()) }
}

/// Multipliers of both operands and the output for these scales; see [`record::BinaryInt16`].
fn binary_scales([a, b, y]: [f32; 3], kind: BinaryKind) -> Lowering<[Fixed; 3]> {
    let unit = f64::from(1 << 15);
    let sum = |a: f64, b: f64, out: f64| {
        let out = quantize_multiplier(out);
        let [a, b] = [a, b].map(quantize_multiplier);
        // Each operand is shifted to less than 2^30, and scaled by at most a half.
        if fits(out, 1 << 30) { Ok([a, b, out]) } else { Err(OVERFLOW.to_owned()) }
    };
    match kind {
        BinaryKind::Add | BinaryKind::Sub => {
            let twice = 2.0 * f64::from(a.max(b));
            sum(f64::from(a) / twice, f64::from(b) / twice, twice / (unit * f64::from(y)))
        }
        BinaryKind::Mul => {
            let out = quantize_multiplier(f64::from(a) * f64::from(b) / f64::from(y));
            if fits(out, LARGEST * LARGEST) { Ok([(0, 0), (0, 0), out]) } else { Err(OVERFLOW.into()) }
        }
        _ => Ok([(0, 0); 3]),
    }
}

fn binary_obstacle(graph: &Graph, node: &Node, x: &Tensor, y: &Tensor, kind: BinaryKind) -> Option<Reason> {
    let mut scales = Vec::new();
    for &v in &node.inputs {
        let value = graph.value(v);
        match &value.quant {
            Some(q) if value.dtype == DType::I16 => scales.push(q.scale[0]),
            _ => return Some("an operand is not int16".into()),
        }
    }
    let [a, b] = scales[..] else { return Some("it does not have two operands".into()) };
    match kind {
        BinaryKind::Add | BinaryKind::Sub | BinaryKind::Mul => binary_scales([a, b, y.scale], kind).err(),
        BinaryKind::Min | BinaryKind::Max => changed(a, y.scale)
            .err()
            .or_else(|| changed(b, y.scale).err())
            .or_else(|| (x.shape.len() > 6).then(|| "it has more than six axes".into())),
        _ => Some(format!("{} has no int16 kernel", kind.name())),
    }
}

/// `a` op `b`, whose order is reversed if `swapped`.
fn binary(
    c: &mut Context<'_>,
    a: &Tensor,
    b: ValueId,
    swapped: bool,
    y: &Tensor,
    kind: BinaryKind,
    activation: Activation,
) -> Lowering {
    let constant = match (c.graph.value(b).data.as_deref(), kind) {
        (Some(Data::I16(d)), BinaryKind::Add | BinaryKind::Sub | BinaryKind::Mul) => Some(d.clone()),
        _ => None,
    };
    let (mut a, b, place) = match constant {
        Some(d) => {
            let value = c.graph.value(b);
            let scale = value.quant.as_ref().map_or(0.0, |q| q.scale[0]);
            let b = Tensor { buffer: usize::MAX, shape: value.shape.clone(), scale, ..a.clone() };
            let blob = c.blob(blobs::halves(&d), [2 * d.len(), 0])?;
            (a.clone(), b, Some(blob))
        }
        None => {
            let b = c.tensor(b)?;
            if matches!(kind, BinaryKind::Min | BinaryKind::Max) {
                (c.with_numbers_of(a, y)?, c.with_numbers_of(&b, y)?, None)
            } else {
                (a.clone(), b, None)
            }
        }
    };
    if a.len() != y.len() {
        a = layout::expanded(c, &a, &y.shape)?;
    }
    let (b, axes) = match merged_axes(&y.shape, &b.shape) {
        Some(axes) => (b, axes),
        None if place.is_none() => {
            let full = layout::expanded(c, &b, &y.shape)?;
            let axes = merged_axes(&y.shape, &full.shape);
            let axes =
                axes.ok_or_else(|| format!("shape {:?} does not fit four axes of up to 65,535", y.shape))?;
            (full, axes)
        }
        None => return Err(format!("a constant of {:?} broadcasts in more than four axes", b.shape)),
    };
    let BinaryRecord::Binary(of_record) = kind.record() else {
        return Err(format!("{} has no int16 kernel", kind.name()));
    };
    let r = record::BinaryInt16 {
        kind: of_record,
        swapped,
        a: 0,
        b: place.map_or(Operand::Arena(0), Operand::Blob),
        dst: 0,
        dims: axes.0,
        broadcast: axes.1,
        clamp: clamp(activation, y),
        scales: binary_scales([a.scale, b.scale, y.scale], kind)?,
    };
    let in_arena = place.is_none().then_some(&b);
    let mut in_place = vec![&a];
    in_place.extend(in_arena.filter(|_| axes.1 == 0));
    c.emit(Record::BinaryInt16(r), [Some(&a), in_arena], y, &in_place);
    Ok(())
}

/// Functions of one element: clips become a requantisation with bounds, sigmoid and tanh have TFLite's table, and all others
/// a table of their own.
fn unary(c: &mut Context<'_>, x: &Tensor, y: &Tensor, kind: UnaryKind) -> Lowering {
    let len = to_u32(x.len(), "elements")?;
    match kind {
        UnaryKind::Clip { min, max } => {
            return requantize(c, x, y, activation_range_int16((min, max), y.scale));
        }
        UnaryKind::Sigmoid | UnaryKind::Tanh => {
            let tanh = kind == UnaryKind::Tanh;
            let (multiplier, shift) = tables::sigmoid_scaling(x.scale, tanh);
            let blob = tables::SIGMOID.iter().flat_map(|v| v.to_le_bytes()).collect();
            let blob = c.blob(blob, [0, 0])?;
            let unit = y.scale == UNIT;
            let out = if unit { y.clone() } else { c.temp(&y.shape, y.dtype, UNIT, 0)? };
            let r = record::SigmoidInt16 { src: 0, dst: 0, len, tanh, multiplier, shift, blob };
            c.emit(Record::SigmoidInt16(r), [Some(x), None], &out, &[x]);
            return if unit { Ok(()) } else { requantize(c, &out, y, None) };
        }
        _ => {}
    }
    let mut blob = blobs::halves(&tables::function(kind, x, y));
    blob.resize(blob.len().next_multiple_of(4), 0);
    let blob = c.blob(blob, [0, 0])?;
    c.emit(Record::LutInt16(record::LutInt16 { src: 0, dst: 0, len, blob }), [Some(x), None], y, &[x]);
    Ok(())
}

/// Multiplier and shift that take differences of inputs to steps of 10 / 65535.
fn softmax_scaling(scale: f32) -> Lowering<Fixed> {
    let fixed = quantize_multiplier(f64::from(scale) / (10.0 / 65535.0));
    if fits(fixed, 2 * LARGEST) { Ok(fixed) } else { Err("its input's scale is too large".into()) }
}

/// Softmax over the last axis.
pub(super) fn softmax_rows(c: &mut Context<'_>, x: &Tensor, y: &Tensor, depth: usize) -> Lowering {
    let (multiplier, shift) = softmax_scaling(x.scale)?;
    let tables = [tables::exponential(), tables::inverse()];
    let blob = c.blob(blobs::halves(tables.as_flattened()), [0, 0])?;
    let unit = y.scale == UNIT;
    let out = if unit { y.clone() } else { c.temp(&y.shape, y.dtype, UNIT, 0)? };
    let rows = to_u32(x.len() / depth.max(1), "the row count")?;
    let depth = to_u32(depth, "the depth")?;
    let r = record::SoftmaxInt16 { src: 0, dst: 0, rows, depth, multiplier, shift, blob };
    c.emit(Record::SoftmaxInt16(r), [Some(x), None], &out, &[x]);
    if unit { Ok(()) } else { requantize(c, &out, y, None) }
}

/// Multiplier and shift of a reduction of `extent` elements.
fn scaled_sum(x: &Tensor, y: &Tensor, kind: ReduceKind, extent: usize) -> Lowering<Fixed> {
    let largest = LARGEST.saturating_mul(extent as u64);
    let fixed = match kind {
        ReduceKind::Max | ReduceKind::Min => return changed(x.scale, y.scale),
        ReduceKind::Mean => mean_multiplier(x.scale, y.scale, extent.max(1)),
        ReduceKind::Sum => quantize_multiplier(f64::from(x.scale) / f64::from(y.scale)),
    };
    if fits(fixed, largest) { Ok(fixed) } else { Err(OVERFLOW.into()) }
}

fn reduce(c: &mut Context<'_>, x: &Tensor, y: &Tensor, kind: ReduceKind, axes: &[usize]) -> Lowering {
    let selecting = matches!(kind, ReduceKind::Max | ReduceKind::Min);
    let changes = selecting && !x.same_numbers(y);
    let out = if changes { c.temp(&y.shape, x.dtype, x.scale, 0)? } else { y.clone() };
    let (x, [outer, extent, inner]) = grouped(c, x, axes)?;
    let (multiplier, shift) = if selecting { (0, 0) } else { scaled_sum(&x, y, kind, extent)? };
    let size = |v| to_u32(v, "an extent");
    let (outer, extent, inner) = (size(outer)?, size(extent)?, size(inner)?);
    let r = record::ReduceInt16 { src: 0, dst: 0, outer, extent, inner, kind, multiplier, shift };
    c.emit(Record::ReduceInt16(r), [Some(&x), None], &out, &[]);
    if changes { requantize(c, &out, y, None) } else { Ok(()) }
}
