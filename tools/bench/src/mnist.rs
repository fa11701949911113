//! Protocols 6.1 and 6.2: MNIST in epochs of batches, and as a stream of single samples seen once.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use offshoot::learn::layers::Slope;
use offshoot::learn::{LocalRule, Random, Schedule, TargetProjection};

use crate::batch::{self, BatchTraining};
use crate::data::{Samples, shuffled};
use crate::dense::{Format, Network, Step, Teacher};
use crate::protocol::{Goal, Measured, Protocol, Row};

/// One row of the table.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// Name of the rule.
    pub name: &'static str,
    /// Teacher of hidden layers, given the layer's index and width.
    pub teacher: fn(usize, usize) -> Teacher,
    /// Rate of hidden layers at the start.
    pub rate: f32,
    /// Rate of the last layer at the start.
    pub last_rate: f32,
    /// Backpropagation.
    pub backprop: bool,
    /// Number format of the weights.
    pub format: Format,
    /// Percentage on the research page.
    pub research: Option<f64>,
}

fn signs(layer: usize) -> TargetProjection<'static> {
    TargetProjection::Signs { seed: 0x5eed + layer as u32 }
}

fn uniform(layer: usize) -> TargetProjection<'static> {
    TargetProjection::Uniform { seed: 0x5eed + layer as u32 }
}

fn local(rule: LocalRule, codes: TargetProjection<'static>) -> Teacher {
    Teacher::Local(rule, codes)
}

/// Scores through a sign projection of `n` features, scaled to unit variance.
pub fn default_rule(n: usize) -> LocalRule {
    LocalRule::CrossEntropy { scale: 1.0 / (n as f32).sqrt() }
}

/// Every rule, with rates `[hidden, last]` and the research page's number, in the order of the rows below.
fn recipes(rates: [[f32; 2]; 7], research: [Option<f64>; 7]) -> Vec<Recipe> {
    let teachers: [(&str, fn(usize, usize) -> Teacher); 7] = [
        ("backprop", |_, _| Teacher::Frozen),
        ("tpsgd-ce", |l, n| local(default_rule(n), signs(l))),
        ("local-head", |_, n| Teacher::Head { table: vec![0.0; 10 * n], rate: 0.2 }),
        ("tpsgd-l2", |l, _| local(LocalRule::Squared { scale: 10.0 }, uniform(l))),
        ("tpsgd-l1", |l, _| local(LocalRule::Absolute { scale: 3.0 }, uniform(l))),
        ("drtp", |l, _| local(LocalRule::Drtp, uniform(l))),
        ("frozen", |_, _| Teacher::Frozen),
    ];
    let mut all = Vec::new();
    for (((name, teacher), [rate, last_rate]), research) in teachers.into_iter().zip(rates).zip(research) {
        let backprop = name == "backprop";
        all.push(Recipe { name, teacher, rate, last_rate, backprop, format: Format::F32, research });
    }
    all
}

/// The two protocols.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Batches,
    Stream,
}

/// Both protocols on MNIST.
#[derive(Debug)]
pub struct Mnist {
    kind: Kind,
    widths: [usize; 3],
    recipes: Vec<Recipe>,
    folder: PathBuf,
    data: Option<(Samples, Samples)>,
}

/// Training samples held out to choose rates.
const HELD_OUT: usize = 10_000;
const TEST: &str = "test";
/// Mean of the training set's pixels, scaled to 0 to 1.
const MEAN: f32 = 0.1307;
const DEVIATION: f32 = 0.3081;

impl Mnist {
    /// 784-500-10, six epochs of batches of 100.
    pub fn batches(folder: &Path) -> Self {
        let rates = [[0.4, 0.4], [1.0, 0.4], [1.0, 1.6], [0.006, 0.8], [0.03, 0.8], [0.06, 0.8], [0.0, 0.8]];
        let research = [Some(97.98), Some(97.74), Some(97.93), Some(94.87), None, Some(94.75), Some(93.38)];
        let recipes = recipes(rates, research);
        Self { kind: Kind::Batches, widths: [784, 500, 10], recipes, folder: folder.into(), data: None }
    }

    /// 784-128-10, one pass of single samples.
    pub fn stream(folder: &Path) -> Self {
        let rates = [
            [0.025, 0.025],
            [0.2, 0.02],
            [0.1, 0.06],
            [0.0008, 0.06],
            [0.008, 0.02],
            [0.008, 0.06],
            [0.0, 0.06],
        ];
        let research = [Some(95.74), Some(95.39), None, Some(92.50), None, Some(91.99), Some(89.39)];
        let mut recipes = recipes(rates, research);
        let default = recipes[1].clone();
        let (i16, i8) = (Format::I16, Format::I8);
        recipes.push(Recipe { name: "tpsgd-ce-i16", format: i16, research: Some(95.19), ..default.clone() });
        recipes.push(Recipe {
            name: "tpsgd-ce-i8",
            format: i8,
            last_rate: 0.06,
            research: Some(94.07),
            ..default
        });
        Self { kind: Kind::Stream, widths: [784, 128, 10], recipes, folder: folder.into(), data: None }
    }

    fn load(&mut self) -> Result<()> {
        if self.data.is_none() {
            let (train, test) = (Samples::mnist(&self.folder, "train")?, Samples::mnist(&self.folder, TEST)?);
            self.data = Some(match self.kind {
                Kind::Batches => (train.standardised(MEAN, DEVIATION), test.standardised(MEAN, DEVIATION)),
                // Raw pixels as from a sensor: most are 0 and update no weight.
                Kind::Stream => (train, test),
            });
        }
        Ok(())
    }

    fn recipe(&self, row: &str) -> Result<Recipe> {
        self.recipes.iter().find(|r| r.name == row).cloned().context("no such row")
    }

    fn epochs(&self) -> usize {
        if self.kind == Kind::Batches { 6 } else { 1 }
    }

    fn train(
        &self,
        recipe: &Recipe,
        epochs: usize,
        seed: u32,
        samples: [&Samples; 2],
        tick: &dyn Fn(u64),
    ) -> f64 {
        match self.kind {
            Kind::Batches => train_batches(recipe, &self.widths, epochs, seed, samples, tick),
            Kind::Stream => train_stream(recipe, &self.widths, seed, samples, tick),
        }
    }
}

impl Protocol for Mnist {
    fn name(&self) -> &'static str {
        if self.kind == Kind::Batches { "mnist" } else { "stream" }
    }

    fn title(&self) -> &'static str {
        match self.kind {
            Kind::Batches => "MNIST 784-500-10, 6 epochs, batches of 100",
            Kind::Stream => "MNIST 784-128-10, one pass of single samples",
        }
    }

    fn columns(&self) -> Vec<&'static str> {
        vec![TEST]
    }

    fn rows(&self) -> Vec<Row> {
        let beside = |r: &Recipe| r.research.map(|p| (TEST, p));
        self.recipes
            .iter()
            .map(|r| Row { name: r.name.into(), research: beside(r).into_iter().collect() })
            .collect()
    }

    fn goals(&self) -> Vec<Goal> {
        let goal = |row, percent| Goal::AtLeast { row, column: TEST, percent };
        match self.kind {
            Kind::Batches => vec![goal("tpsgd-ce", 97.6), goal("tpsgd-l2", 94.5), goal("drtp", 94.5)],
            Kind::Stream => {
                vec![goal("tpsgd-ce", 95.2), goal("tpsgd-ce-i16", 95.0), goal("tpsgd-ce-i8", 94.0)]
            }
        }
    }

    fn measure(&mut self, row: &str, seed: u32, tick: &dyn Fn(u64)) -> Result<Measured> {
        self.load()?;
        let recipe = self.recipe(row)?;
        let (train, test) = self.data.as_ref().context("loaded")?;
        let accuracy = self.train(&recipe, self.epochs(), seed, [train, test], tick);
        Ok(Measured::from([(TEST.into(), accuracy)]))
    }

    fn work(&self, _row: &str) -> u64 {
        60_000 * self.epochs() as u64
    }

    /// Three epochs (the stream: one) on 50,000 training samples, tested on the other 10,000, seed 0.
    fn tune(&mut self, only: Option<&str>, say: &dyn Fn(&str, f64)) -> Result<()> {
        self.load()?;
        let (all, _) = self.data.as_ref().context("loaded")?;
        let train = all.select(HELD_OUT..all.len());
        let held_out = all.select(0..HELD_OUT);
        for recipe in self.recipes.iter().filter(|r| only.is_none_or(|o| o == r.name)) {
            let mut best = (0.0, recipe.clone());
            let trial = |rate: f32, last_rate: f32, best: &mut (f64, Recipe)| {
                let trial = Recipe { rate, last_rate, ..recipe.clone() };
                let accuracy = self.train(&trial, self.epochs().div_ceil(2), 0, [&train, &held_out], &|_| ());
                say(&format!("{} {rate} {last_rate}", recipe.name), accuracy);
                if accuracy > best.0 {
                    *best = (accuracy, trial);
                }
            };
            // First the hidden rate, then the last layer's; backpropagation has a single rate.
            for factor in [0.25, 0.5, 1.0, 2.0, 4.0] {
                let last = if recipe.backprop { factor * recipe.last_rate } else { recipe.last_rate };
                if recipe.rate > 0.0 || factor == 1.0 {
                    trial(factor * recipe.rate, last, &mut best);
                }
            }
            for factor in [0.33, 3.0] {
                if !recipe.backprop {
                    trial(best.1.rate, factor * recipe.last_rate, &mut best);
                }
            }
        }
        Ok(())
    }
}

fn train_batches(
    recipe: &Recipe,
    widths: &[usize],
    epochs: usize,
    seed: u32,
    [train, test]: [&Samples; 2],
    tick: &dyn Fn(u64),
) -> f64 {
    let mut network = Network::new(widths, Slope::Tanh, recipe.format, seed, recipe.teacher);
    let step = Step {
        rate: recipe.rate,
        head_rate: recipe.rate,
        last_rate: recipe.last_rate,
        normalised: false,
        backprop: recipe.backprop,
    };
    let training = BatchTraining { epochs, batch: 100, step, probes: 0.0 };
    batch::train(&mut network, &training, train, seed, tick);
    batch::accuracy(&network, test)
}

/// Trains on single samples with the device's own code.
pub fn train_stream(
    recipe: &Recipe,
    widths: &[usize],
    seed: u32,
    [train, test]: [&Samples; 2],
    tick: &dyn Fn(u64),
) -> f64 {
    let mut network = Network::new(widths, Slope::Tanh, recipe.format, seed, recipe.teacher);
    let mut random = Random::new(seed ^ 0xda7a);
    let schedule = Schedule::Linear { steps: train.len() as u32 };
    for (t, i) in shuffled(train.len(), &mut random).into_iter().enumerate() {
        let (x, y) = train.at(i);
        let step = Step {
            rate: offshoot::learn::schedule::rate(schedule, recipe.rate, t as u32),
            head_rate: offshoot::learn::schedule::rate(schedule, recipe.rate, t as u32),
            last_rate: offshoot::learn::schedule::rate(schedule, recipe.last_rate, t as u32),
            normalised: false,
            backprop: recipe.backprop,
        };
        network.learn(x, y, step);
        if t % 1000 == 999 {
            tick(1000);
        }
    }
    accuracy(&mut network, test)
}

/// Fraction of samples classified as their label.
pub fn accuracy(network: &mut Network, test: &Samples) -> f64 {
    let hits = (0..test.len()).filter(|&i| network.classify(test.at(i).0) == test.at(i).1).count();
    hits as f64 / test.len() as f64
}
