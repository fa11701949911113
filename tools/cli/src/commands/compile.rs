//! `offshoot compile`: ONNX to `.off`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use ndarray::{ArrayD, IxDyn};
use offshoot_compress::quantize::{self, QuantizeOptions, QuantizeReport, Toggle, WeightBits};
use offshoot_export::learning::CodesName;
use offshoot_export::{CompileOptions, CompileReport, Compiled, LearningPlan};
use offshoot_ir::passes::{PassReport, origin_hash};
use offshoot_ir::{DType, Graph};
use offshoot_report::Table;
use offshoot_report::table::{tail, thousands};
use offshoot_target::Target;
use serde::Serialize;

use super::{parse_target, read_arrays};
use crate::failure::{Context, Failure, Kind, Result};
use crate::files;
use crate::port::Port;
use crate::ui::{Outcome, Ui};

/// Number format of the compiled model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Precision {
    /// int8 activations and weights.
    Int8,
    /// int8 activations, weights of four bits where the device packs them.
    Int4,
    /// int8 activations, weights of two bits where the device packs them.
    Int2,
    /// float32, for devices with an FPU.
    F32,
    /// int8 activations, weights as this file says ([`WeightBits`]).
    Policy(PathBuf),
}

impl Precision {
    fn parse(text: &str) -> std::result::Result<Self, String> {
        match text {
            "int8" => Ok(Self::Int8),
            "int4" => Ok(Self::Int4),
            "int2" => Ok(Self::Int2),
            "f32" => Ok(Self::F32),
            path if path.ends_with(".toml") => Ok(Self::Policy(path.into())),
            _ => Err("int8, int4, int2, f32, or a policy file (.toml)".into()),
        }
    }

    /// Bits of the weights, layer by layer.
    fn weight_bits(&self) -> Result<WeightBits> {
        Ok(match self {
            Self::Int8 | Self::F32 => WeightBits::default(),
            Self::Int4 => WeightBits::all(4),
            Self::Int2 => WeightBits::all(2),
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
    /// A little of each.
    #[default]
    Balanced,
    /// Fewer instructions.
    Speed,
    /// A smaller arena.
    Ram,
    /// A smaller file, if need be at the cost of much time.
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

/// Arguments of `compile`.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Args {
    /// Network (.onnx): float, or int8 in QDQ form.
    pub model: PathBuf,
    /// Compiled model (.off).
    #[arg(short, long)]
    pub output: PathBuf,
    /// Calibration samples (.npy), once for each input; wanted for int8 from a float network. 50 to 500 typical
    /// samples, prepared as for the network, without labels.
    #[arg(long)]
    pub calib: Vec<PathBuf>,
    /// Number format: int8, int4 or int2 (weights; activations are int8), f32, or a policy file (.toml) with the bits of
    /// each layer's weights. Default: int8 if the network is quantised or --calib is given.
    #[arg(long, value_parser = Precision::parse, value_name = "FORMAT")]
    pub precision: Option<Precision>,
    /// How ranges of activations are found.
    #[arg(long, value_enum, default_value_t = Clipping::Auto)]
    pub clipping: Clipping,
    /// Do not correct biases for the quantisation error's mean.
    #[arg(long)]
    pub no_bias_correction: bool,
    /// Operators to keep in float, by ONNX node name or kind (repeat).
    #[arg(long)]
    pub keep_float: Vec<String>,
    /// What is to learn on the device (.toml); says what training takes beside inference.
    #[arg(long, value_name = "plan.toml")]
    pub learn: Option<PathBuf>,
    /// The same, for callers that have it.
    #[arg(skip)]
    pub plan: Option<LearningPlan>,
    /// What counts most where one resource can be had for another.
    #[arg(long, value_enum, default_value_t = Prefer::Balanced)]
    pub prefer: Prefer,
    /// Device it must fit.
    #[arg(long)]
    pub target: Option<String>,
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

/// What `compile` made.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// File written.
    pub output: String,
    /// Number format.
    pub precision: Precision,
    /// Sizes, plan, operators.
    #[serde(flatten)]
    pub compiled: CompileReport,
    /// What the lossless passes did.
    pub passes: Vec<PassReport>,
    /// How quantisation went, operator by operator; none for float and for networks that came quantised.
    pub quantisation: Option<QuantizeReport>,
}

/// A network ready to run, not yet written.
#[derive(Debug)]
pub struct Made {
    /// The graph that was compiled.
    pub graph: Graph,
    /// The bytes and their report.
    pub compiled: Compiled,
    /// How quantisation went.
    pub quantisation: Option<QuantizeReport>,
    /// Number format.
    pub precision: Precision,
}

impl Outcome for Report {
    fn render(&self) -> String {
        let c = &self.compiled;
        let mut facts = Table::new(["", "bytes"]);
        facts
            .row(["model (flash)", &thousands(c.model_bytes)])
            .row(["  of it weights", &thousands(c.weights_bytes)])
            .row(["arena (RAM)", &thousands(c.arena_bytes)])
            .row(["  proved lower bound", &thousands(c.arena_lower_bound_bytes)]);
        if let Some(unfused) = c.arena_unfused_bytes {
            facts.row(["  without stages", &thousands(unfused)]);
        }
        for stage in c.operators.iter().filter(|o| !o.members.is_empty()) {
            facts.row(["  rows at a time", &stage.members.join(" + ")]);
        }
        if let Some(l) = &c.learning {
            facts
                .row(["training arena (RAM)", &thousands(l.train_arena_bytes)])
                .row(["  of it weights that learn", &thousands(l.train_weights_bytes)])
                .row(["  of it room of a step", &thousands(l.train_room_bytes)]);
        }
        let mut text = format!(
            "{}: {} operators, {} MACs\n{facts}\n",
            self.output,
            c.operators.len(),
            thousands(c.macs)
        );
        for pass in self.passes.iter().filter(|p| p.changed) {
            text.push_str(&format!("{}: {}\n", pass.name, pass.detail));
        }
        for fallback in &c.fallbacks {
            text.push_str(&format!(
                "in float: {} `{}`: {}\n",
                fallback.operator, fallback.node, fallback.reason
            ));
        }
        if let Some(q) = &self.quantisation {
            text.push_str(&format!("{}\n", quantisation_table(q)));
            text.push_str(&format!("outputs on held-out samples: {}\n", super::decibels(q.held_out_snr_db)));
            q.warnings.iter().for_each(|w| text.push_str(&format!("look at: {w}\n")));
        }
        text
    }
}

/// Signal-to-noise ratios, operator by operator.
pub fn quantisation_table(report: &QuantizeReport) -> Table {
    let mut table = Table::new(["operator", "kind", "bits", "weights", "alone", "so far"]);
    for op in &report.operators {
        let weight = op.weight_snr_db.map_or("-".into(), super::decibels);
        let (own, cumulative) = (super::decibels(op.own_snr_db), super::decibels(op.output_snr_db));
        let bits = op.weight_bits.map_or("-".into(), |b| b.to_string());
        table.row([tail(&op.name, 44), op.kind.to_owned(), bits, weight, own, cumulative]);
    }
    table
}

/// Compiles and writes the file.
///
/// # Errors
/// The network is not supported, calibration data cannot be used, it does not fit, a file cannot be read or written.
pub fn run(ui: &Ui, args: &Args) -> Result<Report> {
    let target = args.target.as_deref().map(parse_target).transpose()?;
    let (graph, passes) = files::read_graph(&args.model)?;
    let (calib, names) = read_arrays(&args.calib)?;
    let samples = calibration(&graph, &calib, &names)?;
    let made = make(ui, graph, &samples, args, target.as_ref())?;
    write(&args.output, &made.compiled.bytes)?;
    Ok(Report {
        output: args.output.display().to_string(),
        precision: made.precision,
        compiled: made.compiled.report,
        passes,
        quantisation: made.quantisation,
    })
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    offshoot_report::write_atomically(path, bytes).map_err(|e| Failure::writing(path, &e))
}

/// Calibration arrays as samples × inputs, in the graph's layout.
///
/// # Errors
/// Wrong shapes, unequal numbers of samples, NaN or infinity.
pub fn calibration(
    graph: &Graph,
    arrays: &[offshoot_data::npy::Array],
    names: &[String],
) -> Result<Vec<Vec<ArrayD<f32>>>> {
    if arrays.is_empty() {
        return Ok(Vec::new());
    }
    if arrays.len() != graph.inputs.len() {
        let message = format!("{} calibration arrays for {} inputs", arrays.len(), graph.inputs.len());
        return Err(Failure::new(Kind::Calibration, message, "give --calib once for each input, in order"));
    }
    let mut samples: Vec<Vec<ArrayD<f32>>> = Vec::new();
    for ((array, name), id) in arrays.iter().zip(names).zip(&graph.inputs) {
        let port = Port::of_value(graph, *id);
        let values = port.real(array, name)?;
        if samples.is_empty() {
            samples.resize(values.len(), Vec::new());
        }
        if values.len() != samples.len() {
            let message = format!("{name}: {} samples, the input before has {}", values.len(), samples.len());
            return Err(Failure::new(Kind::Calibration, message, "give as many samples of each input"));
        }
        for (sample, v) in samples.iter_mut().zip(values) {
            let array =
                ArrayD::from_shape_vec(IxDyn(&port.shape), v).or_fail(Kind::Internal, "report this")?;
            sample.push(array);
        }
    }
    if samples.is_empty() {
        return Err(Failure::new(
            Kind::Calibration,
            "the calibration array holds no sample",
            "give 50 or more",
        ));
    }
    Ok(samples)
}

/// Quantises if asked for, and compiles, without writing anything.
///
/// # Errors
/// As [`run`].
pub fn make(
    ui: &Ui,
    graph: Graph,
    samples: &[Vec<ArrayD<f32>>],
    args: &Args,
    target: Option<&Target>,
) -> Result<Made> {
    let source_hash = origin_hash(&graph);
    let quantised = graph.values.iter().any(|v| v.dtype == DType::I8);
    let precision = match args.precision.clone() {
        Some(p) if quantised && p != Precision::Int8 => {
            let message = format!("the network is quantised already, {p} needs the float one");
            return Err(Failure::new(
                Kind::Usage,
                message,
                "leave --precision out, or give the float network",
            ));
        }
        Some(p) => p,
        None if quantised || !samples.is_empty() => Precision::Int8,
        None => {
            let message = "a float network needs calibration samples to become int8";
            let help = "give --calib X.npy with 50 to 500 typical samples, or --precision f32 for a device with an FPU";
            return Err(Failure::new(Kind::Calibration, message, help));
        }
    };
    let mut quantisation = None;
    let mut lowered = graph;
    if precision != Precision::F32 && !quantised {
        if samples.is_empty() {
            let message = format!("--precision {precision} of a float network needs calibration samples");
            return Err(Failure::new(
                Kind::Calibration,
                message,
                "give --calib X.npy with 50 to 500 typical samples",
            ));
        }
        let bar = ui.progress("calibrating", 0);
        let options = QuantizeOptions {
            clipping: match args.clipping {
                Clipping::Auto => quantize::Clipping::Auto,
                Clipping::MinMax => quantize::Clipping::MinMax,
                Clipping::Percentile => quantize::Clipping::Percentile(99.99),
                Clipping::Mse => quantize::Clipping::Mse,
            },
            bias_correction: if args.no_bias_correction { Toggle::Off } else { Toggle::Auto },
            keep_float: args.keep_float.clone(),
            weight_bits: precision.weight_bits()?,
            ..QuantizeOptions::default()
        };
        let tick = |done: usize, total: usize| {
            bar.set_length(total as u64);
            bar.set_position(done as u64);
        };
        let (graph, report) = quantize::quantize_with_progress(&lowered, samples, &options, &tick)
            .or_fail(Kind::Calibration, "give typical samples, prepared exactly as for the float network")?;
        bar.finish_and_clear();
        lowered = graph;
        quantisation = Some(report);
    }
    let facts = match target {
        Some(Target::Qemu(board)) => Some(*board),
        _ => None,
    };
    let smallest = |a: Option<u64>, b: Option<u64>| match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    };
    let options = CompileOptions {
        prefer: args.prefer.into(),
        source_hash,
        max_flash: smallest(args.max_flash, facts.map(|b| u64::from(b.flash_bytes))),
        max_arena: smallest(args.max_ram, facts.map(|b| u64::from(b.ram_bytes))),
        learning: match &args.plan {
            Some(plan) => Some(plan.clone()),
            None => args.learn.as_deref().map(read_plan).transpose()?,
        },
        ..CompileOptions::default()
    };
    let mut compiled = offshoot_export::compile(&lowered, &options).map_err(|e| export_failure(&e))?;
    if options.learning.as_ref().is_some_and(|plan| plan.codes == CodesName::Probe) {
        let mut options = options;
        let probes = train_probes(&lowered, &compiled, samples)?;
        if let Some(plan) = &mut options.learning {
            plan.probes = probes;
        }
        compiled = offshoot_export::compile(&lowered, &options).map_err(|e| export_failure(&e))?;
    }
    Ok(Made { graph: lowered, compiled, quantisation, precision })
}

fn read_plan(path: &Path) -> Result<LearningPlan> {
    let text = std::fs::read_to_string(path).map_err(|e| Failure::reading(path, &e))?;
    LearningPlan::parse(&text).or_fail_in(Kind::Format, path.display(), PLAN_HELP)
}

/// Probes of every layer that learns, trained on what the network itself takes the calibration samples for.
fn train_probes(
    graph: &Graph,
    compiled: &Compiled,
    samples: &[Vec<ArrayD<f32>>],
) -> Result<HashMap<u16, offshoot_export::probes::Probe>> {
    if samples.is_empty() || graph.inputs.len() != 1 {
        let message = "probes are trained on calibration samples of a network with one input";
        return Err(Failure::new(
            Kind::Calibration,
            message,
            "give --calib X.npy, or other `codes` in the plan",
        ));
    }
    let port = Port::of_value(graph, graph.inputs[0]);
    let inputs: Vec<Vec<u8>> =
        samples.iter().flatten().map(|x| port.encode_real(x.iter().copied())).collect();
    offshoot_export::probes::train(&compiled.bytes, &inputs, None).map_err(|e| export_failure(&e))
}

const PLAN_HELP: &str = "tools/export/src/learning.rs lists the fields of a plan";

fn export_failure(error: &offshoot_export::Error) -> Failure {
    use offshoot_export::Error;
    let (kind, help) = match error {
        Error::Arena { .. } | Error::Flash { .. } => (
            Kind::Budget,
            "use a smaller network or a lower input resolution, a larger device, or --precision int8",
        ),
        Error::TrainArena { .. } => (
            Kind::Budget,
            "let fewer layers learn (`layers` in the plan), use int8 weights, or a larger device",
        ),
        Error::Learning(_) => (Kind::Usage, PLAN_HELP),
        Error::Unsupported(_) | Error::Format { .. } | Error::Io { .. } => {
            (Kind::Unsupported, "replace or split the operators named above")
        }
        _ => (Kind::Internal, "report this model"),
    };
    Failure::new(kind, error.to_string(), help)
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
