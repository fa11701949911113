//! Reductions, and normalisations over the last axis.

use offshoot_ir::{Activation, BinaryKind, DType, Op, ReduceKind, UnaryKind};

use super::axes_at;
use crate::context::Importing;
use crate::tflite::builder::{Builder, Form};
use crate::tflite::file::Operator;

/// The smallest norm that L2_NORMALIZATION divides by.
const SMALLEST_NORM: f32 = 1e-6;

fn plain(kind: BinaryKind) -> Op {
    Op::Binary { kind, activation: Activation::None }
}

pub(super) fn reduce(b: &mut Builder<'_>, op: &Operator<'_>, kind: ReduceKind) -> Importing {
    let x = b.value(op, 0)?;
    let axes = axes_at(b, op, 1, b.shape(x).len())?;
    if b.form_of(x).dtype != b.out_form(op, 0)?.dtype {
        return Err("input and output have different number formats".into());
    }
    let op_kind = Op::Reduce { kind, axes };
    match kind {
        ReduceKind::Max | ReduceKind::Min => b.finish_moved(op, op_kind, vec![x], 0),
        _ => b.finish(op, op_kind, vec![x], 0),
    }
}

/// Index of the largest element, or with `least` of the smallest: the largest of the negated elements.
pub(super) fn arg_max(b: &mut Builder<'_>, op: &Operator<'_>, least: bool) -> Importing {
    let mut x = b.value(op, 0)?;
    let axis = super::axis_at(b, op, 1, b.shape(x).len())?;
    if b.out_form(op, 0)?.dtype != DType::I32 {
        return Err("its output is not an integer index".into());
    }
    if least {
        x = b.in_real(op, x)?;
        let name = b.part(op, "negated");
        x = b.emit(op, Op::Unary(UnaryKind::Neg), vec![x], None, &Form::F32, &name)?;
    }
    b.finish(op, Op::ArgMax { axis, select_last: false }, vec![x], 0)
}

pub(super) fn softmax(b: &mut Builder<'_>, op: &Operator<'_>) -> Importing {
    let beta = op.options.builtin_options_as_softmax_options().map_or(1.0, |o| o.beta());
    if beta != 1.0 {
        return Err(format!("beta {beta}; 1 is supported"));
    }
    let x = b.value(op, 0)?;
    let axis = b.shape(x).len().checked_sub(1).ok_or("its input is a scalar")?;
    if b.form_of(x).dtype != b.out_form(op, 0)?.dtype {
        return Err("input and output have different number formats".into());
    }
    b.finish(op, Op::Softmax { axis }, vec![x], 0)
}

/// `(x - max) - log(sum(exp(x - max)))`.
pub(super) fn log_softmax(b: &mut Builder<'_>, op: &Operator<'_>) -> Importing {
    let x = b.real(op, 0)?;
    let mut kept = b.shape(x);
    let axis = kept.len().checked_sub(1).ok_or("its input is a scalar")?;
    kept[axis] = 1;
    let over = |kind| Op::Reduce { kind, axes: vec![axis] };
    let part = |b: &mut Builder<'_>, kind: Op, inputs: Vec<_>, declared: Option<Vec<usize>>, name: &str| {
        let name = b.part(op, name);
        b.emit(op, kind, inputs, declared, &Form::F32, &name)
    };
    let max = part(b, over(ReduceKind::Max), vec![x], Some(kept.clone()), "max")?;
    let shifted = part(b, plain(BinaryKind::Sub), vec![x, max], None, "shifted")?;
    let exp = part(b, Op::Unary(UnaryKind::Exp), vec![shifted], None, "exp")?;
    let sum = part(b, over(ReduceKind::Sum), vec![exp], Some(kept), "sum")?;
    let log_sum = part(b, Op::Unary(UnaryKind::Log), vec![sum], None, "log_sum")?;
    b.finish_real(op, plain(BinaryKind::Sub), vec![shifted, log_sum])
}

/// `x / max(sqrt(sum(x²)), 1e-6)` over the last axis.
pub(super) fn l2_normalization(b: &mut Builder<'_>, op: &Operator<'_>) -> Importing {
    let x = b.real(op, 0)?;
    let mut kept = b.shape(x);
    let axis = kept.len().checked_sub(1).ok_or("its input is a scalar")?;
    kept[axis] = 1;
    let least = b.reals(&b.part(op, "least"), vec![1], vec![SMALLEST_NORM])?;
    let part = |b: &mut Builder<'_>, kind: Op, inputs: Vec<_>, declared: Option<Vec<usize>>, name: &str| {
        let name = b.part(op, name);
        b.emit(op, kind, inputs, declared, &Form::F32, &name)
    };
    let squares = part(b, plain(BinaryKind::Mul), vec![x, x], None, "squares")?;
    let reduce = Op::Reduce { kind: ReduceKind::Sum, axes: vec![axis] };
    let sum = part(b, reduce, vec![squares], Some(kept), "sum")?;
    let root = part(b, Op::Unary(UnaryKind::Sqrt), vec![sum], None, "root")?;
    let norm = part(b, plain(BinaryKind::Max), vec![root, least], None, "norm")?;
    b.finish_real(op, plain(BinaryKind::Div), vec![x, norm])
}
