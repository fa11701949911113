//! Reinforcement learning (after N2N, Ashok et al. 2018): one policy removes layers, then another shrinks the
//! remaining ones; both learn by REINFORCE with a moving average as baseline.
//!
//! The reward is N2N's, `C (2 - C) · A / A₀`, with the compression `C = 1 - size / size₀` and the accuracy relative
//! to that of the largest network seen; it is -1 for candidates that violate a constraint or cannot be built. Size is
//! the last objective that is not an accuracy. Policies are products of one distribution per variable: variables of
//! encodings have no order that a recurrent policy could use.

use super::{Strategy, View};
use crate::metrics::Metric;
use crate::space::{Encoding, Kind, Space};
use offshoot_data::Random;

/// The strategy.
#[derive(Debug)]
pub struct Reinforce {
    random: Random,
    policy: Policy,
    baseline: Option<f64>,
    seen: usize,
    round: usize,
}

/// Logits of every option of every variable.
#[derive(Clone, Debug, Default)]
pub(super) struct Policy {
    pub(super) logits: Vec<Vec<f64>>,
}

impl Policy {
    /// Uniform logits.
    pub(super) fn even(space: &Space) -> Self {
        Self { logits: space.variables.iter().map(|v| vec![0.0; v.options.len()]).collect() }
    }

    pub(super) fn shares(&self, variable: usize) -> Vec<f64> {
        let logits = &self.logits[variable];
        let most = logits.iter().copied().fold(f64::MIN, f64::max);
        let all: Vec<f64> = logits.iter().map(|l| (l - most).exp()).collect();
        let sum: f64 = all.iter().sum();
        all.into_iter().map(|v| v / sum).collect()
    }

    /// One step along the gradient of `gain · log p(encoding)`, and towards uniformity by `entropy`.
    pub(super) fn learn(&mut self, encoding: &[u16], gain: f64, entropy: f64) {
        for (v, &choice) in encoding.iter().enumerate() {
            let shares = self.shares(v);
            for (o, p) in shares.iter().enumerate() {
                let hit = f64::from(u8::from(o == usize::from(choice)));
                let even =
                    p * (shares.iter().map(|q| q * q.max(1e-12).ln()).sum::<f64>() - p.max(1e-12).ln());
                self.logits[v][o] = (self.logits[v][o] + gain * (hit - p) + entropy * even).clamp(-6.0, 6.0);
            }
        }
    }

    pub(super) fn probability(&self, encoding: &[u16]) -> f64 {
        encoding
            .iter()
            .enumerate()
            .map(|(v, &c)| self.shares(v)[usize::from(c)].max(1e-9).ln())
            .sum::<f64>()
            .exp()
    }

    pub(super) fn draw(&self, random: &mut Random) -> Encoding {
        (0..self.logits.len()).map(|v| random.weighted(&self.shares(v)) as u16).collect()
    }
}

impl Reinforce {
    /// With a seed.
    pub fn new(seed: u64) -> Self {
        let random = Random::new(seed, 5);
        Self { random, policy: Policy::default(), baseline: None, seen: 0, round: 10 }
    }
}

impl Strategy for Reinforce {
    fn name(&self) -> &'static str {
        "reinforce"
    }

    fn propose(&mut self, view: View<'_>, most: usize) -> Vec<Encoding> {
        if self.policy.logits.is_empty() {
            self.policy = Policy::even(view.space);
            return vec![view.space.largest()];
        }
        let history = view.history.all();
        let largest = history.first().and_then(|e| e.measured.as_ref());
        let size = view.goal.objectives.iter().rev().find(|m| !m.grows()).cloned().unwrap_or(Metric::Flash);
        for e in &history[self.seen.min(history.len())..] {
            let reward = match (&e.measured, largest) {
                (Some(m), Some(whole)) if e.violation == 0.0 => {
                    let share = |metric: &Metric| {
                        metric.of(m).unwrap_or(0.0) / metric.of(whole).unwrap_or(1.0).max(1e-9)
                    };
                    let c = (1.0 - share(&size)).clamp(0.0, 1.0);
                    c * (2.0 - c) * share(&Metric::Accuracy)
                }
                _ => -1.0,
            };
            let baseline = *self.baseline.get_or_insert(reward);
            self.policy.learn(&e.encoding, reward - baseline, 0.002);
            self.baseline = Some(0.9 * baseline + 0.1 * reward);
        }
        self.seen = history.len();
        // First layers are removed at full width; then the remaining ones shrink.
        let removal = view.space.variables.iter().any(|v| matches!(v.kind, Kind::Depth { .. }));
        let removing = removal && history.len() < 20;
        let wholes = view.space.largest();
        let mut batch: Vec<Encoding> = Vec::new();
        for _ in 0..50 * self.round {
            if batch.len() >= self.round.min(most) {
                break;
            }
            let mut e = self.policy.draw(&mut self.random);
            if removing {
                for (v, i) in e.iter_mut().enumerate() {
                    if !matches!(view.space.variables[v].kind, Kind::Depth { .. }) {
                        *i = wholes[v];
                    }
                }
            }
            let e = view.space.canonical(e);
            if !view.history.knows(&e) && !batch.contains(&e) {
                batch.push(e);
            }
        }
        let more = view.fresh(self.round.min(most) - batch.len(), &batch, &mut self.random);
        batch.extend(more);
        batch
    }
}
