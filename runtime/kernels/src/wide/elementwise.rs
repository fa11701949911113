//! Elementwise operators, in place.

use super::requant::{Bounds, Scale};
use super::{Isa, Job, block};

/// `dst = requantise(scale(dst - zero) ± scale(b - zero))`: TFLite's Add and Sub.
pub(crate) struct Sum<'a> {
    pub(crate) zeros: [i8; 2],
    /// Scales of `dst`, `b` and the result.
    pub(crate) scales: [(i32, i8); 3],
    pub(crate) order: Order,
    pub(crate) out_zp: i8,
    pub(crate) clamp: (i8, i8),
    pub(crate) b: &'a [i8],
    pub(crate) dst: &'a mut [i8],
}

/// The operation and the order of its operands.
#[derive(Clone, Copy)]
pub(crate) enum Order {
    /// `dst + b`
    Plus,
    /// `dst - b`
    Minus,
    /// `b - dst`
    From,
}

impl Order {
    #[inline(always)]
    fn of<I: Isa>(self, isa: I, a: I::I32, b: I::I32) -> I::I32 {
        match self {
            Self::Plus => isa.add(a, b),
            Self::Minus => isa.sub(a, b),
            Self::From => isa.sub(b, a),
        }
    }
}

/// An operand of a sum.
struct Operand<I: Isa> {
    zero: I::I32,
    scale: Scale<I>,
}

impl<I: Isa> Operand<I> {
    #[inline(always)]
    fn new(isa: I, zero: i8, (multiplier, shift): (i32, i8)) -> Self {
        let scale = Scale::splat(isa, multiplier, shift);
        Self { zero: isa.splat(zero.into()), scale }
    }

    /// Brings a value to the scale of the sum.
    #[inline(always)]
    fn of(&self, isa: I, x: &[i8; 8]) -> I::I32 {
        let x = isa.shift_all_left(isa.sub(isa.widen_i32(x), self.zero), 20);
        self.scale.apply(isa, x)
    }
}

impl Job for Sum<'_> {
    // No closures: they would not be compiled for the instruction set.
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let first = Operand::new(isa, self.zeros[0], self.scales[0]);
        let second = Operand::new(isa, self.zeros[1], self.scales[1]);
        let scale = Scale::splat(isa, self.scales[2].0, self.scales[2].1);
        let bounds = Bounds::new(isa, self.out_zp.into(), self.clamp.0.into(), self.clamp.1.into());
        let len = self.dst.len().min(self.b.len());
        let (dst, rest) = self.dst[..len].as_chunks_mut::<8>();
        let (b, b_rest) = self.b[..len].as_chunks::<8>();
        for (a, b) in dst.iter_mut().zip(b) {
            let sum = self.order.of(isa, first.of(isa, a), second.of(isa, b));
            *a = bounds.end(isa, scale.apply(isa, sum));
        }
        let (a, b) = (first.of(isa, &block(rest, 0)), second.of(isa, &block(b_rest, 0)));
        let sum = self.order.of(isa, a, b);
        let last = bounds.end(isa, scale.apply(isa, sum));
        rest.copy_from_slice(&last[..rest.len()]);
    }
}

/// `dst = requantise(dst - zero)`.
pub(crate) struct Requantise<'a> {
    pub(crate) in_zp: i8,
    pub(crate) scale: (i32, i8),
    pub(crate) out_zp: i8,
    pub(crate) clamp: (i8, i8),
    pub(crate) dst: &'a mut [i8],
}

impl Job for Requantise<'_> {
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let zero = isa.splat(self.in_zp.into());
        let scale = Scale::splat(isa, self.scale.0, self.scale.1);
        let bounds = Bounds::new(isa, self.out_zp.into(), self.clamp.0.into(), self.clamp.1.into());
        let (eights, rest) = self.dst.as_chunks_mut::<8>();
        for x in eights {
            *x = bounds.end(isa, scale.apply(isa, isa.sub(isa.widen_i32(x), zero)));
        }
        let last = isa.sub(isa.widen_i32(&block(rest, 0)), zero);
        let last = bounds.end(isa, scale.apply(isa, last));
        rest.copy_from_slice(&last[..rest.len()]);
    }
}
