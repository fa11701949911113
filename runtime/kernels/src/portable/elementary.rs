//! Functions that few networks use, in float32, in place.
use offshoot_format::record::{BinaryMath, BinaryMathKind, ElementaryKind};

use super::elementwise::each;
use super::float::{canonical, within};

/// Applies a function to each element, by ONNX's definitions.
pub fn elementary_f32(kind: ElementaryKind, data: &mut [f32]) {
    data.iter_mut().for_each(|v| *v = canonical(elementary(kind, *v)));
}

/// Applies the function to one element.
pub fn elementary(kind: ElementaryKind, x: f32) -> f32 {
    match kind {
        ElementaryKind::Sin => libm::sinf(x),
        ElementaryKind::Cos => libm::cosf(x),
        ElementaryKind::Tan => libm::tanf(x),
        ElementaryKind::Asin => libm::asinf(x),
        ElementaryKind::Acos => libm::acosf(x),
        ElementaryKind::Atan => libm::atanf(x),
        ElementaryKind::Sinh => libm::sinhf(x),
        ElementaryKind::Cosh => libm::coshf(x),
        ElementaryKind::Asinh => libm::asinhf(x),
        ElementaryKind::Acosh => libm::acoshf(x),
        ElementaryKind::Atanh => libm::atanhf(x),
        ElementaryKind::Floor => libm::floorf(x),
        ElementaryKind::Ceil => libm::ceilf(x),
        ElementaryKind::Round => libm::rintf(x),
        ElementaryKind::IsNan => f32::from(u8::from(x.is_nan())),
        ElementaryKind::IsInf { negative, positive } => {
            let named = x == f32::NEG_INFINITY && negative || x == f32::INFINITY && positive;
            f32::from(u8::from(named))
        }
    }
}

/// Applies a function of two elements. `dst` holds `a` on entry and the result on return.
pub fn binary_math_f32(r: &BinaryMath, b: &[f32], dst: &mut [f32]) {
    each(&r.places(), b, dst, |x, y| {
        let (x, y) = if r.swapped { (y, x) } else { (x, y) };
        let v = binary_math(r.kind, x, y);
        match r.clamp {
            Some(bounds) => within(v, bounds),
            None => canonical(v),
        }
    });
}

/// Applies the function to two elements.
pub fn binary_math(kind: BinaryMathKind, x: f32, y: f32) -> f32 {
    match kind {
        BinaryMathKind::Pow => libm::powf(x, y),
        BinaryMathKind::Fmod => libm::fmodf(x, y),
        BinaryMathKind::Keep => {
            if y == 0.0 {
                0.0
            } else {
                x
            }
        }
        BinaryMathKind::Equal => f32::from(u8::from(x == y)),
        BinaryMathKind::Mod => {
            let rest = libm::fmodf(x, y);
            if rest != 0.0 && (rest < 0.0) != (y < 0.0) { rest + y } else { rest }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_go_to_the_even_neighbour() {
        let mut x = [0.5, 1.5, 2.5, -0.5, -1.5, -2.3, 2.7];
        elementary_f32(ElementaryKind::Round, &mut x);
        assert_eq!(x, [0.0, 2.0, 2.0, 0.0, -2.0, -2.0, 3.0]);
    }

    #[test]
    fn remainders_have_the_sign_that_their_kind_says() {
        let pairs = [(-4.3, 2.1), (7.2, -3.4), (5.0, 8.0), (4.3, -2.1), (-7.2, 3.4), (8.0, 3.0)];
        for (x, y) in pairs {
            let (down, towards_zero) =
                (binary_math(BinaryMathKind::Mod, x, y), binary_math(BinaryMathKind::Fmod, x, y));
            assert!((down - (x - y * (x / y).floor())).abs() < 1e-5, "{x} mod {y} = {down}");
            assert!(
                (towards_zero - (x - y * (x / y).trunc())).abs() < 1e-5,
                "fmod({x}, {y}) = {towards_zero}"
            );
        }
    }

    #[test]
    fn every_nan_is_the_same() {
        let nan = f32::from_bits(0xffc0_1234);
        for kind in [ElementaryKind::Sin, ElementaryKind::Acosh, ElementaryKind::Floor, ElementaryKind::Round]
        {
            let mut data = [nan, f32::NEG_INFINITY];
            elementary_f32(kind, &mut data);
            assert!(data.iter().all(|v| !v.is_nan() || v.to_bits() == 0x7fc0_0000), "{kind:?}");
        }
    }

    #[test]
    fn infinities_are_told_apart() {
        let is = |negative, positive, x| elementary(ElementaryKind::IsInf { negative, positive }, x);
        assert_eq!(is(true, true, f32::NEG_INFINITY), 1.0);
        assert_eq!(is(false, true, f32::NEG_INFINITY), 0.0);
        assert_eq!(is(true, false, f32::INFINITY), 0.0);
        assert_eq!(is(true, true, f32::NAN), 0.0);
        assert_eq!(elementary(ElementaryKind::IsNan, f32::NAN), 1.0);
    }
}
