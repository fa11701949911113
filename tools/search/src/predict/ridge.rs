//! Ridge regression.

use nalgebra::{DMatrix, DVector};

/// A linear predictor, `intercept + weights · x`.
#[derive(Clone, Debug, PartialEq)]
pub struct Ridge {
    weights: Vec<f64>,
    intercept: f64,
}

impl Ridge {
    /// Minimises `Σ share · (y - f(x))² + alpha · |weights|²`; `shares` weights the rows, all 1 by default.
    pub fn fit(rows: &[Vec<f64>], y: &[f64], shares: Option<&[f64]>, alpha: f64) -> Self {
        let width = rows.first().map_or(0, Vec::len);
        let share = |i: usize| shares.map_or(1.0, |s| s[i]);
        let total: f64 = (0..rows.len()).map(share).sum::<f64>().max(f64::MIN_POSITIVE);
        let mut means = vec![0.0; width];
        let mut mean = 0.0;
        for (i, (row, y)) in rows.iter().zip(y).enumerate() {
            means.iter_mut().zip(row).for_each(|(m, v)| *m += share(i) * v / total);
            mean += share(i) * y / total;
        }
        let mut a = DMatrix::<f64>::identity(width, width) * alpha.max(1e-12);
        let mut b = DVector::<f64>::zeros(width);
        for (i, (row, y)) in rows.iter().zip(y).enumerate() {
            let centred: Vec<f64> = row.iter().zip(&means).map(|(v, m)| v - m).collect();
            for p in 0..width {
                if centred[p] == 0.0 {
                    continue;
                }
                b[p] += share(i) * centred[p] * (y - mean);
                for q in 0..=p {
                    a[(p, q)] += share(i) * centred[p] * centred[q];
                }
            }
        }
        for p in 0..width {
            for q in 0..p {
                a[(q, p)] = a[(p, q)];
            }
        }
        let weights = a.cholesky().map_or_else(|| DVector::zeros(width), |c| c.solve(&b));
        let weights: Vec<f64> = weights.iter().copied().collect();
        let intercept = mean - weights.iter().zip(&means).map(|(w, m)| w * m).sum::<f64>();
        Self { weights, intercept }
    }

    /// The prediction.
    pub fn predict(&self, row: &[f64]) -> f64 {
        self.intercept + self.weights.iter().zip(row).map(|(w, v)| w * v).sum::<f64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_found() {
        let rows: Vec<Vec<f64>> = (0..20).map(|i| vec![f64::from(i), f64::from(i * i % 7)]).collect();
        let y: Vec<f64> = rows.iter().map(|r| 3.0 * r[0] - 2.0 * r[1] + 5.0).collect();
        let ridge = Ridge::fit(&rows, &y, None, 1e-9);
        assert!((ridge.predict(&[30.0, 1.0]) - 93.0).abs() < 1e-4);
    }
}
