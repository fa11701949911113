//! Random numbers for learning: cheap, and the same on every platform.

/// Marsaglia's xorshift32 (J. Stat. Softw. 8(14), 2003): one word of state, three shifts per number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Random(u32);

impl Random {
    /// Seeds the generator; neighbouring seeds give unrelated sequences.
    pub const fn new(seed: u32) -> Self {
        let state = mix(seed);
        Self(if state == 0 { GOLDEN } else { state })
    }

    /// The state, to save, or for a kernel that draws its own numbers.
    pub fn state(self) -> u32 {
        self.0
    }

    /// Continues from a state. 0, which no generator has, becomes another.
    pub fn of_state(state: u32) -> Self {
        Self(if state == 0 { GOLDEN } else { state })
    }

    /// The next 32 bits; never 0.
    #[inline]
    pub fn next_u32(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        self.0
    }

    /// Uniform in [0, 1), a multiple of 2^-24.
    #[inline]
    pub fn unit(&mut self) -> f32 {
        (self.next_u32() >> 8) as f32 * (1.0 / 16_777_216.0)
    }

    /// Approximately normal, mean 0, standard deviation 1: the sum of twelve uniform numbers minus six. It needs no
    /// logarithm, and the fixed order of additions makes it reproducible.
    pub fn normal(&mut self) -> f32 {
        (0..12).fold(-6.0, |sum, _| sum + self.unit())
    }
}

/// 2^32 over the golden ratio: multiples of it spread neighbouring numbers over all 32 bits.
pub const GOLDEN: u32 = 0x9e37_79b9;

/// A bijective hash of 32 bits (`lowbias32`, C. Wellons, 2018).
#[inline]
pub const fn mix(mut x: u32) -> u32 {
    x ^= x >> 16;
    x = x.wrapping_mul(0x7feb_352d);
    x ^= x >> 15;
    x = x.wrapping_mul(0x846c_a68b);
    x ^ x >> 16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uniform_and_normal_have_their_moments() {
        let mut random = Random::new(1);
        let n = 100_000;
        let (mut sum, mut squares, mut uniform) = (0.0f64, 0.0f64, 0.0f64);
        for _ in 0..n {
            let x = f64::from(random.normal());
            sum += x;
            squares += x * x;
            uniform += f64::from(random.unit());
        }
        let n = f64::from(n);
        assert!((sum / n).abs() < 0.01 && (squares / n - 1.0).abs() < 0.02, "{} {}", sum / n, squares / n);
        assert!((uniform / n - 0.5).abs() < 0.005);
        assert_ne!(Random::new(0).next_u32(), Random::new(1).next_u32());
    }
}
