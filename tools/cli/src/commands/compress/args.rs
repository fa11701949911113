//! Arguments of `offshoot compress`.

use std::path::PathBuf;
use std::sync::Arc;

use offshoot_compress::prune::Score;
use offshoot_train::augment::{Augment, Images, Series};
use serde::Serialize;

use crate::commands::compile::parse_bytes;

/// How a network is made smaller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// Channels as far as weights of fewer bits do not do, then those.
    #[default]
    Auto,
    /// Whole channels go.
    Prune,
    /// Whole operators and branches go.
    Erase,
    /// Weights of 4 bits, or of as few as --fewest-bits says.
    Bits,
}

/// What channels are ranked by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Ranking {
    /// Size of the weights.
    Magnitude,
    /// First-order change of the loss.
    #[default]
    Taylor,
    /// HESSO's five scores in one.
    Hesso,
    /// HESSO-CRIC: those, while the lowest fade, and the loss without them.
    Cric,
}

impl From<Ranking> for Score {
    fn from(ranking: Ranking) -> Self {
        match ranking {
            Ranking::Magnitude => Self::Magnitude,
            Ranking::Taylor => Self::Taylor,
            Ranking::Hesso => Self::Hesso,
            Ranking::Cric => Self::Cric,
        }
    }
}

/// How samples are changed at random on their way into training.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Augmentation {
    /// Not at all.
    #[default]
    None,
    /// Images: mirrored, and moved by up to an eighth.
    Images,
    /// Features over time: moved by up to a tenth, and with noise of a tenth of their size.
    Series,
}

impl Augmentation {
    /// For samples of `shape`, the first axis being one of samples.
    pub(super) fn of(self, shape: &[usize]) -> Option<Arc<dyn Augment>> {
        let extent = |axis: usize| shape.get(axis).copied().unwrap_or(1);
        match self {
            Self::None => None,
            Self::Images => Some(Arc::new(Images { flip: true, shift: extent(2) / 8 })),
            Self::Series => Some(Arc::new(Series { shift: extent(1) / 10, noise: 0.1 })),
        }
    }
}

/// A size limit: bytes, or percent of the uncompressed int8 model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Limit {
    /// Bytes.
    Bytes(u64),
    /// Share of the uncompressed one.
    Share(f64),
}

impl Limit {
    /// In bytes, for a model that takes `whole`.
    pub fn bytes(self, whole: u64) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Share(share) => (whole as f64 * share) as u64,
        }
    }
}

/// `64k` or `50%`.
///
/// # Errors
/// Neither a size nor a percentage above 0.
pub fn parse_limit(text: &str) -> Result<Limit, String> {
    match text.ends_with('%') {
        true => parse_percent(text).map(Limit::Share),
        false => parse_bytes(text).map(Limit::Bytes),
    }
}

/// `0.5%` as 0.005.
///
/// # Errors
/// No number from 0 to 100 with a percent sign.
pub fn parse_percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').and_then(|t| t.trim().parse::<f64>().ok());
    let number = number.filter(|n| (0.0..=100.0).contains(n));
    number.map(|n| n / 100.0).ok_or_else(|| format!("`{text}` is no percentage such as 0.5%"))
}

/// A number from 0 to 1.
///
/// # Errors
/// Anything else.
pub fn parse_share(text: &str) -> Result<f32, String> {
    let number = text.parse::<f32>().ok().filter(|n| (0.0..=1.0).contains(n));
    number.ok_or_else(|| format!("`{text}` is no share from 0 to 1"))
}

/// 4 or 2.
///
/// # Errors
/// Anything else.
pub fn parse_bits(text: &str) -> Result<u8, String> {
    match text {
        "4" => Ok(4),
        "2" => Ok(2),
        _ => Err(format!("`{text}`: weights of 4 or of 2 bits can be had, and of 8 without `bits`")),
    }
}

/// Arguments of `compress`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Float network (.onnx) with one input.
    pub model: PathBuf,
    /// Samples and their class numbers (.npy, .npy). One fifth of them, at most --held-out, is kept apart to judge by.
    #[arg(long, num_args = 2, required = true, value_names = ["X.npy", "Y.npy"])]
    pub data: Vec<PathBuf>,
    /// Folder for model.off, model.onnx, policy.toml (bits of each layer's weights), report.html and report.json; made if it is not there.
    #[arg(short, long)]
    pub output: PathBuf,
    /// How it is made smaller: one method, or several in their order (`erase,prune,bits`).
    #[arg(long, value_enum, value_delimiter = ',', default_value = "auto")]
    pub method: Vec<Method>,
    /// Operators or branches that `erase` leaves out.
    #[arg(long, default_value_t = 1)]
    pub erase: usize,
    /// Fewest bits that `bits` gives weights: 4 or 2.
    #[arg(long, default_value = "4", value_parser = parse_bits)]
    pub fewest_bits: u8,
    /// Passes over the data with rounded weights, after `bits` has chosen.
    #[arg(long, default_value_t = 0)]
    pub rounded_epochs: usize,
    /// Device it must fit.
    #[arg(long)]
    pub target: Option<String>,
    /// Largest .off file: bytes (k and M understood), or percent of the uncompressed one.
    #[arg(long, value_parser = parse_limit)]
    pub max_flash: Option<Limit>,
    /// Largest arena: bytes (k and M understood), or percent of the uncompressed one.
    #[arg(long, value_parser = parse_limit)]
    pub max_ram: Option<Limit>,
    /// Most multiply-accumulates: a number (k and M understood), or percent of the uncompressed one's.
    #[arg(long, value_parser = parse_limit)]
    pub max_macs: Option<Limit>,
    /// Most instructions of a run on an emulated --target: a number, or percent of the uncompressed one's.
    #[arg(long, value_parser = parse_limit)]
    pub max_instructions: Option<Limit>,
    /// Accuracy that may be lost, in percentage points, such as 0.5%.
    #[arg(long, value_parser = parse_percent)]
    pub max_loss: Option<f64>,
    /// What channels are ranked by.
    #[arg(long, value_enum, default_value_t = Ranking::Taylor)]
    pub score: Ranking,
    /// Passes over the data to fine-tune the smaller network; an interrupted run goes on where it was.
    #[arg(long, default_value_t = 0)]
    pub epochs: usize,
    /// Passes over the data in each period in which channels that are to go fade to nothing, instead of going at once.
    #[arg(long, default_value_t = 0)]
    pub fade_epochs: usize,
    /// Changes of samples on their way into training.
    #[arg(long, value_enum, default_value_t = Augmentation::None)]
    pub augment: Augmentation,
    /// Mixes samples in pairs on their way into training: for long training on few samples.
    #[arg(long)]
    pub mix: bool,
    /// Share of the uncompressed network's answers in what is learned, 0 to 1; the classes of the samples have the rest.
    #[arg(long, default_value_t = 0.7, value_parser = parse_share)]
    pub distil: f32,
    /// Highest learning rate of fine-tuning.
    #[arg(long, default_value_t = 1e-3)]
    pub rate: f32,
    /// Times that channels are scored anew and go.
    #[arg(long, default_value_t = 4)]
    pub periods: usize,
    /// Channels stay a multiple of this where they can; 4 suits the kernels of Cortex-M.
    #[arg(long, default_value_t = 4)]
    pub multiple: usize,
    /// Samples that layers are refitted on without labels; 0 for no refit.
    #[arg(long, default_value_t = 64)]
    pub refit_samples: usize,
    /// Only so many of the samples.
    #[arg(long)]
    pub limit: Option<usize>,
    /// Most samples that are kept apart.
    #[arg(long, default_value_t = 1000)]
    pub held_out: usize,
    /// Samples for the ranges of int8 activations.
    #[arg(long, default_value_t = 100)]
    pub calibration: usize,
    /// Seed of everything random.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_bytes_or_percent() {
        assert_eq!(parse_limit("64k"), Ok(Limit::Bytes(64_000)));
        assert_eq!(parse_limit("50%").map(|l| l.bytes(1000)), Ok(500));
        assert_eq!(parse_percent("0.5%"), Ok(0.005));
        assert_eq!(parse_share("0.5"), Ok(0.5));
        assert!(parse_share("1.1").is_err() && parse_share("-0.1").is_err() && parse_share("NaN").is_err());
        assert!(
            parse_percent("0.5").is_err() && parse_percent("101%").is_err() && parse_limit("x%").is_err()
        );
    }
}
