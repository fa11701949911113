//! Arguments of `offshoot compile`.

use std::path::PathBuf;

use offshoot_compress::quantize::{self, Policy, WeightBits};
use offshoot_data::npy::Array;
use offshoot_export::{Core, LearningPlan};
use serde::Serialize;

use crate::failure::{Context, Failure, Kind, Result};
use crate::signing::Statement;

/// Number format of the compiled model.
#[derive(Clone, Debug, PartialEq)]
pub enum Precision {
    /// int8 activations and weights.
    Int8,
    /// int8 activations; 4-bit weights in layers that can be packed.
    Int4,
    /// int8 activations; 2-bit weights in layers that can be packed.
    Int2,
    /// int16 activations and int8 weights, for networks that int8 hurts.
    Int16x8,
    /// float32, for devices with an FPU.
    F32,
    /// int8 activations; weights according to this policy file ([`Policy`]).
    Policy(PathBuf),
    /// int8 activations; weights according to this policy.
    Given(Box<Policy>),
}

impl Precision {
    /// Parses `--precision`.
    ///
    /// # Errors
    /// The text is neither a known format nor a `.toml` file.
    pub fn parse(text: &str) -> std::result::Result<Self, String> {
        match text {
            "int8" => Ok(Self::Int8),
            "int4" => Ok(Self::Int4),
            "int2" => Ok(Self::Int2),
            "int16x8" => Ok(Self::Int16x8),
            "f32" => Ok(Self::F32),
            path if path.ends_with(".toml") => Ok(Self::Policy(path.into())),
            _ => Err("give int8, int4, int2, int16x8, f32, or a policy file (.toml)".into()),
        }
    }

    /// Bits of each layer's weights, and learned steps and ranges.
    ///
    /// # Errors
    /// The policy file cannot be read or is not valid.
    pub fn policy(&self) -> Result<Policy> {
        let all = |bits| Policy::new(WeightBits::all(bits), quantize::Learned::default());
        Ok(match self {
            Self::Int8 | Self::Int16x8 | Self::F32 => all(8),
            Self::Int4 => all(4),
            Self::Int2 => all(2),
            Self::Given(policy) => policy.as_ref().clone(),
            Self::Policy(path) => {
                let text = std::fs::read_to_string(path).map_err(|e| Failure::reading(path, &e))?;
                let help = "a policy has `weights = 4` and a table [layers] of `\"name\" = 8`; `offshoot inspect` \
                 of the ONNX file lists the names";
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
            Self::Int16x8 => f.write_str("int16x8"),
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

/// How activation ranges are found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Clipping {
    /// The best of the other methods on held-out calibration samples.
    #[default]
    Auto,
    /// From the smallest to the largest value seen.
    MinMax,
    /// Cut off the rarest values (99.99th percentile).
    Percentile,
    /// Least mean squared error of quantisation.
    Mse,
}

/// Which resource to save when they can be traded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Prefer {
    /// Take what is both smaller and faster, and trade neither for the other.
    #[default]
    Balanced,
    /// Fewer instructions on the target: pay up to 4 bytes of flash per instruction saved, and any RAM.
    Speed,
    /// A smaller arena: pay up to 100 instructions per byte of RAM saved.
    Ram,
    /// A smaller file: pay up to 100 instructions per byte of flash saved.
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

/// Number format of the inputs and outputs of an int8 network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Io {
    /// int8 in the device's layout. The file states scale and layout; host tool, runtime and wire convert.
    #[default]
    Int8,
    /// float32: the device converts, which costs four bytes of RAM and about 40 instructions per element.
    F32,
}

/// Where the activation scales of sub-networks come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum NestedScales {
    /// From the large network: the smallest file.
    #[default]
    Shared,
    /// From their own calibration: five more bytes per channel.
    Own,
}

/// Extents of symbolic axes.
#[derive(Clone, Debug, Default, clap::Args)]
#[group(skip)]
pub struct Dims {
    /// Extent of a symbolic axis of the inputs (repeatable): `--dim N=16`. A symbolic batch, axis 0, needs none: it is
    /// one sample.
    #[arg(long, value_name = "NAME=EXTENT", value_parser = parse_dim)]
    pub dim: Vec<(String, usize)>,
}

impl Dims {
    /// By name; the last of several counts.
    pub fn all(&self) -> offshoot_import::Dims {
        self.dim.iter().cloned().collect()
    }
}

fn parse_dim(text: &str) -> std::result::Result<(String, usize), String> {
    let wrong = || "give NAME=EXTENT, as N=16".to_owned();
    let (name, extent) = text.split_once('=').ok_or_else(wrong)?;
    let extent = extent.parse().ok().filter(|n| *n > 0).ok_or_else(wrong)?;
    Ok((name.to_owned(), extent))
}

/// Arguments of `compile`.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Args {
    /// Network (.onnx, .tflite): float, or int8 in QDQ form.
    pub model: PathBuf,
    /// Extents of symbolic axes.
    #[command(flatten)]
    pub dims: Dims,
    /// File to write (.off).
    #[arg(short, long)]
    pub output: PathBuf,
    /// Calibration samples (.npy), once per input; needed to quantise a float network. Give 50 to 500 typical
    /// samples without labels, preprocessed as for the network. For a network that came quantised they give
    /// an output scale to layers that have none.
    #[arg(long)]
    pub calib: Vec<PathBuf>,
    /// Class numbers of the calibration samples (.npy), to train the probes of a learning plan. Default: the
    /// network's own predictions.
    #[arg(long, value_name = "Y.npy", requires = "learn")]
    pub labels: Option<PathBuf>,
    /// Number format: int8, int4 or int2 (bits of the weights; activations are int8), int16x8 (int16 activations, int8
    /// weights), f32, or a policy file (.toml) with the bits of each layer's weights. Default: that of the network if it
    /// is quantised, int8 if --calib is given.
    #[arg(long, value_parser = Precision::parse, value_name = "FORMAT")]
    pub precision: Option<Precision>,
    /// Keep the state of recurrent layers between runs: each run is a piece of one long sequence.
    #[arg(long)]
    pub stateful: bool,
    /// For a network that keeps state (--stateful, or streams): the calibration samples are sequences of N samples each, and the
    /// state is reset between them; without this option, all samples form one sequence.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub reset_every: Option<u32>,
    /// Number format of inputs and outputs of an int8 network on the device.
    #[arg(long, value_enum, default_value_t = Io::Int8)]
    pub io: Io,
    /// How activation ranges are found.
    #[arg(long, value_enum, default_value_t = Clipping::Auto)]
    pub clipping: Clipping,
    /// Do not add the mean quantisation error to the biases.
    #[arg(long)]
    pub no_bias_correction: bool,
    /// Operator to keep in float (repeatable): an ONNX node name, the name of its output tensor, or a kind as in ONNX
    /// (`Softmax`, `Add`) or in the table that `compile` prints. An unknown name lists the known ones.
    #[arg(long)]
    pub keep_float: Vec<String>,
    /// Keep no operator in float32 of its own accord: without this option, the few operators that hurt most stay in float32 if
    /// the outputs would have a signal-to-noise ratio below 20 dB in int8.
    #[arg(long)]
    pub strict_int8: bool,
    /// Write the file even if its outputs are mostly noise (signal-to-noise ratio below 10 dB against float).
    #[arg(long)]
    pub allow_poor: bool,
    /// Learning plan (.toml): which layers learn on the device, and how. Also reports the memory for training.
    #[arg(long, value_name = "plan.toml")]
    pub learn: Option<PathBuf>,
    /// Class numbers from the caller; they replace `labels`.
    #[arg(skip)]
    pub class_numbers: Option<Array>,
    /// A learning plan from the caller; replaces `learn`.
    #[arg(skip)]
    pub plan: Option<Box<LearningPlan>>,
    /// Bits of each layer's weights from the caller; they override `precision`.
    #[arg(skip)]
    pub weight_bits: Option<WeightBits>,
    /// The core that forms of layers are chosen for, from the caller, where there is no target.
    #[arg(skip)]
    pub core: Option<Core>,
    /// Which resource to save when they can be traded. Instructions are estimated for the target's core, or for an Arm
    /// core with the DSP extension if there is no --target.
    #[arg(long, value_enum, default_value_t = Prefer::Balanced)]
    pub prefer: Prefer,
    /// Target that the model must fit: a board, or the name of a chip, such as stm32f411re; see `offshoot target list`.
    #[arg(long)]
    pub target: Option<String>,
    /// Sub-network (.onnx or .tflite, float) to add to the file; it shares the model's weights (repeatable, largest first). The
    /// device selects a network by its number.
    #[arg(long, value_name = "SMALL.onnx")]
    pub nested: Vec<PathBuf>,
    /// Where the activation scales of sub-networks come from.
    #[arg(long, value_enum, default_value_t = NestedScales::Shared)]
    pub nested_scales: NestedScales,
    /// Sign the model with this private key (PKCS#8 PEM), as `keygen` writes it. Needs --release.
    #[arg(long, value_name = "KEY.pem")]
    pub sign: Option<PathBuf>,
    /// What the signature says.
    #[command(flatten)]
    pub statement: Statement,
    /// Largest .off file, in bytes or as 64k, 1M, 64Ki.
    #[arg(long, value_parser = parse_bytes)]
    pub max_flash: Option<u64>,
    /// Largest arena (RAM), in bytes or as 64k, 1M, 64Ki.
    #[arg(long, value_parser = parse_bytes)]
    pub max_ram: Option<u64>,
}

/// Parses a size in bytes: `64k` is 64,000, `1M` is 1,000,000, `64Ki` is 65,536.
///
/// # Errors
/// The text is not a size.
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
    let number: f64 = digits.parse().map_err(|_| format!("`{text}` is not a size such as 64k or 1M"))?;
    if number >= 0.0 {
        Ok((number * f64::from(unit)) as u64)
    } else {
        Err(format!("`{text}` is not a size such as 64k or 1M"))
    }
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
