//! Ranges of tensors, and of what operators make of them.

use offshoot_ir::grid::bounds;
use offshoot_ir::{BinaryKind, Quant, UnaryKind};

use super::super::function::Function;

/// Range of a tensor; the step of the quantised tensor that it comes from or leads to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Range {
    pub(super) low: f32,
    pub(super) high: f32,
    pub(super) step: f32,
}

impl Range {
    pub(super) fn of(quant: &Quant) -> Option<Self> {
        let (low, high) = bounds(quant);
        quant.axis.is_none().then_some(Self { low, high, step: quant.scale[0] })
    }

    pub(super) fn hull(self, other: Self) -> Self {
        Self {
            low: self.low.min(other.low),
            high: self.high.max(other.high),
            step: self.step.min(other.step),
        }
    }

    pub(super) fn is_usable(&self) -> bool {
        let width = self.high - self.low;
        self.low <= self.high && width.is_finite() && self.step > 0.0
    }
}

/// Functions that a table of 256 entries represents well over any range.
pub(super) fn is_smooth(kind: UnaryKind) -> bool {
    use UnaryKind::*;
    matches!(
        kind,
        Clip { .. }
            | LeakyRelu { .. }
            | HardSwish
            | HardSigmoid { .. }
            | Sigmoid
            | Tanh
            | Gelu
            | GeluTanh
            | Elu { .. }
            | Abs
            | Neg
            | Erf
            | Softplus
    )
}

/// The range of a function of numbers in a range.
pub(super) fn image(function: impl Fn(f32) -> f32, x: Range) -> Range {
    const POINTS: u32 = 256;
    let width = x.high - x.low;
    let at = |i: u32| function(x.low + width * (i as f32 / POINTS as f32));
    // Zero is where the bends are.
    let zero = function(0.0f32.max(x.low).min(x.high));
    let (low, high) = (0..=POINTS).map(at).fold((zero, zero), |r, v| (r.0.min(v), r.1.max(v)));
    Range { low, high, ..x }
}

/// The range of an operation on numbers in two ranges.
pub(super) fn combined(kind: BinaryKind, a: Range, b: Range) -> Option<Range> {
    let all = |f: fn(f32, f32) -> f32| {
        let ends = [f(a.low, b.low), f(a.low, b.high), f(a.high, b.low), f(a.high, b.high)];
        ends.into_iter().fold((f32::INFINITY, f32::NEG_INFINITY), |r, v| (r.0.min(v), r.1.max(v)))
    };
    let (low, high) = match kind {
        BinaryKind::Add => all(|x, y| x + y),
        BinaryKind::Sub => all(|x, y| x - y),
        BinaryKind::Mul => all(|x, y| x * y),
        BinaryKind::Min => all(f32::min),
        BinaryKind::Max => all(f32::max),
        BinaryKind::Div | BinaryKind::Math(_) => return None,
    };
    // One step of an operand is so much of the result.
    let largest = |r: &Range| r.low.abs().max(r.high.abs());
    let step = match kind {
        BinaryKind::Mul => (a.step * largest(&b)).max(b.step * largest(&a)),
        _ => a.step.max(b.step),
    };
    Some(Range { low, high, step })
}

/// Beyond which numbers a function's result does not change any more by a step within its range. Its step is that of the result, divided by
/// the function's steepest slope.
pub(super) fn before_function(function: &Function, result: Range) -> Option<Range> {
    /// Where the search begins, in units of the result's range, and how it comes closer.
    const FAR: f32 = 64.0;
    const CLOSER: f32 = 0.97;
    const POINTS: i32 = 700;
    const HALVINGS: usize = 24;
    let size = result.low.abs().max(result.high.abs()).max(1.0);
    let code = |x: f32| (function.apply(x).max(result.low).min(result.high) / result.step).round();
    let end = |sign: f32| -> Option<f32> {
        let far = code(sign * size * FAR);
        let at = |i: i32| sign * size * FAR * CLOSER.powi(i);
        let Some(differs) = (1..POINTS).find(|&i| code(at(i)) != far) else { return Some(0.0) };
        if differs == 1 || far.is_nan() {
            return None;
        }
        let (mut outer, mut inner) = (at(differs - 1), at(differs));
        for _ in 0..HALVINGS {
            let middle = 0.5 * (outer + inner);
            *(if code(middle) == far { &mut outer } else { &mut inner }) = middle;
        }
        Some(outer)
    };
    let (low, high) = (end(-1.0)?, end(1.0)?);
    let delta = (high - low) / 512.0;
    if !(delta > 0.0 && delta.is_finite()) {
        return None;
    }
    let slope = |i: i32| {
        let x = low + delta * i as f32;
        ((function.apply(x + delta) - function.apply(x)) / delta).abs()
    };
    // Where the result is saturated, slopes do not show.
    let visible = |i: &i32| code(low + delta * *i as f32) != code(low + delta * (*i + 1) as f32);
    let steepest = (0..512).filter(visible).map(slope).fold(0.0f32, f32::max);
    let step = if steepest > 0.0 { result.step / steepest } else { result.step };
    let range = Range { low, high, step };
    range.is_usable().then_some(range)
}
