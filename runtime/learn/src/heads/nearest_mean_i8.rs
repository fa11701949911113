//! Nearest class mean on int8 features, in integers only, for cores without a floating-point unit.
//!
//! A mean is held in 16.16 fixed point, `μ += (2¹⁶x − μ) / count`, rounded to nearest, ties away from zero. The count
//! saturates at 32,767, so the mean then follows its class at that rate. Distances use the mean's upper 24 bits (8 of
//! them fractional), so that a squared difference fits 32 bits; they are summed in 64 bits.
//!
//! Memory: counts c, means c·n. A step is n divisions; a prediction has none.

use super::{Head, HeadError, take};

/// Largest count.
const MOST: i32 = i16::MAX as i32;

/// Nearest class mean on int8 features.
#[derive(Debug)]
pub struct NearestMeanI8<'a> {
    memory: &'a mut [i32],
    features: usize,
    classes: usize,
}

/// Quotient rounded to nearest, ties away from zero.
fn divide(numerator: i32, divisor: i32) -> i32 {
    let half = if numerator < 0 { -(divisor / 2) } else { divisor / 2 };
    (numerator + half) / divisor
}

impl<'a> Head<'a> for NearestMeanI8<'a> {
    type Feature = i8;
    type Word = i32;
    type Score = i64;
    type Options = ();

    fn words(features: usize, classes: usize) -> Option<usize> {
        features.checked_add(1)?.checked_mul(classes)
    }

    fn attach(features: usize, classes: usize, (): (), memory: &'a mut [i32]) -> Result<Self, HeadError> {
        let memory = take::<Self>(memory, features, classes)?;
        // Restored memory is untrusted: values that learning cannot produce would overflow later.
        let (counts, means) = memory.split_at_mut(classes);
        counts.iter_mut().for_each(|count| *count = (*count).clamp(0, MOST));
        means.iter_mut().for_each(|mean| *mean = (*mean).clamp(-128 << 16, 127 << 16));
        Ok(Self { memory, features, classes })
    }

    fn reset(&mut self) {
        self.memory.fill(0);
    }

    fn learn(&mut self, features: &[i8], label: usize) -> Result<(), HeadError> {
        if features.len() != self.features {
            return Err(HeadError::Features);
        }
        let (counts, means) = self.memory.split_at_mut(self.classes);
        let count = counts.get_mut(label).ok_or(HeadError::Label)?;
        *count = (*count + 1).min(MOST);
        if let Some(mean) = means.chunks_exact_mut(self.features).nth(label) {
            for (m, &x) in mean.iter_mut().zip(features) {
                *m += divide((i32::from(x) << 16) - *m, *count);
            }
        }
        Ok(())
    }

    fn predict(&self, features: &[i8], scores: &mut [i64]) -> Result<(), HeadError> {
        if features.len() != self.features {
            return Err(HeadError::Features);
        }
        if scores.len() != self.classes {
            return Err(HeadError::Scores);
        }
        let (counts, means) = self.memory.split_at(self.classes);
        for ((score, mean), &seen) in scores.iter_mut().zip(means.chunks_exact(self.features)).zip(counts) {
            let distance = mean.iter().zip(features).fold(0_i64, |sum, (&m, &x)| {
                let difference = ((i32::from(x) << 8) - (m >> 8)).unsigned_abs();
                sum + i64::from(difference * difference)
            });
            *score = if seen > 0 { -distance } else { i64::MIN };
        }
        Ok(())
    }

    fn readout(&self, class: usize, weights: &mut [f32]) -> Option<f32> {
        // Not used as a network's classifier: see [`super::NearestMean`].
        let _ = (class, weights);
        None
    }

    fn state(&self) -> &[i32] {
        self.memory
    }
}

#[cfg(test)]
mod tests {
    use super::super::{best, problems};
    use super::*;

    #[test]
    fn as_good_as_float() {
        let samples = problems::samples(4, 12, 1200, 11);
        let int8 = |x: &[f32]| x.iter().map(|&v| (v * 24.0).clamp(-128.0, 127.0) as i8).collect::<Vec<_>>();
        let mut memory = vec![7; 4 * 13];
        let mut head = NearestMeanI8::init(12, 4, (), &mut memory).unwrap();
        for (x, y) in &samples[..800] {
            head.learn(&int8(x), *y).unwrap();
        }
        let mut scores = [0; 4];
        let hits = samples[800..].iter().filter(|(x, y)| {
            head.predict(&int8(x), &mut scores).unwrap();
            best(&scores) == Some(*y)
        });
        let accuracy = hits.count() as f32 / 400.0;
        assert!(accuracy > 0.85, "{accuracy}");
    }

    #[test]
    fn a_mean_stays_near_the_mean_of_many() {
        let mut memory = [0; 2];
        let mut head = NearestMeanI8::init(1, 1, (), &mut memory).unwrap();
        let mut sum = 0;
        for i in 0..30_000_i32 {
            let x = (i * i % 251 - 128) as i8;
            sum += i32::from(x);
            head.learn(&[x], 0).unwrap();
        }
        let mean = head.state()[1] as f32 / 65536.0;
        assert!((mean - sum as f32 / 30_000.0).abs() < 0.05, "{mean}");
    }

    #[test]
    fn any_memory_any_features_no_overflow() {
        for word in [i32::MIN, -1, i32::MAX] {
            let mut memory = [word; 6];
            let mut head = NearestMeanI8::resume(2, 2, (), &mut memory).unwrap();
            for x in [[-128, -128], [127, 127]] {
                head.learn(&x, 1).unwrap();
                head.predict(&x, &mut [0; 2]).unwrap();
            }
        }
        assert_eq!(
            NearestMeanI8::init(2, 2, (), &mut [0; 5]).unwrap_err(),
            HeadError::Memory { needed: 24, given: 20 }
        );
        let mut memory = [0; 6];
        let mut head = NearestMeanI8::init(2, 2, (), &mut memory).unwrap();
        assert_eq!(head.learn(&[1], 0), Err(HeadError::Features));
        assert_eq!(head.learn(&[1, 1], 2), Err(HeadError::Label));
        assert_eq!(head.predict(&[1, 1], &mut [0; 3]), Err(HeadError::Scores));
        assert_eq!(divide(-3, 2), -2);
        assert_eq!(divide(3, 2), 2);
    }
}
