//! Protocols 6.1 and 6.2: MNIST in epochs, and as a stream of single samples seen once.

use offshoot::learn::layers::Slope;
use offshoot::learn::{Codes, Random, Rule, Schedule};

use crate::data::{Samples, shuffled};
use crate::dense::{Format, Network, Step, Teacher};

/// One row of the table.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// Name of the rule.
    pub name: &'static str,
    /// What hidden layers learn from, given their number and width.
    pub teacher: fn(usize, usize) -> Teacher,
    /// Rate of hidden layers at the start.
    pub rate: f32,
    /// Rate of the last layer at the start.
    pub last_rate: f32,
    /// Backpropagation.
    pub backprop: bool,
    /// Weights.
    pub format: Format,
}

fn signs(layer: usize) -> Codes<'static> {
    Codes::Signs { seed: 0x5eed + layer as u32 }
}

fn uniform(layer: usize) -> Codes<'static> {
    Codes::Uniform { seed: 0x5eed + layer as u32 }
}

fn local(rule: Rule, codes: Codes<'static>) -> Teacher {
    Teacher::Local(rule, codes)
}

/// Scores through sign codes of `n` features, scaled to unit variance.
pub fn default_rule(n: usize) -> Rule {
    Rule::CrossEntropy { scale: 1.0 / (n as f32).sqrt() }
}

/// The recipes of a protocol.
pub fn recipes() -> Vec<Recipe> {
    let base = Recipe {
        name: "",
        teacher: |_, _| Teacher::Frozen,
        rate: 0.0,
        last_rate: 0.02,
        backprop: false,
        format: Format::F32,
    };
    vec![
        Recipe { name: "backprop", rate: 0.05, last_rate: 0.05, backprop: true, ..base.clone() },
        Recipe {
            name: "tpsgd-ce",
            teacher: |l, n| local(default_rule(n), signs(l)),
            rate: 0.2,
            ..base.clone()
        },
        Recipe {
            name: "local-head",
            teacher: |_, n| Teacher::Head { table: vec![0.0; 10 * n], rate: 0.2 },
            rate: 0.1,
            ..base.clone()
        },
        Recipe {
            name: "tpsgd-l2",
            teacher: |l, _| local(Rule::Squared { scale: 10.0 }, uniform(l)),
            rate: 0.0002,
            ..base.clone()
        },
        Recipe {
            name: "tpsgd-l1",
            teacher: |l, _| local(Rule::Absolute { scale: 3.0 }, uniform(l)),
            rate: 0.002,
            ..base.clone()
        },
        Recipe { name: "drtp", teacher: |l, _| local(Rule::Drtp, uniform(l)), rate: 0.002, ..base.clone() },
        Recipe { name: "frozen", ..base },
    ]
}

/// The same, and the default rule with weights of int16 and int8.
pub fn stream_recipes() -> Vec<Recipe> {
    let mut all = recipes();
    let default = all[1].clone();
    all.push(Recipe { name: "tpsgd-ce-i16", format: Format::I16, ..default.clone() });
    all.push(Recipe { name: "tpsgd-ce-i8", format: Format::I8, ..default });
    all
}

/// Trains and tests one network.
pub fn train(
    recipe: &Recipe,
    widths: &[usize],
    epochs: usize,
    seed: u32,
    train: &Samples,
    test: &Samples,
) -> f64 {
    let mut network = Network::new(widths, Slope::Tanh, recipe.format, seed, recipe.teacher);
    let mut random = Random::new(seed ^ 0xda7a);
    let steps = (epochs * train.len()) as u32;
    let schedule = Schedule::Linear { steps };
    let mut t = 0;
    for _ in 0..epochs {
        for i in shuffled(train.len(), &mut random) {
            let (x, y) = train.at(i);
            let step = Step {
                rate: schedule.rate(recipe.rate, t),
                last_rate: schedule.rate(recipe.last_rate, t),
                normalised: false,
                backprop: recipe.backprop,
            };
            network.learn(x, y, step);
            t += 1;
        }
    }
    accuracy(&mut network, test)
}

/// Fraction of samples classified as their label.
pub fn accuracy(network: &mut Network, test: &Samples) -> f64 {
    let hits = (0..test.len()).filter(|&i| network.classify(test.at(i).0) == test.at(i).1).count();
    hits as f64 / test.len() as f64
}
