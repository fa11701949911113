//! Random numbers that are the same on every machine.

use std::f64::consts::PI;
use std::ops::Range;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// ChaCha8 with a seed and a stream. The distributions are implemented here, so that a library's change of algorithm
/// cannot change the data.
pub(super) struct Random(ChaCha8Rng);

impl Random {
    pub(super) fn new(seed: u64, stream: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(stream);
        Self(rng)
    }

    /// Uniform in 0..1, 53 bits.
    fn unit(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Uniform.
    pub(super) fn within(&mut self, range: Range<f64>) -> f64 {
        range.start + (range.end - range.start) * self.unit()
    }

    /// Normal with mean 0 (Box and Muller 1958).
    pub(super) fn normal(&mut self, deviation: f64) -> f64 {
        let radius = libm::sqrt(-2.0 * libm::log(1.0 - self.unit()));
        deviation * radius * libm::cos(2.0 * PI * self.unit())
    }

    /// Uniform integer below `n`, which is far below 2^53.
    pub(super) fn below(&mut self, n: usize) -> usize {
        (self.unit() * n as f64) as usize
    }

    /// True with this probability.
    pub(super) fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// A random angle.
    pub(super) fn phase(&mut self) -> f64 {
        self.within(0.0..2.0 * PI)
    }
}
