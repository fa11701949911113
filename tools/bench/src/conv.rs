//! Protocol 6.4: ways to apply a label to a feature map. CIFAR-10 at 16 × 16 (means of 2 × 2 pixels), convolutions
//! with 16, 32 and 64 channels, each followed by a 2 × 2 maximum, ten classes; Adam at 0.001, batches of 64, as many
//! steps as four epochs over 25,600 images. Nothing is tuned here: rates, scales and budget are the research page's.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use offshoot::learn::layers::Slope;
use offshoot::learn::{LocalRule, Random, TargetProjection};

use crate::convnet::{ConvNet, Teacher};
use crate::data::{Samples, shuffled};
use crate::protocol::{Goal, Measured, Protocol, Row};

const SIDE: usize = 16;
const CHANNELS: [usize; 4] = [3, 16, 32, 64];
const CLASSES: usize = 10;
const BATCH: usize = 64;
const STEPS: usize = 4 * 25_600 / BATCH;
const RATE: f32 = 1e-3;
/// Cells of the pooling grid along each axis.
const GRID: usize = 4;
const TEST: &str = "test";

/// How the convolutions learn.
struct Recipe {
    name: &'static str,
    research: Option<f64>,
    slope: Slope,
    /// Teachers of the three convolutions.
    teachers: [Teacher; 3],
    /// Whether each also receives the error of the layer behind it.
    joined: [bool; 3],
}

const BACKPROP: &str = "backprop";
const BLOCKS: &str = "two-layer blocks, a learned head each";
const FROZEN: &str = "frozen random filters";

fn recipes() -> Vec<Recipe> {
    let relu = Slope::Clamp { min: 0.0, max: f32::INFINITY };
    let base =
        || Recipe { name: "", research: None, slope: relu, teachers: [Teacher::None; 3], joined: [false; 3] };
    let signs = |layer: u32| {
        // Features of the pooling grid: 16 cells for each channel.
        let features = (GRID * GRID * CHANNELS[layer as usize + 1]) as f32;
        let rule = LocalRule::CrossEntropy { scale: 1.0 / features.sqrt() };
        Teacher::Local(rule, TargetProjection::Signs { seed: 0x5eed + layer }, GRID)
    };
    let pixels = |rule| {
        [0, 1, 2].map(|l: u32| Teacher::Local(rule, TargetProjection::Uniform { seed: 0x5eed + l }, SIDE))
    };
    vec![
        Recipe { name: BACKPROP, research: Some(52.9), joined: [true; 3], ..base() },
        Recipe {
            name: BLOCKS,
            research: Some(52.2),
            teachers: [Teacher::None, Teacher::Head(GRID), Teacher::None],
            joined: [true, false, true],
            ..base()
        },
        Recipe {
            name: "two-layer blocks, sign codes",
            teachers: [Teacher::None, signs(1), Teacher::None],
            joined: [true, false, true],
            ..base()
        },
        Recipe {
            name: "learned head, every layer",
            research: Some(47.2),
            teachers: [Teacher::Head(GRID); 3],
            ..base()
        },
        Recipe {
            name: "sign codes, every layer",
            research: Some(43.5),
            teachers: [signs(0), signs(1), signs(2)],
            ..base()
        },
        Recipe { name: FROZEN, research: Some(39.0), ..base() },
        Recipe {
            name: "tpsgd-l2, targets a pixel (tanh)",
            research: Some(34.9),
            slope: Slope::Tanh,
            teachers: pixels(LocalRule::Squared { scale: 3.0 }),
            ..base()
        },
        Recipe {
            name: "drtp, targets a pixel (tanh)",
            research: Some(34.5),
            slope: Slope::Tanh,
            teachers: pixels(LocalRule::Drtp),
            ..base()
        },
    ]
}

/// The protocol.
#[derive(Debug)]
pub struct Conv {
    folder: PathBuf,
    data: Option<(Samples, Samples)>,
}

impl Conv {
    /// Uses the data sets of a folder.
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.into(), data: None }
    }
}

/// Means of 2 × 2 pixels, centred at 0.
fn halved(samples: &Samples) -> Samples {
    let width = SIDE * SIDE * 3;
    let mut out = Samples { x: Vec::with_capacity(samples.len() * width), y: samples.y.clone(), width };
    for image in samples.x.chunks(samples.width) {
        for i in 0..width {
            let (y, x, c) = (i / (3 * SIDE), i / 3 % SIDE, i % 3);
            let at = |y: usize, x: usize| image[(y * 2 * SIDE + x) * 3 + c];
            let sum =
                at(2 * y, 2 * x) + at(2 * y + 1, 2 * x) + at(2 * y, 2 * x + 1) + at(2 * y + 1, 2 * x + 1);
            out.x.push((0.25 * sum - 0.47) / 0.25);
        }
    }
    out
}

fn train(recipe: &Recipe, samples: &Samples, steps: usize, seed: u32, tick: &dyn Fn(u64)) -> ConvNet {
    let mut net =
        ConvNet::new(SIDE, &CHANNELS, CLASSES, recipe.slope, &recipe.teachers, &recipe.joined, seed);
    let mut random = Random::new(seed ^ 0xda7a);
    let mut order = Vec::new();
    for _ in 0..steps {
        if order.len() < BATCH {
            order = shuffled(samples.len(), &mut random);
        }
        let batch = samples.select(order.split_off(order.len() - BATCH.min(order.len())));
        net.learn(&batch.x, &batch.y, RATE);
        tick(batch.len() as u64);
    }
    net
}

fn accuracy(net: &ConvNet, test: &Samples) -> f64 {
    let parts = test.x.chunks(250 * test.width).zip(test.y.chunks(250));
    parts.map(|(x, y)| net.hits(x, y)).sum::<usize>() as f64 / test.len() as f64
}

impl Protocol for Conv {
    fn name(&self) -> &'static str {
        "conv"
    }

    fn title(&self) -> &'static str {
        "CIFAR-10 at 16x16, 3x3 convolutions 16-32-64, Adam 0.001, 1,600 batches of 64"
    }

    fn columns(&self) -> Vec<&'static str> {
        vec![TEST]
    }

    fn rows(&self) -> Vec<Row> {
        let row = |r: &Recipe| Row {
            name: r.name.into(),
            research: r.research.map(|p| (TEST, p)).into_iter().collect(),
        };
        recipes().iter().map(row).collect()
    }

    fn goals(&self) -> Vec<Goal> {
        let within = |row, of, points| Goal::Within { row, of, column: TEST, points };
        let rules = recipes().into_iter().map(|r| r.name).filter(|n| *n != FROZEN && *n != BACKPROP);
        std::iter::once(within(BLOCKS, BACKPROP, 1.0)).chain(rules.map(|r| within(r, FROZEN, 0.0))).collect()
    }

    fn work(&self, _row: &str) -> u64 {
        (STEPS * BATCH) as u64
    }

    fn measure(&mut self, row: &str, seed: u32, tick: &dyn Fn(u64)) -> Result<Measured> {
        if self.data.is_none() {
            let read = |part: &str| -> Result<Samples> {
                let file = |kind| self.folder.join(format!("cifar10/{part}_{kind}.npy"));
                Ok(halved(&Samples::read(&file("x"), &file("y"), 1.0 / 255.0)?))
            };
            self.data = Some((read("train")?, read("test")?));
        }
        let (samples, test) = self.data.as_ref().context("loaded")?;
        let recipe = recipes().into_iter().find(|r| r.name == row).context("no such row")?;
        let net = train(&recipe, samples, STEPS, seed, tick);
        Ok(Measured::from([(TEST.into(), accuracy(&net, test))]))
    }

    fn tune(&mut self, _only: Option<&str>, _say: &dyn Fn(&str, f64)) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Images whose class is their colour: every way of learning must solve it in few steps.
    #[test]
    fn every_recipe_learns_colours() {
        let mut random = Random::new(1);
        let width = SIDE * SIDE * 3;
        let y: Vec<usize> = (0..128).map(|i| i % 3).collect();
        let pixel = |y: usize, i: usize, noise: f32| f32::from(u8::from(i % 3 == y)) + 0.5 * noise;
        let x = y
            .iter()
            .flat_map(|&y| (0..width).map(move |i| (y, i)))
            .map(|(y, i)| pixel(y, i, random.normal()));
        let samples = Samples { x: x.collect(), width, y };
        for recipe in recipes() {
            let net = train(&recipe, &samples, 24, 0, &|_| ());
            let accuracy = accuracy(&net, &samples);
            assert!(accuracy > 0.5, "{}: {accuracy}", recipe.name);
        }
    }
}
