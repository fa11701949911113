//! Makes the weights of any float ONNX network sparse, with training between; writes ONNX and prints one JSON object.
//!
//! `cargo run --release -p offshoot-compress --example sparsify -- gru.onnx --data x.npy y.npy --test tx.npy ty.npy \
//!   --density 0.2 --method gradual --steps 4 --epochs 8 -o sparse.onnx`

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};
use ndarray::{ArrayD, Axis, IxDyn};
use offshoot_compress::prune::Progress;
use offshoot_compress::sparsify::{Method, Pattern, Rewind, Scope, SparsifyOptions, sparsify};
use offshoot_data::npy;
use offshoot_ir::Graph;
use offshoot_ir::passes::lossless;
use offshoot_train::{Dataset, FitOptions, Target, accuracy};

#[derive(Clone, Copy, Debug, ValueEnum)]
enum How {
    OneShot,
    Gradual,
    Iterative,
}

/// Makes the weights of a float ONNX network sparse.
#[derive(Debug, Parser)]
struct Args {
    /// The network.
    model: PathBuf,
    /// Inputs and labels to train on.
    #[arg(long, num_args = 2, required = true)]
    data: Vec<PathBuf>,
    /// Inputs and labels to judge with, before and after.
    #[arg(long, num_args = 2)]
    test: Vec<PathBuf>,
    /// Share of weights left.
    #[arg(long, default_value_t = 0.2)]
    density: f64,
    /// `unstructured`, `1x4`, `2:8`, …
    #[arg(long, default_value = "unstructured")]
    pattern: Pattern,
    /// Over all matrices together.
    #[arg(long)]
    global: bool,
    /// When weights go.
    #[arg(long, value_enum, default_value = "gradual")]
    method: How,
    /// Steps or rounds.
    #[arg(long, default_value_t = 4)]
    steps: usize,
    /// Iterative: steps of the first round to rewind to; 0 for the network as it comes. Without it nothing is put back.
    #[arg(long)]
    rewind: Option<usize>,
    /// Passes over the data: iterative, in each round.
    #[arg(long, default_value_t = 8)]
    epochs: usize,
    /// Samples a step.
    #[arg(long, default_value_t = 32)]
    batch: usize,
    /// Highest learning rate.
    #[arg(long, default_value_t = 1e-3)]
    rate: f32,
    /// Seed of the order of samples.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Where the sparse network goes.
    #[arg(short, long)]
    output: PathBuf,
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

/// Samples in the shape of the graph's input, and labels.
fn read(graph: &Graph, paths: &[PathBuf]) -> Result<(ArrayD<f32>, Vec<i64>)> {
    let file = |path: &PathBuf| npy::read(path).with_context(|| path.display().to_string());
    let (x, y) = (file(&paths[0])?.to_f32(), file(&paths[1])?.to_i64()?);
    let input = graph.value(graph.inputs[0]);
    let (first, rest) = input.shape.split_first().context("the input has no axis")?;
    let rest = if *first == 1 { rest } else { &input.shape[..] };
    let mut x = x;
    if input.channels_first_outside && x.ndim() == rest.len() + 1 {
        let mut order: Vec<usize> = (0..x.ndim()).collect();
        order[1..].rotate_left(1);
        x = x.permuted_axes(order);
    }
    let shape: Vec<usize> = [x.shape()[0]].iter().chain(rest).copied().collect();
    let x = x.as_standard_layout().to_shape(IxDyn(&shape))?.into_owned();
    ensure!(x.len_of(Axis(0)) == y.len(), "as many labels as samples are wanted");
    Ok((x, y.iter().copied().collect()))
}

fn main() -> Result<()> {
    let args = Args::parse();
    let (graph, _) = lossless(offshoot_import::import(&args.model)?)?;
    let (x, y) = read(&graph, &args.data)?;
    let test = if args.test.is_empty() { None } else { Some(read(&graph, &args.test)?) };
    let judge = |graph: &Graph| test.as_ref().map(|(x, y)| accuracy(graph, x, y)).transpose();
    let method = match args.method {
        How::OneShot => Method::OneShot,
        How::Gradual => Method::Gradual { steps: args.steps },
        How::Iterative => {
            let rewind = match args.rewind {
                None => Rewind::None,
                Some(0) => Rewind::Start,
                Some(step) => Rewind::Step(step),
            };
            Method::Iterative { rounds: args.steps, rewind }
        }
    };
    let train = FitOptions {
        epochs: args.epochs,
        batch: args.batch,
        rate: args.rate,
        decay: 0.0,
        clip: Some(5.0),
        seed: args.seed,
        ..FitOptions::default()
    };
    let options = SparsifyOptions {
        density: args.density,
        pattern: args.pattern,
        scope: if args.global { Scope::Global } else { Scope::Layer },
        method,
        train,
        ..SparsifyOptions::default()
    };
    let before = judge(&graph)?;
    let (sparse, report) = sparsify(&graph, &Dataset::new(x, Target::Labels(y)), &options, &mut Tell)?;
    std::fs::write(&args.output, offshoot_import::emit(&sparse)?)?;
    let line = serde_json::json!({
        "accuracy_before": before, "accuracy_after": judge(&sparse)?, "report": report,
        "output": args.output.display().to_string(),
    });
    println!("{line}");
    Ok(())
}
