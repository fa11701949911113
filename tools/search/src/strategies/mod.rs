//! Strategies: which candidates to evaluate next.
//!
//! A strategy is asked for a batch, sees all results, and is asked again. It uses only its seed and the results so
//! far, so that a stopped search is replayed from its journal and continues.

mod boshnas;
mod linas;
mod nsga2;
mod reinforce;
mod sorted;
mod tasks;

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::metrics::{Goal, Measured};
use crate::pareto;
use crate::space::{Encoding, Space};
use offshoot_data::Random;

pub use boshnas::Boshnas;
pub use linas::Linas;
pub use nsga2::Nsga2;
pub use reinforce::Reinforce;
pub use sorted::Sorted;
pub use tasks::Tasks;

/// A candidate with its result.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluated {
    /// The encoding.
    pub encoding: Encoding,
    /// The measurements; `None` if it could not be built.
    pub measured: Option<Measured>,
    /// Objectives as costs (smaller is better); infinite if it could not be built.
    pub costs: Vec<f64>,
    /// Violation of the constraints; 0 if they hold.
    pub violation: f64,
}

impl Evaluated {
    /// A candidate with its costs under `goal`.
    pub fn new(encoding: Encoding, measured: Option<Measured>, goal: &Goal) -> Self {
        let (costs, violation) = match &measured {
            Some(m) => (goal.costs(m), goal.violation(m)),
            None => (vec![f64::INFINITY; goal.objectives.len()], 1e12),
        };
        Self { encoding, measured, costs, violation }
    }
}

/// All evaluations, in order.
#[derive(Clone, Debug, Default)]
pub struct History {
    all: Vec<Evaluated>,
    known: HashSet<Encoding>,
}

impl History {
    /// Adds a result.
    pub fn add(&mut self, evaluated: Evaluated) {
        self.known.insert(evaluated.encoding.clone());
        self.all.push(evaluated);
    }

    /// Everything, in order.
    pub fn all(&self) -> &[Evaluated] {
        &self.all
    }

    /// Whether the candidate has been evaluated.
    pub fn knows(&self, encoding: &[u16]) -> bool {
        self.known.contains(encoding)
    }

    /// The non-dominated candidates that meet all constraints, cheapest by the last objective first.
    pub fn front(&self) -> Vec<&Evaluated> {
        let kept: Vec<&Evaluated> =
            self.all.iter().filter(|e| e.violation == 0.0 && e.measured.is_some()).collect();
        let costs: Vec<Vec<f64>> = kept.iter().map(|e| e.costs.clone()).collect();
        let mut front: Vec<&Evaluated> = pareto::front(&costs).into_iter().map(|i| kept[i]).collect();
        front
            .sort_by(|a, b| a.costs.last().partial_cmp(&b.costs.last()).unwrap_or(std::cmp::Ordering::Equal));
        front
    }

    /// Scales that map costs to 0..1 between the least and the largest observed value of each objective.
    pub(crate) fn unit(&self) -> Unit {
        let finite: Vec<&Evaluated> =
            self.all.iter().filter(|e| e.costs.iter().all(|c| c.is_finite())).collect();
        let width = self.all.first().map_or(0, |e| e.costs.len());
        let of =
            |o: usize, start: f64, f: fn(f64, f64) -> f64| finite.iter().map(|e| e.costs[o]).fold(start, f);
        let low = (0..width).map(|o| of(o, f64::INFINITY, f64::min)).collect();
        let high = (0..width).map(|o| of(o, f64::NEG_INFINITY, f64::max)).collect();
        Unit { low, high }
    }
}

/// Scales of objectives.
#[derive(Clone, Debug)]
pub(crate) struct Unit {
    low: Vec<f64>,
    high: Vec<f64>,
}

impl Unit {
    pub(crate) fn of(&self, costs: &[f64]) -> Vec<f64> {
        let one = |(o, c): (usize, &f64)| {
            let span = self.high[o] - self.low[o];
            let unit = (c - self.low[o]) / if span > 0.0 { span } else { 1.0 };
            if unit.is_finite() { unit.clamp(-10.0, 10.0) } else { 10.0 }
        };
        costs.iter().enumerate().map(one).collect()
    }
}

/// What a strategy sees.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// The space.
    pub space: &'a Space,
    /// Objectives and constraints.
    pub goal: &'a Goal,
    /// The evaluations so far.
    pub history: &'a History,
}

impl View<'_> {
    /// Up to `count` uniformly drawn candidates that have not been evaluated and are not in `taken`. Fewer if the
    /// space is exhausted.
    pub(crate) fn fresh(&self, count: usize, taken: &[Encoding], random: &mut Random) -> Vec<Encoding> {
        let mut out: Vec<Encoding> = Vec::new();
        let mut misses = 0;
        while out.len() < count && misses < 200 + 20 * count {
            let e = self.space.sample(random);
            if self.history.knows(&e) || taken.contains(&e) || out.contains(&e) {
                misses += 1;
            } else {
                out.push(e);
            }
        }
        out
    }
}

/// Proposes candidates.
pub trait Strategy: std::fmt::Debug {
    /// Name of the strategy.
    fn name(&self) -> &'static str;

    /// Up to `most` different candidates that have not been evaluated. An empty list ends the search.
    fn propose(&mut self, view: View<'_>, most: usize) -> Vec<Encoding>;

    /// Notes for the report on the strategy's own quality.
    fn notes(&self) -> Vec<String> {
        Vec::new()
    }
}

/// Uniformly drawn candidates.
#[derive(Debug)]
pub struct RandomSearch {
    random: Random,
}

impl RandomSearch {
    /// With a seed.
    pub fn new(seed: u64) -> Self {
        Self { random: Random::new(seed, 1) }
    }
}

impl Strategy for RandomSearch {
    fn name(&self) -> &'static str {
        "random"
    }

    fn propose(&mut self, view: View<'_>, most: usize) -> Vec<Encoding> {
        // The same batch size as the other strategies, so that they are comparable at each number of evaluations.
        view.fresh(most.min(10), &[], &mut self.random)
    }
}

/// A strategy by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Choice {
    /// [`RandomSearch`].
    Random,
    /// [`Nsga2`].
    Nsga2,
    /// [`Linas`].
    #[default]
    Linas,
    /// [`Boshnas`].
    Boshnas,
    /// [`Reinforce`].
    Reinforce,
    /// [`Sorted`].
    Sorted,
    /// [`Tasks`].
    Tasks,
}

impl Choice {
    /// Creates the strategy.
    pub fn strategy(self, seed: u64) -> Box<dyn Strategy + Send> {
        match self {
            Self::Random => Box::new(RandomSearch::new(seed)),
            Self::Nsga2 => Box::new(Nsga2::new(50, seed)),
            Self::Linas => Box::new(Linas::new(seed)),
            Self::Boshnas => Box::new(Boshnas::new(seed)),
            Self::Reinforce => Box::new(Reinforce::new(seed)),
            Self::Sorted => Box::new(Sorted::default()),
            Self::Tasks => Box::new(Tasks::new(seed)),
        }
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;
    use crate::metrics::Metric;
    use crate::space::{Kind, Variable};

    /// Twelve variables of four options; accuracy and cost conflict, with interactions.
    pub(crate) fn problem() -> (Space, Goal) {
        let variable = |i: usize| Variable {
            name: format!("v{i}"),
            kind: Kind::Channels { weights: format!("w{i}"), first: 0 },
            options: vec![1, 2, 3, 4],
        };
        let space = Space::new((0..12).map(variable).collect()).unwrap();
        (space, Goal { objectives: vec![Metric::Accuracy, Metric::Flash], constraints: vec![] })
    }

    pub(crate) fn measure(e: &[u16]) -> Measured {
        let gain = |(i, &v): (usize, &u16)| (f64::from(v)).sqrt() * (1.0 + (i % 5) as f64);
        let pairs = |w: &[u16]| -0.3 * (f64::from(w[0]) - f64::from(w[1])).powi(2);
        let accuracy = e.iter().enumerate().map(gain).sum::<f64>() + e.windows(2).map(pairs).sum::<f64>();
        let flash = e.iter().enumerate().map(|(i, &v)| u64::from(v) * (1 + (i as u64 * 7) % 11)).sum();
        Measured { accuracy, flash, ..Measured::default() }
    }

    pub(crate) fn search(strategy: &mut dyn Strategy, evaluations: usize) -> History {
        let (space, goal) = problem();
        let mut history = History::default();
        while history.all().len() < evaluations {
            let view = View { space: &space, goal: &goal, history: &history };
            let batch = strategy.propose(view, evaluations - history.all().len());
            if batch.is_empty() {
                break;
            }
            for e in batch {
                assert!(space.check(&e).is_ok() && !history.knows(&e), "{} repeats itself", strategy.name());
                let m = measure(&e);
                history.add(Evaluated::new(e, Some(m), &goal));
            }
        }
        history
    }

    pub(crate) fn volume(history: &History) -> f64 {
        let costs: Vec<Vec<f64>> =
            history.all().iter().map(|e| vec![e.costs[0] / 60.0, e.costs[1] / 200.0]).collect();
        pareto::hypervolume(&costs, &[0.0, 1.0])
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{search, volume};
    use super::*;

    #[test]
    fn every_strategy_is_valid_deterministic_and_beats_chance_where_it_should() {
        let chance = volume(&search(&mut RandomSearch::new(1), 70));
        for choice in
            [Choice::Nsga2, Choice::Linas, Choice::Boshnas, Choice::Reinforce, Choice::Sorted, Choice::Tasks]
        {
            let found = search(choice.strategy(1).as_mut(), 70);
            let again = search(choice.strategy(1).as_mut(), 70);
            assert_eq!(found.all(), again.all(), "{choice:?}");
            let v = volume(&found);
            println!("{choice:?}: {v:.4} of {} evaluations, chance {chance:.4}", found.all().len());
            if matches!(choice, Choice::Linas | Choice::Nsga2 | Choice::Boshnas) {
                assert!(v > chance, "{choice:?}: {v} against {chance}");
            }
        }
    }
}
