//! Arguments of `offshoot compile`.

use std::path::PathBuf;

use offshoot_compress::quantize::{self, Policy, WeightBits};
use offshoot_export::LearningPlan;
use serde::Serialize;

use crate::failure::{Context, Failure, Kind, Result};

/// Number format of the compiled model.
#[derive(Clone, Debug, PartialEq)]
pub enum Precision {
    /// int8 activations and weights.
    Int8,
    /// int8 activations, weights of four bits where the device packs them.
    Int4,
    /// int8 activations, weights of two bits where the device packs them.
    Int2,
    /// float32, for devices with an FPU.
    F32,
    /// int8 activations, weights as this file says ([`Policy`]).
    Policy(PathBuf),
    /// The same, for callers that have it.
    Given(Box<Policy>),
}

impl Precision {
    /// As `--precision` takes it.
    ///
    /// # Errors
    /// It is none of them.
    pub fn parse(text: &str) -> std::result::Result<Self, String> {
        match text {
            "int8" => Ok(Self::Int8),
            "int4" => Ok(Self::Int4),
            "int2" => Ok(Self::Int2),
            "f32" => Ok(Self::F32),
            path if path.ends_with(".toml") => Ok(Self::Policy(path.into())),
            _ => Err("int8, int4, int2, f32, or a policy file (.toml)".into()),
        }
    }

    /// Bits of the weights, layer by layer, and numbers that training has found.
    ///
    /// # Errors
    /// The policy file cannot be read, or is none.
    pub fn policy(&self) -> Result<Policy> {
        let all = |bits| Policy::new(WeightBits::all(bits), quantize::Learned::default());
        Ok(match self {
            Self::Int8 | Self::F32 => all(8),
            Self::Int4 => all(4),
            Self::Int2 => all(2),
            Self::Given(policy) => policy.as_ref().clone(),
            Self::Policy(path) => {
                let text = std::fs::read_to_string(path).map_err(|e| Failure::reading(path, &e))?;
                let help = "`weights = 4` and a table [layers] of `\"name\" = 8`; `inspect` of the ONNX lists the names";
                toml::from_str(&text).or_fail_in(Kind::Format, path.display(), help)?
            }
        })
    }
}

impl std::fmt::Display for Precision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Int8 => f.write_str("int8"),
            Self::Int4 => f.write_str("int4"),
            Self::Int2 => f.write_str("int2"),
            Self::F32 => f.write_str("f32"),
            Self::Policy(path) => path.display().fmt(f),
            Self::Given(_) => f.write_str("policy"),
        }
    }
}

impl Serialize for Precision {
    fn serialize<S: serde::Serializer>(&self, s: S) -> std::result::Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

/// How ranges of activations are found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Clipping {
    /// The best of the others on held-out calibration samples.
    #[default]
    Auto,
    /// Smallest and largest value seen.
    MinMax,
    /// Leaves out the rarest values.
    Percentile,
    /// Least squared error.
    Mse,
}

/// What counts most where one resource can be had for another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Prefer {
    /// Takes what is smaller and faster at once, and trades neither for the other.
    #[default]
    Balanced,
    /// Fewer instructions on the target: pays up to four bytes of flash for an instruction of a run, and any RAM.
    Speed,
    /// A smaller arena: pays up to 100 instructions of a run for a byte of it.
    Ram,
    /// A smaller file: pays up to 100 instructions of a run for a byte.
    Flash,
}

impl From<Prefer> for offshoot_export::Prefer {
    fn from(prefer: Prefer) -> Self {
        match prefer {
            Prefer::Balanced => Self::Balanced,
            Prefer::Speed => Self::Speed,
            Prefer::Ram => Self::Ram,
            Prefer::Flash => Self::Flash,
        }
    }
}

/// Where the scales of sub-networks' activations come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum NestedScales {
    /// The large network's: the smallest file.
    #[default]
    Shared,
    /// Their own calibration: five bytes more a channel.
    Own,
}

/// Arguments of `compile`.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Args {
    /// Network (.onnx): float, or int8 in QDQ form.
    pub model: PathBuf,
    /// Compiled model (.off).
    #[arg(short, long)]
    pub output: PathBuf,
    /// Calibration samples (.npy), once for each input; wanted for int8 from a float network. 50 to 500 typical
    /// samples, prepared as for the network, without labels. In a network that came quantised they give a scale to the
    /// output of layers that have none.
    #[arg(long)]
    pub calib: Vec<PathBuf>,
    /// Class numbers of the calibration samples (.npy), for a plan whose layers learn from probes: these are trained to read them. Without
    /// them they are trained to read what the network itself takes the samples for.
    #[arg(long, value_name = "Y.npy")]
    pub labels: Option<PathBuf>,
    /// Number format: int8, int4 or int2 (weights; activations are int8), f32, or a policy file (.toml) with the bits of
    /// each layer's weights. Default: int8 if the network is quantised or --calib is given.
    #[arg(long, value_parser = Precision::parse, value_name = "FORMAT")]
    pub precision: Option<Precision>,
    /// Recurrent layers keep their state from one run to the next: each run is a piece of one long sequence.
    #[arg(long)]
    pub stateful: bool,
    /// How ranges of activations are found.
    #[arg(long, value_enum, default_value_t = Clipping::Auto)]
    pub clipping: Clipping,
    /// Do not correct biases for the quantisation error's mean.
    #[arg(long)]
    pub no_bias_correction: bool,
    /// Operators to keep in float (repeat): by ONNX node name, by the name of the tensor that one completes, or by kind, as
    /// ONNX (`Softmax`, `Add`) or the table of `compile` names it. A wrong name lists those there are.
    #[arg(long)]
    pub keep_float: Vec<String>,
    /// Write the file even if its outputs are mostly noise (below 10 dB against the float network).
    #[arg(long)]
    pub allow_poor: bool,
    /// What is to learn on the device (.toml); says what training takes beside inference.
    #[arg(long, value_name = "plan.toml")]
    pub learn: Option<PathBuf>,
    /// The same, for callers that have it.
    #[arg(skip)]
    pub plan: Option<Box<LearningPlan>>,
    /// Bits of each layer's weights, for callers that have them; they go before `precision`.
    #[arg(skip)]
    pub weight_bits: Option<WeightBits>,
    /// What counts most where one resource can be had for another. Instructions are those of the target's core, without a target
    /// those of cores with the DSP extension.
    #[arg(long, value_enum, default_value_t = Prefer::Balanced)]
    pub prefer: Prefer,
    /// Device it must fit.
    #[arg(long)]
    pub target: Option<String>,
    /// Sub-network of the model (.onnx, float) to go into the same file, on the same weights (repeat, largest first): the
    /// device switches between them by a number.
    #[arg(long, value_name = "SMALL.onnx")]
    pub nested: Vec<PathBuf>,
    /// Where the scales of the sub-networks' activations come from.
    #[arg(long, value_enum, default_value_t = NestedScales::Shared)]
    pub nested_scales: NestedScales,
    /// Largest size of the .off file, bytes (k and M understood).
    #[arg(long, value_parser = parse_bytes)]
    pub max_flash: Option<u64>,
    /// Largest arena, bytes (k and M understood).
    #[arg(long, value_parser = parse_bytes)]
    pub max_ram: Option<u64>,
}

/// `64k` as 64,000 and `1M` as 1,000,000; `Ki` and `Mi` are binary.
///
/// # Errors
/// Not a size.
pub fn parse_bytes(text: &str) -> std::result::Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_alphabetic());
    let unit = match &text[digits.len()..] {
        "" | "B" => 1,
        "k" | "K" | "kB" | "KB" => 1_000,
        "M" | "MB" => 1_000_000,
        "Ki" | "KiB" => 1024,
        "Mi" | "MiB" => 1024 * 1024,
        other => return Err(format!("unknown unit `{other}`: use k, M, Ki or Mi")),
    };
    let number: f64 = digits.parse().map_err(|_| format!("`{text}` is no size"))?;
    if number >= 0.0 { Ok((number * f64::from(unit)) as u64) } else { Err(format!("`{text}` is no size")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        assert_eq!(parse_bytes("100k"), Ok(100_000));
        assert_eq!(parse_bytes("64Ki"), Ok(65_536));
        assert_eq!(parse_bytes("1.5M"), Ok(1_500_000));
        assert_eq!(parse_bytes("77"), Ok(77));
        assert!(parse_bytes("-1").is_err() && parse_bytes("7q").is_err() && parse_bytes("").is_err());
    }
}
