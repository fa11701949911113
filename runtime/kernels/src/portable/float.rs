//! float32 operations that have the same bits on every target: NaN has one form, whose sign and payload no processor
//! chooses, and a comparison decides which of two zeros is taken.

/// The only NaN that operators write.
pub const NAN: f32 = f32::from_bits(0x7fc0_0000);

/// `x` if it is larger, else `y`: `y` if either is NaN, and of two zeros.
#[inline(always)]
pub fn larger(x: f32, y: f32) -> f32 {
    if x > y { x } else { y }
}

/// `x` if it is smaller, else `y`: `y` if either is NaN, and of two zeros.
#[inline(always)]
pub fn smaller(x: f32, y: f32) -> f32 {
    if x < y { x } else { y }
}

/// `v` within the bounds of a fused activation; NaN becomes the lower one.
#[inline(always)]
pub fn within(v: f32, (min, max): (f32, f32)) -> f32 {
    smaller(larger(v, min), max)
}

/// `v`, or [`NAN`] for every NaN.
#[inline(always)]
pub fn canonical(v: f32) -> f32 {
    if v.is_nan() { NAN } else { v }
}

/// Makes every NaN [`NAN`].
pub fn make_canonical(data: &mut [f32]) {
    for v in data {
        // Without the sign, larger than infinity. As integers, which takes few instructions without an FPU too.
        if v.to_bits() << 1 > f32::INFINITY.to_bits() << 1 {
            *v = NAN;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nan_and_zeros_have_one_form() {
        let all = [0xffc0_0000, 0x7f80_0001, 0xffff_ffff, 0x7fc0_0000].map(f32::from_bits);
        let mut data = all;
        make_canonical(&mut data);
        assert!(data.iter().all(|v| v.to_bits() == 0x7fc0_0000));
        for nan in all {
            assert_eq!(within(nan, (-1.0, 2.0)), -1.0);
        }
        for (v, bounds, bits) in
            [(-0.0, (0.0, 6.0), 0.0f32), (0.0, (0.0, 6.0), 0.0), (-0.0, (-1.0, 1.0), -0.0)]
        {
            assert_eq!(within(v, bounds).to_bits(), bits.to_bits());
        }
        assert_eq!(larger(0.0, -0.0).to_bits(), (-0.0f32).to_bits());
        assert_eq!(smaller(-0.0, 0.0).to_bits(), 0.0f32.to_bits());
    }
}
