//! Augmentation: random changes of samples before each step.

use std::fmt::Debug;

use ndarray::{ArrayD, Axis};
use offshoot_data::Random;
use rayon::prelude::*;

/// A random change of samples that keeps their targets valid.
pub trait Augment: Debug + Send + Sync {
    /// Changes one sample in place; `shape` excludes the batch axis. All inputs of a sample get the same `random`
    /// numbers.
    fn apply(&self, shape: &[usize], sample: &mut [f32], random: &mut Random);
}

/// The generator of one sample in one epoch: it depends only on the seed, the sample's index and the epoch.
pub(crate) fn random_of(seed: u64, epoch: usize, sample: usize) -> Random {
    Random::new(seed ^ 0x6175_676d_656e_7400, ((epoch as u64) << 32) ^ sample as u64)
}

/// Images `[h, w, c]`: mirrored with probability one half, and shifted by up to `shift` pixels in each direction (a
/// crop of the padded image, He et al. 2016; padded with the edge's pixels, which suit the image whatever 0 means).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Images {
    /// Whether images are mirrored horizontally.
    pub flip: bool,
    /// Largest shift in pixels.
    pub shift: usize,
}

impl Augment for Images {
    fn apply(&self, shape: &[usize], sample: &mut [f32], random: &mut Random) {
        let &[h, w, c] = shape else { return };
        let flip = self.flip && random.below(2) == 1;
        let mut by = || random.below(2 * self.shift + 1) as isize - self.shift as isize;
        let (down, right) = (by(), by());
        let from =
            |at: usize, by: isize, extent: usize| at.saturating_add_signed(-by).min(extent.saturating_sub(1));
        let old = sample.to_vec();
        for y in 0..h {
            for x in 0..w {
                let source = from(x, right, w);
                let source = if flip { w - 1 - source } else { source };
                let at = (from(y, down, h) * w + source) * c;
                sample[(y * w + x) * c..][..c].copy_from_slice(&old[at..at + c]);
            }
        }
    }
}

/// Features over time, along the first axis of a sample: shifted by up to `shift` steps, with the first or last step
/// repeated, plus normal noise of `noise` times the sample's standard deviation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Series {
    /// Largest shift in steps.
    pub shift: usize,
    /// Noise as a share of the standard deviation.
    pub noise: f32,
}

impl Augment for Series {
    fn apply(&self, shape: &[usize], sample: &mut [f32], random: &mut Random) {
        let Some((&steps, rest)) = shape.split_first() else { return };
        let width: usize = rest.iter().product();
        let by = random.below(2 * self.shift + 1) as isize - self.shift as isize;
        let old = sample.to_vec();
        for t in 0..steps {
            let source = t.saturating_add_signed(-by).min(steps.saturating_sub(1));
            sample[t * width..][..width].copy_from_slice(&old[source * width..][..width]);
        }
        if self.noise > 0.0 {
            let n = old.len().max(1) as f32;
            let mean = old.iter().sum::<f32>() / n;
            let deviation = (old.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / n).sqrt();
            sample.iter_mut().for_each(|v| *v += self.noise * deviation * random.normal() as f32);
        }
    }
}

/// Replaces samples of a batch by mixtures (mixup, Zhang et al. 2018): sample `i` becomes `shares[i]` of itself plus
/// the rest of the next sample, and its targets are mixed in the same way. Shares are uniform between 0 and 1; with a
/// teacher's logits this is the function matching of Beyer et al. 2022.
#[derive(Debug)]
pub(crate) struct Mixture {
    pub(crate) shares: Vec<f32>,
}

impl Mixture {
    /// The mixture for a batch of the samples `chosen`.
    pub(crate) fn new(chosen: &[usize], seed: u64, epoch: usize) -> Self {
        const STEPS: usize = 1 << 16;
        let share = |number: &usize| {
            let mut random = random_of(seed ^ 0x6d69_7875_7000_0000, epoch, *number);
            (random.below(STEPS) as f32 + 0.5) / STEPS as f32
        };
        Self { shares: chosen.iter().map(share).collect() }
    }

    /// Mixes the rows of a batch `[shares, …]`.
    pub(crate) fn apply(&self, batch: &mut [f32]) {
        let width = batch.len() / self.shares.len().max(1);
        let Some(first) = batch.get(..width).map(<[f32]>::to_vec) else { return };
        for (i, share) in self.shares.iter().enumerate() {
            let (done, behind) = batch.split_at_mut((i + 1) * width);
            let behind = behind.get(..width).unwrap_or(&first);
            let own = done[i * width..].iter_mut();
            own.zip(behind).for_each(|(a, b)| *a = share * *a + (1.0 - share) * b);
        }
    }
}

/// The samples `chosen` of `x`, each augmented.
pub(crate) fn augmented(
    x: &ArrayD<f32>,
    chosen: &[usize],
    augment: Option<&dyn Augment>,
    seed: u64,
    epoch: usize,
) -> ArrayD<f32> {
    let mut batch = x.select(Axis(0), chosen);
    let Some(augment) = augment else { return batch };
    let shape = batch.shape()[1..].to_vec();
    let width = shape.iter().product::<usize>().max(1);
    if let Some(samples) = batch.as_slice_mut() {
        samples.par_chunks_mut(width).zip(chosen).for_each(|(sample, &number)| {
            augment.apply(&shape, sample, &mut random_of(seed, epoch, number));
        });
    }
    batch
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_move_and_turn_round() {
        let image: Vec<f32> = (0..24).map(|v| v as f32).collect();
        let mut seen = std::collections::BTreeSet::new();
        for number in 0..40 {
            let mut now = image.clone();
            Images { flip: true, shift: 1 }.apply(&[4, 3, 2], &mut now, &mut random_of(1, 0, number));
            let mut again = image.clone();
            Images { flip: true, shift: 1 }.apply(&[4, 3, 2], &mut again, &mut random_of(1, 0, number));
            assert_eq!(now, again);
            // Pixels are not interpolated.
            assert!(now.chunks(2).all(|p| p[0] % 2.0 == 0.0 && p[1] == p[0] + 1.0), "{now:?}");
            seen.insert(now.iter().map(|v| *v as u8).collect::<Vec<_>>());
        }
        assert!(seen.len() > 10, "{}", seen.len());
        let mut same = image.clone();
        Images { flip: false, shift: 0 }.apply(&[4, 3, 2], &mut same, &mut random_of(1, 0, 0));
        assert_eq!(same, image);
    }

    #[test]
    fn series_move_in_time() {
        let x: Vec<f32> = (0..12).map(|v| v as f32).collect();
        let array = ArrayD::from_shape_vec(vec![1, 6, 2], x).unwrap();
        let series = Series { shift: 2, noise: 0.0 };
        let moved = augmented(&array, &[0, 0, 0], Some(&series), 3, 4);
        for row in moved.outer_iter() {
            let first: Vec<f32> = row.iter().step_by(2).copied().collect();
            assert!(first.windows(2).all(|w| w[0] <= w[1] && w[1] - w[0] <= 2.0), "{first:?}");
        }
        let noisy = augmented(&array, &[0], Some(&Series { shift: 0, noise: 0.1 }), 3, 4);
        let off = noisy.iter().zip(&array).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(off > 0.0 && off < 2.0, "{off}");
    }

    #[test]
    fn mixtures_are_pairs_of_a_batch() {
        let mixture = Mixture::new(&[5, 9, 2], 1, 0);
        assert!(mixture.shares.iter().all(|s| (0.0..=1.0).contains(s)));
        assert_eq!(mixture.shares, Mixture::new(&[5, 9, 2], 1, 0).shares);
        assert_ne!(mixture.shares, Mixture::new(&[5, 9, 2], 1, 1).shares);
        let mut rows = [1.0, 0.0, 2.0, 10.0, 4.0, 20.0];
        Mixture { shares: vec![0.25, 1.0, 0.5] }.apply(&mut rows);
        assert_eq!(rows, [1.75, 7.5, 2.0, 10.0, 2.5, 10.0]);
    }
}
