//! Labelled samples for commands that train, split into training, validation and test sets.

use std::path::PathBuf;

use ndarray::{ArrayD, Axis};
use offshoot_data::npy::Array;
use offshoot_ir::Graph;
use offshoot_train::{Dataset, Target, shuffled};

use crate::commands::read_array;
use crate::failure::{Context, Failure, Kind, Result};
use crate::port::Port;

/// Where samples come from, and how they are split.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub struct Args {
    /// Samples and their class numbers (.npy).
    #[arg(long, num_args = 2, required = true, value_names = ["X.npy", "Y.npy"])]
    pub data: Vec<PathBuf>,
    /// Test samples and class numbers (.npy). Default: a held-out part of --data.
    #[arg(long, num_args = 2, value_names = ["X.npy", "Y.npy"])]
    pub test: Vec<PathBuf>,
    /// Use at most this many samples of --data.
    #[arg(long)]
    pub limit: Option<usize>,
    /// Number of samples of --data to hold out for testing; at most half of them.
    #[arg(long, default_value_t = 500)]
    pub held_out: usize,
    /// Number of samples that calibrate the ranges of int8 activations.
    #[arg(long, default_value_t = 100)]
    pub calibration: usize,
    /// Seed of the random generator.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

/// Training, validation and test samples.
#[derive(Clone, Debug)]
pub struct Sets {
    /// Training samples.
    pub train: Dataset,
    /// Samples to choose between epochs: a tenth of those that are not for testing, at most 500.
    pub validation: Dataset,
    /// Test samples; nothing is fitted to them or chosen on them.
    pub judged: Dataset,
}

impl Sets {
    /// Reads the samples, shuffles them by `seed` and splits them.
    ///
    /// # Errors
    /// A file cannot be read, does not fit the network, or holds fewer than 20 samples.
    pub fn read(graph: &Graph, args: &Args, seed: u64) -> Result<Self> {
        let all = labelled(graph, &args.data)?;
        if all.len() < 20 {
            let message = format!("{} samples are too few to split", all.len());
            return Err(Failure::new(Kind::Shape, message, "give 20 samples or more with --data"));
        }
        let order = shuffled(all.len(), seed, 0);
        let order = &order[..args.limit.unwrap_or(order.len()).clamp(20, order.len())];
        let (judged, rest) = match args.test.is_empty() {
            true => {
                let (judged, rest) = order.split_at(args.held_out.clamp(1, order.len() / 2));
                (chosen(&all, judged), rest)
            }
            false => (labelled(graph, &args.test)?, order),
        };
        let (validation, train) = rest.split_at((rest.len() / 10).clamp(1, 500));
        Ok(Self { train: chosen(&all, train), validation: chosen(&all, validation), judged })
    }
}

/// The samples with these numbers.
pub fn chosen(data: &Dataset, indices: &[usize]) -> Dataset {
    Dataset {
        inputs: data.inputs.iter().map(|x| x.select(Axis(0), indices)).collect(),
        target: match &data.target {
            Target::Labels(labels) => Target::Labels(indices.iter().map(|&i| labels[i]).collect()),
            Target::Values(values) => Target::Values(values.select(Axis(0), indices)),
            Target::Unlabelled => Target::Unlabelled,
        },
    }
}

fn labelled(graph: &Graph, paths: &[PathBuf]) -> Result<Dataset> {
    if graph.inputs.len() != 1 {
        let message = format!("the network has {} inputs; training needs one", graph.inputs.len());
        return Err(Failure::new(Kind::Unsupported, message, "give a network with one input"));
    }
    let [x, y] = paths else {
        return Err(Failure::new(Kind::Usage, "two files are needed", "give X.npy and Y.npy"));
    };
    let (x, y): (Array, Array) = (read_array(x)?, read_array(y)?);
    let names = [paths[0].display().to_string(), paths[1].display().to_string()];
    let port = Port::of_value(graph, graph.inputs[0]);
    let samples = port.real(&x, &names[0])?;
    let labels: Vec<i64> = y
        .to_i64()
        .or_fail_in(Kind::Dtype, &names[1], "give whole class numbers, counted from 0")?
        .into_iter()
        .collect();
    if labels.len() != samples.len() {
        let message = format!("{}: {} class numbers for {} samples", names[1], labels.len(), samples.len());
        return Err(Failure::new(
            Kind::Shape,
            message,
            "give one class number per sample, in the same order",
        ));
    }
    let batchless = port.shape.first() == Some(&1);
    let shape = [&[samples.len()], &port.shape[usize::from(batchless)..]].concat();
    let flat = samples.into_iter().flatten().collect();
    let x = ArrayD::from_shape_vec(shape, flat)
        .or_fail(Kind::Internal, "this is a bug in Offshoot: report it with this message")?;
    let data = Dataset::new(x, Target::Labels(labels));
    data.check(graph).or_fail_in(
        Kind::Mismatch,
        &names[0],
        "give data of the kind that the network was trained on",
    )?;
    Ok(data)
}
