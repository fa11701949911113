//! Softmax, LogSoftmax, and normalisations: batch, layer, instance, group, root mean square and Lp.

use offshoot_ir::{Activation, BinaryKind, Op, ReduceKind, UnaryKind, ValueId};

use crate::constant::{Constant, Elements};
use crate::context::{Context, Importing, Onnx, to_first, to_last};

pub(crate) fn softmax(c: &mut Context<'_>, onnx: &Onnx<'_>, log: bool) -> Importing {
    let x = c.value(onnx, 0)?;
    let shape = c.shape(x).to_vec();
    let name = onnx.output(0).unwrap_or_default().to_owned();
    let before_13 = c.opset < 13;
    let axis = onnx.axis("axis", if before_13 { 1 } else { -1 }, shape.len())?;
    // Before opset 13, all axes from `axis` on form one row.
    let flat = before_13 && shape[axis + 1..].iter().any(|d| *d != 1);
    // A single element has probability 1.
    if log && !flat && shape[axis] == 1 {
        let zero = UnaryKind::HardSigmoid { alpha: 0.0, beta: 0.0 };
        return c.finish(onnx, Op::Unary(zero), vec![x], None, 0);
    }
    if !flat {
        if !log {
            return c.finish(onnx, Op::Softmax { axis }, vec![x], None, 0);
        }
        let (shifted, log_sum) = log_softmax(c, onnx, x, axis, &name)?;
        return c.finish(onnx, SUB, vec![shifted, log_sum], None, 0);
    }
    let rows = shape[..axis].iter().product();
    let depth = shape[axis..].iter().product();
    let row = c.emit(onnx, Op::Reshape, vec![x], Some(vec![rows, depth]), &format!("{name}/rows"))?;
    let p = if log {
        let (shifted, log_sum) = log_softmax(c, onnx, row, 1, &name)?;
        c.emit(onnx, SUB, vec![shifted, log_sum], None, &format!("{name}/log"))?
    } else {
        c.emit(onnx, Op::Softmax { axis: 1 }, vec![row], None, &format!("{name}/softmax"))?
    };
    c.finish(onnx, Op::Reshape, vec![p], Some(shape), 0)
}

const SUB: Op = Op::Binary { kind: BinaryKind::Sub, activation: Activation::None };

/// `x - max` and `log(sum(exp(x - max)))`, whose difference is the log-softmax. Taking the logarithm of a computed
/// softmax would give -inf wherever the softmax is below float32's range.
fn log_softmax(
    c: &mut Context<'_>,
    onnx: &Onnx<'_>,
    x: ValueId,
    axis: usize,
    name: &str,
) -> Importing<(ValueId, ValueId)> {
    let mut kept = c.shape(x).to_vec();
    kept[axis] = 1;
    let reduce = |kind| Op::Reduce { kind, axes: vec![axis] };
    let max = c.emit(onnx, reduce(ReduceKind::Max), vec![x], Some(kept.clone()), &format!("{name}/max"))?;
    let shifted = c.emit(onnx, SUB, vec![x, max], None, &format!("{name}/shifted"))?;
    let exp = c.emit(onnx, Op::Unary(UnaryKind::Exp), vec![shifted], None, &format!("{name}/exp"))?;
    let sum = c.emit(onnx, reduce(ReduceKind::Sum), vec![exp], Some(kept), &format!("{name}/sum"))?;
    let log_sum = c.emit(onnx, Op::Unary(UnaryKind::Log), vec![sum], None, &format!("{name}/log_sum"))?;
    Ok((shifted, log_sum))
}

pub(crate) fn batch_norm(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    if onnx.int("training_mode", 0) != 0 {
        return Err("training_mode: export the model for inference".into());
    }
    if onnx.int("spatial", 1) == 0 {
        return Err("spatial = 0: statistics per position".into());
    }
    if (1..5).any(|i| onnx.output(i).is_some()) {
        return Err("running statistics as outputs: export the model for inference".into());
    }
    if (1..5).any(|i| !c.is_constant(onnx, i)) {
        return super::norm_composed::batch_norm(c, onnx);
    }
    let x = c.value(onnx, 0)?;
    let rank = c.shape(x).len();
    if rank < 2 {
        return Err(format!("input with {rank} axes"));
    }
    let channels = c.shape(x)[1];
    let mut parameters = Vec::new();
    for i in 1..5 {
        let p = c.wanted(onnx, i)?;
        if p.len() != channels {
            return Err(format!("input {i} has {} elements for {channels} channels", p.len()));
        }
        parameters.push(c.add_constant(onnx.input(i).unwrap_or_default(), &p.reshaped(vec![channels])?));
    }
    let op = Op::BatchNorm { epsilon: onnx.float("epsilon", 1e-5) };
    if rank == 2 {
        let inputs = [vec![x], parameters].concat();
        return c.finish(onnx, op, inputs, None, 0);
    }
    let name = onnx.output(0).unwrap_or_default().to_owned();
    let last = c.emit(onnx, Op::Transpose { perm: to_last(rank) }, vec![x], None, &format!("{name}/x"))?;
    let y = c.emit(onnx, op, [vec![last], parameters].concat(), None, &format!("{name}/nhwc"))?;
    c.finish(onnx, Op::Transpose { perm: to_first(rank) }, vec![y], None, 0)
}

pub(crate) fn layer_norm(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    let computed = (1..3).any(|i| onnx.input(i).is_some() && !c.is_constant(onnx, i));
    if computed || onnx.output(1).is_some() || onnx.output(2).is_some() {
        return super::norm_composed::layer_norm(c, onnx);
    }
    let x = c.value(onnx, 0)?;
    let shape = c.shape(x).to_vec();
    let axis = onnx.axis("axis", -1, shape.len())?;
    let depth: usize = shape[axis..].iter().product();
    let name = onnx.output(0).unwrap_or_default().to_owned();
    let bias = match c.constant(onnx, 2)? {
        Some(bias) => row(&bias, &shape[axis..]),
        None => Some(Constant::new(vec![depth], Elements::F32(vec![0.0; depth]))),
    };
    // Parameters that differ from row to row are a product and a sum of their own.
    let (Some(scale), Some(bias)) = (row(&c.wanted(onnx, 1)?, &shape[axis..]), bias) else {
        return super::norm_composed::layer_norm(c, onnx);
    };
    let gamma = c.add_constant(onnx.input(1).unwrap_or_default(), &scale);
    let beta = match onnx.input(2) {
        Some(given) => c.add_constant(given, &bias),
        None => c.add_constant(&format!("{name}/bias"), &bias),
    };
    let op = Op::LayerNorm { epsilon: onnx.float("epsilon", 1e-5) };
    if axis + 1 == shape.len() {
        return c.finish(onnx, op, vec![x, gamma, beta], None, 0);
    }
    let rows = shape[..axis].iter().product();
    let row = c.emit(onnx, Op::Reshape, vec![x], Some(vec![rows, depth]), &format!("{name}/rows"))?;
    let y = c.emit(onnx, op, vec![row, gamma, beta], None, &format!("{name}/normed"))?;
    c.finish(onnx, Op::Reshape, vec![y], Some(shape), 0)
}

/// A parameter of all elements of a row of these extents, flat, to which it is broadcast; `None` if it has more axes.
fn row(parameter: &Constant, extents: &[usize]) -> Option<Constant> {
    let depth = extents.iter().product();
    if parameter.len() == depth {
        return parameter.reshaped(vec![depth]).ok();
    }
    let more = parameter.shape.len().saturating_sub(extents.len());
    let (outer, own) = parameter.shape.split_at(more);
    let along = extents.len() - own.len();
    let fits = own.iter().zip(&extents[along..]).all(|(d, e)| *d == 1 || d == e);
    if !fits || outer.iter().any(|d| *d != 1) {
        return None;
    }
    let place = |flat: usize| {
        let (mut rest, mut at, mut stride) = (flat, 0, 1);
        for (d, extent) in own.iter().zip(&extents[along..]).rev() {
            at += if *d == 1 { 0 } else { rest % extent * stride };
            (rest, stride) = (rest / extent, stride * d);
        }
        at
    };
    let at: Vec<usize> = (0..depth).map(place).collect();
    let flat = Constant::new(vec![parameter.len()], Elements::F32(parameter.to_reals()));
    Some(flat.gathered(&at))
}

const fn binary(kind: BinaryKind) -> Op {
    Op::Binary { kind, activation: Activation::None }
}

/// The value times input 1 plus input 2, both computed or constant, of this number of elements, broadcast along axis 1.
fn scaled(c: &mut Context<'_>, onnx: &Onnx<'_>, x: ValueId, groups: usize) -> Importing {
    let channels = c.shape(x)[1];
    let wide = [vec![channels], vec![1; c.shape(x).len() - 2]].concat();
    let mut parameters = Vec::new();
    for i in [1, 2] {
        let name = onnx.input(i).unwrap_or_default();
        if c.is_constant(onnx, i) {
            let given = spread(c.wanted(onnx, i)?, channels, groups)?;
            parameters.push(c.add_constant(name, &given.reshaped(wide.clone())?));
            continue;
        }
        let own = c.value(onnx, i)?;
        if c.shape(own).iter().product::<usize>() != channels {
            return Err(format!("{:?} computed parameters for {channels} channels", c.shape(own)));
        }
        let part = format!("{}/parameter_{i}", onnx.name);
        parameters.push(c.emit(onnx, Op::Reshape, vec![own], Some(wide.clone()), &part)?);
    }
    let [gamma, beta] = parameters[..] else { return Err("parameters".into()) };
    let y = c.emit(onnx, binary(BinaryKind::Mul), vec![x, gamma], None, &format!("{}/scaled", onnx.name))?;
    c.finish(onnx, binary(BinaryKind::Add), vec![y, beta], None, 0)
}

/// Views `x` as rows, normalises each by its mean and variance, and restores its shape.
fn normalised_rows(
    c: &mut Context<'_>,
    onnx: &Onnx<'_>,
    x: ValueId,
    rows: usize,
    epsilon: f32,
) -> Importing<ValueId> {
    let shape = c.shape(x).to_vec();
    let depth = shape.iter().product::<usize>() / rows.max(1);
    let name = onnx.output(0).unwrap_or_default().to_owned();
    let one = c.add_reals(&format!("{name}/one"), vec![depth], vec![1.0; depth]);
    let zero = c.add_reals(&format!("{name}/zero"), vec![depth], vec![0.0; depth]);
    let row = c.emit(onnx, Op::Reshape, vec![x], Some(vec![rows, depth]), &format!("{name}/rows"))?;
    let y = c.emit(onnx, Op::LayerNorm { epsilon }, vec![row, one, zero], None, &format!("{name}/normed"))?;
    c.emit(onnx, Op::Reshape, vec![y], Some(shape), &format!("{name}/whole"))
}

/// InstanceNormalization: each channel of each sample separately.
pub(crate) fn instance_norm(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    let x = c.value(onnx, 0)?;
    let [n, channels, ..] = *c.shape(x) else {
        return Err(format!("input {:?} has no channels", c.shape(x)));
    };
    let y = normalised_rows(c, onnx, x, n * channels, onnx.float("epsilon", 1e-5))?;
    scaled(c, onnx, y, channels)
}

/// GroupNormalization: scale and shift are one per group before opset 21, one per channel from then on.
pub(crate) fn group_norm(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    let x = c.value(onnx, 0)?;
    let [n, channels, ..] = *c.shape(x) else {
        return Err(format!("input {:?} has no channels", c.shape(x)));
    };
    let groups = usize::try_from(onnx.int("num_groups", 0)).ok().filter(|g| *g > 0 && channels % g == 0);
    let groups =
        groups.ok_or_else(|| format!("num_groups {} of {channels} channels", onnx.int("num_groups", 0)))?;
    let y = normalised_rows(c, onnx, x, n * groups, onnx.float("epsilon", 1e-5))?;
    scaled(c, onnx, y, groups)
}

/// Parameters of channels, of which each group may have one.
fn spread(parameters: Constant, channels: usize, groups: usize) -> Importing<Constant> {
    match parameters.len() {
        len if len == channels => Ok(parameters),
        len if len == groups => {
            let at: Vec<usize> = (0..channels).map(|i| i / (channels / groups)).collect();
            Ok(Constant::new(vec![groups], Elements::F32(parameters.to_reals())).gathered(&at))
        }
        len => Err(format!("{len} parameters for {channels} channels in {groups} groups")),
    }
}

/// RMSNormalization: x / sqrt(mean(x²) + epsilon) · scale, over the axes from `axis` on.
pub(crate) fn rms_norm(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    let x = c.value(onnx, 0)?;
    let shape = c.shape(x).to_vec();
    let axis = onnx.axis("axis", -1, shape.len())?;
    let name = onnx.output(0).unwrap_or_default().to_owned();
    let square = Op::Unary(UnaryKind::Pow { exponent: 2.0 });
    let y = c.emit(onnx, square, vec![x], None, &format!("{name}/square"))?;
    let kept = shape.iter().enumerate().map(|(a, d)| if a < axis { *d } else { 1 }).collect();
    let mean = Op::Reduce { kind: ReduceKind::Mean, axes: (axis..shape.len()).collect() };
    let y = c.emit(onnx, mean, vec![y], Some(kept), &format!("{name}/mean"))?;
    let epsilon = c.add_reals(&format!("{name}/epsilon"), vec![1], vec![onnx.float("epsilon", 1e-5)]);
    let y = c.emit(onnx, binary(BinaryKind::Add), vec![y, epsilon], None, &format!("{name}/variance"))?;
    let y = c.emit(onnx, Op::Unary(UnaryKind::Sqrt), vec![y], None, &format!("{name}/deviation"))?;
    let y = c.emit(onnx, binary(BinaryKind::Div), vec![x, y], None, &format!("{name}/normed"))?;
    let scale = c.value(onnx, 1)?;
    c.finish(onnx, binary(BinaryKind::Mul), vec![y, scale], None, 0)
}

/// LpNormalization: x divided by its norm along an axis, 0 where the norm is 0.
pub(crate) fn lp_norm(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    let x = c.value(onnx, 0)?;
    let shape = c.shape(x).to_vec();
    let axis = onnx.axis("axis", -1, shape.len())?;
    let name = onnx.output(0).unwrap_or_default().to_owned();
    let (inner, root) = match onnx.int("p", 2) {
        1 => (UnaryKind::Abs, None),
        2 => (UnaryKind::Pow { exponent: 2.0 }, Some(UnaryKind::Sqrt)),
        other => return Err(format!("p {other}; 1 and 2 are supported")),
    };
    let y = c.emit(onnx, Op::Unary(inner), vec![x], None, &format!("{name}/inner"))?;
    let mut kept = shape;
    kept[axis] = 1;
    let sum = Op::Reduce { kind: ReduceKind::Sum, axes: vec![axis] };
    let mut y = c.emit(onnx, sum, vec![y], Some(kept), &format!("{name}/sum"))?;
    if let Some(root) = root {
        y = c.emit(onnx, Op::Unary(root), vec![y], None, &format!("{name}/norm"))?;
    }
    let least = c.add_reals(&format!("{name}/least"), vec![1], vec![f32::MIN_POSITIVE]);
    let y = c.emit(onnx, binary(BinaryKind::Max), vec![y, least], None, &format!("{name}/bounded"))?;
    c.finish(onnx, binary(BinaryKind::Div), vec![x, y], None, 0)
}
