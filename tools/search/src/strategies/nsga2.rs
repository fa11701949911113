//! NSGA-II (Deb et al. 2002) with the settings of DyNAS-T: integer sampling, simulated binary crossover with p = 0.9
//! and η = 15, polynomial mutation with p = 1 / population and η = 20 (at least one variable in expectation), no
//! duplicates.

use super::{Strategy, View};
use crate::pareto;
use crate::space::{Encoding, Space};
use offshoot_data::Random;

/// The strategy.
#[derive(Debug)]
pub struct Nsga2 {
    size: usize,
    random: Random,
    population: Vec<Encoding>,
    asked: Vec<Encoding>,
}

impl Nsga2 {
    /// With a population of `size`.
    pub fn new(size: usize, seed: u64) -> Self {
        Self { size: size.max(4), random: Random::new(seed, 2), population: vec![], asked: vec![] }
    }
}

type Point = (Vec<f64>, f64);

impl Strategy for Nsga2 {
    fn name(&self) -> &'static str {
        "nsga2"
    }

    fn propose(&mut self, view: View<'_>, most: usize) -> Vec<Encoding> {
        let asked = std::mem::take(&mut self.asked);
        let mut all = std::mem::take(&mut self.population);
        all.extend(asked);
        if all.is_empty() {
            self.asked = view.fresh(self.size.min(most), &[], &mut self.random);
            return self.asked.clone();
        }
        let find = |e: &Encoding| view.history.all().iter().rev().find(|x| x.encoding == *e);
        let points: Vec<Point> =
            all.iter().map(|e| find(e).map_or((vec![], 1e18), |x| (x.costs.clone(), x.violation))).collect();
        let kept = pareto::select(&points, self.size);
        let points: Vec<Point> = kept.iter().map(|&i| points[i].clone()).collect();
        self.population = kept.iter().map(|&i| all[i].clone()).collect();
        let wanted = self.size.min(most);
        let mut children = Vec::new();
        let fitness = Fitness::of(&points);
        let mut misses = 0;
        while children.len() < wanted && misses < 50 * wanted {
            for child in offspring(view.space, &self.population, &fitness, self.size, &mut self.random) {
                let new = !view.history.knows(&child) && !children.contains(&child);
                if new && children.len() < wanted { children.push(child) } else { misses += 1 }
            }
        }
        // If the population has converged, fill up with random candidates.
        let more = view.fresh(wanted - children.len(), &children, &mut self.random);
        children.extend(more);
        self.asked = children.clone();
        children
    }
}

/// Rank and crowding distance of a population.
pub(super) struct Fitness(Vec<(usize, f64)>);

impl Fitness {
    pub(super) fn of(points: &[Point]) -> Self {
        let mut all = vec![(usize::MAX, 0.0); points.len()];
        for (r, rank) in pareto::ranks(points).into_iter().enumerate() {
            let distance = pareto::crowding(points, &rank);
            rank.iter().zip(distance).for_each(|(&i, d)| all[i] = (r, d));
        }
        Self(all)
    }

    /// The better of two random members.
    fn tournament(&self, random: &mut Random) -> usize {
        let (a, b) = (random.below(self.0.len()), random.below(self.0.len()));
        let better = self.0[a].0 < self.0[b].0 || (self.0[a].0 == self.0[b].0 && self.0[a].1 >= self.0[b].1);
        if better { a } else { b }
    }
}

/// Two children of two parents.
pub(super) fn offspring(
    space: &Space,
    population: &[Encoding],
    fitness: &Fitness,
    size: usize,
    random: &mut Random,
) -> [Encoding; 2] {
    let (a, b) = (fitness.tournament(random), fitness.tournament(random));
    let children = space.crossover(&population[a], &population[b], 0.9, 15.0, random);
    let probability = (1.0 / size as f64).max(1.0 / space.len().max(1) as f64);
    children.map(|c| space.mutate(&c, probability, 20.0, random))
}

/// A complete run on a cheap function of encodings: `evaluations` calls, from the population `start`; returns the
/// last population with its points.
pub(super) fn inner(
    space: &Space,
    start: Vec<Encoding>,
    size: usize,
    evaluations: usize,
    cost: &dyn Fn(&[u16]) -> Point,
    random: &mut Random,
) -> (Vec<Encoding>, Vec<Point>) {
    let mut population = start;
    for _ in 0..20 * size {
        if population.len() >= size {
            break;
        }
        let e = space.sample(random);
        if !population.contains(&e) {
            population.push(e);
        }
    }
    let mut points: Vec<Point> = population.iter().map(|e| cost(e)).collect();
    let mut done = points.len();
    while done < evaluations {
        let fitness = Fitness::of(&points);
        let mut children: Vec<Encoding> = Vec::new();
        for _ in 0..size {
            for child in offspring(space, &population, &fitness, size, random) {
                if children.len() < size && !population.contains(&child) && !children.contains(&child) {
                    children.push(child);
                }
            }
        }
        done += children.len().max(size / 4).max(1);
        points.extend(children.iter().map(|e| cost(e)));
        population.extend(children);
        let kept = pareto::select(&points, size);
        population = kept.iter().map(|&i| population[i].clone()).collect();
        points = kept.iter().map(|&i| points[i].clone()).collect();
    }
    (population, points)
}
