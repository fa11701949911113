//! Benchmark of local learning: the protocols of the research behind the rules, with the runtime's own functions.
//! Prints tables, writes JSON. Not a timed test: a whole run takes an hour or more.
//!
//! `cargo run --release -p offshoot-bench -- mnist --data FOLDER --seeds 3 --json out.json`

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, ValueEnum};
use offshoot_bench::data::Samples;
use offshoot_bench::mnist;
use serde::Serialize;

/// What to run.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Protocol {
    /// MNIST 784-500-10, six epochs.
    Mnist,
    /// MNIST 784-128-10, one pass, in float32, int16 and int8.
    Stream,
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
