//! Layer normalisation.

use super::float::canonical;
use offshoot_format::record::LayerNorm;

/// Mean, then variance, then `(x - mean) / sqrt(variance + epsilon) * gamma + beta`; sums in order.
pub fn layer_norm_f32(r: &LayerNorm, gamma: &[f32], beta: &[f32], data: &mut [f32]) {
    let n = r.depth.max(1) as f32;
    for row in data.chunks_exact_mut(r.depth.max(1) as usize) {
        let mean = row.iter().fold(0.0, |s, v| s + v) / n;
        let variance = row.iter().fold(0.0, |s, v| s + (v - mean) * (v - mean)) / n;
        let scale = 1.0 / libm::sqrtf(variance + r.epsilon);
        for ((v, g), b) in row.iter_mut().zip(gamma).zip(beta) {
            *v = canonical((*v - mean) * scale * g + b);
        }
    }
}
