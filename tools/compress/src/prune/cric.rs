//! CRIC (HESSO-CRIC; Chen et al. 2024): finds channels that are indispensable although they score low.
//!
//! Two measurements on the network replace what weights alone do not show. First, the loss with the lowest quarter,
//! half and three quarters of each family removed: a family whose removal hurts gets an additional term. Then, in
//! cycles, the lowest-scoring groups fade while scores are sampled along the way, so that groups that become
//! important only near zero show it. Groups that newly reach the bottom are tried in the next cycle, until there are
//! no new ones.

use offshoot_train::{Dataset, evaluate};

use super::groups::Groups;
use super::scores::{Score, scores};
use super::slice::{faded, masked};
use crate::{Error, Result};

/// Shares of each family that are removed in the trials.
const TRIALS: [f64; 3] = [0.25, 0.5, 0.75];
/// Share of all groups that count as redundant in the cycles.
const SPARSITY: f64 = 0.5;
/// Number of score samples while a group fades to zero.
const STEPS: usize = 4;
/// Most cycles.
const CYCLES: usize = 10;

/// Score of each group; larger matters more.
pub(super) fn cric(
    graph: &offshoot_ir::Graph,
    groups: &Groups,
    data: &Dataset,
    batch: usize,
) -> Result<Vec<f64>> {
    let start = scores(graph, groups, Score::Hesso, data, batch)?;
    let loss = losses(graph, groups, data, &start)?;
    let free: Vec<usize> = (0..groups.len()).filter(|&g| groups.fixed[g].is_none()).collect();
    let count = (free.len() as f64 * SPARSITY) as usize;
    let lowest = |of: &[f64]| -> Vec<usize> {
        let mut order = free.clone();
        order.sort_by(|&a, &b| (of[a] + loss[a]).total_cmp(&(of[b] + loss[b])));
        order.truncate(count);
        order
    };
    let (mut sums, mut samplings) = (start.clone(), 1.0);
    let mut history = vec![false; groups.len()];
    let mut active = lowest(&start);
    for _ in 0..CYCLES {
        active.iter().for_each(|&g| history[g] = true);
        for step in 1..=STEPS {
            let mut marked = vec![false; groups.len()];
            active.iter().for_each(|&g| marked[g] = true);
            let left = (STEPS - step) as f32 / STEPS as f32;
            let found = scores(&faded(graph, groups, &marked, left), groups, Score::Hesso, data, batch)?;
            sums.iter_mut().zip(found).for_each(|(s, f)| *s += f);
            samplings += 1.0;
        }
        let mean: Vec<f64> = sums.iter().map(|s| s / samplings).collect();
        let entering: Vec<usize> = lowest(&mean).into_iter().filter(|&g| !history[g]).collect();
        if entering.is_empty() {
            break;
        }
        active = entering;
    }
    Ok(sums.iter().zip(loss).map(|(s, l)| s / samplings + l).collect())
}

/// Relative growth of the loss in the mildest trial that removes a group; divided by the Euclidean norm over all
/// groups.
fn losses(graph: &offshoot_ir::Graph, groups: &Groups, data: &Dataset, scores: &[f64]) -> Result<Vec<f64>> {
    let loss = |g: &offshoot_ir::Graph| evaluate(g, data).map(|j| f64::from(j.loss)).map_err(Error::Training);
    let whole = loss(graph)?.max(f64::MIN_POSITIVE);
    let mut terms = vec![0.0; groups.len()];
    for family in groups.families.iter().filter(|f| groups.refusal(f).is_none()) {
        let mut order: Vec<usize> =
            family.groups.iter().copied().filter(|&g| groups.fixed[g].is_none()).collect();
        order.sort_by(|&a, &b| scores[a].total_cmp(&scores[b]));
        let (mut done, mut worst) = (0, 0.0f64);
        for trial in TRIALS {
            let count = ((order.len() as f64 * trial) as usize).min(order.len().saturating_sub(1));
            let mut marked = vec![false; groups.len()];
            order[..count].iter().for_each(|&g| marked[g] = true);
            worst = worst.max(loss(&masked(graph, groups, &marked))? / whole - 1.0);
            order[done..count].iter().for_each(|&g| terms[g] = worst);
            done = count;
        }
        // Groups above were never tried, and are at least as important.
        order[done..].iter().for_each(|&g| terms[g] = worst);
    }
    let norm = terms.iter().map(|t| t * t).sum::<f64>().sqrt().max(f64::MIN_POSITIVE);
    Ok(terms.into_iter().map(|t| t / norm).collect())
}
