//! `offshoot compile`: ONNX to `.off`.

mod args;
mod judge;
mod report;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use ndarray::{ArrayD, IxDyn};
use offshoot_compress::nest::{self, Pair};
use offshoot_compress::quantize::{self, QuantizeOptions, QuantizeReport, Toggle};
use offshoot_export::learning::Statistics;
use offshoot_export::{CompileOptions, Compiled, Core, LearningPlan};
use offshoot_ir::passes::origin_hash;
use offshoot_ir::{DType, Graph, Op};
use offshoot_target::{Board, Target};

use super::{parse_target, read_arrays};
use crate::failure::{Context, Failure, Kind, Result};
use crate::files;
use crate::port::Port;
use crate::ui::Ui;

pub use args::{Args, Clipping, NestedScales, Precision, Prefer, parse_bytes};
pub use report::{Made, Report, quantisation_table};

/// Compiles and writes the file.
///
/// # Errors
/// The network is not supported, calibration data cannot be used, it does not fit, a file cannot be read or written.
pub fn run(ui: &Ui, args: &Args) -> Result<Report> {
    let target = args.target.as_deref().map(parse_target).transpose()?;
    let read = [&args.model].into_iter().chain(&args.calib).chain(&args.labels).chain(&args.learn);
    files::refuse_same_file(read.chain(&args.nested), [&args.output])?;
    let (graph, passes) = files::read_graph(&args.model)?;
    let (calib, names) = read_arrays(&args.calib)?;
    let samples = calibration(&graph, &calib, &names)?;
    let made = make(ui, graph.clone(), &samples, args, target.as_ref())?;
    let mut outputs_snr_db = None;
    let mut warnings = Vec::new();
    if let Some(report) = made.quantisation.as_ref() {
        outputs_snr_db = judge::outputs_snr_db(ui, &graph, &made.compiled.bytes, &samples)?;
        if let Some(snr) = outputs_snr_db {
            warnings.extend(judge::verdict(snr, report, args.allow_poor)?);
        }
    }
    write(&args.output, &made.compiled.bytes)?;
    Ok(Report {
        output: args.output.display().to_string(),
        precision: made.precision,
        compiled: made.compiled.report,
        passes,
        quantisation: made.quantisation,
        outputs_snr_db,
        warnings,
        calibrated: made.calibrated,
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
    if args.stateful {
        check_stateful(&graph)?;
    }
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
    let mut calibrated = Vec::new();
    // A layer that learns keeps the numbers that the file gives it.
    if quantised && !samples.is_empty() && args.plan.is_none() && args.learn.is_none() {
        let completed = quantize::complete(&lowered, samples, &args.keep_float);
        (lowered, calibrated) = completed.map_err(|e| quantise_failure(&e))?;
    }
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
        core: facts.map(core).unwrap_or_default(),
        source_hash,
        max_flash: smallest(args.max_flash, facts.map(|b| u64::from(b.flash_bytes()))),
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
    if let Some(board) = facts {
        check_runtime(board, &compiled.bytes)?;
    }
    Ok(Made { graph: lowered, compiled, quantisation, precision, calibrated, nested })
}

/// Whether the board's firmware is built with all that the file needs: operators, number formats, learning.
fn check_runtime(board: &Board, bytes: &[u8]) -> Result<()> {
    let file = files::OffFile::from_bytes(bytes);
    let model = file.model()?;
    let mut missing = super::inspect::runtime_features(&file, &model)?;
    missing.retain(|feature| !board.firmware.runtime.has(feature));
    if missing.is_empty() {
        return Ok(());
    }
    let message =
        format!("{} cannot run this model: its firmware is built without {}", board.name, missing.join(", "));
    let help = match missing.iter().any(|f| f == "f32") {
        true => {
            "the board computes in int8 only: give --calib, keep no operator in float, or choose another board"
        }
        false => {
            "choose another board (`offshoot target list`), or build its firmware with these features of the runtime"
        }
    };
    Err(Failure::new(Kind::Unsupported, message, help))
}

/// What of a board matters to the choice between forms of a layer.
fn core(board: &Board) -> Core {
    match board.firmware.triple {
        _ if board.core.dsp => Core::Dsp,
        triple if triple.starts_with("riscv32") => Core::RiscV32,
        triple if triple.starts_with("thumbv6m") => Core::ArmV6M,
        _ => Core::ArmV7M,
    }
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
    let made =
        quantize::quantize_with_progress(graph, samples, options, &tick).map_err(|e| quantise_failure(&e))?;
    bar.finish_and_clear();
    Ok(made)
}

fn quantise_failure(error: &offshoot_compress::Error) -> Failure {
    use offshoot_compress::Error;
    let (kind, help) = match error {
        Error::KeepFloat { .. } => (Kind::Usage, "give --keep-float one of these names or kinds"),
        Error::NotFinite { .. } => (
            Kind::Calibration,
            "run the float network on these samples in ONNX Runtime: a division by zero, an overflow or a row that is masked as a \
             whole gives such numbers",
        ),
        _ => (Kind::Calibration, "give typical samples, prepared exactly as for the float network"),
    };
    Failure::new(kind, error.to_string(), help)
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

/// Whether the network can run as one long sequence.
fn check_stateful(graph: &Graph) -> Result<()> {
    let layers = || graph.nodes.iter().filter(|n| matches!(n.op, Op::Recurrent { .. }));
    if layers().next().is_none() {
        let message = "--stateful: the network has no recurrent layer, so it keeps no state";
        return Err(Failure::new(Kind::Usage, message, "leave --stateful out: its samples are independent"));
    }
    let backward = layers().find(|n| matches!(n.op, Op::Recurrent { reverse: true, .. }));
    if let Some(node) = backward {
        let name = &graph.value(node.output).name;
        let message = format!(
            "--stateful: layer `{name}` runs backwards (a bidirectional layer does), from the end of a sequence that is \
             not known yet"
        );
        return Err(Failure::new(
            Kind::Usage,
            message,
            "leave --stateful out and give whole sequences, or train a network that runs forwards only",
        ));
    }
    Ok(())
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
    let mut standard = offshoot::learn::InputNormalizer::new(&mut mean, 0.0, 0.0, 0.0);
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
