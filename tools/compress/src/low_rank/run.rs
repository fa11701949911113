//! The whole method: spectra, ranks that fit, factors, fine-tuning.

use offshoot_ir::Graph;
use offshoot_train::Dataset;
use serde::Serialize;

use super::allocate::{choices, ranks_of};
use super::layer::{Cut, SplitLayer, analyse};
use super::rewrite::split;
use crate::prune::{Progress, PruneOptions, Size, samples, size};
use crate::quantize::WeightBits;
use crate::{Error, Result};

/// The goal for which ranks are chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Goal {
    /// At most this many bytes of int8 model file.
    Flash(u64),
    /// At most this share of the layers' weights and multiply-accumulates, half each.
    Share(f64),
    /// For each layer, the least rank that loses at most this share of its outputs' energy, if it saves weights.
    Lost(f64),
    /// For each layer, this share of its full rank, whether it saves weights or not.
    Rank(f64),
}

/// Settings of [`low_rank`].
#[derive(Clone, Debug)]
pub struct LowRankOptions {
    /// The goal for which ranks are chosen.
    pub goal: Goal,
    /// Samples on which spectra of the outputs are computed; 0 uses the weights alone.
    pub samples: usize,
    /// How convolutions are split.
    pub cut: Cut,
    /// Names of operators that are not split.
    pub keep: Vec<String>,
    /// Passes over the data afterwards, learning from the whole network and the targets.
    pub epochs: usize,
    /// Highest learning rate.
    pub rate: f32,
    /// Seed of the sample order.
    pub seed: u64,
    /// Where training is saved and resumed from.
    pub checkpoint: Option<offshoot_train::Checkpoint>,
}

impl Default for LowRankOptions {
    fn default() -> Self {
        Self {
            goal: Goal::Share(0.5),
            samples: 256,
            cut: Cut::default(),
            keep: Vec::new(),
            epochs: 0,
            rate: 1e-3,
            seed: 0,
            checkpoint: None,
        }
    }
}

/// Report on one layer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LayerReport {
    /// Name of the operator.
    pub name: String,
    /// Its full rank.
    pub full: usize,
    /// Its rank now; `None` if it was not split.
    pub rank: Option<usize>,
    /// Share of its outputs' energy that is lost.
    pub lost: f64,
    /// Weights before and after.
    pub weights: [u64; 2],
}

/// Report of [`low_rank`].
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LowRankReport {
    /// Before.
    pub before: Size,
    /// After.
    pub after: Size,
    /// Layers that could be split.
    pub layers: Vec<LayerReport>,
}

/// Splits layers of `graph` (float, after the lossless passes) until `options.goal` is met.
///
/// # Errors
/// [`Error::Budget`] with the smallest file that ranks alone can reach; the data do not fit the graph.
pub fn low_rank(
    graph: &Graph,
    data: &Dataset,
    options: &LowRankOptions,
    progress: &mut dyn Progress,
) -> Result<(Graph, LowRankReport)> {
    data.check(graph).map_err(Error::Training)?;
    progress.tick("spectra", 0, 1);
    let layers = candidates(graph, data, options)?;
    let few = samples(graph, data, 2);
    let before = size(graph, &few, &WeightBits::default(), None)?;
    let ranks = match options.goal {
        Goal::Flash(limit) => fitting(graph, &layers, limit, &few, progress)?,
        Goal::Share(share) => {
            let choices = choices(&layers);
            let enough = choices.iter().position(|c| c.left <= share).map_or(choices.len(), |i| i + 1);
            ranks_of(&layers, &choices, if share >= 1.0 { 0 } else { enough })
        }
        Goal::Lost(most) => {
            let least = |l: &SplitLayer| (1..=l.full()).find(|&r| l.lost[r] <= most).filter(|&r| l.pays(r));
            layers.iter().map(least).collect()
        }
        Goal::Rank(share) => {
            let rank = |l: &SplitLayer| ((l.full() as f64 * share).round() as usize).clamp(1, l.full());
            layers.iter().map(|l| Some(rank(l))).collect()
        }
    };
    let mut small = with_ranks(graph, &layers, &ranks)?;
    if options.epochs > 0 {
        let checkpoint = options.checkpoint.clone();
        small =
            train(graph, &small, data, (options.epochs, options.rate, options.seed), checkpoint, progress)?;
    }
    let after = size(&small, &few, &WeightBits::default(), None)?;
    let layers = layers.iter().zip(&ranks).map(|(l, r)| report(l, *r)).collect();
    Ok((small, LowRankReport { before, after, layers }))
}

/// Trains a split network on the outputs of `graph` and on the data.
///
/// # Errors
/// The data do not fit the graph; training fails.
pub fn tune(
    graph: &Graph,
    small: &Graph,
    data: &Dataset,
    epochs: usize,
    rate: f32,
    seed: u64,
) -> Result<Graph> {
    train(graph, small, data, (epochs, rate, seed), None, &mut ())
}

fn train(
    graph: &Graph,
    small: &Graph,
    data: &Dataset,
    (epochs, rate, seed): (usize, f32, u64),
    checkpoint: Option<offshoot_train::Checkpoint>,
    progress: &mut dyn Progress,
) -> Result<Graph> {
    let settings = PruneOptions { epochs, rate, seed, checkpoint, ..PruneOptions::default() };
    crate::prune::tune::tune(graph, small, data, &settings, progress)
}

fn candidates(graph: &Graph, data: &Dataset, options: &LowRankOptions) -> Result<Vec<SplitLayer>> {
    if let Some(name) = options.keep.iter().find(|k| !graph.nodes.iter().any(|n| n.name == **k)) {
        return Err(Error::unknown_operator(name, graph, "", |_| true));
    }
    let samples = samples(graph, data, options.samples);
    let mut layers = analyse(graph, &samples, options.cut)?;
    layers.retain(|l| !options.keep.contains(&l.name));
    Ok(layers)
}

pub(super) fn with_ranks(graph: &Graph, layers: &[SplitLayer], ranks: &[Option<usize>]) -> Result<Graph> {
    let chosen: Vec<(&SplitLayer, usize)> =
        layers.iter().zip(ranks).filter_map(|(l, r)| Some((l, (*r)?))).collect();
    split(graph, &chosen)
}

pub(super) fn report(layer: &SplitLayer, rank: Option<usize>) -> LayerReport {
    LayerReport {
        name: layer.name.clone(),
        full: layer.full(),
        rank,
        lost: rank.map_or(0.0, |r| layer.lost[r]),
        weights: [layer.weights, rank.map_or(layer.weights, |r| r as u64 * layer.per_rank[0])],
    }
}

/// The fewest choices after which the file fits, assuming that more choices never make it larger.
fn fitting(
    graph: &Graph,
    layers: &[SplitLayer],
    limit: u64,
    few: &[Vec<ndarray::ArrayD<f32>>],
    progress: &mut dyn Progress,
) -> Result<Vec<Option<usize>>> {
    let choices = choices(layers);
    let taken = |count: usize| {
        size(
            &with_ranks(graph, layers, &ranks_of(layers, &choices, count))?,
            few,
            &WeightBits::default(),
            None,
        )
    };
    let least = taken(choices.len())?;
    if least.flash > limit {
        return Err(least.too_large());
    }
    let (mut low, mut high) = (0, choices.len());
    while low < high {
        let middle = low.midpoint(high);
        progress.tick("ranks", choices.len() - (high - low), choices.len());
        if taken(middle)?.flash <= limit { high = middle } else { low = middle + 1 }
    }
    Ok(ranks_of(layers, &choices, high))
}
