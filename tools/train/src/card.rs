//! The card of a model: what it is, how it was made, and its measured accuracy.

use serde::{Deserialize, Serialize};

/// `card.toml`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Card {
    /// Name of the model and of its folder.
    pub name: String,
    /// What it does.
    pub purpose: String,
    /// Licence of model and data.
    pub licence: String,
    /// Command that regenerates it.
    pub make: String,
    /// Name of each output.
    pub classes: Vec<String>,
    /// The network.
    pub network: Network,
    /// The data on which it was trained and judged.
    pub data: Data,
    /// The accuracy it reaches.
    pub accuracy: Accuracy,
}

/// Facts about the network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Network {
    /// Family and source.
    pub architecture: String,
    /// Shape of the input, channels last.
    pub input: Vec<usize>,
    /// Meaning of the input's numbers.
    pub input_numbers: String,
    /// Weights and biases after batch normalisation is folded.
    pub parameters: usize,
    /// Multiply-accumulates per inference.
    pub macs: u64,
}

/// Facts about the data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Data {
    /// Rust path of the generator.
    pub generator: String,
    /// Seed of the training samples.
    pub train_seed: u64,
    /// Their number.
    pub train_samples: usize,
    /// Passes over them.
    pub epochs: usize,
    /// Description of the calibration file.
    pub calibration: String,
    /// Description of the test files.
    pub test: String,
    /// Description of the shifted condition.
    pub shifted: String,
}

/// Accuracy of the ONNX file, run by the float reference.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Accuracy {
    /// Under the usual condition.
    pub float32: f64,
    /// Under the shifted condition, before any adaptation.
    pub float32_shifted: f64,
    /// Samples judged; the written test samples are the first of them.
    pub samples: usize,
}

impl Card {
    /// The text of `card.toml`.
    ///
    /// # Errors
    /// None is known for this type.
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        toml::to_string(self)
    }
}
