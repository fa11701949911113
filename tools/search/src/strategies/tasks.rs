//! Several tasks at once (after FBNetV5, Wu et al. 2021): each task has a distribution over the space, and all share
//! evaluations.
//!
//! A candidate drawn from the distribution of one task teaches all: its reward for each task is weighted by the
//! likelihood ratio of that task's distribution to the mixture. The number of evaluations therefore does not grow
//! with the number of tasks. A task is one objective to be maximised, against all objectives to be minimised.

use super::reinforce::Policy;
use super::{Strategy, View};
use crate::space::Encoding;
use offshoot_data::Random;

/// The strategy.
#[derive(Debug)]
pub struct Tasks {
    random: Random,
    policies: Vec<Policy>,
    baselines: Vec<Option<f64>>,
    seen: usize,
    round: usize,
}

/// Largest weight of one evaluation for a task that would hardly have drawn it.
const CLIP: f64 = 3.0;

impl Tasks {
    /// With a seed.
    pub fn new(seed: u64) -> Self {
        Self { random: Random::new(seed, 6), policies: vec![], baselines: vec![], seen: 0, round: 10 }
    }
}

impl Strategy for Tasks {
    fn name(&self) -> &'static str {
        "tasks"
    }

    fn propose(&mut self, view: View<'_>, most: usize) -> Vec<Encoding> {
        let objectives = &view.goal.objectives;
        let tasks: Vec<usize> = (0..objectives.len()).filter(|&o| objectives[o].grows()).collect();
        let costs: Vec<usize> = (0..objectives.len()).filter(|&o| !objectives[o].grows()).collect();
        let count = tasks.len().max(1);
        if self.policies.is_empty() {
            self.policies = vec![Policy::even(view.space); count];
            self.baselines = vec![None; count];
            return view.fresh((2 * self.round).min(most), &[], &mut self.random);
        }
        let history = view.history.all();
        let unit = view.history.unit();
        for e in &history[self.seen.min(history.len())..] {
            let scaled = unit.of(&e.costs);
            let price = costs.iter().map(|&o| scaled[o]).sum::<f64>() / costs.len().max(1) as f64;
            let likely: Vec<f64> = self.policies.iter().map(|p| p.probability(&e.encoding)).collect();
            let mixture = (likely.iter().sum::<f64>() / count as f64).max(1e-30);
            for t in 0..count {
                let loss = tasks.get(t).map_or(0.0, |&o| scaled[o]);
                let reward = -(loss + 0.5 * price) - e.violation.min(1.0);
                let baseline = *self.baselines[t].get_or_insert(reward);
                let weight = (likely[t] / mixture).min(CLIP);
                self.policies[t].learn(&e.encoding, weight * (reward - baseline), 0.002);
                self.baselines[t] = Some(0.9 * baseline + 0.1 * reward);
            }
        }
        self.seen = history.len();
        let mut batch: Vec<Encoding> = Vec::new();
        for attempt in 0..50 * self.round {
            if batch.len() >= self.round.min(most) {
                break;
            }
            let e = self.policies[attempt % count].draw(&mut self.random);
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
