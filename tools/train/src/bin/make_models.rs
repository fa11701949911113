//! Makes everything in `models/` again: data, training, ONNX, card.
//!
//! `cargo run --release -p offshoot-train --bin make-models [-- FOLDER [TASK…]]`

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use indicatif::{ProgressBar, ProgressStyle};
use offshoot_data::Dataset;
use offshoot_data::npy::{self, Array};
use offshoot_data::synth::{Condition, Task};
use offshoot_ir::Graph;
use offshoot_train::card::{Accuracy, Card, Data, Network};
use offshoot_train::train::{argmax, fold_input};
use offshoot_train::{Options, Target, models, train};

type Failure = Box<dyn std::error::Error>;

/// Sensor numbers are `uint8` around 128; the network learns on `(x - OFFSET) * SCALE`.
const OFFSET: f32 = 128.0;
const SCALE: f32 = 1.0 / 64.0;

/// How one model is made. Every set has a seed of its own, so that no sample is in two sets.
struct Recipe {
    task: Task,
    train: usize,
    epochs: usize,
    /// Samples written for calibration; the first of the training set.
    calibration: usize,
    /// Samples written for testing.
    test: usize,
    /// Samples written of the shifted condition, to learn from and to test; 0 for none.
    shifted: (usize, usize),
}

const SEEDS: Seeds = Seeds {
    weights: 11,
    train: 1,
    test: 2,
    shifted_train: 3,
    shifted_test: 4,
};

struct Seeds {
    weights: u64,
    train: u64,
    test: u64,
    shifted_train: u64,
    shifted_test: u64,
}

const RECIPES: [Recipe; 3] = [
    Recipe {
        task: Task::Vibration,
        train: 8000,
        epochs: 20,
        calibration: 100,
        test: 300,
        shifted: (100, 150),
    },
    Recipe {
        task: Task::Glyphs,
        train: 12000,
        epochs: 14,
        calibration: 100,
        test: 400,
        shifted: (150, 200),
    },
    Recipe {
        task: Task::Tones,
        train: 8000,
        epochs: 14,
        calibration: 96,
        test: 304,
        shifted: (0, 0),
    },
];

/// Samples behind the accuracies in the card: many more than are written, so that they mean something.
const JUDGED: usize = 5000;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let root = arguments
        .next()
        .map_or_else(|| PathBuf::from("models"), PathBuf::from);
    let chosen: Vec<String> = arguments.collect();
    for recipe in &RECIPES {
        let name = recipe.task.name();
        if !chosen.is_empty() && !chosen.iter().any(|c| c == name) {
            continue;
        }
        if let Err(e) = make(recipe, &root.join(name)) {
            eprintln!("error: {name}: {e}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn make(recipe: &Recipe, folder: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(folder)?;
    let task = recipe.task;
    let of = |condition, seed, count| task.generate(condition, seed, count);
    let samples = of(Condition::Usual, SEEDS.train, recipe.train);
    let graph = trained(recipe, &samples)?;
    let bytes = offshoot_import::emit(&graph)?;
    let path = folder.join("model.onnx");
    offshoot_report::write_atomically(&path, &bytes)?;

    // The accuracies are those of the file, read back and run by the float reference.
    let imported = offshoot_import::import(&path)?;
    let usual = of(Condition::Usual, SEEDS.test, JUDGED);
    let shifted = of(Condition::Shifted, SEEDS.shifted_test, JUDGED);
    let accuracy = Accuracy {
        float32: reference_accuracy(&imported, &usual)?,
        float32_shifted: reference_accuracy(&imported, &shifted)?,
        samples: JUDGED,
    };
    let calibration = of(Condition::Usual, SEEDS.train, recipe.calibration);
    npy::write(&folder.join("calibration_x.npy"), &calibration.x)?;
    write_pair(folder, "test", &of(Condition::Usual, SEEDS.test, recipe.test))?;
    let (learn, test) = recipe.shifted;
    if learn > 0 {
        write_pair(
            folder,
            "shifted_train",
            &of(Condition::Shifted, SEEDS.shifted_train, learn),
        )?;
        write_pair(
            folder,
            "shifted_test",
            &of(Condition::Shifted, SEEDS.shifted_test, test),
        )?;
    }
    let card = card(recipe, &graph, accuracy);
    offshoot_report::write_atomically(&folder.join("card.toml"), card.to_toml()?.as_bytes())?;
    println!(
        "{}: {} parameters, {} MACs, {} bytes, float accuracy {:.2} % (shifted {:.2} %)",
        task.name(),
        card.network.parameters,
        card.network.macs,
        bytes.len(),
        100.0 * card.accuracy.float32,
        100.0 * card.accuracy.float32_shifted
    );
    Ok(())
}

/// Trains, then folds the input's map away: the network takes the sensor's numbers.
fn trained(recipe: &Recipe, samples: &Dataset) -> Result<Graph, Failure> {
    let mut graph = models::network(recipe.task, SEEDS.weights);
    let options = Options {
        epochs: recipe.epochs,
        ..Options::default()
    };
    let style = ProgressStyle::with_template("{prefix:10} {wide_bar} epoch {pos}/{len} {msg} {eta}")?;
    let bar = ProgressBar::new(recipe.epochs as u64)
        .with_style(style)
        .with_prefix(recipe.task.name());
    let x = samples.x.to_f32().mapv(|v| (v - OFFSET) * SCALE);
    train(
        &mut graph,
        &x,
        Target::Labels(&samples.y),
        &options,
        &mut |epoch| {
            bar.set_message(format!("loss {:.3}", epoch.loss));
            bar.inc(1);
        },
    )?;
    bar.finish_and_clear();
    fold_input(&mut graph, OFFSET, SCALE)?;
    Ok(graph)
}

fn reference_accuracy(graph: &Graph, data: &Dataset) -> Result<f64, Failure> {
    let executor = offshoot_reference::Executor::new(graph)?;
    let x = data.x.to_f32();
    let input = graph.inputs.first().ok_or("the imported model has no input")?;
    let shape = graph.value(*input).shape.clone();
    let mut right = 0;
    for (sample, &label) in x.outer_iter().zip(&data.y) {
        let sample = sample.to_owned().into_shape_with_order(shape.clone())?;
        let outputs = executor.run(&[sample])?;
        let output = outputs.first().ok_or("the imported model has no output")?;
        right += usize::from(argmax(output.iter()) as i64 == label);
    }
    Ok(right as f64 / data.len() as f64)
}

fn write_pair(folder: &Path, name: &str, data: &Dataset) -> Result<(), Failure> {
    npy::write(&folder.join(format!("{name}_x.npy")), &data.x)?;
    // Fewer than 128 classes.
    let labels = data.y.iter().map(|&y| y as u8).collect::<ndarray::Array1<u8>>();
    npy::write(
        &folder.join(format!("{name}_y.npy")),
        &Array::from(labels.into_dyn()),
    )?;
    Ok(())
}

fn card(recipe: &Recipe, graph: &Graph, accuracy: Accuracy) -> Card {
    let task = recipe.task;
    let (purpose, architecture, shifted) = match task {
        Task::Vibration => (
            "Tells the state of a rotating machine from an eighth of a second of three-axis acceleration.",
            "1-D depthwise-separable convolutions (DS-CNN, Zhang et al. 2017), global average, one dense layer",
            "the sensor is mounted elsewhere: turned, less gain, more hum",
        ),
        Task::Glyphs => (
            "Recognises ten hand-drawn symbols in 16 × 16 greyscale.",
            "residual network of three blocks (ResNet, He et al. 2016), global average, one dense layer",
            "the camera is turned by 45 degrees and the pen is finer",
        ),
        Task::Tones => (
            "Recognises sounds of appliances and alarms in half a second of log-mel frames.",
            "2-D depthwise-separable convolutions (DS-CNN, Zhang et al. 2017), global average, one dense layer",
            "another microphone in another room: less treble, an echo, more hum",
        ),
    };
    Card {
        name: task.name().into(),
        purpose: purpose.into(),
        licence: "MIT OR Apache-2.0".into(),
        make: format!(
            "cargo run --release -p offshoot-train --bin make-models -- models {}",
            task.name()
        ),
        classes: task.classes().iter().map(ToString::to_string).collect(),
        network: Network {
            architecture: architecture.into(),
            input: graph
                .inputs
                .first()
                .map(|&i| graph.value(i).shape.clone())
                .unwrap_or_default(),
            input_numbers: "0 to 255, the sensor's offset binary; no normalisation is needed".into(),
            parameters: models::parameters(graph),
            macs: models::macs(graph),
        },
        data: Data {
            generator: format!("offshoot_data::synth::{}", task.name()),
            train_seed: SEEDS.train,
            train_samples: recipe.train,
            epochs: recipe.epochs,
            calibration: format!(
                "calibration_x.npy: the first {} training samples",
                recipe.calibration
            ),
            test: format!(
                "test_x.npy, test_y.npy: the first {} samples of seed {}",
                recipe.test, SEEDS.test
            ),
            shifted: shifted.into(),
        },
        accuracy,
    }
}
