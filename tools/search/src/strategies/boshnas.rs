//! After BOSHNAS (Tuli et al. 2022): a network with dropout predicts the cost of a candidate and its uncertainty.
//! Gradient descent on its input (GOBI) minimises the prediction minus half the uncertainty; the nearest unevaluated
//! candidate is next.
//!
//! The paper has a single objective. Here every candidate is found for a random weighting of the objectives (Knowles
//! 2006), so that together they follow the front.

use super::{Strategy, View};
use crate::predict::Mlp;
use crate::space::Encoding;
use offshoot_data::Random;

/// The strategy.
#[derive(Debug)]
pub struct Boshnas {
    random: Random,
    first: usize,
    round: usize,
}

/// Factor of the uncertainty that is subtracted from the prediction.
const DOUBT: f64 = 0.5;
/// Shares of queries that go to the most uncertain candidates, and to random ones.
const QUERIES: (f64, f64) = (0.1, 0.1);
const PASSES: usize = 10;

impl Boshnas {
    /// With a seed.
    pub fn new(seed: u64) -> Self {
        Self { random: Random::new(seed, 4), first: 20, round: 10 }
    }
}

impl Strategy for Boshnas {
    fn name(&self) -> &'static str {
        "boshnas"
    }

    fn propose(&mut self, view: View<'_>, most: usize) -> Vec<Encoding> {
        let wanted = if view.history.all().is_empty() { self.first } else { self.round }.min(most);
        let made: Vec<_> = view.history.all().iter().filter(|e| e.measured.is_some()).collect();
        if made.len() < 4 {
            return view.fresh(wanted, &[], &mut self.random);
        }
        let rows: Vec<Vec<f64>> = made.iter().map(|e| view.space.places(&e.encoding)).collect();
        let unit = view.history.unit();
        let mut batch: Vec<Encoding> = Vec::new();
        // Only a few weightings per round: each needs a network of its own.
        let weighings = 3.min(wanted.max(1));
        for w in 0..weighings {
            let weights: Vec<f64> =
                view.goal.objectives.iter().map(|_| -(1.0 - self.random.unit()).ln()).collect();
            let sum: f64 = weights.iter().sum::<f64>().max(1e-9);
            let y: Vec<f64> = made
                .iter()
                .map(|e| {
                    // Augmented Chebyshev scalarisation, plus the violation of constraints.
                    let parts: Vec<f64> =
                        unit.of(&e.costs).iter().zip(&weights).map(|(c, w)| c * w / sum).collect();
                    parts.iter().copied().fold(f64::MIN, f64::max)
                        + 0.05 * parts.iter().sum::<f64>()
                        + e.violation.min(1.0)
                })
                .collect();
            let mut teacher = Mlp::new(rows[0].len(), 0.3, &mut self.random);
            teacher.fit(&rows, &y, 4000 / rows.len().max(1) + 5, 3e-3, &mut self.random);
            // The student predicts the teacher's uncertainty, and is differentiable.
            let doubts: Vec<f64> =
                rows.iter().map(|r| teacher.uncertain(r, PASSES, &mut self.random).1).collect();
            let mut student = Mlp::new(rows[0].len(), 0.0, &mut self.random);
            student.fit(&rows, &doubts, 2000 / rows.len().max(1) + 3, 3e-3, &mut self.random);
            let share = wanted * (w + 1) / weighings - wanted * w / weighings;
            for _ in 0..share {
                let draw = self.random.unit();
                let e = if draw < QUERIES.1 {
                    view.fresh(1, &batch, &mut self.random).pop()
                } else {
                    let doubting = draw < QUERIES.1 + QUERIES.0;
                    let best = self.random.below(rows.len());
                    let start =
                        (0..4).map(|_| self.random.below(rows.len())).min_by(|&a, &b| y[a].total_cmp(&y[b]));
                    let row = descend(&teacher, &student, rows[start.unwrap_or(best)].clone(), doubting);
                    self.snap(view, &row, &batch)
                };
                batch.extend(e);
            }
        }
        batch
    }
}

/// GOBI: descends prediction minus uncertainty (or only minus the uncertainty), within 0..1.
fn descend(teacher: &Mlp, student: &Mlp, mut row: Vec<f64>, doubting: bool) -> Vec<f64> {
    let mut still = 0;
    for _ in 0..100 {
        let (prediction, doubt) = (teacher.slope(&row), student.slope(&row));
        let mut moved = 0.0;
        for (v, (p, d)) in row.iter_mut().zip(prediction.iter().zip(&doubt)) {
            let slope = if doubting { -d } else { p - DOUBT * d };
            let next = (*v - 0.1 * slope).clamp(0.0, 1.0);
            moved += (next - *v).abs();
            *v = next;
        }
        still = if moved < 1e-5 { still + 1 } else { 0 };
        if still >= 5 {
            break;
        }
    }
    row
}

impl Boshnas {
    /// The nearest new candidate: by rounding, then by an increasing number of steps.
    fn snap(&mut self, view: View<'_>, row: &[f64], taken: &[Encoding]) -> Option<Encoding> {
        let variables = &view.space.variables;
        let round = |noise: f64, random: &mut Random| -> Encoding {
            let one = |(v, x): (&crate::space::Variable, &f64)| {
                let most = v.options.len() as f64 - 1.0;
                (x * most + noise * random.normal()).round().clamp(0.0, most) as u16
            };
            variables.iter().zip(row).map(one).collect()
        };
        for attempt in 0..60 {
            let noise = 0.06 * f64::from(attempt);
            let e = view.space.canonical(round(noise, &mut self.random));
            if !view.history.knows(&e) && !taken.contains(&e) {
                return Some(e);
            }
        }
        view.fresh(1, taken, &mut self.random).pop()
    }
}
