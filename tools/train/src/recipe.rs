//! Recipes of the models in `models/`: sizes, seeds, and the texts of their cards.

use std::path::Path;

use offshoot_data::Dataset;
use offshoot_data::npy::{self, Array};
use offshoot_data::synth::{Condition, Task};
use offshoot_ir::Graph;

use crate::card::{Accuracy, Card, Data, Network};
use crate::models;

/// Recipe of one model. Every set has its own seed, so that no sample is in two sets.
#[derive(Clone, Copy, Debug)]
pub struct Recipe {
    /// The task to learn.
    pub task: Task,
    /// Number of training samples.
    pub train: usize,
    /// Passes over them.
    pub epochs: usize,
    /// Samples written for calibration: the first of the training set.
    pub calibration: usize,
    /// Samples written for testing.
    pub test: usize,
    /// Samples of the shifted condition written for learning and for testing; 0 for none.
    pub shifted: (usize, usize),
}

/// Seeds shared by all models.
pub const SEEDS: Seeds = Seeds { weights: 11, train: 1, test: 2, shifted_train: 3, shifted_test: 4 };

/// Seeds of weights and sets.
#[derive(Clone, Copy, Debug)]
pub struct Seeds {
    /// Initial weights.
    pub weights: u64,
    /// Training samples.
    pub train: u64,
    /// Test samples.
    pub test: u64,
    /// Shifted samples for learning.
    pub shifted_train: u64,
    /// Shifted samples for testing.
    pub shifted_test: u64,
}

/// All models.
pub const RECIPES: [Recipe; 3] = [
    Recipe {
        task: Task::Vibration,
        train: 8000,
        epochs: 20,
        calibration: 100,
        test: 300,
        shifted: (100, 150),
    },
    Recipe { task: Task::Glyphs, train: 12000, epochs: 14, calibration: 100, test: 400, shifted: (150, 200) },
    Recipe { task: Task::Tones, train: 8000, epochs: 14, calibration: 96, test: 304, shifted: (0, 0) },
];

/// Samples behind the accuracies in the card: many more than are written, so that the figures are precise.
pub const JUDGED: usize = 5000;

impl Recipe {
    /// Writes the sample data next to the model.
    ///
    /// # Errors
    /// The folder cannot be written to.
    pub fn write_data(&self, folder: &Path) -> offshoot_data::Result<()> {
        let calibration = self.task.generate(Condition::Usual, SEEDS.train, self.calibration);
        npy::write(&folder.join("calibration_x.npy"), &calibration.x)?;
        write_pair(folder, "test", &self.task.generate(Condition::Usual, SEEDS.test, self.test))?;
        let (learn, test) = self.shifted;
        if learn > 0 {
            write_pair(
                folder,
                "shifted_train",
                &self.task.generate(Condition::Shifted, SEEDS.shifted_train, learn),
            )?;
            write_pair(
                folder,
                "shifted_test",
                &self.task.generate(Condition::Shifted, SEEDS.shifted_test, test),
            )?;
        }
        Ok(())
    }

    /// The card of the trained `graph`.
    pub fn card(&self, graph: &Graph, accuracy: Accuracy) -> Card {
        let task = self.task;
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
                input: graph.inputs.first().map(|&i| graph.value(i).shape.clone()).unwrap_or_default(),
                input_numbers: "0 to 255, the sensor's offset binary; no normalisation is needed".into(),
                parameters: models::parameters(graph),
                macs: models::macs(graph),
            },
            data: Data {
                generator: format!("offshoot_data::synth::{}", task.name()),
                train_seed: SEEDS.train,
                train_samples: self.train,
                epochs: self.epochs,
                calibration: format!("calibration_x.npy: the first {} training samples", self.calibration),
                test: format!(
                    "test_x.npy, test_y.npy: the first {} samples of seed {}",
                    self.test, SEEDS.test
                ),
                shifted: shifted.into(),
            },
            accuracy,
        }
    }
}

fn write_pair(folder: &Path, name: &str, data: &Dataset) -> offshoot_data::Result<()> {
    npy::write(&folder.join(format!("{name}_x.npy")), &data.x)?;
    // There are fewer than 128 classes.
    let labels = data.y.iter().map(|&y| y as u8).collect::<ndarray::Array1<u8>>();
    npy::write(&folder.join(format!("{name}_y.npy")), &Array::from(labels.into_dyn()))?;
    Ok(())
}
