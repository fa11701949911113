//! The V-cycle: train the large network briefly, train the coalesced network for longer, then train the large network
//! again from an interpolation between its own weights and what the small network has learned.

use offshoot_ir::Graph;
use offshoot_train::{Dataset, FitOptions, fit};
use serde::Serialize;

use super::level::{Level, LevelOptions, interpolate};
use crate::prune::Progress;
use crate::prune::tune::Watch;
use crate::{Error, Result};

/// Settings of [`cycle`].
#[derive(Clone, Debug)]
pub struct CycleOptions {
    /// What is merged.
    pub level: LevelOptions,
    /// Epochs of the large network, of the small one, and of the large one again.
    pub epochs: [usize; 3],
    /// Weight of the de-coalesced network in the interpolation from which the last training starts: 0.25 to 0.5 in
    /// the paper.
    pub alpha: f32,
    /// Samples per step.
    pub batch: usize,
    /// Highest learning rate.
    pub rate: f32,
    /// Seed of the sample order.
    pub seed: u64,
}

impl Default for CycleOptions {
    fn default() -> Self {
        Self {
            level: LevelOptions { width: true, depth: false },
            epochs: [1, 6, 6],
            alpha: 0.5,
            batch: 64,
            rate: 3e-3,
            seed: 0,
        }
    }
}

/// Report of [`cycle`].
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CycleReport {
    /// Mean loss of each epoch in each of the three trainings.
    pub losses: [Vec<f32>; 3],
    /// Units before and after, for each family that was merged.
    pub families: Vec<[usize; 2]>,
    /// Multiply-accumulates of a forward pass of the large and the small network.
    pub macs: [u64; 2],
}

/// Trains `graph` by one V-cycle.
///
/// # Errors
/// The data do not fit the graph; training fails.
pub fn cycle(
    graph: &Graph,
    data: &Dataset,
    options: &CycleOptions,
    progress: &mut dyn Progress,
) -> Result<(Graph, CycleReport)> {
    let mut train = |graph: &Graph, stage: usize| -> Result<(Graph, Vec<f32>)> {
        let settings = FitOptions {
            epochs: options.epochs[stage],
            batch: options.batch,
            rate: options.rate,
            seed: options.seed.wrapping_add(stage as u64),
            ..FitOptions::default()
        };
        let (trained, report) = fit(graph, data, &settings, &mut Watch { progress, what: "training" })
            .map_err(Error::Training)?;
        Ok((trained, report.epochs.iter().map(|e| e.loss).collect()))
    };
    let (large, first) = train(graph, 0)?;
    let (small, level) = Level::of(&large, options.level)?;
    let macs = |g: &Graph| g.nodes.iter().map(|n| offshoot_ir::cost::macs(g, n)).sum();
    let sizes = [macs(&large), macs(&small)];
    let (small, second) = train(&small, 1)?;
    let between = interpolate(&large, &level.up(&small)?, options.alpha)?;
    let (large, third) = train(&between, 2)?;
    let families = level.families;
    Ok((large, CycleReport { losses: [first, second, third], families, macs: sizes }))
}
