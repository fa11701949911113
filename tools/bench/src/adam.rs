//! Adam (Kingma and Ba, arXiv 1412.6980) with the paper's constants, for protocols that use it.

/// Moments of a tensor's gradient.
#[derive(Clone, Debug, Default)]
pub struct Adam {
    first: Vec<f32>,
    second: Vec<f32>,
    steps: i32,
}

impl Adam {
    /// One step: `weights` descend along their `gradient`.
    pub fn descend(&mut self, weights: &mut [f32], gradient: &[f32], rate: f32) {
        self.first.resize(weights.len(), 0.0);
        self.second.resize(weights.len(), 0.0);
        self.steps += 1;
        let corrections = [0.9f32, 0.999].map(|b| 1.0 - b.powi(self.steps));
        let moments = self.first.iter_mut().zip(&mut self.second);
        for ((w, g), (m, v)) in weights.iter_mut().zip(gradient).zip(moments) {
            *m = 0.9 * *m + 0.1 * g;
            *v = 0.999 * *v + 0.001 * g * g;
            *w -= rate * (*m / corrections[0]) / ((*v / corrections[1]).sqrt() + 1e-8);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_bottom_of_a_bowl() {
        let mut adam = Adam::default();
        let mut w = [3.0, -2.0];
        for _ in 0..2000 {
            let gradient = [2.0 * w[0], 20.0 * (w[1] - 1.0)];
            adam.descend(&mut w, &gradient, 0.01);
        }
        assert!(w[0].abs() < 1e-2 && (w[1] - 1.0).abs() < 1e-2, "{w:?}");
    }
}
