//! LINAS (Cummings et al. 2022): in rounds, fits a predictor of each objective on all measurements, runs NSGA-II on
//! the predictions, and measures candidates from its last population.
//!
//! Differences from the paper: rounds have ten candidates instead of fifty; the first round begins with a ladder of
//! sub-networks from the smallest to the largest; from the last population, those candidates are taken whose
//! predictions add most to the hypervolume of the front (the paper takes all).

use super::nsga2::inner;
use super::{Strategy, View};
use crate::metrics::Metric;
use crate::pareto;
use crate::predict::{Quality, Stacked};
use crate::space::Encoding;
use offshoot_data::Random;

/// The strategy.
#[derive(Debug)]
pub struct Linas {
    random: Random,
    /// Candidates before the first prediction, and per round.
    first: usize,
    round: usize,
    /// Population and number of predicted evaluations of the inner search.
    population: usize,
    predicted: usize,
    quality: Vec<(String, Quality)>,
}

impl Linas {
    /// With a seed.
    pub fn new(seed: u64) -> Self {
        let random = Random::new(seed, 3);
        Self { random, first: 20, round: 10, population: 50, predicted: 4000, quality: vec![] }
    }
}

/// Encodings from the smallest to the largest, with all variables growing in step.
pub(super) fn ladder(view: View<'_>, rungs: usize) -> Vec<Encoding> {
    let largest = view.space.largest();
    let mut all: Vec<Encoding> = Vec::new();
    for rung in 0..rungs {
        let share = rung as f64 / (rungs.max(2) - 1) as f64;
        let e = largest.iter().map(|&m| (f64::from(m) * share).round() as u16).collect();
        let e = view.space.canonical(e);
        if !all.contains(&e) {
            all.push(e);
        }
    }
    all
}

impl Strategy for Linas {
    fn name(&self) -> &'static str {
        "linas"
    }

    fn propose(&mut self, view: View<'_>, most: usize) -> Vec<Encoding> {
        let history = view.history;
        if history.all().is_empty() {
            let mut batch = ladder(view, 5);
            let more = view.fresh(self.first.saturating_sub(batch.len()), &batch, &mut self.random);
            batch.extend(more);
            batch.truncate(most);
            return batch;
        }
        let wanted = self.round.min(most);
        // Only candidates that were built and measured are used for fitting.
        let made: Vec<_> = history.all().iter().filter_map(|e| Some((e, e.measured.as_ref()?))).collect();
        if made.len() < 4 {
            return view.fresh(wanted, &[], &mut self.random);
        }
        let rows: Vec<Vec<f64>> = made.iter().map(|(e, _)| view.space.one_hot(&e.encoding)).collect();
        let mut metrics: Vec<Metric> = view.goal.objectives.clone();
        metrics.extend(view.goal.constraints.iter().map(|c| c.metric.clone()));
        metrics.sort();
        metrics.dedup();
        let known = metrics.iter().filter(|m| made.iter().all(|(_, x)| m.of(x).is_some()));
        let models: Vec<(Metric, Stacked)> = known
            .map(|m| {
                // Costs vary by factors: their logarithms are closer to additive.
                let y: Vec<f64> = made.iter().map(|(_, x)| forth(m, m.of(x).unwrap_or(0.0))).collect();
                (m.clone(), Stacked::fit(&rows, &y))
            })
            .collect();
        self.quality = models.iter().map(|(m, p)| (m.to_string(), p.quality)).collect();
        let cost = |e: &[u16]| {
            let row = view.space.one_hot(e);
            let said: Vec<(&Metric, f64)> =
                models.iter().map(|(m, p)| (m, back(m, p.predict(&row)))).collect();
            let of = |metric: &Metric| said.iter().find(|(m, _)| *m == metric).map(|(_, v)| *v);
            let sign = |m: &Metric, v: f64| if m.grows() { -v } else { v };
            let costs =
                view.goal.objectives.iter().map(|m| of(m).map_or(f64::INFINITY, |v| sign(m, v))).collect();
            let broken = view.goal.constraints.iter().map(|c| {
                let over = of(&c.metric).map_or(0.0, |v| sign(&c.metric, v) - sign(&c.metric, c.limit));
                over.max(0.0) / c.limit.abs().max(f64::MIN_POSITIVE)
            });
            (costs, broken.sum())
        };
        let start: Vec<Encoding> =
            history.front().iter().take(self.population / 2).map(|e| e.encoding.clone()).collect();
        let (found, points) =
            inner(view.space, start, self.population, self.predicted, &cost, &mut self.random);
        let mut batch = self.choose(view, found, points, wanted);
        let more = view.fresh(wanted - batch.len(), &batch, &mut self.random);
        batch.extend(more);
        batch
    }

    fn notes(&self) -> Vec<String> {
        let line = |(m, q): &(String, Quality)| {
            format!(
                "predictor of {m}: Kendall's tau {:.3} in five folds over {} candidates",
                q.kendall, q.samples
            )
        };
        self.quality.iter().map(line).collect()
    }
}

fn forth(metric: &Metric, value: f64) -> f64 {
    if metric.grows() { value } else { value.max(1e-9).ln() }
}

fn back(metric: &Metric, value: f64) -> f64 {
    if metric.grows() { value } else { value.exp() }
}

impl Linas {
    /// The unmeasured members of the predicted population that add most to the hypervolume of the front, one after
    /// another.
    fn choose(
        &mut self,
        view: View<'_>,
        found: Vec<Encoding>,
        points: Vec<(Vec<f64>, f64)>,
        wanted: usize,
    ) -> Vec<Encoding> {
        let unit = view.history.unit();
        let reference = vec![1.1; view.goal.objectives.len()];
        let mut held: Vec<Vec<f64>> = view.history.front().iter().map(|e| unit.of(&e.costs)).collect();
        let mut open: Vec<(Encoding, Vec<f64>, f64)> = found
            .into_iter()
            .zip(points)
            .filter(|(e, _)| !view.history.knows(e))
            .map(|(e, (c, v))| (e, unit.of(&c), v))
            .collect();
        let mut batch = Vec::new();
        while batch.len() < wanted && !open.is_empty() {
            let before = pareto::hypervolume(&held, &reference);
            let gain = |(_, costs, violation): &(Encoding, Vec<f64>, f64)| {
                if *violation > 0.0 {
                    return -violation;
                }
                let mut with = held.clone();
                with.push(costs.clone());
                pareto::hypervolume(&with, &reference) - before
            };
            let gains: Vec<f64> = open.iter().map(gain).collect();
            let best = (0..open.len()).max_by(|&a, &b| gains[a].total_cmp(&gains[b])).unwrap_or(0);
            // If no candidate is predicted to gain, random ones are more informative.
            if gains[best] <= 0.0 && view.goal.constraints.is_empty() && batch.len() >= wanted / 2 {
                break;
            }
            let (e, costs, _) = open.swap_remove(best);
            held.push(costs);
            batch.push(e);
        }
        batch
    }
}
