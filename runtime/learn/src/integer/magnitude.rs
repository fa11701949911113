//! Positive numbers of any size without floating point, for scales and rates on cores without an FPU.

/// `mantissa · 2^exponent`. The mantissa's highest bit is set, except for zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Magnitude {
    mantissa: u32,
    exponent: i32,
}

impl Magnitude {
    /// 0
    pub const ZERO: Self = Self { mantissa: 0, exponent: 0 };

    /// `value · 2^exponent`, rounded down.
    pub fn new(value: u64, exponent: i32) -> Self {
        if value == 0 {
            return Self::ZERO;
        }
        // At most 64 - 32 bits too many, or 31 too few.
        let excess = 32 - value.leading_zeros() as i32;
        let mantissa = if excess >= 0 { value >> excess } else { value << -excess };
        Self { mantissa: mantissa as u32, exponent: exponent.saturating_add(excess) }
    }

    /// From a float32. Gives zero for values that are not positive, finite and normal.
    pub fn from_f32(value: f32) -> Self {
        let bits = value.to_bits();
        let exponent = (bits >> 23) as i32;
        // A sign bit makes the exponent 256 or more.
        if exponent == 0 || exponent >= 255 {
            return Self::ZERO;
        }
        Self::new(u64::from(bits & 0x7f_ffff | 0x80_0000), exponent - 150)
    }

    /// To float32, rounded down; infinite on overflow.
    pub fn to_f32(self) -> f32 {
        libm::ldexpf((self.mantissa >> 8) as f32, self.exponent.saturating_add(8))
    }

    /// Square root of an integer.
    pub fn root(number: u32) -> Self {
        Self::new((u64::from(number) << 32).isqrt(), -16)
    }

    /// Product.
    #[must_use]
    pub fn times(self, other: Self) -> Self {
        let product = u64::from(self.mantissa) * u64::from(other.mantissa);
        Self::new(product, self.exponent.saturating_add(other.exponent))
    }

    /// Quotient; zero if the divisor is zero.
    #[must_use]
    pub fn over(self, other: Self) -> Self {
        match (u64::from(self.mantissa) << 32).checked_div(other.mantissa.into()) {
            Some(quotient) => {
                Self::new(quotient, self.exponent.saturating_sub(other.exponent).saturating_sub(32))
            }
            None => Self::ZERO,
        }
    }

    /// Times a power of two.
    #[must_use]
    pub fn scaled(self, power: i32) -> Self {
        Self { exponent: self.exponent.saturating_add(power), ..self }
    }

    /// `self + 1`.
    #[must_use]
    pub fn plus_one(self) -> Self {
        // In units of 2^-31; values too large for that do not change.
        let value = self.whole(31);
        match value.checked_add(1 << 31) {
            Some(sum) if value < 1 << 62 => Self::new(sum, -31),
            _ => self,
        }
    }

    /// `self · 2^fraction`, rounded down, at most 2^63 - 1.
    pub fn whole(self, fraction: i32) -> u64 {
        let shift = self.exponent.saturating_add(fraction);
        let mantissa = u64::from(self.mantissa);
        match shift {
            ..=-64 => 0,
            -63..=-1 => mantissa >> -shift,
            0..=31 => mantissa << shift,
            _ if mantissa == 0 => 0,
            _ => i64::MAX as u64,
        }
    }

    /// Quotient accurate to one part in 2^15, with a single 32-bit division; zero if the divisor is zero.
    #[must_use]
    pub fn over_roughly(self, other: Self) -> Self {
        match self.mantissa.checked_div(other.mantissa >> 16) {
            Some(quotient) => {
                let exponent = self.exponent.saturating_sub(other.exponent).saturating_sub(16);
                Self::new(quotient.into(), exponent)
            }
            None => Self::ZERO,
        }
    }

    /// As `factor · 2^-shift` with a factor below 2^31.
    pub fn factor(self) -> (i32, i32) {
        ((self.mantissa >> 1) as i32, 0i32.saturating_sub(self.exponent.saturating_add(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn float(m: Magnitude) -> f64 {
        f64::from(m.mantissa) * f64::from(m.exponent).exp2()
    }

    #[test]
    fn arithmetic_is_that_of_floats() {
        let values = [1.0f32, 0.1, 3.7e-9, 12345.6, 7.0e20, 1.2e-30];
        for a in values {
            let m = Magnitude::from_f32(a);
            assert_eq!(float(m), f64::from(a));
            assert!((float(m.plus_one()) / (1.0 + f64::from(a)) - 1.0).abs() < 1e-9, "{a}");
            for b in values {
                let n = Magnitude::from_f32(b);
                assert!((float(m.times(n)) / (f64::from(a) * f64::from(b)) - 1.0).abs() < 1e-9);
                assert!((float(m.over(n)) / (f64::from(a) / f64::from(b)) - 1.0).abs() < 1e-9);
                assert!((float(m.over_roughly(n)) / (f64::from(a) / f64::from(b)) - 1.0).abs() < 6e-5);
            }
            let (factor, shift) = m.factor();
            assert!((f64::from(factor) * f64::from(-shift).exp2() / f64::from(a) - 1.0).abs() < 1e-4);
        }
        assert_eq!(Magnitude::from_f32(5.5).whole(1), 11);
        assert_eq!(
            [5.5f32, 7.0e20, 1.2e-30, 0.0].map(|a| Magnitude::from_f32(a).to_f32()),
            [5.5, 7.0e20, 1.2e-30, 0.0]
        );
        assert!((float(Magnitude::root(2)) - core::f64::consts::SQRT_2).abs() < 1e-4);
        assert_eq!(Magnitude::from_f32(1e30).whole(0), i64::MAX as u64);
        for odd in [0.0, -1.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert_eq!(Magnitude::from_f32(odd), Magnitude::ZERO);
        }
        assert_eq!(Magnitude::from_f32(2.0).over(Magnitude::ZERO), Magnitude::ZERO);
    }
}
