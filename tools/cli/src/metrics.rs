//! Accuracy of a network on labelled data.

use crate::failure::{Failure, Kind, Result};

/// The metric that `eval` measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Metric {
    /// Fraction of samples whose largest output is the label.
    Top1,
    /// Area under the ROC curve. The score is the output of a model with one; the second minus the first of two; the
    /// mean squared error of the reconstruction for an autoencoder (as many outputs as inputs).
    Auc,
    /// Mean squared error of the outputs against the labels array (float targets).
    Mse,
}

/// Index of the largest element; the first one of equals.
pub fn argmax(values: &[f32]) -> usize {
    let mut best = 0;
    for (i, v) in values.iter().enumerate() {
        if *v > values[best] {
            best = i;
        }
    }
    best
}

/// Area under the ROC curve by ranks (Mann–Whitney U); ties count one half. `positive[i]` is the label of `scores[i]`.
///
/// # Errors
/// Fewer than one sample of each class.
pub fn auc(scores: &[f64], positive: &[bool]) -> Result<f64> {
    let (p, n) = (positive.iter().filter(|p| **p).count(), positive.iter().filter(|p| !**p).count());
    if p == 0 || n == 0 {
        let message = format!("AUC needs both classes, but there are {p} positive and {n} negative labels");
        return Err(Failure::new(
            Kind::Usage,
            message,
            "label negative samples 0 and positive samples 1, and give some of each",
        ));
    }
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|a, b| scores[*a].total_cmp(&scores[*b]));
    let mut rank_sum = 0.0;
    let mut i = 0;
    while i < order.len() {
        let mut j = i;
        while j < order.len() && scores[order[j]] == scores[order[i]] {
            j += 1;
        }
        // Tied scores share the mean of the ranks i+1..=j.
        let rank = (i + 1 + j) as f64 / 2.0;
        rank_sum += rank * order[i..j].iter().filter(|k| positive[**k]).count() as f64;
        i = j;
    }
    Ok((rank_sum - (p * (p + 1)) as f64 / 2.0) / (p as f64 * n as f64))
}

/// Mean of squared differences.
pub fn mean_squared_error(a: &[f32], b: &[f32]) -> f64 {
    let sum: f64 = a.iter().zip(b).map(|(x, y)| f64::from(x - y).powi(2)).sum();
    sum / a.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auc_by_hand() {
        assert_eq!(auc(&[0.1, 0.4, 0.35, 0.8], &[false, false, true, true]).unwrap(), 0.75);
        assert_eq!(auc(&[1.0, 1.0], &[false, true]).unwrap(), 0.5);
        assert!(auc(&[1.0], &[true]).is_err());
    }

    #[test]
    fn the_first_of_equal_outputs_wins() {
        assert_eq!(argmax(&[0.0, 2.0, 2.0]), 1);
    }
}
