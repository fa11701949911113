//! Update rules and learning-rate schedules, on plain slices.

use serde::{Deserialize, Serialize};

/// Update rule.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum UpdateRule {
    /// Gradient descent with momentum (Polyak 1964): `v = momentum · v + g; w -= rate · v`.
    Sgd {
        /// Share of the velocity that is kept.
        momentum: f32,
    },
    /// Adam (Kingma and Ba 2015; with weight decay AdamW, Loshchilov and Hutter 2019) with β₁ = 0.9, β₂ = 0.999, ε =
    /// 1e-8.
    Adam,
}

/// State of one parameter tensor: velocity, or first and second moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct State {
    first: Vec<f32>,
    second: Vec<f32>,
}

impl UpdateRule {
    /// One step. `step` counts from 1; `decay` is decoupled weight decay (Loshchilov and Hutter 2019).
    pub(crate) fn update(
        self,
        state: &mut State,
        weights: &mut [f32],
        gradient: &[f32],
        rate: f32,
        decay: f32,
        step: i32,
    ) {
        state.first.resize(weights.len(), 0.0);
        match self {
            Self::Sgd { momentum } => {
                for ((w, &g), v) in weights.iter_mut().zip(gradient).zip(&mut state.first) {
                    *v = momentum * *v + g;
                    *w -= rate * (*v + decay * *w);
                }
            }
            Self::Adam => {
                const BETA: (f32, f32) = (0.9, 0.999);
                state.second.resize(weights.len(), 0.0);
                let correction = (1.0 - BETA.0.powi(step), 1.0 - BETA.1.powi(step));
                let moments = state.first.iter_mut().zip(&mut state.second);
                for ((w, &g), (m, v)) in weights.iter_mut().zip(gradient).zip(moments) {
                    *m = BETA.0 * *m + (1.0 - BETA.0) * g;
                    *v = BETA.1 * *v + (1.0 - BETA.1) * g * g;
                    let direction = (*m / correction.0) / ((*v / correction.1).sqrt() + 1e-8);
                    *w -= rate * (direction + decay * *w);
                }
            }
        }
    }
}

/// Learning-rate schedule.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Schedule {
    /// Constant.
    Constant,
    /// Linear warm-up over this share of the steps, then a half cosine to zero (Loshchilov and Hutter 2017).
    Cosine {
        /// Share of the steps.
        warm_up: f32,
    },
}

impl Schedule {
    /// Learning rate at step `step` (from 0) of `steps`.
    pub(crate) fn rate(self, peak: f32, step: usize, steps: usize) -> f32 {
        let Self::Cosine { warm_up } = self else { return peak };
        let rise = ((steps as f32 * warm_up.clamp(0.0, 1.0)) as usize).max(1);
        if step < rise {
            return peak * (step + 1) as f32 / rise as f32;
        }
        let share = (step - rise) as f32 / (steps - rise).max(1) as f32;
        peak * 0.5 * (1.0 + (std::f32::consts::PI * share).cos())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COSINE: Schedule = Schedule::Cosine { warm_up: 0.05 };

    #[test]
    fn both_rules_find_the_minimum_of_a_parabola() {
        for rule in [UpdateRule::Sgd { momentum: 0.9 }, UpdateRule::Adam] {
            let (mut weights, mut state) = ([3.0f32, -2.0], State::default());
            for step in 0..400 {
                let gradient = [2.0 * (weights[0] - 1.0), 20.0 * weights[1]];
                rule.update(
                    &mut state,
                    &mut weights,
                    &gradient,
                    COSINE.rate(0.03, step, 400),
                    0.0,
                    step as i32 + 1,
                );
            }
            assert!((weights[0] - 1.0).abs() < 1e-2 && weights[1].abs() < 1e-2, "{rule:?}: {weights:?}");
        }
    }

    #[test]
    fn the_rate_rises_and_falls_to_zero() {
        let rates: Vec<f32> = (0..100).map(|s| COSINE.rate(1.0, s, 100)).collect();
        assert!(rates[0] < rates[3] && rates[5] == 1.0 && rates[50] < 0.6 && rates[99] < 0.01);
    }
}
