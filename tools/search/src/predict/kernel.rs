//! Kernel ridge regression with a radial basis function.

use nalgebra::{DMatrix, DVector};

/// A smooth predictor around the rows it was fitted on.
#[derive(Clone, Debug, PartialEq)]
pub struct KernelRidge {
    rows: Vec<Vec<f64>>,
    alphas: Vec<f64>,
    mean: f64,
    gamma: f64,
}

fn kernel(a: &[f64], b: &[f64], gamma: f64) -> f64 {
    let square: f64 = a.iter().zip(b).map(|(x, y)| (x - y) * (x - y)).sum();
    (-gamma * square).exp()
}

impl KernelRidge {
    /// `k(a, b) = exp(-gamma |a - b|²)`, regularised by `lambda`. A `gamma` of 0 stands for one over the variance of
    /// all elements times the row length.
    pub fn fit(rows: &[Vec<f64>], y: &[f64], gamma: f64, lambda: f64) -> Self {
        let n = rows.len();
        let mean = y.iter().sum::<f64>() / n.max(1) as f64;
        let gamma = if gamma > 0.0 { gamma } else { natural(rows) };
        let matrix = DMatrix::from_fn(n, n, |i, j| {
            kernel(&rows[i], &rows[j], gamma) + if i == j { lambda.max(1e-9) } else { 0.0 }
        });
        let centred = DVector::from_iterator(n, y.iter().map(|v| v - mean));
        let alphas = matrix.cholesky().map_or_else(|| DVector::zeros(n), |c| c.solve(&centred));
        Self { rows: rows.to_vec(), alphas: alphas.iter().copied().collect(), mean, gamma }
    }

    /// The prediction.
    pub fn predict(&self, row: &[f64]) -> f64 {
        let seen = self.rows.iter().zip(&self.alphas);
        self.mean + seen.map(|(r, a)| a * kernel(r, row, self.gamma)).sum::<f64>()
    }
}

fn natural(rows: &[Vec<f64>]) -> f64 {
    let width = rows.first().map_or(1, Vec::len).max(1);
    let all = || rows.iter().flatten();
    let n = (rows.len() * width).max(1) as f64;
    let mean = all().sum::<f64>() / n;
    let variance = all().map(|v| (v - mean) * (v - mean)).sum::<f64>() / n;
    1.0 / (variance.max(1e-9) * width as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_is_followed() {
        let rows: Vec<Vec<f64>> = (0..30).map(|i| vec![f64::from(i) / 10.0]).collect();
        let y: Vec<f64> = rows.iter().map(|r| r[0].sin()).collect();
        let k = KernelRidge::fit(&rows, &y, 2.0, 1e-6);
        assert!((k.predict(&[1.55]) - 1.55f64.sin()).abs() < 1e-3);
    }
}
