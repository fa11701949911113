//! float32 vector operations, each in one defined order.

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

/// Moves a mean a fraction `part` of the way to `x`.
pub(super) fn approach(mean: &mut [f32], part: f32, x: &[f32]) {
    for (m, &x) in mean.iter_mut().zip(x) {
        *m += part * (x - *m);
    }
}

/// Turns scores into probabilities. Scores of minus infinity give 0; at least one score must be finite.
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

/// Turns scores into the error of their probabilities, `softmax(scores) − one-hot(label)`.
pub(super) fn cross_entropy_error(scores: &mut [f32], label: usize) {
    softmax(scores);
    if let Some(p) = scores.get_mut(label) {
        *p -= 1.0;
    }
}

/// Step size for this input: divided by 1 + |x|², as in normalised least mean squares, so that one step size suits
/// every layer and every scale of features.
pub(super) fn normalised(step: f32, x: &[f32]) -> f32 {
    step / (1.0 + dot(x, x))
}
