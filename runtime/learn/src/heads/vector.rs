//! Vectors of float32, each operation in one defined order.

/// Sum of products, first to last.
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).fold(0.0, |sum, (&a, &b)| sum + a * b)
}

/// `y += factor · x`.
pub(super) fn add(y: &mut [f32], factor: f32, x: &[f32]) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y += factor * x;
    }
}

/// Moves a mean towards `x` by a part of the way.
pub(super) fn approach(mean: &mut [f32], part: f32, x: &[f32]) {
    for (m, &x) in mean.iter_mut().zip(x) {
        *m += part * (x - *m);
    }
}

/// Scores to probabilities. Scores of minus infinity get none; there must be another.
pub(super) fn softmax(scores: &mut [f32]) {
    let highest = scores.iter().fold(f32::NEG_INFINITY, |high, &s| if s > high { s } else { high });
    let mut sum = 0.0;
    for score in scores.iter_mut() {
        *score = libm::expf(*score - highest);
        sum += *score;
    }
    for score in scores.iter_mut() {
        *score /= sum;
    }
}

/// Scores of classes to the error of their probabilities, `softmax(scores) − one-hot(label)`.
pub(super) fn cross_entropy_error(scores: &mut [f32], label: usize) {
    softmax(scores);
    if let Some(p) = scores.get_mut(label) {
        *p -= 1.0;
    }
}

/// Size of a step on this input: divided by 1 + |x|², as in normalised least mean squares, so that one step size
/// suits every layer and every scale of features.
pub(super) fn normalised(step: f32, x: &[f32]) -> f32 {
    step / (1.0 + dot(x, x))
}
