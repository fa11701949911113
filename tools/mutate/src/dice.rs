//! [`Dice`]: the same choices for the same seed.

/// xorshift64*
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Dice number `n` of a seed.
    pub fn new(seed: u64, n: u64) -> Self {
        let mixed = (seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ n).wrapping_mul(0xd6e8_feb8_6659_fd93);
        let mut dice = Self((mixed ^ mixed >> 32) | 1);
        // Neighbouring numbers part only after a few rounds.
        for _ in 0..4 {
            dice.draw();
        }
        dice
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `n`; 0 if `n` is 0.
    pub fn below(&mut self, n: usize) -> usize {
        (self.draw() >> 20) as usize % n.max(1)
    }

    /// One of these.
    pub fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }
}
