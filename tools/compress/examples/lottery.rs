//! Lottery tickets of LeNet-300-100 on MNIST (Frankle and Carbin 2019): dense and sparse networks as ONNX, their
//! accuracies as lines of JSON, and the arrays that `scripts/sparse-table.sh` compiles and judges them with. Resumable: what
//! is there is not trained again.
//!
//! `cargo run --release -p offshoot-compress --example lottery -- --data ../shared/data --out tickets --seeds 3`

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Parser;
use ndarray::{ArrayD, Axis, IxDyn};
use offshoot_compress::prune::Progress;
use offshoot_compress::sparsify::{Method, Pattern, Rewind, SparsifyOptions, sparsify};
use offshoot_data::npy;
use offshoot_ir::Graph;
use offshoot_train::network::Network;
use offshoot_train::{Dataset, FitOptions, Schedule, Target, accuracy, fit};

/// Lottery tickets of LeNet-300-100 on MNIST.
#[derive(Debug, Parser)]
struct Args {
    /// Folder of data sets.
    #[arg(long, default_value = "../shared/data")]
    data: PathBuf,
    /// Where networks and `results.jsonl` go.
    #[arg(long)]
    out: PathBuf,
    /// Number of seeds.
    #[arg(long, default_value_t = 3)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// Share of weights left.
    #[arg(long, default_value_t = 0.1)]
    density: f64,
    /// `unstructured`, `1x4`, `1:8`, …; several after commas.
    #[arg(long, value_delimiter = ',', default_value = "unstructured,1x4")]
    patterns: Vec<Pattern>,
    /// Times that weights go.
    #[arg(long, default_value_t = 4)]
    rounds: usize,
    /// Passes over the data in each round.
    #[arg(long, default_value_t = 3)]
    epochs: usize,
    /// The last one's.
    #[arg(long, default_value_t = 8)]
    last_epochs: usize,
    /// Highest learning rate.
    #[arg(long, default_value_t = 2e-3)]
    rate: f32,
    /// Training samples used.
    #[arg(long, default_value_t = 60_000)]
    samples: usize,
    /// Test samples used.
    #[arg(long, default_value_t = 10_000)]
    tests: usize,
    /// Draw weights anew in place of the rewind: what the ticket's own beginning is worth.
    #[arg(long)]
    random: bool,
}

/// Tells of rounds on stderr.
struct Tell;

impl Progress for Tell {
    fn tick(&mut self, what: &str, done: usize, total: usize) {
        if done == total {
            eprintln!("{what}: {total} steps");
        }
    }
}

fn lenet(seed: u64) -> Graph {
    let net = Network::new("lenet-300-100", [28, 28, 1], seed).flatten("flat");
    net.dense("fc1", 300).relu("relu1").dense("fc2", 100).relu("relu2").dense("fc3", 10).softmax("softmax")
}

/// Images of 0 to 1 and labels.
fn read(folder: &Path, part: &str, count: usize) -> Result<(ArrayD<f32>, Vec<i64>)> {
    let file = |kind: &str| {
        let path = folder.join(format!("mnist/{part}_{kind}.npy"));
        npy::read(&path).with_context(|| path.display().to_string())
    };
    let (x, y) = (file("x")?.to_f32(), file("y")?.to_i64()?);
    let count = count.min(y.len());
    let x = x.slice_axis(Axis(0), (..count).into()).mapv(|v| v / 255.0);
    let x = x.to_shape(IxDyn(&[count, 28, 28, 1]))?.into_owned();
    Ok((x, y.iter().take(count).copied().collect()))
}

fn main() -> Result<()> {
    let args = Args::parse();
    std::fs::create_dir_all(&args.out)?;
    let (x, y) = read(&args.data, "train", args.samples)?;
    let (test_x, test_y) = read(&args.data, "test", args.tests)?;
    let calibration = x.slice_axis(Axis(0), (..200.min(y.len())).into()).to_owned();
    npy::write(&args.out.join("calibration_x.npy"), &calibration.into())?;
    npy::write(&args.out.join("test_x.npy"), &test_x.clone().into())?;
    let labels = ArrayD::from_shape_vec(vec![test_y.len()], test_y.clone())?;
    npy::write(&args.out.join("test_y.npy"), &labels.into())?;
    let data = Dataset::new(x, Target::Labels(y));
    let mut results =
        std::fs::OpenOptions::new().create(true).append(true).open(args.out.join("results.jsonl"))?;
    let mut keep = |name: &str, seed: u64, graph: &Graph, more: serde_json::Value| -> Result<()> {
        let line = serde_json::json!({
            "name": name, "seed": seed, "accuracy": accuracy(graph, &test_x, &test_y)?, "more": more,
        });
        writeln!(results, "{line}")?;
        eprintln!("{line}");
        std::fs::write(args.out.join(format!("{name}-{seed}.onnx")), offshoot_import::emit(graph)?)?;
        Ok(())
    };
    let done = |name: &str, seed: u64| args.out.join(format!("{name}-{seed}.onnx")).exists();
    for seed in args.first..args.first + args.seeds {
        let start = lenet(seed);
        let train = |epochs| FitOptions {
            epochs,
            batch: 60,
            rate: args.rate,
            decay: 0.0,
            schedule: Schedule::Cosine { warm_up: 0.02 },
            seed: 1000 * seed,
            ..FitOptions::default()
        };
        if !done("dense", seed) {
            let (dense, _) = fit(&start, &data, &train(args.last_epochs), &mut ())?;
            keep("dense", seed, &dense, serde_json::Value::Null)?;
        }
        for &pattern in &args.patterns {
            let kind = if args.random { "random" } else { "ticket" };
            let name = format!("{kind}-{}-{}", pattern.to_string().replace(':', "of"), args.density);
            if done(&name, seed) {
                continue;
            }
            let method = Method::Iterative { rounds: args.rounds, rewind: Rewind::Start };
            let options = SparsifyOptions {
                density: args.density,
                pattern,
                method,
                train: train(args.epochs),
                last_epochs: Some(args.last_epochs),
                ..SparsifyOptions::default()
            };
            let (mut sparse, report) = sparsify(&start, &data, &options, &mut Tell)?;
            if args.random {
                // The same zeros, other weights.
                let masks = offshoot_compress::sparsify::masks_of(&sparse);
                let settings = FitOptions { masks, ..train(args.last_epochs) };
                sparse = fit(&lenet(seed + 500), &data, &settings, &mut ())?.0;
            }
            keep(&name, seed, &sparse, serde_json::to_value(&report)?)?;
        }
    }
    Ok(())
}
