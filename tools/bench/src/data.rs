//! Labelled samples as rows of float32.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use offshoot::learn::Random;
use offshoot_data::npy;

/// Samples and labels.
#[derive(Clone, Debug, Default)]
pub struct Samples {
    /// `[count, width]`
    pub x: Vec<f32>,
    /// Class numbers.
    pub y: Vec<usize>,
    /// Elements per sample.
    pub width: usize,
}

impl Samples {
    /// Reads two `.npy` files; values are multiplied by `scale`.
    ///
    /// # Errors
    /// A file is missing or does not have the expected contents.
    pub fn read(x: &Path, y: &Path, scale: f32) -> Result<Self> {
        let read = |path: &Path| npy::read(path).with_context(|| path.display().to_string());
        let (x, y) = (read(x)?, read(y)?);
        let y: Vec<usize> = y.to_i64()?.iter().map(|&v| v as usize).collect();
        ensure!(x.shape().first() == Some(&y.len()), "expected one label per sample");
        let width = x.shape()[1..].iter().product();
        let x = x.to_f32().iter().map(|v| v * scale).collect();
        Ok(Self { x, y, width })
    }

    /// MNIST from the folder of the data set, scaled to 0 to 1.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn mnist(folder: &Path, part: &str) -> Result<Self> {
        let file = |kind| folder.join(format!("mnist/{part}_{kind}.npy"));
        Self::read(&file("x"), &file("y"), 1.0 / 255.0)
    }

    /// Values standardised with the given mean and deviation.
    #[must_use]
    pub fn standardised(mut self, mean: f32, deviation: f32) -> Self {
        self.x.iter_mut().for_each(|x| *x = (*x - mean) / deviation);
        self
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        self.y.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.y.is_empty()
    }

    /// A sample and its label.
    pub fn at(&self, i: usize) -> (&[f32], usize) {
        (&self.x[i * self.width..][..self.width], self.y[i])
    }

    /// The samples with these indices.
    #[must_use]
    pub fn select(&self, indices: impl IntoIterator<Item = usize>) -> Self {
        let mut out = Self { width: self.width, ..Self::default() };
        for i in indices {
            let (x, y) = self.at(i);
            out.x.extend(x);
            out.y.push(y);
        }
        out
    }
}

/// The numbers below `count` in random order (Fisher and Yates).
pub fn shuffled(count: usize, random: &mut Random) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    for i in (1..count).rev() {
        let j = ((u64::from(random.next_u32()) * (i as u64 + 1)) >> 32) as usize;
        order.swap(i, j);
    }
    order
}
