//! A linear discriminant head from one pass over features: class means and a pooled covariance, shrunk towards its
//! diagonal (Hayes and Kanan, "Lifelong machine learning with deep streaming linear discriminant analysis", 2020).

/// Sums of one pass.
#[derive(Clone, Debug)]
pub struct Lda {
    features: usize,
    counts: Vec<f64>,
    means: Vec<f64>,
    scatter: Vec<f64>,
}

/// Scores `W h + b`.
#[derive(Clone, Debug)]
pub struct Linear {
    weights: Vec<f64>,
    bias: Vec<f64>,
    features: usize,
}

impl Lda {
    /// Nothing seen yet.
    pub fn new(classes: usize, features: usize) -> Self {
        let n = features;
        Self {
            features,
            counts: vec![0.0; classes],
            means: vec![0.0; classes * n],
            scatter: vec![0.0; n * n],
        }
    }

    /// One sample: its class mean moves (Welford), the pooled scatter grows by its deviation.
    pub fn see(&mut self, h: &[f32], label: usize) {
        let n = self.features;
        self.counts[label] += 1.0;
        let mean = &mut self.means[label * n..][..n];
        let before: Vec<f64> = h.iter().zip(mean.iter()).map(|(h, m)| f64::from(*h) - m).collect();
        for (m, d) in mean.iter_mut().zip(&before) {
            *m += d / self.counts[label];
        }
        let after: Vec<f64> = h.iter().zip(mean.iter()).map(|(h, m)| f64::from(*h) - m).collect();
        for i in 0..n {
            for j in 0..n {
                self.scatter[i * n + j] += before[i] * after[j];
            }
        }
    }

    /// The head, by Cholesky's decomposition of the shrunk covariance.
    pub fn solve(&self, shrinkage: f64) -> Linear {
        let n = self.features;
        let total: f64 = self.counts.iter().sum();
        let mut a: Vec<f64> = self.scatter.iter().map(|s| s / total * (1.0 - shrinkage)).collect();
        let trace: f64 = (0..n).map(|i| self.scatter[i * n + i] / total).sum();
        for i in 0..n {
            a[i * n + i] += shrinkage * trace / n as f64 + 1e-9;
        }
        for j in 0..n {
            for k in 0..j {
                for i in j..n {
                    a[i * n + j] -= a[i * n + k] * a[j * n + k];
                }
            }
            let root = a[j * n + j].max(1e-12).sqrt();
            for i in j..n {
                a[i * n + j] /= root;
            }
        }
        let classes = self.counts.len();
        let (mut weights, mut bias) = (vec![0.0; classes * n], vec![f64::NEG_INFINITY; classes]);
        for k in (0..classes).filter(|&k| self.counts[k] > 0.0) {
            let mean = &self.means[k * n..][..n];
            let w = &mut weights[k * n..][..n];
            for i in 0..n {
                let sum: f64 = (0..i).map(|j| a[i * n + j] * w[j]).sum();
                w[i] = (mean[i] - sum) / a[i * n + i];
            }
            for i in (0..n).rev() {
                let sum: f64 = (i + 1..n).map(|j| a[j * n + i] * w[j]).sum();
                w[i] = (w[i] - sum) / a[i * n + i];
            }
            let half: f64 = w.iter().zip(mean).map(|(w, m)| w * m).sum();
            bias[k] = -0.5 * half;
        }
        Linear { weights, bias, features: n }
    }
}

impl Linear {
    /// The class with the largest score.
    pub fn classify(&self, h: &[f32]) -> usize {
        let score = |k: usize| {
            let w = &self.weights[k * self.features..][..self.features];
            self.bias[k] + w.iter().zip(h).map(|(w, h)| w * f64::from(*h)).sum::<f64>()
        };
        let scores: Vec<f32> = (0..self.bias.len()).map(|k| score(k) as f32).collect();
        crate::dense::argmax(&scores)
    }
}
