//! Cross-entropy of a local classifier that is the projection itself: scores `s = scale · P h`, error `Pᵀ(softmax(s) -
//! y)`.
//!
//! This is tpSGD with a cross-entropy loss through the fixed `P`. All neurons share one error, which vanishes once the
//! sample is classified: it is the gradient of a two-layer network with a frozen top layer. With a learned projection
//! or one trained on the host, it is a local head (Mostafa et al., Front. Neurosci. 12:608, 2018; Nøkland and Eidnes,
//! ICML 2019, "pred").

use crate::target_projection::TargetProjection;

/// Writes the scores of all classes to `out`.
pub fn scores(
    projection: TargetProjection<'_>,
    features: usize,
    h: impl Iterator<Item = f32>,
    scale: f32,
    out: &mut [f32],
) {
    out.fill(0.0);
    if let TargetProjection::Table(table) = projection {
        // Row by row would be faster, but the iterator promises one pass only.
        let classes = out.len();
        for (j, h) in h.take(features).enumerate() {
            for (k, score) in out.iter_mut().enumerate().take(classes) {
                *score += table.get(k * features + j).copied().unwrap_or(0.0) * h;
            }
        }
    } else {
        let classes = out.len();
        for (j, h) in h.take(features).enumerate() {
            projection.column(classes, features, j, |k, p| out[k] += p * h);
        }
    }
    out.iter_mut().for_each(|score| *score *= scale);
}

/// Turns scores into `softmax(scores) - one-hot(label)`, in place. Subtracts the largest score first; exponentials are
/// `libm`'s.
pub fn residual(scores: &mut [f32], label: usize) {
    let largest = scores.iter().fold(f32::NEG_INFINITY, |a, &b| if b > a { b } else { a });
    let mut sum = 0.0;
    for score in scores.iter_mut() {
        *score = libm::expf(*score - largest);
        sum += *score;
    }
    let inverse = 1.0 / sum;
    for (k, score) in scores.iter_mut().enumerate() {
        *score = *score * inverse - f32::from(k == label);
    }
}

/// `Σ_k P[k, feature] · residual[k]`
#[inline]
pub fn error(projection: TargetProjection<'_>, features: usize, residual: &[f32], feature: usize) -> f32 {
    let mut error = 0.0;
    projection.column(residual.len(), features, feature, |k, p| error += p * residual[k]);
    error
}

#[cfg(test)]
mod tests {
    use crate::target_projection::TargetProjection;
    use crate::{LocalError, LocalRule};
    use std::vec::Vec;

    fn loss(projection: TargetProjection<'_>, h: &[f32], label: usize, classes: usize, scale: f32) -> f32 {
        let mut scores = vec![0.0; classes];
        super::scores(projection, h.len(), h.iter().copied(), scale, &mut scores);
        let sum: f32 = scores.iter().map(|s| s.exp()).sum();
        sum.ln() - scores[label]
    }

    #[test]
    fn the_error_is_the_gradient_of_the_loss() {
        let table: Vec<f32> = (0..40).map(|i| ((i * 7 % 11) as f32 - 5.0) * 0.2).collect();
        for projection in
            [TargetProjection::Signs { seed: 9 }, TargetProjection::Hadamard, TargetProjection::Table(&table)]
        {
            let h: Vec<f32> = (0..8).map(|i| (i as f32 - 3.0) * 0.3).collect();
            let mut residual = [0.0; 5];
            let rule = LocalRule::CrossEntropy { scale: 0.3 };
            let error = LocalError::new(rule, projection, 8, h.iter().copied(), 2, &mut residual);
            for j in 0..8 {
                let (mut up, mut down) = (h.clone(), h.clone());
                up[j] += 1e-2;
                down[j] -= 1e-2;
                let slope = (loss(projection, &up, 2, 5, 0.3) - loss(projection, &down, 2, 5, 0.3)) / 2e-2;
                assert!((slope - error.at(j, h[j])).abs() < 1e-3, "{projection:?} {j}");
            }
        }
    }

    #[test]
    fn large_scores_do_not_overflow() {
        let mut scores = [1e30, -1e30, 1e30];
        super::residual(&mut scores, 0);
        assert_eq!(scores, [-0.5, 0.0, 0.5]);
    }
}
