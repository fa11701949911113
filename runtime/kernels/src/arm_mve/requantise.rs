//! TFLite's requantisation of vectors of four sums, as lines of assembly.
//!
//! `vqrdmulh` is [`saturating_rounding_doubling_high_mul`]. `vrshl` rounds ties up, where
//! [`rounding_divide_by_pot`] rounds them away from zero; subtracting one from negative values before the shift makes
//! them equal (shifts are -1 or less: [`offshoot_format::tiled::SHIFTS`]). The lower bound hides that difference where it is the zero point, as after a ReLU.
//!
//! [`saturating_rounding_doubling_high_mul`]: crate::portable::fixed_point::saturating_rounding_doubling_high_mul
//! [`rounding_divide_by_pot`]: crate::portable::fixed_point::rounding_divide_by_pot

use crate::requant::Requant;

/// Whether the lower bound is the zero point, so that the rounding of negative values does not matter.
pub(super) fn is_positive(q: &Requant<'_>) -> bool {
    q.min == q.out_zp
}

/// Whether the bounds are those of int8 and the zero point is the lower one: saturation is then the whole clamp, and the
/// rounding of negative values does not matter.
pub(super) fn saturates_at_zero_point(zero: i32, min: i32, max: i32) -> bool {
    (zero, min, max) == (-128, -128, 127)
}

/// Adds the bias in q0 to the sums in `$v`, multiplies by q1, shifts by q2, adds the zero point in r8. `signed` also
/// rounds negative values; it overwrites `$t`.
macro_rules! requantise {
    (positive, $v:literal, $t:literal) => {
        concat!(
            "vadd.i32 ",
            $v,
            ", ",
            $v,
            ", q0\n",
            "vqrdmulh.s32 ",
            $v,
            ", ",
            $v,
            ", q1\n",
            "vrshl.s32 ",
            $v,
            ", ",
            $v,
            ", q2\n",
            "vadd.i32 ",
            $v,
            ", ",
            $v,
            ", r8",
        )
    };
    (signed, $v:literal, $t:literal) => {
        concat!(
            "vadd.i32 ",
            $v,
            ", ",
            $v,
            ", q0\n",
            "vqrdmulh.s32 ",
            $v,
            ", ",
            $v,
            ", q1\n",
            "vand ",
            $t,
            ", ",
            $v,
            ", q2\n",
            "vshr.s32 ",
            $t,
            ", ",
            $t,
            ", #31\n",
            "vqadd.s32 ",
            $v,
            ", ",
            $v,
            ", ",
            $t,
            "\n",
            "vrshl.s32 ",
            $v,
            ", ",
            $v,
            ", q2\n",
            "vadd.i32 ",
            $v,
            ", ",
            $v,
            ", r8",
        )
    };
}

pub(super) use requantise;
