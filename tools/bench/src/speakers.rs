//! Spoken digits: a network trained on five speakers adapts to the sixth.

use std::path::Path;

use anyhow::{Context, Result};
use offshoot_data::npy;

use crate::data::Samples;

/// 49 frames of 10 coefficients to ten digits.
pub const WIDTHS: [usize; 4] = [490, 128, 64, 10];

/// The data set.
#[derive(Clone, Debug)]
pub struct Digits {
    samples: Samples,
    speaker: Vec<i64>,
    take: Vec<i64>,
}

/// One speaker against the others.
#[derive(Clone, Debug)]
pub struct Split {
    /// All utterances of the others.
    pub others: Samples,
    /// What the speaker gives to learn from, digits mixed.
    pub adapt: Samples,
    /// The speaker's other utterances.
    pub test: Samples,
}

impl Digits {
    /// Reads the data set.
    ///
    /// # Errors
    /// A file is missing or not what is wanted.
    pub fn read(folder: &Path) -> Result<Self> {
        let folder = folder.join("spoken_digits");
        let whole = |name: &str| -> Result<Vec<i64>> {
            let path = folder.join(name);
            let array = npy::read(&path).with_context(|| path.display().to_string())?;
            Ok(array.to_i64()?.iter().copied().collect())
        };
        let samples = Samples::read(&folder.join("x.npy"), &folder.join("y.npy"), 1.0)?;
        Ok(Self { samples, speaker: whole("speaker.npy")?, take: whole("take.npy")? })
    }

    /// `takes` utterances of every digit to learn from; the rest is for testing. Coefficients are standardised by the
    /// other speakers' means and deviations.
    pub fn split(&self, speaker: i64, takes: i64) -> Split {
        let (samples, width) = (&self.samples, 10);
        let is_other = |i: &usize| self.speaker[*i] != speaker;
        let mut moments = vec![(0.0f64, 0.0f64); width];
        let mut count = 0.0;
        for i in (0..samples.len()).filter(is_other) {
            for (c, x) in samples.at(i).0.iter().enumerate() {
                moments[c % width].0 += f64::from(*x);
                moments[c % width].1 += f64::from(x * x);
            }
            count += (samples.width / width) as f64;
        }
        let mut scaled = samples.clone();
        for (c, x) in scaled.x.iter_mut().enumerate() {
            let (sum, squares) = moments[c % width];
            let mean = sum / count;
            *x = ((f64::from(*x) - mean) / (squares / count - mean * mean).max(1e-9).sqrt()) as f32;
        }
        let own = |keep: &dyn Fn(i64) -> bool| {
            let mut chosen: Vec<usize> =
                (0..samples.len()).filter(|i| !is_other(i) && keep(self.take[*i])).collect();
            // Take by take, so that digits come mixed.
            chosen.sort_by_key(|&i| (self.take[i], samples.y[i]));
            scaled.select(chosen)
        };
        Split {
            others: scaled.select((0..samples.len()).filter(is_other)),
            adapt: own(&|take| (5..5 + takes).contains(&take)),
            test: own(&|take| !(5..5 + takes).contains(&take)),
        }
    }
}
