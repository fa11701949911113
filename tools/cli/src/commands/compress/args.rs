//! Arguments of `offshoot compress`.

use std::path::PathBuf;
use std::sync::Arc;

use offshoot_compress::prune::Score;
use offshoot_train::augment::{Augment, Images, Series};
use serde::Serialize;

use crate::commands::compile::parse_bytes;
use crate::commands::search::parse_hours;

/// How a network is made smaller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// Prune channels until fewer bits make up the rest of the budget, then use fewer bits.
    #[default]
    Auto,
    /// Remove whole channels.
    Prune,
    /// Remove whole operators and branches.
    Erase,
    /// Give weights 4 bits, or as few as --fewest-bits.
    Bits,
}

/// Score that ranks channels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Ranking {
    /// Magnitude of the weights.
    Magnitude,
    /// First-order change of the loss (Taylor).
    #[default]
    Taylor,
    /// HESSO: five scores combined.
    Hesso,
    /// HESSO-CRIC: the same, sampled while the lowest channels fade, and the loss without them.
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

/// Random augmentation of training samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Augmentation {
    /// No augmentation.
    #[default]
    None,
    /// Images: mirrored, and shifted by up to an eighth of their width.
    Images,
    /// Features over time: shifted by up to a tenth, with noise of a tenth of their size.
    Series,
}

impl Augmentation {
    /// The augmentation for samples of `shape`, whose first axis is the batch.
    pub(super) fn of(self, shape: &[usize]) -> Option<Arc<dyn Augment>> {
        let extent = |axis: usize| shape.get(axis).copied().unwrap_or(1);
        match self {
            Self::None => None,
            Self::Images => Some(Arc::new(Images { flip: true, shift: extent(2) / 8 })),
            Self::Series => Some(Arc::new(Series { shift: extent(1) / 10, noise: 0.1 })),
        }
    }
}

/// A limit: a number (bytes, MACs, instructions), or a share of the uncompressed int8 model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Limit {
    /// An absolute number.
    Bytes(u64),
    /// Share of the uncompressed model, from 0 to 1.
    Share(f64),
}

impl Limit {
    /// The absolute limit, for a model that takes `whole`.
    pub fn bytes(self, whole: u64) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Share(share) => (whole as f64 * share) as u64,
        }
    }
}

/// Parses a limit such as `64k` or `50%`.
///
/// # Errors
/// The text is neither a size nor a percentage.
pub fn parse_limit(text: &str) -> Result<Limit, String> {
    match text.ends_with('%') {
        true => parse_percent(text).map(Limit::Share),
        false => parse_bytes(text).map(Limit::Bytes),
    }
}

/// Parses a percentage: `0.5%` is 0.005.
///
/// # Errors
/// The text is not a number from 0 to 100 with a percent sign.
pub fn parse_percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').and_then(|t| t.trim().parse::<f64>().ok());
    let number = number.filter(|n| (0.0..=100.0).contains(n));
    number
        .map(|n| n / 100.0)
        .ok_or_else(|| format!("`{text}` is not a percentage from 0% to 100%, such as 0.5%"))
}

/// Parses a number from 0 to 1.
///
/// # Errors
/// The text is anything else.
pub fn parse_share(text: &str) -> Result<f32, String> {
    let number = text.parse::<f32>().ok().filter(|n| (0.0..=1.0).contains(n));
    number.ok_or_else(|| format!("`{text}` is not a number from 0 to 1"))
}

/// Parses a layer's name and a share above 0 and at most 1. The name may hold `=`.
///
/// # Errors
/// The text is anything else.
pub fn parse_ratio(text: &str) -> Result<(String, f64), String> {
    let wrong =
        || format!("`{text}` is not a layer's name and a share above 0 and at most 1, such as conv2=0.5");
    let (name, share) = text.rsplit_once('=').ok_or_else(wrong)?;
    let share = share.trim().parse::<f64>().ok().filter(|s| *s > 0.0 && *s <= 1.0).ok_or_else(wrong)?;
    if name.is_empty() { Err(wrong()) } else { Ok((name.to_owned(), share)) }
}

/// Parses 4 or 2.
///
/// # Errors
/// The text is anything else.
pub fn parse_bits(text: &str) -> Result<u8, String> {
    match text {
        "4" => Ok(4),
        "2" => Ok(2),
        _ => Err(format!("`{text}` is not 4 or 2; for 8 bits, leave out the method `bits`")),
    }
}

/// Arguments of `compress`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Float network (.onnx, .tflite) with one input.
    pub model: PathBuf,
    /// Samples and their class numbers (.npy). A fifth of them, at most --held-out, is held out for testing.
    #[arg(long, num_args = 2, required = true, value_names = ["X.npy", "Y.npy"])]
    pub data: Vec<PathBuf>,
    /// Test samples and class numbers (.npy); only the uncompressed network and the result are judged on them.
    #[arg(long, num_args = 2, value_names = ["X.npy", "Y.npy"])]
    pub test: Vec<PathBuf>,
    /// Folder for model.off, model.onnx, policy.toml (bits, step sizes and ranges with which `compile` makes model.off of
    /// model.onnx), plan.toml (channels and bits of each layer, for --plan), report.html and report.json; created if needed.
    #[arg(short, long)]
    pub output: PathBuf,
    /// How to compress: one method, or several in order (`erase,prune,bits`).
    #[arg(long, value_enum, value_delimiter = ',', default_value = "auto")]
    pub method: Vec<Method>,
    /// Number of operators or branches that `erase` removes.
    #[arg(long, default_value_t = 1)]
    pub erase: usize,
    /// Fewest bits that `bits` may give weights: 4 or 2.
    #[arg(long, default_value = "4", value_parser = parse_bits)]
    pub fewest_bits: u8,
    /// Epochs of training with rounded weights, after `bits` has chosen the layers.
    #[arg(long, default_value_t = 0)]
    pub rounded_epochs: usize,
    /// Target that the model must fit; see `offshoot target list`.
    #[arg(long)]
    pub target: Option<String>,
    /// Largest .off file: bytes such as 64k or 1M, or a percentage of the uncompressed model such as 50%.
    #[arg(long, value_parser = parse_limit)]
    pub max_flash: Option<Limit>,
    /// Largest arena (RAM): bytes such as 64k or 1M, or a percentage of the uncompressed model such as 50%.
    #[arg(long, value_parser = parse_limit)]
    pub max_ram: Option<Limit>,
    /// Most multiply-accumulates: a number such as 500k or 2M, or a percentage of the uncompressed model.
    #[arg(long, value_parser = parse_limit)]
    pub max_macs: Option<Limit>,
    /// Most instructions of a run on an emulated --target: a number, or a percentage of the uncompressed model.
    #[arg(long, value_parser = parse_limit)]
    pub max_instructions: Option<Limit>,
    /// Most accuracy to lose, in percentage points, such as 0.5%.
    #[arg(long, value_parser = parse_percent)]
    pub max_loss: Option<f64>,
    /// Layer that keeps all its channels; can be given several times.
    #[arg(long, value_name = "LAYER")]
    pub keep: Vec<String>,
    /// Share of the channels that a layer keeps, such as conv2=0.5; can be given several times.
    #[arg(long, value_name = "LAYER=SHARE", value_parser = parse_ratio)]
    pub ratio: Vec<(String, f64)>,
    /// Plan (plan.toml) of an earlier run, perhaps edited: layers get the channels and bits that it names. Limits then
    /// decide about the others.
    #[arg(long, value_name = "FILE", conflicts_with = "method")]
    pub plan: Option<PathBuf>,
    /// Score that ranks channels.
    #[arg(long, value_enum, default_value_t = Ranking::Taylor)]
    pub score: Ranking,
    /// Epochs of fine-tuning.
    #[arg(long, default_value_t = 0)]
    pub epochs: usize,
    /// Most hours until training ends; then the network is the result as it is by then. --resume goes on with it.
    #[arg(long, value_parser = parse_hours)]
    pub hours: Option<f64>,
    /// Continue the training in the output folder that was stopped; without one there, this is an error. (The same command
    /// continues it without this option, too, and ends with the same files as an unbroken run.)
    #[arg(long)]
    pub resume: bool,
    /// Epochs in each period over which channels fade out before they are removed; 0 removes them at once.
    #[arg(long, default_value_t = 0)]
    pub fade_epochs: usize,
    /// Train the network as it is, without putting batch normalisation back behind its convolutions.
    #[arg(long)]
    pub no_normalisation: bool,
    /// Random augmentation of training samples.
    #[arg(long, value_enum, default_value_t = Augmentation::None)]
    pub augment: Augmentation,
    /// Mix training samples in pairs (mixup), for long training on few samples.
    #[arg(long)]
    pub mix: bool,
    /// Weight of distillation from the uncompressed network, 0 to 1; the labels have the rest.
    #[arg(long, default_value_t = 0.7, value_parser = parse_share)]
    pub distil: f32,
    /// Share of the labels that is spread over all classes (label smoothing), 0 to 1.
    #[arg(long, default_value_t = 0.0, value_parser = parse_share)]
    pub smoothing: f32,
    /// Peak learning rate of fine-tuning.
    #[arg(long, default_value_t = 1e-3)]
    pub rate: f32,
    /// Number of pruning periods; channels are scored anew in each.
    #[arg(long, default_value_t = 4)]
    pub periods: usize,
    /// Keep channel counts a multiple of this where possible; 4 suits the Cortex-M kernels.
    #[arg(long, default_value_t = 4)]
    pub multiple: usize,
    /// Number of samples for the refit of layers, which needs no labels; 0 for no refit.
    #[arg(long, default_value_t = 64)]
    pub refit_samples: usize,
    /// Use at most this many samples of --data.
    #[arg(long)]
    pub limit: Option<usize>,
    /// Most samples to hold out for testing.
    #[arg(long, default_value_t = 1000)]
    pub held_out: usize,
    /// Number of samples that calibrate the ranges of int8 activations.
    #[arg(long, default_value_t = 100)]
    pub calibration: usize,
    /// Seed of the random generator.
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
        assert_eq!(parse_ratio("a=b=0.5"), Ok(("a=b".into(), 0.5)));
        assert!(["=0.5", "a", "a=0", "a=1.5", "a=NaN"].iter().all(|t| parse_ratio(t).is_err()));
        assert!(parse_share("1.1").is_err() && parse_share("-0.1").is_err() && parse_share("NaN").is_err());
        assert!(
            parse_percent("0.5").is_err() && parse_percent("101%").is_err() && parse_limit("x%").is_err()
        );
    }
}
