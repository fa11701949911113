//! float32 weights.

use super::Weights;

/// `[channels, length]`
#[derive(Debug)]
pub struct Float<'a> {
    weights: &'a mut [f32],
    length: usize,
}

impl<'a> Float<'a> {
    /// Rows of `length` weights.
    pub fn new(weights: &'a mut [f32], length: usize) -> Self {
        Self { weights, length: length.max(1) }
    }
}

/// Rows that a product computes at once: their sums stay in registers, and each input is read once for all.
const ROWS: usize = 4;

impl Weights for Float<'_> {
    fn at(&self, channel: usize, index: usize) -> f32 {
        self.weights[channel * self.length + index]
    }

    fn product(&self, x: &[f32], bias: &[f32], out: &mut [f32]) {
        let rows = self.weights.chunks(self.length * ROWS).zip(bias.chunks(ROWS)).zip(out.chunks_mut(ROWS));
        for ((rows, bias), out) in rows {
            if let (Ok(bias), Ok(out)) =
                (<[f32; ROWS]>::try_from(bias), <&mut [f32; ROWS]>::try_from(&mut *out))
            {
                let (a, rest) = rows.split_at(self.length);
                let (b, rest) = rest.split_at(self.length);
                let (c, d) = rest.split_at(self.length);
                let mut sums = bias;
                for ((((x, a), b), c), d) in x.iter().zip(a).zip(b).zip(c).zip(d) {
                    sums[0] += x * a;
                    sums[1] += x * b;
                    sums[2] += x * c;
                    sums[3] += x * d;
                }
                *out = sums;
            } else {
                for ((row, bias), out) in rows.chunks_exact(self.length).zip(bias).zip(out) {
                    *out = x.iter().zip(row).fold(*bias, |sum, (x, w)| sum + x * w);
                }
            }
        }
    }

    fn descend(&mut self, channel: usize, rate: f32, gradient: &[f32]) {
        for (w, g) in self.weights[channel * self.length..][..self.length].iter_mut().zip(gradient) {
            *w -= rate * g;
        }
    }

    fn nudge(&mut self, channel: usize, index: usize, step: f32) {
        self.weights[channel * self.length + index] -= step;
    }
}
