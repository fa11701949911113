//! [`Requant`]: parameters that turn accumulators into int8.

/// Requantisation of int32 accumulators, read from an operator's record and blob.
#[derive(Clone, Copy, Debug)]
pub struct Requant<'a> {
    /// One per output channel.
    pub bias: &'a [i32],
    /// One per output channel, or one for all.
    pub multiplier: &'a [i32],
    /// One per multiplier; > 0 shifts left, < 0 right. If empty, bias and multiplier are those of
    /// [`offshoot_format::single_multiply`].
    pub shift: &'a [i8],
    /// Zero point of the input.
    pub in_zp: i32,
    /// Zero point of the output.
    pub out_zp: i32,
    /// Lower bound of the output.
    pub min: i32,
    /// Upper bound of the output.
    pub max: i32,
}

impl Requant<'_> {
    /// Multiplier and shift of an output channel.
    #[inline]
    pub fn scale(&self, channel: usize) -> (i32, i8) {
        if self.multiplier.len() == 1 {
            (self.multiplier[0], self.shift[0])
        } else {
            (self.multiplier[channel], self.shift[channel])
        }
    }
}
