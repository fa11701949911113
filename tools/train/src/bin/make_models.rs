//! Regenerates everything in `models/`: data, training, ONNX, card.
//!
//! `cargo run --release -p offshoot-train --bin make-models [-- FOLDER [TASK…]]`

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use indicatif::{ProgressBar, ProgressStyle};
use offshoot_data::synth::Condition;
use offshoot_ir::Graph;
use offshoot_train::card::Accuracy;
use offshoot_train::recipe::{JUDGED, RECIPES, Recipe, SEEDS};
use offshoot_train::{
    Control, Dataset, Epoch, FitOptions, Observer, Step, Target, argmax, fit, fold_input, models,
};

type Failure = Box<dyn std::error::Error>;

/// Sensor readings are `uint8` around 128; the network learns on `(x - OFFSET) * SCALE`.
const OFFSET: f32 = 128.0;
const SCALE: f32 = 1.0 / 64.0;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let root = arguments.next().map_or_else(|| PathBuf::from("models"), PathBuf::from);
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
    recipe.write_data(folder)?;
    let card = recipe.card(&graph, accuracy);
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

/// Trains, then folds the input map into the weights: the network takes raw sensor readings.
fn trained(recipe: &Recipe, samples: &offshoot_data::Dataset) -> Result<Graph, Failure> {
    let network = models::network(recipe.task, SEEDS.weights);
    let options = FitOptions { epochs: recipe.epochs, ..FitOptions::default() };
    let x = samples.x.to_f32().mapv(|v| (v - OFFSET) * SCALE);
    let data = Dataset::new(x, Target::Labels(samples.y.clone()));
    let style = ProgressStyle::with_template("{prefix:10} {wide_bar} step {pos}/{len} {msg} {eta}")?;
    let bar = ProgressBar::new(0).with_style(style).with_prefix(recipe.task.name());
    let (mut graph, _) = fit(&network, &data, &options, &mut Bar(&bar))?;
    bar.finish_and_clear();
    fold_input(&mut graph, OFFSET, SCALE)?;
    Ok(graph)
}

/// Shows progress.
struct Bar<'a>(&'a ProgressBar);

impl Observer for Bar<'_> {
    fn step(&mut self, step: &Step) -> Control {
        self.0.set_length(step.of as u64);
        self.0.set_position(step.number as u64);
        Control::Continue
    }

    fn epoch(&mut self, epoch: &Epoch) -> Control {
        self.0.set_message(format!("loss {:.3}", epoch.loss));
        Control::Continue
    }
}

fn reference_accuracy(graph: &Graph, data: &offshoot_data::Dataset) -> Result<f64, Failure> {
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
