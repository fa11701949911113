//! The predictor of LINAS: ridge and kernel ridge on one-hot rows, stacked under another ridge (Cummings et al.
//! 2022).

use super::{KernelRidge, Ridge, kendall, relative_error};

const ALPHAS: [f64; 4] = [0.1, 0.5, 2.0, 10.0];
const LAMBDAS: [f64; 4] = [1e-3, 1e-2, 1e-1, 1.0];
const FOLDS: usize = 5;

/// Quality of a predictor on rows that it was not fitted on.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct Quality {
    /// Kendall's τ.
    pub kendall: f64,
    /// Mean relative error.
    pub error: f64,
    /// Number of rows.
    pub samples: usize,
}

/// A predictor of one number.
#[derive(Clone, Debug, PartialEq)]
pub struct Stacked {
    ridge: Ridge,
    kernel: KernelRidge,
    top: Ridge,
    low: f64,
    scale: f64,
    /// Quality over five folds.
    pub quality: Quality,
}

impl Stacked {
    /// Fits all models from scratch, with hyper-parameters chosen over five folds.
    pub fn fit(rows: &[Vec<f64>], y: &[f64]) -> Self {
        let low = y.iter().copied().fold(f64::INFINITY, f64::min);
        let high = y.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let (low, scale) = if high > low { (low, high - low) } else { (low.min(0.0), 1.0) };
        let unit: Vec<f64> = y.iter().map(|v| (v - low) / scale).collect();
        let folds = FOLDS.min(rows.len().max(1));
        let (alpha, by_ridge) = best(&ALPHAS, rows, &unit, folds, |rows, y, alpha| {
            let ridge = Ridge::fit(rows, y, None, alpha);
            Box::new(move |row| ridge.predict(row))
        });
        let (lambda, by_kernel) = best(&LAMBDAS, rows, &unit, folds, |rows, y, lambda| {
            let kernel = KernelRidge::fit(rows, y, 0.0, lambda);
            Box::new(move |row| kernel.predict(row))
        });
        // The top model is fitted on the two models' predictions for held-out rows.
        let said: Vec<Vec<f64>> = by_ridge.iter().zip(&by_kernel).map(|(&a, &b)| vec![a, b]).collect();
        let top = Ridge::fit(&said, &unit, None, 1e-2);
        let predicted: Vec<f64> = said.iter().map(|s| low + scale * top.predict(s)).collect();
        let quality = Quality {
            kendall: kendall(&predicted, y),
            error: relative_error(&predicted, y),
            samples: y.len(),
        };
        let ridge = Ridge::fit(rows, &unit, None, alpha);
        let kernel = KernelRidge::fit(rows, &unit, 0.0, lambda);
        Self { ridge, kernel, top, low, scale, quality }
    }

    /// The prediction.
    pub fn predict(&self, row: &[f64]) -> f64 {
        let said = [self.ridge.predict(row), self.kernel.predict(row)];
        self.low + self.scale * self.top.predict(&said)
    }
}

type Fitted = Box<dyn Fn(&[f64]) -> f64>;

/// The hyper-parameter with the least squared error over folds, and its prediction for each held-out row.
fn best(
    settings: &[f64],
    rows: &[Vec<f64>],
    y: &[f64],
    folds: usize,
    fit: impl Fn(&[Vec<f64>], &[f64], f64) -> Fitted,
) -> (f64, Vec<f64>) {
    let mut best: Option<(f64, f64, Vec<f64>)> = None;
    for &setting in settings {
        let mut said = vec![0.0; rows.len()];
        for fold in 0..folds {
            let inside = |i: &usize| folds < 2 || i % folds != fold;
            let (mut r, mut t) = (Vec::new(), Vec::new());
            for i in (0..rows.len()).filter(inside) {
                r.push(rows[i].clone());
                t.push(y[i]);
            }
            let f = fit(&r, &t, setting);
            (0..rows.len()).filter(|i| i % folds == fold).for_each(|i| said[i] = f(&rows[i]));
        }
        let error: f64 = said.iter().zip(y).map(|(s, t)| (s - t) * (s - t)).sum();
        if best.as_ref().is_none_or(|(e, ..)| error < *e) {
            best = Some((error, setting, said));
        }
    }
    best.map_or_else(|| (1.0, vec![0.0; rows.len()]), |(_, s, said)| (s, said))
}

#[cfg(test)]
mod tests {
    use super::*;
    use offshoot_data::Random;

    #[test]
    fn a_sum_with_an_interaction_is_ranked_well() {
        let mut random = Random::new(3, 0);
        let rows: Vec<Vec<f64>> =
            (0..120).map(|_| (0..8).map(|_| random.below(2) as f64).collect()).collect();
        let truth = |r: &[f64]| {
            100.0 + r.iter().enumerate().map(|(i, v)| v * (i + 1) as f64).sum::<f64>() + 6.0 * r[0] * r[7]
        };
        let y: Vec<f64> = rows.iter().map(|r| truth(r)).collect();
        let p = Stacked::fit(&rows[..80], &y[..80]);
        let said: Vec<f64> = rows[80..].iter().map(|r| p.predict(r)).collect();
        assert!(kendall(&said, &y[80..]) > 0.85, "{}", kendall(&said, &y[80..]));
        assert!(p.quality.kendall > 0.8 && p.quality.error < 0.05, "{:?}", p.quality);
        let flat = Stacked::fit(&rows[..3], &[2.0; 3]);
        assert!((flat.predict(&rows[4]) - 2.0).abs() < 1e-6);
    }
}
