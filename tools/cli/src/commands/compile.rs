//! `offshoot compile`: ONNX to `.off`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use ndarray::{ArrayD, IxDyn};
use offshoot_compress::nest::{self, NestReport, Pair};
use offshoot_compress::quantize::{self, Policy, QuantizeOptions, QuantizeReport, Toggle, WeightBits};
use offshoot_export::learning::Statistics;
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
    /// samples, prepared as for the network, without labels.
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
    /// Operators to keep in float, by ONNX node name or kind (repeat).
    #[arg(long)]
    pub keep_float: Vec<String>,
    /// What is to learn on the device (.toml); says what training takes beside inference.
    #[arg(long, value_name = "plan.toml")]
    pub learn: Option<PathBuf>,
    /// The same, for callers that have it.
    #[arg(skip)]
    pub plan: Option<Box<LearningPlan>>,
    /// Bits of each layer's weights, for callers that have them; they go before `precision`.
    #[arg(skip)]
    pub weight_bits: Option<WeightBits>,
    /// What counts most where one resource can be had for another.
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
    /// Which layers of sub-networks are on the large network's weights.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nested: Vec<NestReport>,
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
    /// Which layers of sub-networks are on the large network's weights.
    pub nested: Vec<NestReport>,
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
            if l.train_standard_bytes > 0 {
                facts.row(["  of it input statistics", &thousands(l.train_standard_bytes)]);
            }
            if let Some(head) = l.head {
                let name = format!("  of it head ({head}, {} features)", l.features);
                facts.row([name.as_str(), &thousands(l.train_head_bytes)]);
            }
        }
        let mut text = format!(
            "{}: {} operators, {} MACs\n{facts}\n",
            self.output,
            c.operators.len(),
            thousands(c.macs)
        );
        text.push_str(&networks_text(c, &self.nested));
        for pass in self.passes.iter().filter(|p| p.changed) {
            text.push_str(&format!("{}: {}\n", pass.name, pass.detail));
        }
        for op in &c.operators {
            if let Some(sparse) = &op.sparse {
                text.push_str(&format!("`{}`: {}\n", op.name, sparse.sentence()));
            }
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

/// Sub-networks, if there are any.
fn networks_text(report: &CompileReport, nested: &[NestReport]) -> String {
    if report.networks.is_empty() {
        return String::new();
    }
    let mut table = Table::new(["network", "MACs", "arena", "file grows by", "layers on shared weights"]);
    for n in &report.networks {
        let [shared, all] = n.shared_operators;
        let bytes = [n.macs, n.arena_bytes, n.added_bytes].map(thousands);
        table.row([
            n.network.to_string(),
            bytes[0].clone(),
            bytes[1].clone(),
            bytes[2].clone(),
            format!("{shared} of {all}"),
        ]);
    }
    let mut text = format!("{table}\n");
    for (i, report) in nested.iter().enumerate() {
        for (layer, reason) in &report.own {
            text.push_str(&format!("network {}: `{layer}` has its own weights: {reason}\n", i + 1));
        }
    }
    text
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
        nested: made.nested,
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
    let (mut nested, mut further) = (Vec::new(), Vec::new());
    let subs = sub_networks(args, &precision, quantised, &graph)?;
    let float = (!subs.is_empty()).then(|| graph.clone());
    let mut lowered = graph;
    let policy = precision.policy()?;
    let learned = policy.learned().filter(|_| precision != Precision::F32 && !quantised);
    if let Some(learned) = learned {
        // Trained numbers are those of this very network: calibrating or fitting anew would make another of it.
        let options = QuantizeOptions {
            keep_float: args.keep_float.clone(),
            weight_bits: policy.bits(),
            ..QuantizeOptions::default()
        };
        let help = "give the model.onnx that was written with this policy";
        lowered = quantize::quantize_learned(&lowered, &learned, &options).or_fail(Kind::Mismatch, help)?;
    } else if precision != Precision::F32 && !quantised {
        if samples.is_empty() {
            let message = format!("--precision {precision} of a float network needs calibration samples");
            return Err(Failure::new(
                Kind::Calibration,
                message,
                "give --calib X.npy with 50 to 500 typical samples",
            ));
        }
        let options = QuantizeOptions {
            clipping: match args.clipping {
                Clipping::Auto => quantize::Clipping::Auto,
                Clipping::MinMax => quantize::Clipping::MinMax,
                Clipping::Percentile => quantize::Clipping::Percentile(99.99),
                Clipping::Mse => quantize::Clipping::Mse,
            },
            bias_correction: if args.no_bias_correction { Toggle::Off } else { Toggle::Auto },
            keep_float: args.keep_float.clone(),
            weight_bits: match &args.weight_bits {
                Some(bits) => bits.clone(),
                None => policy.bits(),
            },
            ..QuantizeOptions::default()
        };
        let (graph, report) = quantized(ui, &lowered, samples, &options)?;
        lowered = graph;
        quantisation = Some(report);
        if let Some(float) = &float {
            for sub in &subs {
                let (small, _) = quantized(ui, sub, samples, &options)?;
                let whole = Pair { float, quantised: &lowered };
                let scales = match args.nested_scales {
                    NestedScales::Shared => nest::Scales::Shared,
                    NestedScales::Own => nest::Scales::Own,
                };
                let help = "give sub-networks of the model: with the same names, and prefixes of its weights";
                let made = nest::nest(whole, Pair { float: sub, quantised: &small }, scales);
                let (small, report) = made.or_fail(Kind::Usage, help)?;
                nested.push(report);
                further.push(small);
            }
        }
    }
    let facts = match target {
        Some(Target::Qemu(board)) => Some(*board),
        _ => None,
    };
    let smallest = |a: Option<u64>, b: Option<u64>| match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    };
    let mut plan = match &args.plan {
        Some(plan) => Some(LearningPlan::clone(plan)),
        None => args.learn.as_deref().map(read_plan).transpose()?,
    };
    if let Some(plan) = plan.as_mut().filter(|p| p.standard().is_some()) {
        plan.statistics = statistics(&lowered, samples)?;
    }
    let options = CompileOptions {
        prefer: args.prefer.into(),
        source_hash,
        max_flash: smallest(args.max_flash, facts.map(|b| u64::from(b.flash_bytes))),
        max_arena: smallest(args.max_ram, facts.map(|b| u64::from(b.ram_bytes))),
        stateful: args.stateful,
        learning: plan,
        ..CompileOptions::default()
    };
    let compile = |options: &CompileOptions| {
        let made = if further.is_empty() {
            offshoot_export::compile(&lowered, options)
        } else {
            let all: Vec<Graph> = std::iter::once(&lowered).chain(&further).cloned().collect();
            offshoot_export::compile_nested(&all, options)
        };
        made.map_err(|e| export_failure(&e))
    };
    let mut compiled = compile(&options)?;
    if options.learning.as_ref().is_some_and(LearningPlan::wants_probes) {
        let mut options = options;
        let probes = train_probes(&lowered, &compiled, samples, args.labels.as_deref())?;
        if let Some(plan) = &mut options.learning {
            plan.probes = probes;
        }
        compiled = compile(&options)?;
    }
    Ok(Made { graph: lowered, compiled, quantisation, precision, nested })
}

/// Quantises with a progress bar.
fn quantized(
    ui: &Ui,
    graph: &Graph,
    samples: &[Vec<ArrayD<f32>>],
    options: &QuantizeOptions,
) -> Result<(Graph, QuantizeReport)> {
    let bar = ui.progress("calibrating", 0);
    let tick = |done: usize, total: usize| {
        bar.set_length(total as u64);
        bar.set_position(done as u64);
    };
    let made = quantize::quantize_with_progress(graph, samples, options, &tick)
        .or_fail(Kind::Calibration, "give typical samples, prepared exactly as for the float network")?;
    bar.finish_and_clear();
    Ok(made)
}

/// Reads the sub-networks that are to share the weights of `whole`.
fn sub_networks(args: &Args, precision: &Precision, quantised: bool, whole: &Graph) -> Result<Vec<Graph>> {
    if args.nested.is_empty() {
        return Ok(Vec::new());
    }
    if *precision == Precision::F32 || quantised {
        let message = "sub-networks share int8 weights: they and the model are wanted as float networks, with calibration samples";
        return Err(Failure::new(
            Kind::Usage,
            message,
            "give float .onnx files and --calib X.npy, without --precision f32",
        ));
    }
    let shapes = |g: &Graph, ids: &[offshoot_ir::ValueId]| -> Vec<Vec<usize>> {
        ids.iter().map(|&id| g.value(id).shape.clone()).collect()
    };
    let read = |path: &PathBuf| {
        let (graph, _) = files::read_graph(path)?;
        if shapes(&graph, &graph.inputs) == shapes(whole, &whole.inputs) {
            return Ok(graph);
        }
        let message = format!("{}: its inputs have other shapes than the model's", path.display());
        Err(Failure::new(Kind::Shape, message, "sub-networks are calibrated on the model's samples"))
    };
    args.nested.iter().map(read).collect()
}

fn read_plan(path: &Path) -> Result<LearningPlan> {
    let text = std::fs::read_to_string(path).map_err(|e| Failure::reading(path, &e))?;
    LearningPlan::parse(&text).or_fail_in(Kind::Format, path.display(), PLAN_HELP)
}

/// Means and energy of the samples as the network sees them; `None` without samples.
fn statistics(graph: &Graph, samples: &[Vec<ArrayD<f32>>]) -> Result<Option<Statistics>> {
    let [input] = graph.inputs[..] else { return Ok(None) };
    let port = Port::of_value(graph, input);
    let mut mean = Vec::new();
    let seen: Vec<Vec<f32>> =
        samples.iter().flatten().map(|x| port.decode(&port.encode_real(x.iter().copied()))).collect();
    mean.resize(seen.first().map_or(0, Vec::len), 0.0f32);
    let mut standard = offshoot::learn::Standard::new(&mut mean, 0.0, 0.0, 0.0);
    seen.iter().for_each(|x| standard.see(x));
    let energy = standard.energy();
    Ok((!seen.is_empty()).then_some(Statistics { mean, energy }))
}

/// Probes of every layer that learns, trained to read the samples' labels, or else what the network itself takes them for.
fn train_probes(
    graph: &Graph,
    compiled: &Compiled,
    samples: &[Vec<ArrayD<f32>>],
    labels: Option<&Path>,
) -> Result<HashMap<u16, offshoot_export::probes::Probe>> {
    if samples.is_empty() || graph.inputs.len() != 1 {
        let message = "probes are trained on calibration samples of a network with one input";
        return Err(Failure::new(
            Kind::Calibration,
            message,
            "give --calib X.npy (and --labels Y.npy), or other `codes` in the plan",
        ));
    }
    let labels = labels.map(super::read_array).transpose()?;
    let labels =
        labels.map(|array| super::learn::labels(&array, samples.len(), "calibration")).transpose()?;
    let port = Port::of_value(graph, graph.inputs[0]);
    let inputs: Vec<Vec<u8>> =
        samples.iter().flatten().map(|x| port.encode_real(x.iter().copied())).collect();
    offshoot_export::probes::train(&compiled.bytes, &inputs, labels.as_deref())
        .map_err(|e| export_failure(&e))
}

const PLAN_HELP: &str = "tools/export/src/learning/plan.rs lists the fields of a plan";

fn export_failure(error: &offshoot_export::Error) -> Failure {
    use offshoot_export::Error;
    let (kind, help) = match error {
        Error::Arena { .. } | Error::Flash { .. } => (
            Kind::Budget,
            "use a smaller network or a lower input resolution, a larger device, or --precision int8",
        ),
        Error::TrainArena { .. } => (
            Kind::Budget,
            "let fewer layers or a smaller `part` of them learn, use int8 weights, a head on fewer `features`, or a larger device",
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
