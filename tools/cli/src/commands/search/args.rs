//! Arguments of `offshoot search`.

use std::path::PathBuf;

use offshoot_search::metrics::Metric;
use offshoot_search::strategies::Choice;
use serde::Serialize;

use super::super::compile::parse_bytes;
use super::super::compress::parse_percent;

/// How candidates are proposed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// LINAS: a predictor of each objective, fitted anew in rounds.
    #[default]
    Linas,
    /// NSGA-II: evolution.
    Nsga2,
    /// Random sampling.
    Random,
    /// BOSHNAS: a predictor with uncertainty, and gradient descent on its input.
    Boshnas,
    /// Reinforcement learning: policies that remove layers and shrink the rest.
    Reinforce,
    /// No search: nested sub-networks from large to small (SortedNet).
    Sorted,
    /// One distribution per task; tasks share evaluations.
    Tasks,
}

impl From<Method> for Choice {
    fn from(method: Method) -> Self {
        match method {
            Method::Linas => Self::Linas,
            Method::Nsga2 => Self::Nsga2,
            Method::Random => Self::Random,
            Method::Boshnas => Self::Boshnas,
            Method::Reinforce => Self::Reinforce,
            Method::Sorted => Self::Sorted,
            Method::Tasks => Self::Tasks,
        }
    }
}

/// Where candidates are evaluated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Where {
    /// In this process.
    #[default]
    Local,
    /// As an array job under Slurm.
    Slurm,
    /// Through Ray's job interface.
    Ray,
    /// On Dask workers.
    Dask,
}

/// Parses a time such as `50ms`, `0.05s` or `800us`; returns milliseconds.
///
/// # Errors
/// The text is not a time.
pub fn parse_time(text: &str) -> Result<f64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_alphabetic() || c == 'µ');
    let unit = match &text[digits.len()..] {
        "ms" => 1.0,
        "s" => 1e3,
        "us" | "µs" => 1e-3,
        other => return Err(format!("unknown unit `{other}`: use us, ms or s")),
    };
    let number = digits.parse::<f64>().ok().filter(|n| n.is_finite() && *n > 0.0);
    number.map(|n| n * unit).ok_or_else(|| format!("`{text}` is not a time such as 50ms"))
}

/// Parses a number of hours above 0.
///
/// # Errors
/// The text is anything else.
pub fn parse_hours(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|n| *n > 0.0 && *n <= 1e6);
    number.ok_or_else(|| format!("`{text}` is not a number of hours above 0, such as 2 or 0.5"))
}

/// Parses a frequency such as `120MHz`; returns hertz.
///
/// # Errors
/// The text is not a frequency.
pub fn parse_clock(text: &str) -> Result<f64, String> {
    let (digits, unit) = match (text.strip_suffix("MHz"), text.strip_suffix("Hz")) {
        (Some(digits), _) => (digits, 1e6),
        (None, Some(digits)) => (digits, 1.0),
        _ => return Err(format!("`{text}` is not a frequency such as 120MHz")),
    };
    let number = digits.parse::<f64>().ok().filter(|n| n.is_finite() && *n > 0.0);
    number.map(|n| n * unit).ok_or_else(|| format!("`{text}` is not a frequency such as 120MHz"))
}

/// Arguments of `search`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Search space (space.toml); tools/search/README.md lists its fields.
    #[arg(required_unless_present = "job")]
    pub space: Option<PathBuf>,
    /// Samples and their class numbers (.npy). A fifth of them, at most --held-out, is held out to rank candidates.
    #[arg(long, num_args = 2, required_unless_present = "job", value_names = ["X.npy", "Y.npy"])]
    pub data: Vec<PathBuf>,
    /// Test samples and class numbers (.npy); only the final front is evaluated on them.
    #[arg(long, num_args = 2, value_names = ["X.npy", "Y.npy"])]
    pub test: Vec<PathBuf>,
    /// Folder of the search. A search that was stopped continues from it.
    #[arg(short, long, required_unless_present = "job")]
    pub output: Option<PathBuf>,
    /// Target to count instructions on, which candidates must fit; see `offshoot target list`.
    #[arg(long)]
    pub target: Option<String>,
    /// Objectives, at least two of accuracy, accuracy@TASK, flash, ram, macs, instructions, cycles, latency.
    /// Default: accuracy and instructions, or accuracy and flash without a target that counts.
    #[arg(long, value_delimiter = ',')]
    pub objectives: Vec<Metric>,
    /// Largest .off file, in bytes or as 64k, 1M, 64Ki.
    #[arg(long, value_parser = parse_bytes)]
    pub max_flash: Option<u64>,
    /// Largest arena (RAM), in bytes or as 64k, 1M, 64Ki.
    #[arg(long, value_parser = parse_bytes)]
    pub max_ram: Option<u64>,
    /// Longest latency, such as 50ms: modelled cycles at --clock.
    #[arg(long, value_parser = parse_time)]
    pub max_latency: Option<f64>,
    /// Lowest accuracy, such as 90%.
    #[arg(long, value_parser = parse_percent)]
    pub min_accuracy: Option<f64>,
    /// Clock of the target, such as 120MHz. Default: the emulated board's.
    #[arg(long, value_parser = parse_clock)]
    pub clock: Option<f64>,
    /// Number of candidates to evaluate.
    #[arg(long, default_value_t = 100)]
    pub evaluations: usize,
    /// Most hours to evaluate candidates for; then the front of what has been evaluated is the result. Training of the
    /// super-network and of the front is not counted.
    #[arg(long, value_parser = parse_hours)]
    pub hours: Option<f64>,
    /// Continue the search in the output folder; without one there, this is an error. (A search that was stopped continues
    /// without this option, too.)
    #[arg(long)]
    pub resume: bool,
    /// How candidates are proposed.
    #[arg(long, value_enum, default_value_t = Method::Linas)]
    pub strategy: Method,
    /// Where candidates are evaluated.
    #[arg(long, value_enum, default_value_t = Where::Local)]
    pub executor: Where,
    /// Use the full quantisation (slower) for every candidate, not only for the front.
    #[arg(long)]
    pub thorough: bool,
    /// Epochs of further training for each point of the front.
    #[arg(long, default_value_t = 0)]
    pub tune_epochs: usize,
    /// Most points of the front to write.
    #[arg(long, default_value_t = 20)]
    pub points: usize,
    /// Use at most this many samples of --data.
    #[arg(long)]
    pub limit: Option<usize>,
    /// Most samples to hold out.
    #[arg(long, default_value_t = 500)]
    pub held_out: usize,
    /// Seed of the random generator.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Evaluate the candidate of a job file and nothing else; called by batch systems.
    #[arg(long, value_name = "FILE", conflicts_with = "space")]
    pub job: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_clocks_have_units() {
        assert_eq!(parse_time("50ms"), Ok(50.0));
        assert_eq!(parse_time("0.05s"), Ok(50.0));
        assert_eq!(parse_time("500us"), Ok(0.5));
        assert!(parse_time("50").is_err() && parse_time("-1ms").is_err() && parse_time("ms").is_err());
        assert_eq!(parse_hours("0.5"), Ok(0.5));
        assert!(parse_hours("0").is_err() && parse_hours("NaN").is_err() && parse_hours("2h").is_err());
        assert_eq!(parse_clock("120MHz"), Ok(120e6));
        assert_eq!(parse_clock("32768Hz"), Ok(32768.0));
        assert!(parse_clock("fast").is_err());
    }
}
