//! The order of the steps with the lowest peak of live bytes.
//!
//! Dynamic programming over sets of executed steps. The live buffers after a set has run do not depend on the order
//! within it, so only the way to a set with the lowest peak matters (dominance). Sets are visited by size; those whose
//! peak does not beat the given order's are dropped. A chain has one set per size. If there are more than
//! [`PlanOptions::order_budget`] sets, the given order is kept.

use std::collections::HashMap;

use crate::lifetime::{Lifetimes, needed};
use crate::{BufferId, InPlace, PlanOptions, Problem};

/// Result of [`search`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Indices of the steps.
    pub order: Vec<usize>,
    /// Whether the search proved that no other order has a lower peak.
    pub complete: bool,
}

/// Searches for the order with the lowest peak.
pub fn search(problem: &Problem, options: &PlanOptions) -> Order {
    let given: Vec<usize> = (0..problem.steps.len()).collect();
    // The steps of a branch stay together.
    if !options.reorder || problem.steps.iter().any(|step| !step.branches.is_empty()) {
        return Order { order: given, complete: false };
    }
    let peak = |order: &[usize]| {
        let moments = Lifetimes::of(problem, order).timeline(problem, order);
        moments.iter().map(|m| m.bytes).max().unwrap_or(0)
    };
    let given_peak = peak(&given);
    if given_peak <= floor(problem) {
        return Order { order: given, complete: true };
    }
    match Search::new(problem).run(given_peak, options.order_budget) {
        Outcome::Better(order) => Order { order, complete: true },
        Outcome::NoneBetter => Order { order: given, complete: true },
        Outcome::OutOfBudget => Order { order: given, complete: false },
    }
}

/// Bytes that every order needs: the most of any step's own buffers, of all inputs and of all outputs.
fn floor(problem: &Problem) -> u64 {
    let own = problem.steps.iter().map(|s| {
        let mut live: Vec<BufferId> = s.reads.iter().chain(&s.writes).copied().collect();
        live.sort_unstable();
        live.dedup();
        needed(problem, &live, &s.in_place)
    });
    let ends = [&problem.inputs, &problem.outputs].map(|ids| {
        let mut live = ids.clone();
        live.sort_unstable();
        live.dedup();
        needed(problem, &live, &[])
    });
    own.chain(ends).max().unwrap_or(0)
}

enum Outcome {
    Better(Vec<usize>),
    NoneBetter,
    OutOfBudget,
}

/// Set of executed steps, one bit per step.
type Set = Box<[u64]>;

fn has(set: &[u64], i: usize) -> bool {
    set[i / 64] >> (i % 64) & 1 == 1
}

/// The best way found to a set: its peak, its last step, and the index of the set before that step.
struct Reached {
    set: Set,
    peak: u64,
    step: usize,
    from: usize,
}

struct Search<'p> {
    problem: &'p Problem,
    dependencies: Vec<Vec<usize>>,
    /// Steps that touch each buffer, and those that write it.
    users: Vec<Vec<usize>>,
    writers: Vec<Vec<usize>>,
    is_input: Vec<bool>,
    is_output: Vec<bool>,
}

impl<'p> Search<'p> {
    fn new(problem: &'p Problem) -> Self {
        let n = problem.buffers.len();
        let mut search = Self {
            problem,
            dependencies: problem.dependencies(),
            users: vec![Vec::new(); n],
            writers: vec![Vec::new(); n],
            is_input: vec![false; n],
            is_output: vec![false; n],
        };
        for (i, s) in problem.steps.iter().enumerate() {
            s.reads.iter().chain(&s.writes).for_each(|b| search.users[b.0].push(i));
            s.writes.iter().for_each(|b| search.writers[b.0].push(i));
        }
        problem.inputs.iter().for_each(|b| search.is_input[b.0] = true);
        problem.outputs.iter().for_each(|b| search.is_output[b.0] = true);
        search
    }

    fn run(&self, limit: u64, budget: usize) -> Outcome {
        let n = self.problem.steps.len();
        let start = Reached { set: vec![0u64; n.div_ceil(64)].into(), peak: 0, step: 0, from: 0 };
        let mut levels = vec![vec![start]];
        let mut visited = 1;
        for size in 0..n {
            let mut next: Vec<Reached> = Vec::new();
            let mut index: HashMap<Set, usize> = HashMap::new();
            for (from, reached) in levels[size].iter().enumerate() {
                let ready = |&s: &usize| {
                    !has(&reached.set, s) && self.dependencies[s].iter().all(|&d| has(&reached.set, d))
                };
                for step in (0..n).filter(ready) {
                    let peak = reached.peak.max(self.bytes_during(&reached.set, step, size == 0));
                    if peak >= limit {
                        continue;
                    }
                    let mut set = reached.set.clone();
                    set[step / 64] |= 1 << (step % 64);
                    if let Some(&i) = index.get(&set) {
                        if peak < next[i].peak {
                            next[i] = Reached { set, peak, step, from };
                        }
                        continue;
                    }
                    visited += 1;
                    if visited > budget {
                        return Outcome::OutOfBudget;
                    }
                    index.insert(set.clone(), next.len());
                    next.push(Reached { set, peak, step, from });
                }
            }
            if next.is_empty() {
                return Outcome::NoneBetter;
            }
            levels.push(next);
        }
        let mut order = vec![0; n];
        let mut at = 0;
        for size in (1..=n).rev() {
            let reached = &levels[size][at];
            order[size - 1] = reached.step;
            at = reached.from;
        }
        Outcome::Better(order)
    }

    /// Live bytes while `step` runs after the steps in `done`.
    fn bytes_during(&self, done: &[u64], step: usize, first: bool) -> u64 {
        let s = &self.problem.steps[step];
        let touches = |b: BufferId| s.reads.contains(&b) || s.writes.contains(&b);
        let exists = |b: usize| self.is_input[b] || self.writers[b].iter().any(|&w| has(done, w));
        let wanted = |b: usize| {
            self.is_output[b] || self.users[b].iter().any(|&u| !has(done, u)) || first && self.is_input[b]
        };
        let live = |b: &BufferId| touches(*b) || exists(b.0) && wanted(b.0);
        let live: Vec<BufferId> = (0..self.problem.buffers.len()).map(BufferId).filter(live).collect();
        let shared = |p: &&InPlace| {
            let dies =
                !self.is_output[p.read.0] && self.users[p.read.0].iter().all(|&u| u == step || has(done, u));
            dies && !exists(p.write.0)
        };
        let pairs: Vec<InPlace> = s.in_place.iter().filter(shared).copied().collect();
        needed(self.problem, &live, &pairs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Buffer, Step};

    /// Two branches from a small input: a large tensor reduced to a small one on each. Interleaving them (the
    /// given order) holds both large ones at once.
    #[test]
    fn finishes_a_branch_before_it_starts_the_next() {
        let step = |r: &[usize], w: usize| Step {
            reads: r.iter().map(|&b| BufferId(b)).collect(),
            writes: vec![BufferId(w)],
            ..Step::default()
        };
        let p = Problem {
            buffers: [10, 100, 100, 5, 5, 5].map(|bytes| Buffer { bytes, align: 1 }).to_vec(),
            steps: vec![step(&[0], 1), step(&[0], 2), step(&[1], 3), step(&[2], 4), step(&[3, 4], 5)],
            inputs: vec![BufferId(0)],
            outputs: vec![BufferId(5)],
        };
        let found = search(&p, &PlanOptions::default());
        assert!(found.complete);
        let moments = Lifetimes::of(&p, &found.order).timeline(&p, &found.order);
        assert_eq!(moments.iter().map(|m| m.bytes).max(), Some(115));
        let stingy = search(&p, &PlanOptions { order_budget: 2, ..PlanOptions::default() });
        assert_eq!(stingy, Order { order: vec![0, 1, 2, 3, 4], complete: false });
    }
}
