//! Comparisons, logic, Where, Sign: true is the number 1, false is 0.
//!
//! The device has no comparison operator. A hard sigmoid with the steepest slope serves as one: `clamp(max · x, 0,
//! 1)` is 1 for every normal float32 above 0, and 0 otherwise. In int8 it is a table.

use offshoot_ir::{
    Activation, BinaryKind, BinaryMathKind, ElementaryKind, Op, UnaryKind, ValueId, elementary,
};

use crate::constant::Constant;
use crate::context::{Context, Importing, Onnx};

/// 1 where x > 0.
const POSITIVE: Op = Op::Unary(UnaryKind::HardSigmoid { alpha: f32::MAX, beta: 0.0 });
/// 1 where x ≤ 0.
const NOT_POSITIVE: Op = Op::Unary(UnaryKind::HardSigmoid { alpha: f32::MIN, beta: 1.0 });
/// 1 - x of a truth value.
const NOT: Op = Op::Unary(UnaryKind::HardSigmoid { alpha: -1.0, beta: 1.0 });

const fn binary(kind: BinaryKind) -> Op {
    Op::Binary { kind, activation: Activation::None }
}

/// Greater, GreaterOrEqual, Less, LessOrEqual, Equal.
pub(crate) fn compare(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    let (a, b) = (c.value(onnx, 0)?, c.value(onnx, 1)?);
    let name = format!("{}/difference", onnx.output(0).unwrap_or_default());
    let operator = onnx.node.op_type.as_str();
    if let Some((x, infinity, first)) = beside_infinity(c, onnx)? {
        return compare_infinity(c, onnx, x, infinity, first);
    }
    if operator == "Equal" && may_overflow(c, a) && may_overflow(c, b) {
        return c.finish(onnx, binary(BinaryKind::Math(BinaryMathKind::Equal)), vec![a, b], None, 0);
    }
    let (a, b, op) = match operator {
        "Greater" => (a, b, POSITIVE),
        "Less" => (b, a, POSITIVE),
        "GreaterOrEqual" => (b, a, NOT_POSITIVE),
        "LessOrEqual" => (a, b, NOT_POSITIVE),
        _ => {
            let difference = c.emit(onnx, binary(BinaryKind::Sub), vec![a, b], None, &name)?;
            let distance =
                c.emit(onnx, Op::Unary(UnaryKind::Abs), vec![difference], None, &format!("{name}/size"))?;
            return c.finish(onnx, NOT_POSITIVE, vec![distance], None, 0);
        }
    };
    let difference = c.emit(onnx, binary(BinaryKind::Sub), vec![a, b], None, &name)?;
    c.finish(onnx, op, vec![difference], None, 0)
}

/// An operand, the infinity that all elements of the other one are, a constant, and whether that comes first.
fn beside_infinity(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing<Option<(ValueId, f32, bool)>> {
    for i in 0..2 {
        if !c.is_constant(onnx, i) {
            continue;
        }
        let constant = c.wanted(onnx, i)?;
        if constant.len() == 1 {
            let number = constant.to_reals()[0];
            let x = c.value(onnx, 1 - i)?;
            if number.is_infinite() && constant.shape.len() <= c.shape(x).len() {
                return Ok(Some((x, number, i == 0)));
            }
        }
    }
    Ok(None)
}

/// A comparison with infinity: nothing but the same infinity equals it or lies on its far side.
fn compare_infinity(
    c: &mut Context<'_>,
    onnx: &Onnx<'_>,
    x: ValueId,
    infinity: f32,
    first: bool,
) -> Importing {
    let is = |positive: bool| {
        Op::Unary(UnaryKind::Elementary(ElementaryKind::IsInf { negative: !positive, positive }))
    };
    let name = format!("{}/infinite", onnx.output(0).unwrap_or_default());
    let same = is(infinity > 0.0);
    // Whether the question is for numbers on the finite side: x below +inf or above -inf.
    let below = match onnx.node.op_type.as_str() {
        "Equal" => return c.finish(onnx, same, vec![x], None, 0),
        "Less" | "LessOrEqual" => !first,
        _ => first,
    };
    let strict = !onnx.node.op_type.ends_with("OrEqual");
    let nan = Op::Unary(UnaryKind::Elementary(ElementaryKind::IsNan));
    match (below == (infinity > 0.0), strict) {
        // Every number is below or equal to +inf.
        (true, false) => {
            let y = c.emit(onnx, nan, vec![x], None, &name)?;
            c.finish(onnx, NOT, vec![y], None, 0)
        }
        (true, true) => {
            let (same, nan) =
                (c.emit(onnx, same, vec![x], None, &name)?, c.emit(onnx, nan, vec![x], None, &name)?);
            let either = c.emit(onnx, binary(BinaryKind::Max), vec![same, nan], None, &name)?;
            c.finish(onnx, NOT, vec![either], None, 0)
        }
        (false, false) => c.finish(onnx, same, vec![x], None, 0),
        // No number is above +inf.
        (false, true) => {
            let never = Op::Unary(UnaryKind::HardSigmoid { alpha: 0.0, beta: 0.0 });
            c.finish(onnx, never, vec![x], None, 0)
        }
    }
}

/// And, Or, Xor.
pub(crate) fn connect(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    let (a, b) = (c.value(onnx, 0)?, c.value(onnx, 1)?);
    let op = match onnx.node.op_type.as_str() {
        "And" => binary(BinaryKind::Mul),
        "Or" => binary(BinaryKind::Max),
        _ => {
            let name = format!("{}/difference", onnx.output(0).unwrap_or_default());
            let difference = c.emit(onnx, binary(BinaryKind::Sub), vec![a, b], None, &name)?;
            return c.finish(onnx, Op::Unary(UnaryKind::Abs), vec![difference], None, 0);
        }
    };
    c.finish(onnx, op, vec![a, b], None, 0)
}

pub(crate) fn not(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    let x = c.value(onnx, 0)?;
    c.finish(onnx, NOT, vec![x], None, 0)
}

/// Sign: twice a step from 0 over one half to 1, minus 1.
pub(crate) fn sign(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    let x = c.value(onnx, 0)?;
    let name = onnx.output(0).unwrap_or_default().to_owned();
    let step = Op::Unary(UnaryKind::HardSigmoid { alpha: f32::MAX, beta: 0.5 });
    let step = c.emit(onnx, step, vec![x], None, &format!("{name}/step"))?;
    let two = c.add_reals(&format!("{name}/two"), vec![1], vec![2.0]);
    let one = c.add_reals(&format!("{name}/one"), vec![1], vec![1.0]);
    let doubled = c.emit(onnx, binary(BinaryKind::Mul), vec![step, two], None, &format!("{name}/doubled"))?;
    c.finish(onnx, binary(BinaryKind::Sub), vec![doubled, one], None, 0)
}

/// ThresholdedRelu: x where x > alpha, otherwise 0.
pub(crate) fn thresholded_relu(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    let x = c.value(onnx, 0)?;
    let name = onnx.output(0).unwrap_or_default().to_owned();
    let alpha = c.add_reals(&format!("{name}/alpha"), vec![1], vec![onnx.float("alpha", 1.0)]);
    let above = c.emit(onnx, binary(BinaryKind::Sub), vec![x, alpha], None, &format!("{name}/above"))?;
    let passes = c.emit(onnx, POSITIVE, vec![above], None, &format!("{name}/passes"))?;
    c.finish(onnx, binary(BinaryKind::Mul), vec![x, passes], None, 0)
}

/// Where: the sum of both branches, each multiplied by 1 where it is chosen and by 0 elsewhere.
///
/// Infinite constants must not be multiplied, since 0 times infinity is NaN; nor are branches that may overflow.
pub(crate) fn choose(c: &mut Context<'_>, onnx: &Onnx<'_>) -> Importing {
    let name = onnx.output(0).unwrap_or_default().to_owned();
    let branches: Vec<Option<Constant>> = (1..3)
        .map(|i| if c.is_constant(onnx, i) { c.wanted(onnx, i).map(Some) } else { Ok(None) })
        .collect::<Importing<_>>()?;
    if let Some(mask) = constant_mask(c, onnx, &branches)? {
        return masked(c, onnx, mask);
    }
    let condition = c.value(onnx, 0)?;
    let inverse = c.emit(onnx, NOT, vec![condition], None, &format!("{name}/else"))?;
    // An infinite constant where it is chosen, the other branch elsewhere: a minimum or maximum with a bound.
    for (i, branch) in branches.iter().enumerate() {
        let Some(reals) = branch.as_ref().map(Constant::to_reals) else { continue };
        let Some(&first) = reals.first().filter(|v| v.is_infinite()) else { continue };
        if reals.iter().any(|v| *v != first) {
            return Err("a constant with both finite and infinite numbers".into());
        }
        let (chosen, other) = (if i == 0 { condition } else { inverse }, c.value(onnx, 2 - i)?);
        // Where it is chosen, the bound is that infinity; elsewhere it is the opposite one, which has no effect.
        let half = c.add_reals(&format!("{name}/half"), vec![1], vec![0.5]);
        let endless = c.add_reals(&format!("{name}/endless"), vec![1], vec![first]);
        let side =
            c.emit(onnx, binary(BinaryKind::Sub), vec![chosen, half], None, &format!("{name}/side"))?;
        let bound =
            c.emit(onnx, binary(BinaryKind::Mul), vec![side, endless], None, &format!("{name}/bound"))?;
        let kind = if first < 0.0 { BinaryKind::Min } else { BinaryKind::Max };
        return c.finish(onnx, binary(kind), vec![other, bound], None, 0);
    }
    let mut parts = Vec::new();
    for (i, chosen) in [condition, inverse].into_iter().enumerate() {
        if branches[i].as_ref().is_some_and(|b| b.to_reals().iter().all(|v| *v == 0.0)) {
            parts.push(None);
            continue;
        }
        let branch = c.value(onnx, i + 1)?;
        let part = format!("{name}/branch_{i}");
        let kind = if may_overflow(c, branch) { KEEP } else { BinaryKind::Mul };
        parts.push(Some(c.emit(onnx, binary(kind), vec![branch, chosen], None, &part)?));
    }
    match parts[..] {
        [Some(a), Some(b)] => c.finish(onnx, binary(BinaryKind::Add), vec![a, b], None, 0),
        [Some(one), None] | [None, Some(one)] => {
            // The branch of zeros may have the larger shape.
            let zeros = if parts[0].is_none() { 1 } else { 2 };
            let zeros = c.value(onnx, zeros)?;
            match c.shape(zeros).iter().product::<usize>() {
                1 => c.bind(onnx, 0, crate::context::Entry::Value(one)),
                _ => c.finish(onnx, binary(BinaryKind::Add), vec![one, zeros], None, 0),
            }
        }
        _ => Err("both branches are zero".into()),
    }
}

/// A tensor of which a constant condition replaces elements by a number.
struct Mask {
    value: ValueId,
    number: f32,
    /// For each element of the condition, whether the number replaces the element.
    replaces: Vec<bool>,
    shape: Vec<usize>,
}

fn constant_mask(
    c: &mut Context<'_>,
    onnx: &Onnx<'_>,
    branches: &[Option<Constant>],
) -> Importing<Option<Mask>> {
    let (number, taken) = match branches {
        [Some(number), None] if number.len() == 1 => (number, true),
        [None, Some(number)] if number.len() == 1 => (number, false),
        _ => return Ok(None),
    };
    if !c.is_constant(onnx, 0) {
        return Ok(None);
    }
    let condition = c.wanted(onnx, 0)?;
    let replaces = condition.to_reals().iter().map(|v| (*v != 0.0) == taken).collect();
    let number = number.to_reals()[0];
    let value = c.value(onnx, if taken { 2 } else { 1 })?;
    Ok(Some(Mask { value, number, replaces, shape: condition.shape }))
}

/// The tensor with replaced elements set to zero, plus the number in their places. An infinite number needs only the
/// sum; attention masks are written so.
fn masked(c: &mut Context<'_>, onnx: &Onnx<'_>, mask: Mask) -> Importing {
    let name = onnx.output(0).unwrap_or_default().to_owned();
    let numbers = |replaced: f32, kept: f32| -> Vec<f32> {
        mask.replaces.iter().map(|r| if *r { replaced } else { kept }).collect()
    };
    let mut y = mask.value;
    if mask.number.is_finite() {
        let kept = c.add_reals(&format!("{name}/kept"), mask.shape.clone(), numbers(0.0, 1.0));
        let kind = if may_overflow(c, y) { KEEP } else { BinaryKind::Mul };
        y = c.emit(onnx, binary(kind), vec![y, kept], None, &format!("{name}/masked"))?;
    }
    let added = c.add_reals(&format!("{name}/mask"), mask.shape.clone(), numbers(mask.number, 0.0));
    c.finish(onnx, binary(BinaryKind::Add), vec![y, added], None, 0)
}

const KEEP: BinaryKind = BinaryKind::Math(BinaryMathKind::Keep);

/// Whether the value may be infinite or NaN: an ancestor may compute such a number, or is a constant with one.
fn may_overflow(c: &Context<'_>, id: ValueId) -> bool {
    c.reads_infinity(id)
        || c.any_ancestor(id, |op| {
            matches!(
                op,
                Op::Binary { kind: BinaryKind::Div, .. }
                    | Op::Binary { kind: BinaryKind::Math(BinaryMathKind::Pow), .. }
                    | Op::Unary(
                        UnaryKind::Exp
                            | UnaryKind::Log
                            | UnaryKind::Sqrt
                            | UnaryKind::Reciprocal
                            | UnaryKind::Pow { .. }
                    )
            ) || matches!(op, Op::Unary(UnaryKind::Elementary(kind)) if !elementary::is_finite(*kind))
        })
}
