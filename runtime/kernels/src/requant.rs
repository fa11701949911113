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

/// A value within the bounds of an output. `clamp` would link a panic for bounds in the wrong order, which no checked
/// record has.
#[inline(always)]
pub(crate) fn bounded(v: i32, min: i32, max: i32) -> i8 {
    v.max(min).min(max) as i8
}

impl Requant<'_> {
    /// Bias of an output channel. A checked record has one for each.
    #[inline]
    pub fn bias(&self, channel: usize) -> i32 {
        self.bias.get(channel).copied().unwrap_or(0)
    }

    /// As [`Self::scale`], without a panic in the program. A checked record has as many shifts as multipliers: one, or one
    /// for each channel.
    #[inline]
    pub(crate) fn scale_or_none(&self, channel: usize) -> Option<(i32, i8)> {
        let at = if self.multiplier.len() == 1 { 0 } else { channel };
        Some((*self.multiplier.get(at)?, *self.shift.get(at)?))
    }

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
