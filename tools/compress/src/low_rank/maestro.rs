//! Maestro (Horvath et al., ICML 2024): trains factors so that their first ranks matter most.
//!
//! Each layer is split at its full rank. A step draws one pair of layer and rank (low-rank ordered dropout: a random
//! permutation of all pairs, so that a layer is drawn as often as it has ranks) and runs with only the first ranks of
//! that layer. A hierarchical group lasso on the norms of all tails drives unneeded ranks towards zero; every few
//! epochs these are removed for good (progressive shrinking). The result can then be cut to any ranks without
//! training ([`Nested::layers`]), and layers whose factors have more weights than the whole are joined again
//! ([`super::join`]).
//!
//! Differences from the paper: factors start at the SVD of trained weights, on the data if there are samples; the
//! group lasso's threshold is relative, because Adam drives norms to small numbers instead of zero; steps are
//! relative to each tensor's size.

use std::sync::{Arc, Mutex, PoisonError};

use nalgebra::DMatrix;
use ndarray::ArrayD;
use offshoot_ir::{Graph, Op};
use offshoot_train::{Dataset, FitOptions, Schedule, Target, Teacher, WeightTransform, fit, shuffled};
use serde::Serialize;

use super::layer::{Cut, Factors, SplitLayer, analyse, moments};
use super::rewrite::{Pair, factors, join, pairs, split, truncate};
use crate::prune::tune::{Units, Watch};
use crate::prune::{Progress, samples};
use crate::quantize::execute::Environment;
use crate::quantize::moments::rows_of;
use crate::quantize::tensors::Batch;
use crate::{Error, Result};

/// Settings of [`maestro`].
#[derive(Clone, Debug)]
pub struct MaestroOptions {
    /// Passes over the data.
    pub epochs: usize,
    /// Epochs between removals of unneeded ranks.
    pub shrink_every: usize,
    /// Samples per step.
    pub batch: usize,
    /// Highest learning rate.
    pub rate: f32,
    /// Factor of the group lasso.
    pub lasso: f32,
    /// Largest share of its layer's importance at which a tail is removed.
    pub threshold: f64,
    /// Ordered dropout. Without it the factors are merely trained, as a baseline without a learned order.
    pub ordered: bool,
    /// Weight of the whole network's outputs in the loss; the targets have the rest.
    pub distil: f32,
    /// Samples for the initial order; 0 uses the weights alone.
    pub samples: usize,
    /// Names of operators that are not split.
    pub keep: Vec<String>,
    /// Seed of the sample order and the draws.
    pub seed: u64,
}

impl Default for MaestroOptions {
    fn default() -> Self {
        Self {
            epochs: 12,
            shrink_every: 4,
            batch: 64,
            rate: 1e-3,
            lasso: 1e-4,
            threshold: 1e-3,
            ordered: true,
            distil: 0.5,
            samples: 256,
            keep: Vec::new(),
            seed: 0,
        }
    }
}

/// Report of [`maestro`].
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MaestroReport {
    /// Names of the layers that were split.
    pub layers: Vec<String>,
    /// Their full ranks.
    pub full: Vec<usize>,
    /// The ranks after progressive shrinking.
    pub ranks: Vec<usize>,
    /// Mean loss of each epoch, over networks with dropped ranks.
    pub losses: Vec<f32>,
}

/// A network whose layers are factors, ordered by importance.
#[derive(Clone, Debug)]
pub struct Nested {
    /// The network with its factors.
    pub graph: Graph,
}

/// Trains `graph` (float, after the lossless passes, without batch normalisation) as factors. `Nested::graph` is an
/// ordinary network; `Nested::layers` cuts it further.
///
/// # Errors
/// The data do not fit the graph; training fails.
pub fn maestro(
    graph: &Graph,
    data: &Dataset,
    options: &MaestroOptions,
    progress: &mut dyn Progress,
) -> Result<(Nested, MaestroReport)> {
    data.check(graph).map_err(Error::Training)?;
    progress.tick("spectra", 0, 1);
    let mut layers = analyse(graph, &samples(graph, data, options.samples), Cut::Channels)?;
    layers.retain(|l| !options.keep.contains(&l.name));
    let full: Vec<usize> = layers.iter().map(SplitLayer::full).collect();
    let names: Vec<String> = layers.iter().map(|l| l.name.clone()).collect();
    let whole: Vec<(&SplitLayer, usize)> = layers.iter().map(|l| (l, l.full())).collect();
    let mut now = split(graph, &whole)?;
    let mut losses = Vec::new();
    let (mut done, mut steps) = (0, 0);
    while done < options.epochs {
        let epochs = options.shrink_every.max(1).min(options.epochs - done);
        let ordered = Ordered::new(&now, &names, options, steps);
        let middle = (done as f32 + epochs as f32 / 2.0) / options.epochs as f32;
        let settings = FitOptions {
            epochs,
            batch: options.batch,
            // A half cosine in stairs, because every block is a training of its own.
            rate: options.rate * 0.5 * (1.0 + (std::f32::consts::PI * middle).cos()),
            schedule: Schedule::Constant,
            decay: 0.0,
            clip: Some(5.0),
            seed: options.seed.wrapping_add(done as u64),
            transform: Some(ordered.clone()),
            teacher: teacher(graph, data, options.distil),
            ..FitOptions::default()
        };
        let mut scaled = now.clone();
        ordered.units.apply(&mut scaled, |w, unit| w / unit);
        let (mut trained, report) = fit(&scaled, data, &settings, &mut Watch { progress, what: "training" })
            .map_err(Error::Training)?;
        ordered.units.apply(&mut trained, |w, unit| w * unit);
        losses.extend(report.epochs.iter().map(|e| e.loss));
        (done, steps) = (done + epochs, steps + report.steps);
        now = if options.ordered { shrink(&trained, &names, options.threshold) } else { trained };
    }
    let ranks = chosen_pairs(&now, &names);
    let ranks = ranks.iter().map(|(_, p)| now.value(now.nodes[p.first].output).shape.last().copied());
    let ranks = ranks.map(Option::unwrap_or_default).collect();
    Ok((Nested { graph: now }, MaestroReport { layers: names, full, ranks, losses }))
}

fn teacher(graph: &Graph, data: &Dataset, distil: f32) -> Option<Teacher> {
    let weight = if data.target == Target::Unlabelled { 1.0 } else { distil };
    (weight > 0.0).then(|| Teacher { graph: graph.clone(), temperature: 4.0, weight, features: vec![] })
}

/// The pairs whose second operator is in `names`, with its name.
fn chosen_pairs(graph: &Graph, names: &[String]) -> Vec<(String, Pair)> {
    let named = pairs(graph).into_iter().map(|p| (graph.nodes[p.second].name.clone(), p));
    named.filter(|(name, _)| names.contains(name)).collect()
}

/// Removes tails of little importance, which is the product of both factors' norms.
fn shrink(graph: &Graph, names: &[String], threshold: f64) -> Graph {
    let rank = |pair: Pair| -> Option<usize> {
        let (first, second) = factors(graph, pair)?;
        let r = first.nrows();
        let tail = |b: usize| first.rows(b, r - b).norm() * second.columns(b, r - b).norm();
        let all = tail(0);
        Some((1..r).find(|&b| tail(b) < threshold * all).unwrap_or(r))
    };
    let ranks: Vec<(Pair, usize)> =
        chosen_pairs(graph, names).into_iter().filter_map(|(_, p)| Some((p, rank(p)?))).collect();
    truncate(graph, &ranks)
}

/// Ordered dropout and the group lasso, on weights in units of their size.
#[derive(Debug)]
struct Ordered {
    units: Units,
    /// Names of the factors and their rank.
    layers: Vec<(String, String, usize)>,
    lasso: f32,
    seed: u64,
    /// Steps before this block.
    before: usize,
    ordered: bool,
    /// The layer that is cut in this step, and its remaining rank.
    drawn: Mutex<Option<(usize, usize)>>,
}

impl Ordered {
    fn new(graph: &Graph, names: &[String], options: &MaestroOptions, before: usize) -> Arc<Self> {
        let name = |node: usize| graph.value(graph.nodes[node].inputs[1]).name.clone();
        let layers = chosen_pairs(graph, names).into_iter().map(|(_, p)| {
            let rank = graph.value(graph.nodes[p.first].inputs[1]).shape[0];
            (name(p.first), name(p.second), rank)
        });
        Arc::new(Self {
            units: Units::of(graph),
            layers: layers.collect(),
            lasso: if options.ordered { options.lasso } else { 0.0 },
            seed: options.seed,
            before,
            ordered: options.ordered,
            drawn: Mutex::new(None),
        })
    }

    /// All pairs of layer and rank, in a new order each time.
    fn draw(&self, step: usize) -> Option<(usize, usize)> {
        let total: usize = self.layers.iter().map(|l| l.2).sum();
        if !self.ordered || total == 0 {
            return None;
        }
        let step = step + self.before;
        // Independent of the sample order's stream.
        let order = shuffled(total, self.seed ^ 0x5bd1_e995, step / total);
        let mut at = order[step % total];
        for (layer, (_, _, rank)) in self.layers.iter().enumerate() {
            if at < *rank {
                return Some((layer, at + 1));
            }
            at -= rank;
        }
        None
    }

    fn drawn(&self) -> Option<(usize, usize)> {
        *self.drawn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first element of the first factor that is dropped in this step.
    fn cut(&self, name: &str, len: usize) -> usize {
        match self.drawn().map(|(layer, rank)| (&self.layers[layer], rank)) {
            Some(((first, _, full), rank)) if first == name => len / full * rank,
            _ => len,
        }
    }
}

impl WeightTransform for Ordered {
    fn begin(&self, step: Option<usize>) {
        *self.drawn.lock().unwrap_or_else(PoisonError::into_inner) = step.and_then(|s| self.draw(s));
    }

    fn forward(&self, name: &str, shape: &[usize], weights: &[f32]) -> Option<Vec<f32>> {
        let mut changed = self.units.forward(name, shape, weights)?;
        let cut = self.cut(name, changed.len());
        changed[cut..].fill(0.0);
        Some(changed)
    }

    fn backward(&self, name: &str, shape: &[usize], weights: &[f32], gradient: &mut [f32]) {
        let cut = self.cut(name, gradient.len());
        gradient[cut..].fill(0.0);
        let layer = self.layers.iter().find(|(a, b, _)| a == name || b == name);
        if let (Some((first, _, rank)), true) = (layer, self.lasso > 0.0) {
            let real = self.units.forward(name, shape, weights);
            add_lasso(real.as_deref().unwrap_or(weights), *rank, first == name, self.lasso, gradient);
        }
        self.units.backward(name, shape, weights, gradient);
    }
}

/// Adds the gradient of `λ Σ_b ‖W_{b:}‖`: rank j of the weights gets `λ W_j Σ_{b ≤ j} 1 / ‖W_{b:}‖`. Ranks are rows
/// of the first factor and columns of the second.
fn add_lasso(weights: &[f32], rank: usize, rows: bool, lasso: f32, gradient: &mut [f32]) {
    let width = weights.len().checked_div(rank).unwrap_or(0).max(1);
    let of = |i: usize| if rows { i / width } else { i % rank };
    let mut squares = vec![0.0f64; rank + 1];
    weights.iter().enumerate().for_each(|(i, w)| squares[of(i)] += f64::from(*w).powi(2));
    for j in (0..rank).rev() {
        squares[j] += squares[j + 1];
    }
    let mut factor = vec![0.0f32; rank];
    let mut sum = 0.0;
    for (f, square) in factor.iter_mut().zip(&squares) {
        sum += 1.0 / square.sqrt().max(1e-6);
        *f = lasso * sum as f32;
    }
    gradient.iter_mut().zip(weights).enumerate().for_each(|(i, (g, w))| *g += factor[of(i)] * w);
}

impl Nested {
    /// Returns the network with whole layers, and its layers with the factors in their learned order, ready for
    /// [`super::choices`] and [`split`]. The loss of a tail is measured on `samples`.
    ///
    /// # Errors
    /// The samples do not fit the graph.
    pub fn layers(&self, samples: &[Vec<ArrayD<f32>>]) -> Result<(Graph, Vec<SplitLayer>)> {
        let whole = join(&self.graph, true)?;
        let mut env = Environment::new(&self.graph, samples.len());
        for (i, &id) in self.graph.inputs.iter().enumerate() {
            env.set(id, samples.iter().map(|s| s[i].clone()).collect::<Batch>());
        }
        let pairs = pairs(&self.graph);
        let mut layers = Vec::new();
        for (index, node) in self.graph.nodes.iter().enumerate() {
            if let Some(pair) = pairs.iter().find(|p| p.second == index)
                && let Some((first, second)) = factors(&self.graph, *pair)
                && let Some(at) =
                    whole.nodes.iter().position(|n| n.output == node.output || n.name == node.name)
                && matches!(whole.nodes[at].op, Op::Conv2d { .. } | Op::FullyConnected { .. })
            {
                let rank = first.nrows();
                let hidden = env.get(node.inputs[0]).filter(|x| !x.is_empty());
                let (c, mean) = match hidden.map(|x| moments(&rows_of(x, rank))) {
                    Some((c, mean)) => (c.unwrap_or_else(|| DMatrix::identity(rank, rank)), mean),
                    None => (&first * first.transpose(), nalgebra::DVector::zeros(rank)),
                };
                let lost = tails(&c, &second);
                let outputs = second.nrows();
                let factors = Factors { first, second, mean, outputs };
                layers.push(SplitLayer::with(&whole, at, Cut::Channels, lost, factors));
            }
            env.set(node.output, env.run(&self.graph, node, false)?);
            env.finish(node);
        }
        Ok((whole, layers))
    }
}

/// Share of the outputs' energy carried by ranks from `r` on, for every `r`: `E‖Σ_{j ≥ r} v_j h_j‖²` with the
/// covariance `c` of the intermediate tensor. Forced to decrease.
fn tails(c: &DMatrix<f64>, second: &DMatrix<f64>) -> Vec<f64> {
    let rank = c.nrows();
    let gram = second.transpose() * second;
    let energy = |r: usize| -> f64 {
        (r..rank).flat_map(|j| (r..rank).map(move |k| (j, k))).map(|(j, k)| gram[(j, k)] * c[(j, k)]).sum()
    };
    let total = energy(0).max(f64::MIN_POSITIVE);
    let mut lost: Vec<f64> = (0..=rank).map(|r| (energy(r) / total).max(0.0)).collect();
    for r in (0..rank).rev() {
        lost[r] = lost[r].max(lost[r + 1]);
    }
    lost
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lasso_is_the_slope_of_the_tails_norms() {
        let weights: Vec<f32> = (0..12).map(|i| (i * 7 % 5) as f32 * 0.3 - 0.5).collect();
        for rows in [true, false] {
            let (rank, width) = (3, 4);
            let penalty = |w: &[f32]| -> f64 {
                let of = |i: usize| if rows { i / width } else { i % rank };
                let tail = |b: usize| {
                    let square = w.iter().enumerate().filter(|(i, _)| of(*i) >= b);
                    square.map(|(_, w)| f64::from(*w).powi(2)).sum::<f64>().sqrt()
                };
                (0..rank).map(tail).sum()
            };
            let mut gradient = vec![0.0; 12];
            add_lasso(&weights, rank, rows, 1.0, &mut gradient);
            for i in 0..12 {
                let moved = |by: f32| {
                    let mut w = weights.clone();
                    w[i] += by;
                    penalty(&w)
                };
                let slope = (moved(1e-3) - moved(-1e-3)) / 2e-3;
                assert!((slope - f64::from(gradient[i])).abs() < 1e-3, "{i}: {slope} and {}", gradient[i]);
            }
        }
    }

    #[test]
    fn tails_of_orthogonal_ranks_add_up() {
        let second = DMatrix::from_diagonal(&nalgebra::DVector::from_vec(vec![3.0, 2.0, 1.0]));
        let lost = tails(&DMatrix::identity(3, 3), &second);
        for (found, wanted) in lost.iter().zip([1.0, 5.0 / 14.0, 1.0 / 14.0, 0.0]) {
            assert!((found - wanted).abs() < 1e-12, "{lost:?}");
        }
    }
}
