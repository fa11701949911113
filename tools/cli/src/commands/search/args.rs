//! What `offshoot search` is told.

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
    /// A predictor of each objective, fitted anew in rounds.
    #[default]
    Linas,
    /// Evolution.
    Nsga2,
    /// Chance.
    Random,
    /// A predictor that knows its doubt, and descent on its input.
    Boshnas,
    /// Policies that remove layers and shrink what is left.
    Reinforce,
    /// No search: nested sub-networks from large to small.
    Sorted,
    /// A distribution for each task, evaluations shared.
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
    /// As an array job of Slurm.
    Slurm,
    /// Through Ray's job interface.
    Ray,
    /// On workers of Dask.
    Dask,
}

/// `50ms`, `0.05s` or `800us` as milliseconds.
///
/// # Errors
/// Not a time.
pub fn parse_time(text: &str) -> Result<f64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_alphabetic() || c == 'µ');
    let unit = match &text[digits.len()..] {
        "ms" => 1.0,
        "s" => 1e3,
        "us" | "µs" => 1e-3,
        other => return Err(format!("unknown unit `{other}`: use us, ms or s")),
    };
    let number = digits.parse::<f64>().ok().filter(|n| n.is_finite() && *n > 0.0);
    number.map(|n| n * unit).ok_or_else(|| format!("`{text}` is no time such as 50ms"))
}

/// `120MHz` in hertz.
///
/// # Errors
/// Not a frequency.
pub fn parse_clock(text: &str) -> Result<f64, String> {
    let (digits, unit) = match (text.strip_suffix("MHz"), text.strip_suffix("Hz")) {
        (Some(digits), _) => (digits, 1e6),
        (None, Some(digits)) => (digits, 1.0),
        _ => return Err(format!("`{text}` is no frequency such as 120MHz")),
    };
    let number = digits.parse::<f64>().ok().filter(|n| n.is_finite() && *n > 0.0);
    number.map(|n| n * unit).ok_or_else(|| format!("`{text}` is no frequency such as 120MHz"))
}

/// Arguments of `search`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// What is elastic (space.toml).
    #[arg(required_unless_present = "job")]
    pub space: Option<PathBuf>,
    /// Samples and their class numbers (.npy, .npy). One fifth of them, at most --held-out, is kept apart to judge by.
    #[arg(long, num_args = 2, required_unless_present = "job", value_names = ["X.npy", "Y.npy"])]
    pub data: Vec<PathBuf>,
    /// Samples that only the points of the front are judged on, at the end.
    #[arg(long, num_args = 2, value_names = ["X.npy", "Y.npy"])]
    pub test: Vec<PathBuf>,
    /// Folder of the search; one that was stopped goes on from it.
    #[arg(short, long, required_unless_present = "job")]
    pub output: Option<PathBuf>,
    /// Where candidates are counted, and what they must fit.
    #[arg(long)]
    pub target: Option<String>,
    /// What should be small or large, at least two: accuracy, accuracy@TASK, flash, ram, macs, instructions, cycles, latency.
    /// Default: accuracy and instructions, or flash where nothing counts.
    #[arg(long, value_delimiter = ',')]
    pub objectives: Vec<Metric>,
    /// Largest .off file, bytes (k and M understood).
    #[arg(long, value_parser = parse_bytes)]
    pub max_flash: Option<u64>,
    /// Largest arena, bytes (k and M understood).
    #[arg(long, value_parser = parse_bytes)]
    pub max_ram: Option<u64>,
    /// Longest run, such as 50ms: modelled cycles at --clock.
    #[arg(long, value_parser = parse_time)]
    pub max_latency: Option<f64>,
    /// Least accuracy, such as 90%.
    #[arg(long, value_parser = parse_percent)]
    pub min_accuracy: Option<f64>,
    /// Clock of the target; default: that of the emulated board.
    #[arg(long, value_parser = parse_clock)]
    pub clock: Option<f64>,
    /// Candidates that are evaluated.
    #[arg(long, default_value_t = 100)]
    pub evaluations: usize,
    /// How they are proposed.
    #[arg(long, value_enum, default_value_t = Method::Linas)]
    pub strategy: Method,
    /// Where they are evaluated.
    #[arg(long, value_enum, default_value_t = Where::Local)]
    pub executor: Where,
    /// Try all that quantisation can for every candidate, not only for the front.
    #[arg(long)]
    pub thorough: bool,
    /// Passes over the data to train each point of the front further.
    #[arg(long, default_value_t = 0)]
    pub tune_epochs: usize,
    /// Most points of the front that are written.
    #[arg(long, default_value_t = 20)]
    pub points: usize,
    /// Only so many of the samples.
    #[arg(long)]
    pub limit: Option<usize>,
    /// Most samples that are kept apart.
    #[arg(long, default_value_t = 500)]
    pub held_out: usize,
    /// Seed of everything random.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Evaluates the candidate of a job file and nothing else: what batch systems call.
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
        assert_eq!(parse_clock("120MHz"), Ok(120e6));
        assert_eq!(parse_clock("32768Hz"), Ok(32768.0));
        assert!(parse_clock("fast").is_err());
    }
}
