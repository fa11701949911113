//! Steps of integer weights: a gradient times a factor, rounded stochastically.

use super::magnitude::Magnitude;
use offshoot_kernels::Random;

/// Factor of gradients, `factor · 2^-shift`.
#[derive(Clone, Copy, Debug)]
pub struct Coefficient {
    /// Below 2^31.
    factor: i32,
    /// 0 to 62.
    shift: u32,
}

/// Largest step, in units of a weight.
const STEP_MAX: i64 = 1 << 24;

/// From this shift on, at least 16 bits of the product's upper word are rounded away.
const SMALL: u32 = 48;

impl Coefficient {
    /// From a magnitude. Saturates if too large; zero if too small.
    pub fn new(value: Magnitude) -> Self {
        match value.factor() {
            (0, _) => Self { factor: 0, shift: 62 },
            (factor, shift @ 0..=62) => Self { factor, shift: shift as u32 },
            (factor, shift @ 63..=92) => Self { factor: factor >> (shift - 62), shift: 62 },
            (_, 93..) => Self { factor: 0, shift: 62 },
            _ => Self { factor: i32::MAX, shift: 0 },
        }
    }

    /// `gradient · factor`, rounded down or up at random so that the mean is exact to 2^-16 of a unit. Draws one random
    /// number.
    #[inline(always)]
    pub fn step(self, gradient: i32, random: &mut Random) -> i32 {
        if self.is_small() { self.small(gradient, random) } else { self.large(gradient, random) }
    }

    /// Factor and shift.
    pub(super) fn parts(self) -> (i32, u32) {
        (self.factor, self.shift)
    }

    /// Whether the step is [`Self::small`]; otherwise it is [`Self::large`].
    pub(super) fn is_small(self) -> bool {
        self.shift >= SMALL
    }

    /// Omits the lower word of the product, which changes the result by at most 2^-16 of a unit.
    #[inline(always)]
    pub(super) fn small(self, gradient: i32, random: &mut Random) -> i32 {
        let product = (i64::from(gradient) * i64::from(self.factor)) >> 32;
        let dither = random.next_u32() >> (64 - self.shift);
        (product as i32 + dither as i32) >> (self.shift - 32)
    }

    #[inline(always)]
    pub(super) fn large(self, gradient: i32, random: &mut Random) -> i32 {
        let product = i64::from(gradient) * i64::from(self.factor);
        // `shift` random bits; those below bit 32 are all random.
        let bits = u64::from(random.next_u32());
        let dither = if self.shift >= 32 { bits << (self.shift - 32) } else { bits >> (32 - self.shift) };
        // Below 2^31 · 2^31 + 2^48.
        ((product + dither as i64) >> self.shift).clamp(-STEP_MAX, STEP_MAX) as i32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_have_the_right_mean() {
        let mut random = Random::new(3);
        for (value, gradient) in [
            (1e-6f32, 40_000),
            (1e-9, -100_000_000),
            (1e-11, 2_000_000_000),
            (0.3, 1),
            (0.3, -1),
            (2.5, 7),
            (100.0, 3),
        ] {
            let coefficient = Coefficient::new(Magnitude::from_f32(value));
            let n = 40_000;
            let sum: i64 = (0..n).map(|_| i64::from(coefficient.step(gradient, &mut random))).sum();
            let (mean, exact) = (sum as f64 / f64::from(n), f64::from(value) * f64::from(gradient));
            assert!((mean - exact).abs() < 0.01 + exact.abs() * 1e-3, "{value} {gradient}: {mean} {exact}");
        }
        assert_eq!(Coefficient::new(Magnitude::from_f32(1e30)).step(1, &mut random), STEP_MAX as i32);
        assert_eq!(Coefficient::new(Magnitude::from_f32(1e-30)).step(i32::MIN, &mut random), 0);
        assert_eq!(Coefficient::new(Magnitude::ZERO).step(i32::MIN, &mut random), 0);
    }
}
