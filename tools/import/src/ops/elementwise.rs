//! Unary and binary elementwise operators, PRelu, Clip.

use offshoot_ir::{
    Activation, BinaryKind, BinaryMathKind, DType, ElementaryKind, Op, Quant, UnaryKind, ValueId, elementary,
};

use crate::constant::Constant;
use crate::context::{Context, Entry, Importing, Onnx, to_first, to_last};

/// The unary function of the node, if it is one.
pub(crate) fn unary_kind(c: &Context<'_>, onnx: &Onnx<'_>) -> Importing<Option<UnaryKind>> {
    Ok(Some(match onnx.node.op_type.as_str() {
        "Relu" => UnaryKind::Clip { min: 0.0, max: f32::INFINITY },
        "Clip" if (1..3).any(|i| onnx.input(i).is_some() && !c.is_constant(onnx, i)) => return Ok(None),
        "Clip" => return clip(c, onnx),
        "LeakyRelu" => UnaryKind::LeakyRelu { alpha: onnx.float("alpha", 0.01) },
        "HardSwish" => UnaryKind::HardSwish,
        "HardSigmoid" => {
            UnaryKind::HardSigmoid { alpha: onnx.float("alpha", 0.2), beta: onnx.float("beta", 0.5) }
        }
        "Sigmoid" => UnaryKind::Sigmoid,
        "Tanh" => UnaryKind::Tanh,
        "Gelu" => match onnx.text("approximate", "none").as_str() {
            "none" => UnaryKind::Gelu,
            "tanh" => UnaryKind::GeluTanh,
            other => return Err(format!("approximate `{other}`")),
        },
        "Elu" => UnaryKind::Elu { alpha: onnx.float("alpha", 1.0) },
        "Exp" => UnaryKind::Exp,
        "Log" => UnaryKind::Log,
        "Sqrt" => UnaryKind::Sqrt,
        "Reciprocal" => UnaryKind::Reciprocal,
        "Abs" => UnaryKind::Abs,
        "Neg" => UnaryKind::Neg,
        "Erf" => UnaryKind::Erf,
        "Softplus" => UnaryKind::Softplus,
        "Pow" if c.is_constant(onnx, 1) => {
            let given = c.wanted(onnx, 1)?;
            let axes = rank(c, onnx);
            match given.to_reals()[..] {
                // An exponent of more axes than the base gives them to the power.
                [exponent] if given.shape.len() <= axes => UnaryKind::Pow { exponent },
                _ => return Ok(None),
            }
        }
        "IsInf" => UnaryKind::Elementary(ElementaryKind::IsInf {
            negative: onnx.int("detect_negative", 1) != 0,
            positive: onnx.int("detect_positive", 1) != 0,
        }),
        other => return Ok(elementary::of_onnx(other).map(UnaryKind::Elementary)),
    }))
}

/// Number of axes of the node's first input.
fn rank(c: &Context<'_>, onnx: &Onnx<'_>) -> usize {
    match onnx.input(0).and_then(|name| c.entries.get(name)) {
        Some(Entry::Value(id)) => c.shape(*id).len(),
        Some(Entry::Constant(constant)) => constant.shape.len(),
        _ => 0,
    }
}

/// Mod: the remainder has the sign of the dividend if `fmod` is set, otherwise that of the divisor.
pub(crate) fn modulo(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    let kind = if onnx.int("fmod", 0) != 0 { BinaryMathKind::Fmod } else { BinaryMathKind::Mod };
    binary(c, onnx, BinaryKind::Math(kind))
}

fn clip(c: &Context<'_>, onnx: &Onnx<'_>) -> Importing<Option<UnaryKind>> {
    let bound = |i: usize, name: &str, none: f32| -> Importing<f32> {
        match c.constant(onnx, i)? {
            Some(v) => v.to_reals().first().copied().ok_or_else(|| format!("{name} is empty")),
            None => Ok(onnx.float(name, none)),
        }
    };
    let (min, max) = (bound(1, "min", f32::NEG_INFINITY)?, bound(2, "max", f32::INFINITY)?);
    // The greater of the lower bound and a number, and of that the lesser with the upper bound, are two operators then.
    let both = onnx.input(1).is_some() && onnx.input(2).is_some();
    if min > max && both && min.is_finite() && max.is_finite() {
        return Ok(None);
    }
    if min > max || min.is_nan() || max.is_nan() {
        return Err(format!("bounds {min} to {max}"));
    }
    Ok(Some(UnaryKind::Clip { min, max }))
}

pub(crate) fn unary(c: &mut Context<'_>, onnx: &Onnx<'_>, kind: UnaryKind) -> Importing {
    let x = c.value(onnx, 0)?;
    if let (UnaryKind::Clip { min, max }, DType::I8) = (&kind, c.graph.value(x).dtype) {
        let own = Quant::per_tensor(1.0, if c.is_unsigned(x) { -128 } else { 0 });
        c.set_quant(x, &own);
        let quant = c.graph.value(x).quant.clone().unwrap_or(own);
        return clip_codes(c, onnx, x, quant, [*min, *max]);
    }
    c.finish(onnx, Op::Unary(kind), vec![x], None, 0)
}

/// Clip and Relu of a quantised tensor's integers, as of narrow ranges and few bits: of the real numbers, between two conversions.
fn clip_codes(
    c: &mut Context<'_>,
    onnx: &Onnx<'_>,
    x: ValueId,
    quant: Quant,
    [least, most]: [f32; 2],
) -> Importing {
    let ([scale], [zero]) = (&quant.scale[..], &quant.zero_point[..]) else {
        return Err("integers with scales per channel".into());
    };
    // uint8 codes are smaller by 128 in the graph.
    let unsigned = c.is_unsigned(x);
    let origin = (zero + if unsigned { 128 } else { 0 }) as f32;
    let bounds = UnaryKind::Clip { min: (least - origin) * scale, max: (most - origin) * scale };
    let real = c.emit(onnx, Op::Dequantize, vec![x], None, &format!("{}/real", onnx.name))?;
    let clipped = c.emit(onnx, Op::Unary(bounds), vec![real], None, &format!("{}/bounds", onnx.name))?;
    c.finish(onnx, Op::Quantize, vec![clipped], None, 0)?;
    if let Ok(Entry::Value(id)) = c.entry(onnx.output(0).unwrap_or_default()) {
        let id = *id;
        c.graph.value_mut(id).quant = Some(quant);
        if unsigned {
            c.unsigned.insert(id);
        }
    }
    Ok(())
}

pub(crate) fn binary(c: &mut Context<'_>, onnx: &Onnx<'_>, kind: BinaryKind) -> Importing {
    let op = |activation| Op::Binary { kind, activation };
    match onnx.node.input.len() {
        1 => {
            let x = c.value(onnx, 0)?;
            c.bind(onnx, 0, Entry::Value(x))
        }
        2 => {
            let (a, b) = (c.value(onnx, 0)?, c.value(onnx, 1)?);
            c.finish(onnx, op(Activation::None), vec![a, b], None, 0)
        }
        // Sum, Min and Max take any number of inputs.
        n => {
            let mut a = c.value(onnx, 0)?;
            for i in 1..n {
                let b = c.value(onnx, i)?;
                if i + 1 == n {
                    return c.finish(onnx, op(Activation::None), vec![a, b], None, 0);
                }
                a = c.emit(onnx, op(Activation::None), vec![a, b], None, &format!("{}/{i}", onnx.name))?;
            }
            Err("has no input".into())
        }
    }
}

/// Whether a PRelu has constant slopes, one for all channels or one per channel.
pub(crate) fn is_channelwise_prelu(c: &mut Context<'_>, onnx: &Onnx<'_>) -> bool {
    let (Ok(x), true) = (c.value(onnx, 0), c.is_constant(onnx, 1)) else { return false };
    let Ok(slope) = c.wanted(onnx, 1) else { return false };
    let rank = c.shape(x).len();
    if rank == 0 {
        return false;
    }
    let channels = if rank > 2 { c.shape(x)[1] } else { c.shape(x).last().copied().unwrap_or(1) };
    slope.quant.is_some()
        || slope.len() == 1
        || slope.len() == channels && (rank <= 2 || slope.shape.iter().rev().nth(rank - 2) == Some(&channels))
}

/// PRelu, with one slope for all channels or one per channel.
pub(crate) fn prelu(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    let x = c.value(onnx, 0)?;
    let slope = c.wanted(onnx, 1)?;
    let rank = c.shape(x).len();
    let channels_first = rank > 2;
    let channels = if channels_first { c.shape(x)[1] } else { c.shape(x).last().copied().unwrap_or(1) };
    if slope.len() != 1 && slope.len() != channels {
        return Err(format!(
            "slope {:?}: one for all or one per channel ({channels}) is supported",
            slope.shape
        ));
    }
    if slope.len() > 1 && channels_first && slope.shape.iter().rev().nth(rank - 2) != Some(&channels) {
        return Err(format!("slope {:?} does not run along the channels", slope.shape));
    }
    let flat = if slope.len() == channels {
        slope.reshaped(vec![channels])?
    } else {
        let index = vec![0; channels];
        Constant {
            shape: vec![channels],
            elements: slope.elements.gather(&index),
            quant: slope.quant.clone(),
        }
    };
    let s = c.add_constant(onnx.input(1).unwrap_or_default(), &flat);
    if !channels_first {
        return c.finish(onnx, Op::PRelu, vec![x, s], None, 0);
    }
    let name = onnx.output(0).unwrap_or_default().to_owned();
    let last = c.emit(onnx, Op::Transpose { perm: to_last(rank) }, vec![x], None, &format!("{name}/x"))?;
    let y = c.emit(onnx, Op::PRelu, vec![last, s], None, &format!("{name}/nhwc"))?;
    c.finish(onnx, Op::Transpose { perm: to_first(rank) }, vec![y], None, 0)
}

/// `x` times a number.
fn times(c: &mut Context<'_>, onnx: &Onnx<'_>, x: ValueId, factor: f32, name: &str) -> Importing<ValueId> {
    let k = c.add_reals(&format!("{}/{name}", onnx.name), vec![1], vec![factor]);
    let op = Op::Binary { kind: BinaryKind::Mul, activation: Activation::None };
    c.emit(onnx, op, vec![x, k], None, &format!("{}/times_{name}", onnx.name))
}

/// Selu: gamma · elu(x, alpha).
pub(crate) fn selu(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    let x = c.value(onnx, 0)?;
    let (alpha, gamma) = (onnx.float("alpha", 1.673_263_2), onnx.float("gamma", 1.050_701));
    let y =
        c.emit(onnx, Op::Unary(UnaryKind::Elu { alpha }), vec![x], None, &format!("{}/elu", onnx.name))?;
    let y = times(c, onnx, y, gamma, "gamma")?;
    c.bind(onnx, 0, Entry::Value(y))
}

/// Celu: max(0, x) + min(0, alpha · (exp(x / alpha) - 1)), which for a positive alpha is alpha · elu(x / alpha, 1).
pub(crate) fn celu(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    let x = c.value(onnx, 0)?;
    let alpha = onnx.float("alpha", 1.0);
    if !(alpha.is_finite() && alpha > 0.0) {
        return Err(format!("alpha {alpha}; a positive one is supported"));
    }
    let inner = times(c, onnx, x, 1.0 / alpha, "inverse")?;
    let op = Op::Unary(UnaryKind::Elu { alpha: 1.0 });
    let y = c.emit(onnx, op, vec![inner], None, &format!("{}/elu", onnx.name))?;
    let y = times(c, onnx, y, alpha, "alpha")?;
    c.bind(onnx, 0, Entry::Value(y))
}

/// Swish (opset 24): x · sigmoid(alpha · x).
pub(crate) fn swish(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    let x = c.value(onnx, 0)?;
    let alpha = onnx.float("alpha", 1.0);
    let mut inner = x;
    if alpha != 1.0 {
        let k = c.add_reals(&format!("{}/alpha", onnx.name), vec![1], vec![alpha]);
        let op = Op::Binary { kind: BinaryKind::Mul, activation: Activation::None };
        inner = c.emit(onnx, op, vec![x, k], None, &format!("{}/scaled", onnx.name))?;
    }
    let gate =
        c.emit(onnx, Op::Unary(UnaryKind::Sigmoid), vec![inner], None, &format!("{}/gate", onnx.name))?;
    c.finish(onnx, Op::Binary { kind: BinaryKind::Mul, activation: Activation::None }, vec![x, gate], None, 0)
}

const MUL: Op = Op::Binary { kind: BinaryKind::Mul, activation: Activation::None };

/// Mish: x · tanh(softplus(x)).
pub(crate) fn mish(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    let x = c.value(onnx, 0)?;
    let inner =
        c.emit(onnx, Op::Unary(UnaryKind::Softplus), vec![x], None, &format!("{}/softplus", onnx.name))?;
    let gate = c.emit(onnx, Op::Unary(UnaryKind::Tanh), vec![inner], None, &format!("{}/gate", onnx.name))?;
    c.finish(onnx, MUL, vec![x, gate], None, 0)
}

/// Softsign: x / (1 + |x|).
pub(crate) fn softsign(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    let x = c.value(onnx, 0)?;
    let size = c.emit(onnx, Op::Unary(UnaryKind::Abs), vec![x], None, &format!("{}/size", onnx.name))?;
    let one = c.add_reals(&format!("{}/one", onnx.name), vec![1], vec![1.0]);
    let add = Op::Binary { kind: BinaryKind::Add, activation: Activation::None };
    let below = c.emit(onnx, add, vec![size, one], None, &format!("{}/below", onnx.name))?;
    let inverse =
        c.emit(onnx, Op::Unary(UnaryKind::Reciprocal), vec![below], None, &format!("{}/inverse", onnx.name))?;
    c.finish(onnx, MUL, vec![x, inverse], None, 0)
}

/// Clip with bounds that are computed at run time.
pub(crate) fn clip_by_tensors(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    let mut y = c.value(onnx, 0)?;
    for (i, kind) in [(1, BinaryKind::Max), (2, BinaryKind::Min)] {
        if onnx.input(i).is_some() {
            let bound = c.value(onnx, i)?;
            let op = Op::Binary { kind, activation: Activation::None };
            y = c.emit(onnx, op, vec![y, bound], None, &format!("{}/bound_{i}", onnx.name))?;
        }
    }
    c.bind(onnx, 0, Entry::Value(y))
}

/// Mean of tensors: their sum times the reciprocal of their number.
pub(crate) fn mean(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    let count = onnx.node.input.len();
    let mut sum = c.value(onnx, 0)?;
    for i in 1..count {
        let next = c.value(onnx, i)?;
        let op = Op::Binary { kind: BinaryKind::Add, activation: Activation::None };
        sum = c.emit(onnx, op, vec![sum, next], None, &format!("{}/{i}", onnx.name))?;
    }
    let y = times(c, onnx, sum, 1.0 / count as f32, "inverse")?;
    c.bind(onnx, 0, Entry::Value(y))
}
