//! Element-wise operators, and conversions between number formats.

use offshoot_ir::{Activation, BinaryKind, DType, Op, UnaryKind, ValueId};

use crate::constant::{Constant, Elements};
use crate::context::Importing;
use crate::tflite::builder::{Builder, Entry, Form, Fused};
use crate::tflite::file::{Kind, Operator};

fn plain(kind: BinaryKind) -> Op {
    Op::Binary { kind, activation: Activation::None }
}

pub(super) fn unary(b: &mut Builder<'_>, op: &Operator<'_>, kind: UnaryKind) -> Importing {
    let x = b.value(op, 0)?;
    if b.form_of(x).dtype != b.out_form(op, 0)?.dtype {
        return Err("input and output have different number formats".into());
    }
    b.finish(op, Op::Unary(kind), vec![x], 0)
}

pub(super) fn clip(b: &mut Builder<'_>, op: &Operator<'_>, min: f32, max: f32) -> Importing {
    unary(b, op, UnaryKind::Clip { min, max })
}

pub(super) fn leaky_relu(b: &mut Builder<'_>, op: &Operator<'_>) -> Importing {
    let alpha = op.options.builtin_options_as_leaky_relu_options().map_or(0.0, |o| o.alpha());
    if !alpha.is_finite() {
        return Err(format!("alpha {alpha}"));
    }
    unary(b, op, UnaryKind::LeakyRelu { alpha })
}

pub(super) fn gelu(b: &mut Builder<'_>, op: &Operator<'_>) -> Importing {
    let approximate = op.options.builtin_options_as_gelu_options().is_some_and(|o| o.approximate());
    unary(b, op, if approximate { UnaryKind::GeluTanh } else { UnaryKind::Gelu })
}

/// `1 / sqrt(x)`: in float32 by these two operations, in int8 one table.
pub(super) fn rsqrt(b: &mut Builder<'_>, op: &Operator<'_>) -> Importing {
    if b.out_form(op, 0)?.is_quantised() {
        return unary(b, op, UnaryKind::Pow { exponent: -0.5 });
    }
    let x = b.real(op, 0)?;
    let name = b.part(op, "root");
    let root = b.emit(op, Op::Unary(UnaryKind::Sqrt), vec![x], None, &Form::F32, &name)?;
    b.finish(op, Op::Unary(UnaryKind::Reciprocal), vec![root], 0)
}

pub(super) fn square(b: &mut Builder<'_>, op: &Operator<'_>) -> Importing {
    if b.out_form(op, 0)?.is_quantised() {
        return unary(b, op, UnaryKind::Pow { exponent: 2.0 });
    }
    let x = b.real(op, 0)?;
    b.finish(op, plain(BinaryKind::Mul), vec![x, x], 0)
}

/// Powers with one constant exponent.
pub(super) fn pow(b: &mut Builder<'_>, op: &Operator<'_>) -> Importing {
    let exponents = b.constant(op, 1)?.to_reals();
    let &[exponent] = exponents.as_slice() else { return Err("an exponent for each element".into()) };
    unary(b, op, UnaryKind::Pow { exponent })
}

/// Two operands in the output's number format.
fn operands(b: &mut Builder<'_>, op: &Operator<'_>) -> Importing<[ValueId; 2]> {
    if b.is_constant(op, 0) && b.is_constant(op, 1) {
        return Ok([b.real(op, 0)?, b.real(op, 1)?]);
    }
    let form = b.out_form(op, 0)?;
    if form.dtype == DType::I32 {
        return Err("int32 arithmetic at run time".into());
    }
    if !form.is_quantised() {
        return Ok([b.real(op, 0)?, b.real(op, 1)?]);
    }
    let both = [b.value(op, 0)?, b.value(op, 1)?];
    match both.iter().all(|id| b.form_of(*id).dtype == form.dtype) {
        true => Ok(both),
        false => Err("operands with different number formats".into()),
    }
}

pub(super) fn binary(b: &mut Builder<'_>, op: &Operator<'_>, kind: BinaryKind) -> Importing {
    if derived(b, op)? {
        return Ok(());
    }
    let function = match kind {
        BinaryKind::Add => op.options.builtin_options_as_add_options().map(|o| o.fused_activation_function()),
        BinaryKind::Sub => op.options.builtin_options_as_sub_options().map(|o| o.fused_activation_function()),
        BinaryKind::Mul => op.options.builtin_options_as_mul_options().map(|o| o.fused_activation_function()),
        BinaryKind::Div => op.options.builtin_options_as_div_options().map(|o| o.fused_activation_function()),
        BinaryKind::Min | BinaryKind::Max | BinaryKind::Math(_) => None,
    };
    let fused = function.map_or(Ok(Fused::Clip(Activation::None)), Fused::read)?;
    let [x, y] = operands(b, op)?;
    let kind = Op::Binary { kind, activation: fused.activation() };
    if !b.form_of(x).is_quantised() && b.out_form(op, 0)?.is_quantised() {
        return b.finish_real(op, kind, vec![x, y]);
    }
    b.finish_activated(op, kind, vec![x, y], fused)
}

/// Arithmetic on integers that come from shapes and constants: its output is one too. Returns whether it is.
pub(super) fn derived(b: &mut Builder<'_>, op: &Operator<'_>) -> Importing<bool> {
    let constant = |e: &Entry| matches!(e, Entry::Derived | Entry::Constant | Entry::Computed(_));
    let integers = op.outputs.iter().all(|t| matches!(b.tensors[*t].kind, Kind::I32 | Kind::I64));
    let from_shapes = op.inputs.iter().flatten().any(|t| matches!(b.entries[*t], Entry::Derived))
        || integers && op.inputs.iter().flatten().all(|t| constant(&b.entries[*t]));
    if from_shapes {
        for i in 0..op.outputs.len() {
            b.bind(op, i, Entry::Derived)?;
        }
    }
    Ok(from_shapes)
}

pub(super) fn add_n(b: &mut Builder<'_>, op: &Operator<'_>) -> Importing {
    let mut sum = b.real(op, 0)?;
    for i in 1..op.inputs.len() {
        let next = b.real(op, i)?;
        if i + 1 == op.inputs.len() {
            return b.finish_real(op, plain(BinaryKind::Add), vec![sum, next]);
        }
        let name = b.part(op, "sum");
        sum = b.emit(op, plain(BinaryKind::Add), vec![sum, next], None, &Form::F32, &name)?;
    }
    let (zero, name) = (b.part(op, "zero"), vec![0.0]);
    let zero = b.reals(&zero, vec![1], name)?;
    b.finish_real(op, plain(BinaryKind::Add), vec![sum, zero])
}

pub(super) fn squared_difference(b: &mut Builder<'_>, op: &Operator<'_>) -> Importing {
    let (x, y) = (b.real(op, 0)?, b.real(op, 1)?);
    let name = b.part(op, "difference");
    let d = b.emit(op, plain(BinaryKind::Sub), vec![x, y], None, &Form::F32, &name)?;
    b.finish_real(op, plain(BinaryKind::Mul), vec![d, d])
}

/// A slope for all channels or one per channel is one operator; other slopes are `max(x, 0) + slope · min(x, 0)`.
pub(super) fn prelu(b: &mut Builder<'_>, op: &Operator<'_>) -> Importing {
    let x = b.value(op, 0)?;
    let shape = b.shape(x);
    let channels = shape.last().copied().unwrap_or(1);
    if b.is_constant(op, 1) {
        let slope = b.constant(op, 1)?;
        let one = slope.len() == 1;
        let by_channel = slope.len() == channels && slope.shape.last() == Some(&channels);
        if (one || by_channel) && slope.quant.as_ref().is_none_or(|q| q.axis.is_none()) {
            let at: Vec<usize> = (0..channels).map(|i| if one { 0 } else { i }).collect();
            let flat = Constant {
                shape: vec![channels],
                elements: slope.elements.gather(&at),
                quant: slope.quant.clone(),
            };
            let name = b.tensors[b.input(op, 1)?].name.clone();
            let form = b.form_of(x);
            if form.dtype != b.out_form(op, 0)?.dtype {
                return Err("input and output have different number formats".into());
            }
            let slope = match form.is_i8() {
                true => b.add(&name, &flat)?,
                false => b.reals(&name, vec![channels], flat.to_reals())?,
            };
            return b.finish(op, Op::PRelu, vec![x, slope], 0);
        }
    }
    let (x, slope) = (b.real(op, 0)?, b.real(op, 1)?);
    let clip = |min, max| Op::Unary(UnaryKind::Clip { min, max });
    let name = b.part(op, "positive");
    let positive = b.emit(op, clip(0.0, f32::INFINITY), vec![x], None, &Form::F32, &name)?;
    let name = b.part(op, "negative");
    let negative = b.emit(op, clip(f32::NEG_INFINITY, 0.0), vec![x], None, &Form::F32, &name)?;
    let name = b.part(op, "scaled");
    let scaled = b.emit(op, plain(BinaryKind::Mul), vec![negative, slope], None, &Form::F32, &name)?;
    b.finish_real(op, plain(BinaryKind::Add), vec![positive, scaled])
}

/// From int8, int16 or float32 to int8 or int16.
pub(super) fn quantize(b: &mut Builder<'_>, op: &Operator<'_>) -> Importing {
    let x = if b.is_constant(op, 0) { b.real(op, 0)? } else { b.value(op, 0)? };
    if !b.out_form(op, 0)?.is_quantised() {
        return Err(format!("quantises to {}", b.tensors[b.output(op, 0)?].kind_name));
    }
    let kind = if b.form_of(x).is_quantised() { Op::Requantize } else { Op::Quantize };
    b.finish(op, kind, vec![x], 0)
}

/// To float32. Weights in float16 or int8 become float32 constants.
pub(super) fn dequantize(b: &mut Builder<'_>, op: &Operator<'_>) -> Importing {
    if b.is_constant(op, 0) {
        let c = b.constant(op, 0)?;
        let real = Constant::new(c.shape.clone(), Elements::F32(c.to_reals()));
        return b.bind(op, 0, Entry::Computed(real));
    }
    let x = b.value(op, 0)?;
    if b.form_of(x).dtype == DType::F32 {
        return b.bind(op, 0, Entry::Value(x));
    }
    b.finish(op, Op::Dequantize, vec![x], 0)
}

/// Conversions that keep the numbers: integers to float32, and among themselves.
pub(super) fn cast(b: &mut Builder<'_>, op: &Operator<'_>) -> Importing {
    let out = b.out_form(op, 0)?;
    if b.is_constant(op, 0) {
        let c = b.constant(op, 0)?;
        let entry = match (c.to_ints().filter(|_| out.dtype == DType::I32), out.dtype) {
            (Some(ints), _) => Constant { elements: Elements::I64(ints), quant: None, ..c },
            (None, DType::F32) => Constant::new(c.shape.clone(), Elements::F32(c.to_reals())),
            _ => return Err("rounds constants to integers".into()),
        };
        return b.bind(op, 0, Entry::Computed(entry));
    }
    if derived(b, op)? {
        return Ok(());
    }
    let x = b.value(op, 0)?;
    let from = b.form_of(x);
    if from.dtype == out.dtype && from.quant == out.quant {
        return b.bind(op, 0, Entry::Value(x));
    }
    // The numbers of a tensor with a scale are its codes, not what they stand for.
    let raw = b.input(op, 0).map(|t| b.tensors[t].quant.is_none())?;
    match (from.dtype, out.dtype) {
        (DType::I8, DType::F32) if raw => b.finish(op, Op::Dequantize, vec![x], 0),
        (DType::I32, DType::F32) => b.finish(op, Op::Cast, vec![x], 0),
        (from, to) => Err(format!("{from:?} to {to:?}")),
    }
}
