//! Benchmark of local learning: the protocols of the research behind the rules, with the runtime's own functions.
//! Prints tables, writes JSON. Not a timed test: a whole run takes an hour or more.
//!
//! `cargo run --release -p offshoot-bench -- mnist --data FOLDER --seeds 3 --json out.json`

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, ValueEnum};
use offshoot::learn::Random;
use offshoot_bench::data::Samples;
use offshoot_bench::{mnist, shift, speakers};
use serde::Serialize;

/// What to run.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Protocol {
    /// MNIST 784-500-10, six epochs.
    Mnist,
    /// MNIST 784-128-10, one pass, in float32, int16 and int8.
    Stream,
    /// A network trained on MNIST adapts to shifted images.
    Shift,
    /// A network trained on five speakers adapts to the sixth.
    Speakers,
}

/// Arguments.
#[derive(Debug, Parser)]
struct Args {
    /// What to run.
    protocol: Protocol,
    /// Folder of data sets.
    #[arg(long, default_value = "../shared/data")]
    data: PathBuf,
    /// Number of seeds.
    #[arg(long, default_value_t = 1)]
    seeds: u32,
    /// Adapt to the held-out shift on which hyper-parameters are chosen.
    #[arg(long)]
    held_out: bool,
    /// Only the rule of this name.
    #[arg(long)]
    rule: Option<String>,
    /// Epochs, where the protocol has them.
    #[arg(long)]
    epochs: Option<usize>,
    /// Rate of hidden layers, instead of the recipe's.
    #[arg(long)]
    rate: Option<f32>,
    /// Rate of the last layer, instead of the recipe's.
    #[arg(long)]
    last_rate: Option<f32>,
    /// Rates of adaptation are multiplied by each of these.
    #[arg(long, value_delimiter = ',')]
    factor: Vec<f32>,
    /// Where to write the results.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// A cell of the table.
#[derive(Debug, Serialize)]
struct Row {
    protocol: &'static str,
    rule: String,
    seeds: Vec<u32>,
    accuracy: Vec<f64>,
    mean: f64,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let rows = match args.protocol {
        Protocol::Mnist => {
            run_mnist(&args, mnist::recipes(), &[784, 500, 10], args.epochs.unwrap_or(6), "mnist 784-500-10")?
        }
        Protocol::Stream => {
            let recipes = mnist::stream_recipes();
            run_mnist(&args, recipes, &[784, 128, 10], args.epochs.unwrap_or(1), "stream 784-128-10")?
        }
        Protocol::Shift => run_shift(&args)?,
        Protocol::Speakers => run_speakers(&args)?,
    };
    if let Some(path) = &args.json {
        offshoot_report::write_atomically(path, serde_json::to_string_pretty(&rows)?.as_bytes())?;
    }
    Ok(())
}

fn run_mnist(
    args: &Args,
    recipes: Vec<mnist::Recipe>,
    widths: &[usize],
    epochs: usize,
    name: &'static str,
) -> Result<Vec<Row>> {
    let (train, test) = (Samples::mnist(&args.data, "train")?, Samples::mnist(&args.data, "test")?);
    let mut rows = Vec::new();
    for mut recipe in recipes {
        if args.rule.as_deref().is_some_and(|r| r != recipe.name) {
            continue;
        }
        recipe.rate = args.rate.unwrap_or(recipe.rate);
        recipe.last_rate = args.last_rate.unwrap_or(recipe.last_rate);
        let seeds: Vec<u32> = (0..args.seeds).collect();
        let accuracy: Vec<f64> = seeds
            .iter()
            .map(|&seed| {
                let a = mnist::train(&recipe, widths, epochs, seed, &train, &test);
                eprintln!("{name} {} seed {seed}: {:.2} %", recipe.name, 100.0 * a);
                a
            })
            .collect();
        let mean = accuracy.iter().sum::<f64>() / accuracy.len() as f64;
        println!("{name:20} {:12} {:.2} %", recipe.name, 100.0 * mean);
        rows.push(Row { protocol: name, rule: recipe.name.into(), seeds, accuracy, mean });
    }
    Ok(rows)
}

fn run_shift(args: &Args) -> Result<Vec<Row>> {
    let (train, test) = (Samples::mnist(&args.data, "train")?, Samples::mnist(&args.data, "test")?);
    let mut shifts = shift::SHIFTS.to_vec();
    if args.held_out {
        shifts = vec![("held out", shift::Shift::Held)];
    }
    let mut rows: Vec<Row> = Vec::new();
    for seed in 0..args.seeds {
        let epochs = args.epochs.unwrap_or(6);
        let mut host = shift::host_network(&[784, 256, 128, 10], 0.02, &train, epochs, seed);
        eprintln!("seed {seed}: host network {:.2} %", 100.0 * mnist::accuracy(&mut host, &test));
        for &(name, shift) in &shifts {
            let order = offshoot_bench::data::shuffled(train.len(), &mut Random::new(seed ^ 0x51));
            let few = shift.apply(&train.select(order.into_iter().take(1000)), seed ^ 1);
            let shifted = shift.apply(&test, seed ^ 2);
            for recipe in shift::recipes() {
                if args.rule.as_deref().is_some_and(|r| r != recipe.name) {
                    continue;
                }
                for factor in args.factors() {
                    let accuracy = shift::adapt(&host, &recipe.faster(factor), &few, &shifted);
                    let rule = format!("{name}: {} x{factor}", recipe.name);
                    eprintln!("seed {seed} {rule:32} {:.2} %", 100.0 * accuracy);
                    record(&mut rows, "shift", rule, seed, accuracy);
                }
            }
        }
    }
    for row in &rows {
        println!("{:40} {:.2} %", row.rule, 100.0 * row.mean);
    }
    Ok(rows)
}

/// Adds a result to its row.
fn record(rows: &mut Vec<Row>, protocol: &'static str, rule: String, seed: u32, accuracy: f64) {
    let at = rows.iter().position(|r| r.rule == rule).unwrap_or_else(|| {
        rows.push(Row { protocol, rule, seeds: vec![], accuracy: vec![], mean: 0.0 });
        rows.len() - 1
    });
    let row = &mut rows[at];
    row.seeds.push(seed);
    row.accuracy.push(accuracy);
    row.mean = row.accuracy.iter().sum::<f64>() / row.accuracy.len() as f64;
}

fn run_speakers(args: &Args) -> Result<Vec<Row>> {
    let digits = speakers::Digits::read(&args.data)?;
    let mut rows: Vec<Row> = Vec::new();
    for seed in 0..args.seeds {
        for speaker in 0..6 {
            let split = digits.split(speaker, 10);
            let epochs = args.epochs.unwrap_or(20);
            let host = shift::host_network(&speakers::WIDTHS, 0.005, &split.others, epochs, seed);
            for recipe in shift::recipes() {
                for factor in args.factors() {
                    let accuracy = shift::adapt(&host, &recipe.faster(factor), &split.adapt, &split.test);
                    let rule = format!("{} x{factor}", recipe.name);
                    eprintln!("seed {seed} speaker {speaker} {rule:28} {:.2} %", 100.0 * accuracy);
                    record(&mut rows, "speakers", rule, seed, accuracy);
                }
            }
        }
    }
    for row in &rows {
        println!("speakers {:20} {:.2} %", row.rule, 100.0 * row.mean);
    }
    Ok(rows)
}

impl Args {
    fn factors(&self) -> Vec<f32> {
        if self.factor.is_empty() { vec![1.0] } else { self.factor.clone() }
    }
}
