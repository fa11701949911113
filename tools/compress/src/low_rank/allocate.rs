//! Chooses ranks under a budget, over all layers at once, by loss per saving.

use super::layer::SplitLayer;

/// A rank reduction of one layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Choice {
    /// Index of the layer.
    pub layer: usize,
    /// Its rank after this choice.
    pub rank: usize,
    /// Remaining share of the weights and of the multiply-accumulates of all layers, half each.
    pub left: f64,
    /// Share of its outputs' energy that the layer loses at this rank.
    pub lost: f64,
}

/// Rank reductions in the order in which they are applied: least loss per saving first. A layer offers only the ranks
/// on the convex hull of loss over cost, beginning with the first that is cheaper than the whole layer. The loss of a
/// layer is a share of its outputs' energy, and all layers count alike.
pub fn choices(layers: &[SplitLayer]) -> Vec<Choice> {
    let all = |pick: fn(&SplitLayer) -> u64| layers.iter().map(pick).sum::<u64>().max(1) as f64;
    let (weights, macs) = (all(|l| l.weights), all(|l| l.macs));
    let share = |w: u64, m: u64| 0.5 * w as f64 / weights + 0.5 * m as f64 / macs;
    let mut steps: Vec<(f64, f64, Choice)> = Vec::new();
    for (index, layer) in layers.iter().enumerate() {
        let whole = share(layer.weights, layer.macs);
        let cost = |r: usize| share(r as u64 * layer.per_rank[0], r as u64 * layer.per_rank[1]);
        // From the whole layer downwards.
        let (mut at, mut lost, mut top) = (whole, 0.0, layer.full() + 1);
        loop {
            let next = (1..top)
                .filter(|&r| layer.pays(r) && cost(r) < at)
                .map(|r| ((layer.lost[r] - lost).max(0.0) / (at - cost(r)), r))
                .min_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            let Some((slope, rank)) = next else { break };
            let choice = Choice { layer: index, rank, left: 0.0, lost: layer.lost[rank] };
            steps.push((slope, at - cost(rank), choice));
            (at, lost, top) = (cost(rank), layer.lost[rank], rank);
        }
    }
    // Slopes of one layer increase, so sorting keeps its steps in order.
    steps.sort_by(|a, b| a.0.total_cmp(&b.0).then(b.2.rank.cmp(&a.2.rank)));
    let mut left = 1.0;
    let choices = steps.into_iter().map(|(_, saved, choice)| {
        left -= saved;
        Choice { left, ..choice }
    });
    choices.collect()
}

/// Rank of each layer after the first `count` choices; `None` for layers that are not split.
pub fn ranks_of(layers: &[SplitLayer], choices: &[Choice], count: usize) -> Vec<Option<usize>> {
    let mut ranks = vec![None; layers.len()];
    choices[..count.min(choices.len())].iter().for_each(|c| ranks[c.layer] = Some(c.rank));
    ranks
}
