//! Comparisons, logic, Where, Sign: true is the number 1, false is 0.
//!
//! The device has no comparison operator. A hard sigmoid with the steepest slope serves as one: `clamp(max · x, 0,
//! 1)` is 1 for every normal float32 above 0, and 0 otherwise. In int8 it is a table.

use offshoot_ir::{Activation, BinaryKind, Op, UnaryKind, ValueId};

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
    let (a, b, op) = match onnx.node.op_type.as_str() {
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
/// Infinite constants must not be multiplied, since 0 times infinity is NaN; branches that may overflow are bounded
/// first.
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
        let branch = if may_overflow(c, branch) { finite(c, onnx, branch, chosen, &name)? } else { branch };
        let part = format!("{name}/branch_{i}");
        parts.push(Some(c.emit(onnx, binary(BinaryKind::Mul), vec![branch, chosen], None, &part)?));
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
        y = if may_overflow(c, y) {
            let kept = c.add_reals(&format!("{name}/chosen"), mask.shape.clone(), numbers(0.0, 1.0));
            finite(c, onnx, y, kept, &name)?
        } else {
            y
        };
        let kept = c.add_reals(&format!("{name}/kept"), mask.shape.clone(), numbers(0.0, 1.0));
        y = c.emit(onnx, binary(BinaryKind::Mul), vec![y, kept], None, &format!("{name}/masked"))?;
    }
    let added = c.add_reals(&format!("{name}/mask"), mask.shape.clone(), numbers(mask.number, 0.0));
    c.finish(onnx, binary(BinaryKind::Add), vec![y, added], None, 0)
}

/// Whether any ancestor of the value may compute an infinity or NaN.
fn may_overflow(c: &Context<'_>, id: ValueId) -> bool {
    c.any_ancestor(id, |op| {
        matches!(
            op,
            Op::Binary { kind: BinaryKind::Div, .. }
                | Op::Unary(
                    UnaryKind::Exp
                        | UnaryKind::Log
                        | UnaryKind::Sqrt
                        | UnaryKind::Reciprocal
                        | UnaryKind::Pow { .. }
                )
        )
    })
}

/// Clamps the branch to 0 where it is not chosen, and to the largest finite numbers where it is, so that its product
/// with 0 is 0.
fn finite(
    c: &mut Context<'_>,
    onnx: &Onnx<'_>,
    branch: ValueId,
    chosen: ValueId,
    name: &str,
) -> Importing<ValueId> {
    let mut y = branch;
    for (bound, kind) in [(f32::MIN, BinaryKind::Max), (f32::MAX, BinaryKind::Min)] {
        let largest = c.add_reals(&format!("{name}/largest"), vec![1], vec![bound]);
        let bound =
            c.emit(onnx, binary(BinaryKind::Mul), vec![chosen, largest], None, &format!("{name}/bound"))?;
        y = c.emit(onnx, binary(kind), vec![y, bound], None, &format!("{name}/bounded"))?;
    }
    Ok(y)
}
