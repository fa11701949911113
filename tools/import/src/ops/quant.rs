//! QuantizeLinear, DequantizeLinear. uint8 becomes int8 by subtracting 128 from values and zero points, which is
//! exact.

use offshoot_ir::{DType, Op, Quant};

use crate::constant::{Constant, Elements};
use crate::context::{Context, Entry, Importing, Onnx, axis};

/// The int8 zero point that corresponds to 0 in uint8.
const UNSIGNED: i32 = -128;

/// Whether a QuantizeLinear makes uint8: decided by its zero point's type, then by `output_dtype`; uint8 is ONNX's
/// default.
fn makes_unsigned(c: &Context<'_>, onnx: &Onnx<'_>) -> Importing<bool> {
    let asked = match onnx.int("output_dtype", 0) {
        0 => None,
        2 => Some(true),
        3 => Some(false),
        other => return Err(format!("output_dtype {other}; uint8 and int8 are supported")),
    };
    let given = c.constant(onnx, 2)?.map(|z| matches!(z.elements, Elements::U8(_)));
    Ok(given.or(asked).unwrap_or(true))
}

/// Scale and zero point of a node, converted to int8; `absent` is the zero point if none is given.
fn parameters(c: &Context<'_>, onnx: &Onnx<'_>, rank: usize, absent: i32) -> Importing<Quant> {
    if onnx.int("block_size", 0) != 0 {
        return Err("scales per block".into());
    }
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
            Elements::I32(v) => v,
            _ => return Err("zero points that are neither int8, uint8 nor int32".into()),
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

pub(crate) fn dequantize(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    if c.is_constant(onnx, 0) {
        let x = c.wanted(onnx, 0)?;
        let absent = if matches!(x.elements, Elements::U8(_)) { UNSIGNED } else { 0 };
        let quant = parameters(c, onnx, x.shape.len(), absent)?;
        if let Some(a) = quant.axis
            && x.shape[a] != quant.scale.len()
        {
            return Err(format!("{} scales for an axis of {}", quant.scale.len(), x.shape[a]));
        }
        let elements = match x.elements {
            Elements::U8(v) => Elements::I8(v.iter().map(|v| (i16::from(*v) - 128) as i8).collect()),
            e @ (Elements::I8(_) | Elements::I32(_)) => e,
            _ => return Err("a constant that is neither int8, uint8 nor int32".into()),
        };
        let real = Constant { shape: x.shape, elements, quant: Some(quant) };
        return c.bind(onnx, 0, Entry::Constant(real));
    }
    let x = c.value(onnx, 0)?;
    if c.graph.value(x).dtype != DType::I8 {
        return Err("its input is not int8 or uint8".into());
    }
    let rank = c.shape(x).len();
    let absent = if c.is_unsigned(x) { UNSIGNED } else { 0 };
    let quant = parameters(c, onnx, rank, absent)?;
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
    if c.is_constant(onnx, 0) {
        let x = c.wanted(onnx, 0)?;
        // Stays an integer constant until its DequantizeLinear; other readers see the original U8.
        let unsigned = makes_unsigned(c, onnx)?;
        let quant = parameters(c, onnx, x.shape.len(), if unsigned { UNSIGNED } else { 0 })?;
        if let Some(a) = quant.axis
            && x.shape[a] != quant.scale.len()
        {
            return Err(format!("{} scales for an axis of {}", quant.scale.len(), x.shape[a]));
        }
        let inner: usize = quant.axis.map_or(1, |a| x.shape[a + 1..].iter().product::<usize>().max(1));
        let at = |i: usize| quant.axis.map_or(0, |_| (i / inner) % quant.scale.len());
        let q = x.to_reals().into_iter().enumerate().map(|(i, v)| {
            let (s, z) = (quant.scale[at(i)], quant.zero_point[at(i)]);
            // ONNX rounds half to even.
            ((v / s).round_ties_even() + z as f32).clamp(-128.0, 127.0) as i16
        });
        let elements = if unsigned {
            Elements::U8(q.map(|v| (v + 128) as u8).collect())
        } else {
            Elements::I8(q.map(|v| v as i8).collect())
        };
        return c.bind(onnx, 0, Entry::Constant(Constant::new(x.shape, elements)));
    }
    let x = c.value(onnx, 0)?;
    let rank = c.shape(x).len();
    if c.graph.value(x).dtype != DType::F32 {
        return Err("its input is not float32".into());
    }
    let unsigned = makes_unsigned(c, onnx)?;
    let quant = parameters(c, onnx, rank, if unsigned { UNSIGNED } else { 0 })?;
    if quant.axis.is_some() {
        return Err("an activation with scales per channel".into());
    }
    if quant.zero_point.iter().any(|z| !(-128..=127).contains(z)) {
        return Err("a zero point outside the range of int8".into());
    }
    // An exporter that gives every reader its own pair quantises the same tensor several times.
    let twin = c
        .quantised
        .get(&x)
        .into_iter()
        .flatten()
        .copied()
        .find(|id| c.graph.value(*id).quant.as_ref() == Some(&quant) && c.is_unsigned(*id) == unsigned);
    if let Some(twin) = twin {
        return c.bind(onnx, 0, Entry::Value(twin));
    }
    c.finish(onnx, Op::Quantize, vec![x], None, 0)?;
    let name = onnx.output(0).unwrap_or_default();
    if let Ok(Entry::Value(id)) = c.entry(name) {
        let id = *id;
        c.graph.value_mut(id).quant = Some(quant);
        c.quantised.entry(x).or_default().push(id);
        if unsigned {
            c.unsigned.insert(id);
        }
    }
    Ok(())
}
