//! Requantisation, eight channels at a time.

use super::{Isa, block};
use crate::requant::Requant;

/// Zero point and bounds of an operator's outputs.
#[derive(Clone, Copy)]
pub(super) struct Bounds<I: Isa> {
    zero: I::I32,
    low: I::I32,
    high: I::I32,
}

impl<I: Isa> Bounds<I> {
    #[inline(always)]
    pub(super) fn new(isa: I, zero: i32, low: i32, high: i32) -> Self {
        Self { zero: isa.splat(zero), low: isa.splat(low), high: isa.splat(high) }
    }

    #[inline(always)]
    pub(super) fn of(isa: I, q: &Requant<'_>) -> Self {
        Self::new(isa, q.out_zp, q.min, q.max)
    }

    /// Adds the zero point, clamps, narrows.
    #[inline(always)]
    pub(super) fn end(&self, isa: I, x: I::I32) -> [i8; 8] {
        isa.clamp_i8(isa.add(x, self.zero), self.low, self.high)
    }
}

/// `multiply_by_quantized_multiplier` of eight values.
#[derive(Clone, Copy)]
pub(super) struct Scale<I: Isa> {
    multiplier: I::I32,
    left: I::I32,
    right: I::I32,
    /// Shifts to the left and right that all lanes share, where that is faster.
    all: Option<(u32, u32)>,
}

impl<I: Isa> Scale<I> {
    #[inline(always)]
    fn new(isa: I, multiplier: I::I32, shift: [i8; 8]) -> Self {
        let left = isa.widen_i32(&shift.map(|s| s.max(0)));
        let right = isa.widen_i32(&shift.map(to_the_right));
        Self { multiplier, left, right, all: None }
    }

    /// The same multiplier and shift for all lanes.
    #[inline(always)]
    pub(super) fn splat(isa: I, multiplier: i32, shift: i8) -> Self {
        let mut scale = Self::new(isa, isa.splat(multiplier), [shift; 8]);
        if !I::SHIFTS_BY_LANE {
            scale.all = Some((shift.max(0) as u32, to_the_right(shift) as u32));
        }
        scale
    }

    #[inline(always)]
    pub(super) fn apply(&self, isa: I, x: I::I32) -> I::I32 {
        if let Some((left, right)) = self.all {
            let x = isa.high_mul(isa.shift_all_left(x, left), self.multiplier);
            return isa.rounding_shift_all_right(x, right);
        }
        let x = isa.high_mul(isa.shift_left(x, self.left), self.multiplier);
        isa.rounding_shift_right(x, self.right)
    }
}

/// The bits of a shift to the right, whose number is negative.
#[inline(always)]
fn to_the_right(shift: i8) -> i8 {
    shift.min(0).saturating_neg().min(31)
}

/// Bias and scale of eight channels; zeros beyond the last.
#[derive(Clone, Copy)]
pub(super) struct Channels<I: Isa> {
    pub(super) bias: I::I32,
    scale: Scale<I>,
    bounds: Bounds<I>,
    /// As in [`offshoot_format::single_multiply`]: the bias belongs to 256 times the sum, and nothing is added after
    /// the product.
    linear: bool,
}

impl<I: Isa> Channels<I> {
    /// Eight channels of the records of [`offshoot_format::single_multiply`].
    #[inline(always)]
    pub(super) fn linear(isa: I, bias: &[i32; 8], multiplier: &[i32; 8]) -> Self {
        let scale = Scale::new(isa, isa.load(multiplier), [0; 8]);
        Self { bias: isa.load(bias), scale, bounds: Bounds::new(isa, 0, -128, 127), linear: true }
    }

    #[inline(always)]
    pub(super) fn at(isa: I, q: &Requant<'_>, bounds: &Bounds<I>, channel: usize) -> Self {
        if q.shift.is_empty() {
            return Self::linear(isa, &block(q.bias, channel), &block(q.multiplier, channel));
        }
        let scale = match (q.multiplier, q.shift) {
            (&[multiplier], &[shift]) => Scale::splat(isa, multiplier, shift),
            (multipliers, shifts) => {
                Scale::new(isa, isa.load(&block(multipliers, channel)), block(shifts, channel))
            }
        };
        Self { bias: isa.load(&block(q.bias, channel)), scale, bounds: *bounds, linear: false }
    }

    /// Outputs from 256 times the sums; only for channels of [`Self::linear`].
    #[inline(always)]
    pub(super) fn finish_scaled(&self, isa: I, scaled: I::I32) -> [i8; 8] {
        let scaled = isa.add(scaled, self.bias);
        self.bounds.end(isa, isa.high_mul_shifted(scaled, self.scale.multiplier))
    }

    /// Outputs from sums without bias.
    #[inline(always)]
    pub(super) fn finish(&self, isa: I, sums: I::I32) -> [i8; 8] {
        if self.linear {
            return self.finish_scaled(isa, isa.shift_all_left(sums, 8));
        }
        let scaled = self.scale.apply(isa, isa.add(sums, self.bias));
        self.bounds.end(isa, scaled)
    }

    /// Outputs from twice the sums, without bias; right shifts only.
    #[inline(always)]
    pub(super) fn finish_twice(&self, isa: I, twice: I::I32) -> [i8; 8] {
        let all = isa.add(twice, isa.add(self.bias, self.bias));
        let high = isa.high_mul_half(all, self.scale.multiplier);
        self.bounds.end(isa, isa.rounding_shift_right(high, self.scale.right))
    }
}
