//! Sum and difference of two int8 tensors.

use super::fixed_point::{Scale, Shift, scaled};
use crate::requant::Requant;
use offshoot_format::record::{Binary, BinaryArith, BinaryKind};
use offshoot_format::tiled::SHIFTS;

/// An operand: its zero point, and its way to the common scale.
#[derive(Clone, Copy)]
struct Operand {
    zero: i32,
    multiplier: i32,
    shift: Shift,
}

impl Operand {
    fn new(zero: i8, multiplier: i32, shift: i8) -> Self {
        Self { zero: i32::from(zero) << 21, multiplier, shift: Shift::new(shift, 0) }
    }

    #[inline(always)]
    fn scaled(self, x: i8) -> i32 {
        scaled((i32::from(x) << 21).wrapping_sub(self.zero), self.multiplier, self.shift)
    }
}

/// `dst += b` or `dst -= b` as in [`crate::portable::binary_i8`]. Returns `false` and computes nothing for other records or unusual
/// shifts.
pub(crate) fn add_i8(r: &Binary, multiplier: [i32; 3], shift: [i8; 3], b: &[i8], dst: &mut [i8]) -> bool {
    let BinaryArith::I8 { a_zp, b_zp, out_zp, clamp, .. } = r.arith else {
        return false;
    };
    let usual = [shift[0], shift[1]].iter().all(|s| (-22..=0).contains(s)) && SHIFTS.contains(&shift[2]);
    let sum = r.kind == BinaryKind::Add;
    if !(sum || r.kind == BinaryKind::Sub) || r.broadcast != 0 || !usual || multiplier.iter().any(|&m| m < 0)
    {
        return false;
    }
    let (min, max) = clamp.unwrap_or((i8::MIN, i8::MAX));
    let (multipliers, shifts) = (&[multiplier[2]], &[shift[2]]);
    let end = Requant {
        bias: &[],
        multiplier: multipliers,
        shift: shifts,
        in_zp: 0,
        out_zp: out_zp.into(),
        min: min.into(),
        max: max.into(),
    };
    let end = Scale::of(&end, 0);
    let first = Operand::new(a_zp, multiplier[0], shift[0]);
    let second = Operand::new(b_zp, multiplier[1], shift[1]);
    // In a difference, one of the two counts negative.
    let sign = |negative: bool| if negative { -2 } else { 2 };
    let (of_first, of_second) = (sign(!sum && r.swapped), sign(!sum && !r.swapped));
    for (x, &y) in dst.iter_mut().zip(b) {
        *x = end.of_twice(first.scaled(*x) * of_first + second.scaled(y) * of_second);
    }
    true
}
