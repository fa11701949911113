//! QuantizeLinear, DequantizeLinear. uint8 becomes int8 by subtracting 128 from values and zero points, which is
//! exact. Activations of 2 and 4 bits are int8 within narrower bounds. Those of 16 bits are int16: uint16 with its zero point in
//! the middle by subtracting 32768. With any other zero point, which int16 kernels do not have, the steps around zero are up to
//! twice as wide, within the bounds of the file; where codes leave the graph, and with scales per channel, they are whole
//! numbers in float32. Weights with a scale per block are float32; the exporter stores them in few bits.

use offshoot_ir::{BinaryKind, DType, ElementaryKind, Op, Quant, UnaryKind, ValueId};

use super::blocks;
use crate::constant::{Constant, Elements, Short};
use crate::context::{Context, Entry, Importing, Onnx, Twin, axis};

/// The int8 zero point that corresponds to 0 in uint8.
const UNSIGNED: i32 = -128;
/// The uint16 number that corresponds to 0 in int16.
const MIDDLE: i32 = 1 << 15;

/// Type that a QuantizeLinear makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    I8,
    U8,
    Short(Short),
}

impl Kind {
    /// The zero point where none is given, and the range, in the numbers of the graph.
    fn numbers(self) -> (i32, (i32, i32)) {
        match self {
            Self::I8 => (0, (-128, 127)),
            Self::U8 => (UNSIGNED, (-128, 127)),
            Self::Short(short) => (0, short.range()),
        }
    }
}

/// The scale of what becomes int16, of which there is one, and whether the codes are those of the file: the zero point lies in the
/// middle of the type. Else the far end of the file's range takes the last code.
fn int16(kind: Kind, quant: &Quant) -> Option<(Quant, bool)> {
    let Kind::Short(short @ (Short::I16 | Short::U16)) = kind else { return None };
    let (least, most) = short.range();
    let middle = if short == Short::U16 { MIDDLE } else { 0 };
    let &[zero] = &quant.zero_point[..] else { return None };
    if quant.axis.is_some() || !(least..=most).contains(&zero) {
        return None;
    }
    if zero == middle {
        return Some((Quant::per_tensor(quant.scale[0], 0), true));
    }
    let far = f64::from((zero - least).max(most - zero));
    let scale = (f64::from(quant.scale[0]) * far / f64::from(i16::MAX)) as f32;
    scale.is_normal().then(|| (Quant::per_tensor(scale, 0), false))
}

/// What a QuantizeLinear makes: decided by its zero point's type, then by `output_dtype`; uint8 is ONNX's default.
fn kind(c: &Context<'_>, onnx: &Onnx<'_>) -> Importing<Kind> {
    let asked = match onnx.int("output_dtype", 0) {
        0 => None,
        2 => Some(Kind::U8),
        3 => Some(Kind::I8),
        other => {
            let short = i32::try_from(other).ok().and_then(Short::of);
            Some(Kind::Short(short.ok_or_else(|| format!("output_dtype {other}; integers are supported"))?))
        }
    };
    let given = c.constant(onnx, 2)?.map(|z| match z.elements {
        Elements::U8(_) => Kind::U8,
        Elements::Short(_, short) => Kind::Short(short),
        _ => Kind::I8,
    });
    Ok(given.or(asked).unwrap_or(Kind::U8))
}

/// Scale and zero point of a node, in the numbers of the graph; `absent` is the zero point if none is given.
fn parameters(c: &Context<'_>, onnx: &Onnx<'_>, rank: usize, absent: i32) -> Importing<Quant> {
    let scale = c.wanted(onnx, 1)?;
    let scales = scale.to_reals();
    if scales.is_empty() || scales.iter().any(|s| !(s.is_finite() && *s > 0.0)) {
        return Err("a scale that is not a positive number".into());
    }
    let zero_point: Vec<i32> = match c.constant(onnx, 2)? {
        None => vec![absent; scales.len()],
        Some(z) => match z.elements {
            Elements::U8(v) => v.iter().map(|v| i32::from(*v) - 128).collect(),
            Elements::I8(v) => v.iter().map(|v| i32::from(*v)).collect(),
            Elements::I32(v) | Elements::Short(v, _) => v,
            _ => return Err("zero points that are no integers of up to 32 bits".into()),
        },
    };
    if zero_point.len() != scales.len() {
        return Err(format!("{} zero points for {} scales", zero_point.len(), scales.len()));
    }
    // A tensor with one axis leaves no choice: tf2onnx writes `axis=3` at biases.
    let along = match (scales.len(), rank) {
        (1, _) => None,
        (_, 1) => Some(0),
        _ => Some(axis(onnx.int("axis", 1), rank)?),
    };
    Ok(Quant { scale: scales, zero_point, axis: along })
}

/// The scale and zero point by which a DequantizeLinear reads the integers `x`; `None` unless both are constants, one of each.
pub(super) fn grid(c: &Context<'_>, onnx: &Onnx<'_>, x: ValueId) -> Option<Quant> {
    let absent = if c.is_unsigned(x) { UNSIGNED } else { 0 };
    parameters(c, onnx, c.shape(x).len(), absent).ok().filter(|q| q.axis.is_none())
}

/// Whether the node has a scale for each of several blocks along an axis.
fn has_blocks(onnx: &Onnx<'_>) -> bool {
    onnx.int("block_size", 0) != 0
}

fn check_axis(quant: &Quant, shape: &[usize]) -> Importing {
    match quant.axis {
        Some(a) if shape[a] != quant.scale.len() => {
            Err(format!("{} scales for an axis of {}", quant.scale.len(), shape[a]))
        }
        _ => Ok(()),
    }
}

pub(crate) fn dequantize(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    if c.is_constant(onnx, 0) {
        let x = c.wanted(onnx, 0)?;
        if has_blocks(onnx) {
            let real = blocks::dequantized(c, onnx, &x)?;
            return c.bind(onnx, 0, Entry::Constant(real));
        }
        let absent = if matches!(x.elements, Elements::U8(_)) { UNSIGNED } else { 0 };
        let quant = parameters(c, onnx, x.shape.len(), absent)?;
        check_axis(&quant, &x.shape)?;
        let elements = match x.elements {
            Elements::U8(v) => Elements::I8(v.iter().map(|v| (i16::from(*v) - 128) as i8).collect()),
            Elements::Short(v, short) if short.bits() < 8 => {
                Elements::I8(v.iter().map(|v| *v as i8).collect())
            }
            Elements::Short(v, _) => Elements::I32(v),
            e @ (Elements::I8(_) | Elements::I32(_)) => e,
            _ => return Err("a constant that is no integer of up to 32 bits".into()),
        };
        let real = Constant { shape: x.shape, elements, quant: Some(quant) };
        return c.bind(onnx, 0, Entry::Constant(real));
    }
    let x = c.value(onnx, 0)?;
    let shape = c.shape(x).to_vec();
    if has_blocks(onnx) {
        return Err("an activation with scales per block".into());
    }
    let short = c.graph.value(x).dtype == DType::I16;
    let absent = if c.is_unsigned(x) && !short { UNSIGNED } else { 0 };
    let mut quant = parameters(c, onnx, shape.len(), absent)?;
    check_axis(&quant, &shape)?;
    if short {
        let of = if c.is_unsigned(x) { Short::U16 } else { Short::I16 };
        let carried = int16(Kind::Short(of), &quant);
        quant = carried.ok_or("an activation of 16 bits with scales per channel")?.0;
    }
    match c.graph.value(x).dtype {
        DType::I8 | DType::I16 => {}
        DType::F32 => return real_of_whole(c, onnx, x, &quant),
        DType::I32 if c.graph.value(x).quant.is_none() => {
            let whole = c.emit(onnx, Op::Cast, vec![x], None, &format!("{}/whole", onnx.name))?;
            return real_of_whole(c, onnx, whole, &quant);
        }
        _ => return Err("its input is no integer".into()),
    }
    if quant.axis.is_some() {
        return Err("an activation with scales per channel".into());
    }
    if let Some(own) = &c.graph.value(x).quant
        && *own != quant
    {
        return Err("scale or zero point differ from the QuantizeLinear before".into());
    }
    c.set_quant(x, &quant);
    c.finish(onnx, Op::Dequantize, vec![x], None, 0)
}

pub(crate) fn quantize(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    let kind = kind(c, onnx)?;
    let (absent, (least, most)) = kind.numbers();
    if c.is_constant(onnx, 0) {
        let x = c.wanted(onnx, 0)?;
        if has_blocks(onnx) {
            return Err("it computes weights with scales per block; fold the constant before".into());
        }
        // Stays an integer constant until its DequantizeLinear; other readers see the original U8.
        let quant = parameters(c, onnx, x.shape.len(), absent)?;
        check_axis(&quant, &x.shape)?;
        let inner: usize = quant.axis.map_or(1, |a| x.shape[a + 1..].iter().product::<usize>().max(1));
        let at = |i: usize| quant.axis.map_or(0, |_| (i / inner) % quant.scale.len());
        let q = x.to_reals().into_iter().enumerate().map(|(i, v)| {
            let (s, z) = (quant.scale[at(i)], quant.zero_point[at(i)]);
            // ONNX rounds half to even.
            ((v / s).round_ties_even() + z as f32).clamp(least as f32, most as f32) as i32
        });
        let elements = match kind {
            Kind::U8 => Elements::U8(q.map(|v| (v + 128) as u8).collect()),
            Kind::I8 => Elements::I8(q.map(|v| v as i8).collect()),
            Kind::Short(short) => Elements::Short(q.collect(), short),
        };
        return c.bind(onnx, 0, Entry::Constant(Constant::new(x.shape, elements)));
    }
    let mut x = c.value(onnx, 0)?;
    let shape = c.shape(x).to_vec();
    if c.graph.value(x).dtype != DType::F32 {
        return Err("its input is not float32".into());
    }
    if has_blocks(onnx) {
        return Err("an activation with scales per block".into());
    }
    let quant = parameters(c, onnx, shape.len(), absent)?;
    check_axis(&quant, &shape)?;
    if quant.zero_point.iter().any(|z| !(least..=most).contains(z)) {
        return Err("a zero point outside the range of its type".into());
    }
    let codes = c.lasting.as_ref().is_none_or(|names| onnx.output(0).is_some_and(|y| names.contains(y)));
    let int16 = int16(kind, &quant).filter(|(_, exact)| *exact || !codes);
    if let Kind::Short(short) = kind
        && short.bits() > 8
        && int16.is_none()
    {
        return whole_of_real(c, onnx, x, &quant, (least, most));
    }
    if quant.axis.is_some() {
        return Err("an activation with scales per channel".into());
    }
    // An exporter that gives every reader its own pair quantises the same tensor several times.
    let unsigned = matches!(kind, Kind::U8 | Kind::Short(Short::U16));
    let exact = int16.as_ref().map_or(!matches!(kind, Kind::Short(_)), |(_, exact)| *exact);
    let dtype = if int16.is_some() { DType::I16 } else { DType::I8 };
    let real = |q: i32| (q - quant.zero_point[0]) as f32 * quant.scale[0];
    let bounds = (!exact).then(|| UnaryKind::Clip { min: real(least), max: real(most) });
    let quant = int16.map_or(quant, |(quant, _)| quant);
    let source = x;
    let twin = c.quantised.get(&source).into_iter().flatten().find(|twin| {
        let value = c.graph.value(twin.id);
        let same = value.dtype == dtype && value.quant.as_ref() == Some(&quant);
        same && c.is_unsigned(twin.id) == unsigned && twin.bounds == bounds
    });
    if let Some(twin) = twin.map(|twin| twin.id) {
        return c.bind(onnx, 0, Entry::Value(twin));
    }
    let name = format!("{}/bounds", onnx.name);
    match &bounds {
        // Operators that cannot clip write all integers, and so does a graph input.
        Some(bounds) if dtype == DType::I16 && !c.clips(x) => {
            let whole = c.emit(onnx, Op::Quantize, vec![x], None, &format!("{}/whole", onnx.name))?;
            let value = c.graph.value_mut(whole);
            (value.dtype, value.quant) = (dtype, Some(quant.clone()));
            x = c.emit(onnx, Op::Dequantize, vec![whole], None, &format!("{}/real", onnx.name))?;
            x = c.emit(onnx, Op::Unary(*bounds), vec![x], None, &name)?;
        }
        Some(bounds) => x = c.emit(onnx, Op::Unary(*bounds), vec![x], None, &name)?,
        None => {}
    }
    c.finish(onnx, Op::Quantize, vec![x], None, 0)?;
    let name = onnx.output(0).unwrap_or_default();
    if let Ok(Entry::Value(id)) = c.entry(name) {
        let id = *id;
        (c.graph.value_mut(id).dtype, c.graph.value_mut(id).quant) = (dtype, Some(quant));
        c.quantised.entry(source).or_default().push(Twin { id, bounds });
        if !exact && dtype == DType::I16 {
            c.rescaled.insert(id);
        }
        if unsigned {
            c.unsigned.insert(id);
        }
    }
    Ok(())
}

/// Numbers of a tensor with `rank` axes, one for all or one for each index along an axis, as an operand.
fn operand(c: &mut Context<'_>, name: &str, rank: usize, axis: Option<usize>, values: Vec<f32>) -> ValueId {
    let shape = (0..rank).map(|a| if Some(a) == axis { values.len() } else { 1 }).collect();
    c.add_reals(name, shape, values)
}

/// `x` times, divided by, or plus the numbers of a quantised tensor.
fn arithmetic(
    c: &mut Context<'_>,
    onnx: &Onnx<'_>,
    x: ValueId,
    (kind, step): (BinaryKind, &str),
    axis: Option<usize>,
    values: Vec<f32>,
) -> Importing<ValueId> {
    let rank = c.shape(x).len();
    let name = format!("{}/{step}", onnx.name);
    let b = operand(c, &format!("{name}/number"), rank, axis, values);
    c.emit(onnx, Op::Binary { kind, activation: offshoot_ir::Activation::None }, vec![x, b], None, &name)
}

/// Quantises to whole numbers in float32.
fn whole_of_real(
    c: &mut Context<'_>,
    onnx: &Onnx<'_>,
    x: ValueId,
    quant: &Quant,
    (least, most): (i32, i32),
) -> Importing {
    let scale = quant.scale.clone();
    let mut y = arithmetic(c, onnx, x, (BinaryKind::Div, "steps"), quant.axis, scale)?;
    let round = Op::Unary(UnaryKind::Elementary(ElementaryKind::Round));
    y = c.emit(onnx, round, vec![y], None, &format!("{}/round", onnx.name))?;
    if quant.zero_point.iter().any(|z| *z != 0) {
        let zero = quant.zero_point.iter().map(|z| *z as f32).collect();
        y = arithmetic(c, onnx, y, (BinaryKind::Add, "zero"), quant.axis, zero)?;
    }
    let clip = UnaryKind::Clip { min: least as f32, max: most as f32 };
    c.finish(onnx, Op::Unary(clip), vec![y], None, 0)
}

/// Dequantises whole numbers in float32.
fn real_of_whole(c: &mut Context<'_>, onnx: &Onnx<'_>, x: ValueId, quant: &Quant) -> Importing {
    let mut y = x;
    if quant.zero_point.iter().any(|z| *z != 0) {
        let zero = quant.zero_point.iter().map(|z| -(*z as f32)).collect();
        y = arithmetic(c, onnx, y, (BinaryKind::Add, "from_zero"), quant.axis, zero)?;
    }
    let rank = c.shape(y).len();
    let scale = operand(c, &format!("{}/scale", onnx.name), rank, quant.axis, quant.scale.clone());
    let op = Op::Binary { kind: BinaryKind::Mul, activation: offshoot_ir::Activation::None };
    c.finish(onnx, op, vec![y, scale], None, 0)
}
