//! Predictors of accuracy and cost from encodings, and of cost from measured operators.

mod kernel;
mod latency;
mod mlp;
mod ridge;
mod stacked;

pub use kernel::KernelRidge;
pub use latency::Latency;
pub use mlp::Mlp;
pub use ridge::Ridge;
pub use stacked::{Quality, Stacked};

/// Kendall's τ-b between two rankings: 1 for the same order, -1 for the opposite; ties count for neither.
pub fn kendall(a: &[f64], b: &[f64]) -> f64 {
    let (mut agree, mut ties) = (0i64, [0i64; 2]);
    let n = a.len().min(b.len());
    for i in 0..n {
        for j in 0..i {
            let (x, y) = (a[i].total_cmp(&a[j]) as i64, b[i].total_cmp(&b[j]) as i64);
            agree += x * y;
            ties[0] += i64::from(x == 0);
            ties[1] += i64::from(y == 0);
        }
    }
    let pairs = (n * n.saturating_sub(1) / 2) as i64;
    let scale = ((pairs - ties[0]) as f64 * (pairs - ties[1]) as f64).sqrt();
    if scale > 0.0 { agree as f64 / scale } else { 0.0 }
}

/// Mean of `|predicted - true| / |true|`.
pub fn relative_error(predicted: &[f64], truth: &[f64]) -> f64 {
    let each = predicted.iter().zip(truth).map(|(p, t)| (p - t).abs() / t.abs().max(f64::MIN_POSITIVE));
    each.sum::<f64>() / truth.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rank_correlations() {
        assert_eq!(kendall(&[1.0, 2.0, 3.0], &[10.0, 20.0, 30.0]), 1.0);
        assert_eq!(kendall(&[1.0, 2.0, 3.0], &[3.0, 2.0, 1.0]), -1.0);
        assert!((kendall(&[1.0, 2.0, 2.0, 3.0], &[1.0, 2.0, 3.0, 4.0]) - 5.0 / 30f64.sqrt()).abs() < 1e-12);
        assert_eq!(kendall(&[1.0], &[1.0]), 0.0);
    }
}
