//! Samples that learning leaves out: those much farther from the others than is usual, as after a spike of the sensor.
//!
//! What is usual is the median of the distances so far, as a logarithm: each sample moves it up or down by a quarter of a
//! power of two. A few wild samples therefore hardly move it, however wild they are. Several outliers in a row are no
//! accident: then it moves faster, so that data that change for good are usual after some samples. A distance is the sum
//! of squares of input 0 minus its mean if an input normaliser knows it, else minus zero.

use offshoot_base::{Rule, cast};
use offshoot_format::record::DType;

use crate::model::io_span;
use crate::model::learn::Learning;

use super::classifier;

/// How far a distance may lie above the usual one, in quarters of a power of two.
const MARGIN: u16 = 16;

/// Outliers in a row after which what is usual moves faster.
const ROW: u8 = 4;

/// Exponent of a distance that is not finite.
pub(super) const BEYOND: u8 = u8::MAX;

/// What is usual.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Usual {
    /// Logarithm of a usual distance, in quarters; 0: not known.
    pub(super) quarters: u16,
    /// Outliers since the last sample that is none.
    pub(super) row: u8,
}

impl Usual {
    /// What is usual if distances have this exponent; 0: not known.
    pub(super) fn new(exponent: u8) -> Self {
        Self { quarters: 4 * u16::from(exponent), row: 0 }
    }

    /// Takes the exponent of the next distance, 0 if there is none; returns whether it is that of an outlier.
    pub(super) fn take(&mut self, exponent: u8) -> bool {
        if exponent == 0 || exponent == BEYOND {
            return exponent == BEYOND;
        }
        let there = 4 * u16::from(exponent);
        if self.quarters == 0 {
            self.quarters = there;
        }
        let is_outlier = there > self.quarters.saturating_add(MARGIN);
        self.row = if is_outlier { self.row.saturating_add(1) } else { 0 };
        let step = if self.row > ROW { 8 } else { 1 };
        self.quarters = match there.cmp(&self.quarters) {
            core::cmp::Ordering::Greater => self.quarters.saturating_add(step),
            core::cmp::Ordering::Equal => self.quarters,
            core::cmp::Ordering::Less => self.quarters - 1,
        };
        is_outlier
    }
}

/// Exponent of the distance of input 0, 1 to 255; 0 if it is neither float32 nor int8.
pub(super) fn exponent(
    model: &crate::model::Model<'_>,
    learning: &Learning<'_>,
    arena: &[u8],
) -> Result<u8, Rule> {
    let Some(input) = model.input(0) else { return Ok(0) };
    let span = io_span(&input).ok_or(Rule::Shape)?;
    let x = arena.get(span.range()).ok_or(Rule::ArenaBounds)?;
    let means = classifier::device_statistics(model, learning, arena).map(|(means, _)| means);
    let float = match (input.dtype, means) {
        (DType::F32, means) if cfg!(feature = "f32") => {
            let x: &[f32] = cast(x)?;
            x.iter().enumerate().fold(0.0, |sum, (i, x)| {
                let d = x - means.and_then(|m| m.get(i)).unwrap_or(&0.0);
                sum + d * d
            })
        }
        (DType::I8, Some(means)) if cfg!(feature = "f32") => {
            let (x, scale, zero): (&[i8], f32, i32) = (cast(x)?, input.scale, input.zero_point.into());
            x.iter().zip(means).fold(0.0, |sum, (&q, m)| {
                let d = (i32::from(q) - zero) as f32 * scale - m;
                sum + d * d
            })
        }
        (DType::I8, _) => {
            let sum = offshoot_kernels::energy(cast(x)?, input.zero_point);
            return Ok((u64::BITS - sum.leading_zeros()).max(1) as u8);
        }
        _ => return Ok(0),
    };
    Ok(exponent_of(float))
}

/// Exponent of a number that is not negative, 1 to 255.
pub(super) fn exponent_of(number: f32) -> u8 {
    if number.is_finite() { ((number.to_bits() >> 23) as u8).max(1) } else { BEYOND }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Judges exponents one after the other; returns the outliers.
    fn outliers(exponents: impl IntoIterator<Item = u8>) -> Vec<usize> {
        let mut usual = Usual::new(0);
        exponents.into_iter().enumerate().filter_map(|(i, e)| usual.take(e).then_some(i)).collect()
    }

    #[test]
    fn spikes_are_left_out_and_changes_are_not() {
        let usual = |i: usize| 130 + (i % 3) as u8;
        // A spike, and a third of samples that are far off.
        assert_eq!(outliers((0..50).map(|i| if i == 20 { 240 } else { usual(i) })), [20]);
        let many: Vec<usize> = outliers((0..90).map(|i| if i % 3 == 2 { 157 } else { 130 }));
        assert_eq!(many, (0..90).filter(|i| i % 3 == 2).collect::<Vec<_>>());
        // A gain of ten for good.
        let changed = outliers((0..50).map(|i| if i < 20 { usual(i) } else { usual(i) + 7 }));
        assert!(!changed.is_empty() && changed.len() <= 8, "{changed:?}");
        let far = outliers((0..80).map(|i| if i < 20 { usual(i) } else { usual(i) + 26 }));
        assert!(far.len() <= 20, "{far:?}");
        assert_eq!(outliers([BEYOND, 130, BEYOND, 130]), [0, 2]);
        for (number, exponent) in
            [(0.0, 1), (1.0, 127), (f32::MAX, 254), (f32::NAN, 255), (f32::INFINITY, 255)]
        {
            assert_eq!(exponent_of(number), exponent);
        }
    }
}
