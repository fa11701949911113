//! `offshoot compile`: ONNX to `.off`.

mod args;
mod complete;
mod fitting;
mod judge;
mod on_chip;
mod report;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use ed25519_dalek::SigningKey;
use ndarray::{ArrayD, IxDyn};
use offshoot_compress::nest::{self, Pair};
use offshoot_compress::quantize::{self, QuantizeOptions, QuantizeReport, Toggle};
use offshoot_data::npy::Array;
use offshoot_export::learning::Statistics;
use offshoot_export::{CompileOptions, Compiled, Core, LearningPlan};
use offshoot_ir::passes::{self, PassReport, origin_hash};
use offshoot_ir::{DType, Declared, Graph, Op};
use offshoot_target::{Board, Target};

use super::{parse_target, read_arrays};
use crate::batch::{self, shared_count};
use crate::failure::{Context, Failure, Kind, Result};
use crate::files::{self, OffFile};
use crate::port::Port;
use crate::signing::{self, SignatureReport};
use crate::ui::Ui;
use crate::watch;

pub use args::{Args, Clipping, Dims, Io, NestedScales, Precision, Prefer, parse_bytes};
pub use on_chip::OnChip;
pub(crate) use report::branches_text;
pub use report::{KeptFloat, Made, Report, quantisation_table};

/// Compiles and writes the file.
///
/// # Errors
/// The network is not supported, calibration data cannot be used, the result exceeds a limit, its outputs are mostly
/// noise, or a file cannot be read or written.
pub fn run(ui: &Ui, args: &Args) -> Result<Report> {
    let target = args.target.as_deref().map(parse_target).transpose()?;
    let read = [&args.model].into_iter().chain(&args.calib).chain(&args.labels).chain(&args.learn);
    files::refuse_same_file(read.chain(&args.nested).chain(&args.sign), [&args.output])?;
    let key = signing_key(args)?;
    let network = files::read_graph_with(&args.model, &args.dims.all())?;
    let (calib, names) = read_arrays(&args.calib)?;
    let (compiled, mut report) = compile(ui, network, (&calib, &names), args, target.as_ref())?;
    match &key {
        Some(key) => {
            let signed = args.statement.sign(key, compiled.bytes(), &args.output)?;
            report.signature = SignatureReport::of(&signed);
            write(&args.output, &signed)?;
        }
        None => write(&args.output, compiled.bytes())?,
    }
    Ok(report)
}

/// As [`run`], with a network after the lossless passes, and calibration samples with their names in memory. Reads a plan, labels,
/// sub-networks and a policy if `args` names their files, and writes nothing.
///
/// # Errors
/// As [`run`].
pub fn compile(
    ui: &Ui,
    (graph, passes): (Graph, Vec<PassReport>),
    (calib, names): (&[Array], &[String]),
    args: &Args,
    target: Option<&Target>,
) -> Result<(OffFile, Report)> {
    let samples = calibration(&graph, calib, names)?;
    let made = make(ui, graph.clone(), &samples, args, target)?;
    let mut outputs_snr_db = None;
    let mut warnings = Vec::new();
    if let Some(report) = made.quantisation.as_ref() {
        let options = QuantizeOptions { sequence: sequence(args, &graph), ..QuantizeOptions::default() };
        let kept = without(&samples, &report.left_out);
        let samples = kept.as_deref().unwrap_or(&samples);
        outputs_snr_db = judge::outputs_snr_db(ui, &graph, &made.compiled.bytes, samples, args.reset_every)?;
        if let Some(snr) = outputs_snr_db {
            let oracle = || quantize::rounded_oracle_db(&graph, &made.graph, samples, &options);
            warnings.extend(judge::verdict(snr, Some(report), args.allow_poor, oracle)?);
        }
    }
    if complete::is_quantised(&graph) && !samples.is_empty() && !learns(args) {
        outputs_snr_db = judge::outputs_snr_db(ui, &graph, &made.compiled.bytes, &samples, args.reset_every)?;
        if let Some(snr) = outputs_snr_db {
            let sequence = sequence(args, &graph);
            let worst = || complete::worst(&graph, &made.calibrated, &samples, &args.keep_float, sequence);
            warnings.extend(judge::verdict_on_completed(snr, args.allow_poor, worst)?);
        }
    } else if made.precision == Precision::Int16x8 && !samples.is_empty() {
        outputs_snr_db = judge::outputs_snr_db(ui, &graph, &made.compiled.bytes, &samples, args.reset_every)?;
        if let Some(snr) = outputs_snr_db {
            let options = QuantizeOptions { sequence: sequence(args, &graph), ..QuantizeOptions::default() };
            let oracle = || quantize::rounded_oracle_db(&graph, &made.graph, &samples, &options);
            warnings.extend(judge::verdict(snr, None, args.allow_poor, oracle)?);
        }
    }
    let on_chip = match target {
        Some(Target::Chip(chip)) => {
            ui.note(&format!(
                "counting a run on {}, an emulated board with the core of {}",
                chip.board().name,
                chip.name
            ));
            Some(OnChip::new(chip, &made.compiled.bytes, made.compiled.report.arena_bytes))
        }
        _ => None,
    };
    // The weights need not lie in memory beside the file.
    drop((graph, made.graph));
    let file = OffFile::from_vec(made.compiled.bytes);
    let report = Report {
        on_chip,
        output: args.output.display().to_string(),
        precision: made.precision,
        compiled: made.compiled.report,
        passes,
        quantisation: made.quantisation,
        outputs_snr_db,
        warnings,
        calibrated: made.calibrated,
        kept_float: made.kept_float,
        nested: made.nested,
        signature: None,
    };
    Ok((file, report))
}

/// Whether layers of the file learn.
fn learns(args: &Args) -> bool {
    args.plan.is_some() || args.learn.is_some()
}

/// The samples but those of these indices; `None` if there are no such indices.
fn without(samples: &[Vec<ArrayD<f32>>], left_out: &[usize]) -> Option<Vec<Vec<ArrayD<f32>>>> {
    let kept = samples.iter().enumerate().filter(|(i, _)| !left_out.contains(i));
    (!left_out.is_empty()).then(|| kept.map(|(_, sample)| sample.clone()).collect())
}

/// The key to sign with, read before the work begins.
fn signing_key(args: &Args) -> Result<Option<SigningKey>> {
    match &args.sign {
        Some(path) if args.statement.release.is_some() => signing::read_private(path).map(Some),
        Some(_) => Err(Failure::new(Kind::Usage, "--sign needs --release", "give the number of the release")),
        None if args.statement.is_empty() => Ok(None),
        None => Err(Failure::new(
            Kind::Usage,
            "--name, --release, --min-runtime and --for-target belong to a signature",
            "give --sign KEY.pem too, or leave them out",
        )),
    }
}

/// Part of its range by which the int8 range of an input is widened at both ends if the device normalises the input: a
/// sample that is not like the calibration samples leaves their range, and what lies outside is lost.
const ROOM: f32 = 0.5;

/// The learning plan, if there is one.
fn learning_plan(args: &Args) -> Result<Option<LearningPlan>> {
    match &args.plan {
        Some(plan) => Ok(Some(LearningPlan::clone(plan))),
        None => args.learn.as_deref().map(read_plan).transpose(),
    }
}

/// Whether the plan has an input normaliser. A plan that cannot be read is an error later.
fn normalises(args: &Args) -> bool {
    learning_plan(args).ok().flatten().is_some_and(|plan| plan.normalizer().is_some())
}

/// Number of calibration samples through which the state is carried; `None` without state.
fn sequence(args: &Args, graph: &Graph) -> Option<usize> {
    let keeps = graph.nodes.iter().any(|n| n.op.keeps_state());
    (args.stateful || keeps).then(|| args.reset_every.map_or(usize::MAX, |n| n as usize))
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    offshoot_report::write_atomically(path, bytes).map_err(|e| Failure::writing(path, &e))
}

/// Calibration arrays as `[sample][input]`, in the graph's layout.
///
/// # Errors
/// A shape is wrong, numbers of samples differ, or a value is NaN or infinite.
pub fn calibration(graph: &Graph, arrays: &[Array], names: &[String]) -> Result<Vec<Vec<ArrayD<f32>>>> {
    if arrays.is_empty() {
        return Ok(Vec::new());
    }
    if arrays.len() != graph.inputs.len() {
        let message =
            format!("--calib: {} array(s) for {} input(s) of the network", arrays.len(), graph.inputs.len());
        return Err(Failure::new(
            Kind::Calibration,
            message,
            "give --calib once per input, in the network's order",
        ));
    }
    let mut columns = Vec::new();
    for ((array, name), id) in arrays.iter().zip(names).zip(&graph.inputs) {
        let port = Port::of_value(graph, *id);
        columns.push((port.real(array, name)?, port, name));
    }
    let count = shared_count(columns.iter().map(|(values, ..)| values.len()));
    let mut samples: Vec<Vec<ArrayD<f32>>> = vec![Vec::new(); count];
    for (values, port, name) in columns {
        if values.len() != count && values.len() != 1 {
            let message = format!("{name}: {} samples, but another input has {count}", values.len());
            return Err(Failure::new(
                Kind::Calibration,
                message,
                "give the same number of samples for every input, or one that all share",
            ));
        }
        // All samples share the only one of an input.
        for (sample, v) in samples.iter_mut().zip(values.into_iter().cycle()) {
            let array = ArrayD::from_shape_vec(IxDyn(&port.shape), v)
                .or_fail(Kind::Internal, "this is a bug in Offshoot: report it with this message")?;
            sample.push(array);
        }
    }
    if samples.is_empty() {
        return Err(Failure::new(
            Kind::Calibration,
            "the calibration array holds no samples",
            "give 50 to 500 typical samples",
        ));
    }
    Ok(samples)
}

/// Quantises if `args` asks for it, and compiles. Writes no files.
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
    } else if args.reset_every.is_some() && sequence(args, &graph).is_none() {
        let message = "--reset-every: the network keeps no state between samples";
        let help = "leave it out, or add --stateful for a network with recurrent layers";
        return Err(Failure::new(Kind::Usage, message, help));
    }
    let quantised = complete::is_quantised(&graph);
    let int16 = graph.values.iter().any(|v| v.dtype == DType::I16);
    let own = if int16 { Precision::Int16x8 } else { Precision::Int8 };
    let precision = match args.precision.clone() {
        Some(p) if quantised && p != own => {
            let message = format!("the network is already quantised; --precision {p} needs a float network");
            return Err(Failure::new(
                Kind::Usage,
                message,
                "leave out --precision, or give the float network",
            ));
        }
        Some(p) => p,
        None if quantised => own,
        None if !samples.is_empty() => Precision::Int8,
        // Float activations or activations of 16 bits: the weights stay integers.
        None if graph.quantised => Precision::F32,
        None => {
            let message = "a float network needs calibration samples to be quantised to int8";
            let help = "give --calib X.npy with 50 to 500 typical samples, or --precision f32 for a device with \
             an FPU";
            return Err(Failure::new(Kind::Calibration, message, help));
        }
    };
    let board = match target {
        Some(Target::Qemu(board)) => Some(*board),
        _ => None,
    };
    if quantised && samples.is_empty() && !args.keep_float.is_empty() {
        let message = "the network is already quantised; --keep-float needs a float network";
        return Err(Failure::new(Kind::Usage, message, "leave out --keep-float, or give the float network"));
    }
    let mut quantisation = None;
    let mut kept = None;
    let (mut nested, mut further) = (Vec::new(), Vec::new());
    let subs = sub_networks(args, &precision, quantised, &graph)?;
    let float = (!subs.is_empty()).then(|| graph.clone());
    let mut lowered = graph;
    let policy = precision.policy()?;
    let mut calibrated = Vec::new();
    // A layer that learns keeps the numbers that the file gives it.
    if quantised && !int16 && !learns(args) {
        (lowered, calibrated) = complete::complete(lowered, samples, &args.keep_float)?;
    }
    if !quantised && precision != Precision::F32 && subs.is_empty() {
        let made = passes::reciprocals(lowered);
        lowered = made.or_fail(Kind::Internal, "this is a bug in Offshoot: report it with the model")?;
    }
    let learned = policy.learned().filter(|_| precision != Precision::F32 && !quantised);
    if let Some(learned) = learned {
        // The learned steps and ranges belong to these weights: calibrating again would change the network.
        let options = QuantizeOptions {
            keep_float: args.keep_float.clone(),
            weight_bits: policy.bits(),
            ..QuantizeOptions::default()
        };
        let help = "give the model.onnx that was written together with this policy";
        lowered = quantize::quantize_learned(&lowered, &learned, &options).or_fail(Kind::Mismatch, help)?;
    } else if precision == Precision::Int16x8 && !quantised {
        if !subs.is_empty() || args.plan.is_some() || args.learn.is_some() {
            let message = "an int16x8 network cannot learn, and shares its weights with no other";
            return Err(Failure::new(Kind::Usage, message, "leave out --precision int16x8"));
        }
        if samples.is_empty() {
            return Err(no_samples(&precision));
        }
        let keep_float = args.keep_float.clone();
        let options =
            QuantizeOptions { keep_float, sequence: sequence(args, &lowered), ..QuantizeOptions::default() };
        lowered = quantize::quantize_int16(&lowered, samples, &options).map_err(|e| quantise_failure(&e))?;
    } else if precision != Precision::F32 && !quantised {
        if samples.is_empty() {
            return Err(no_samples(&precision));
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
            sequence: sequence(args, &lowered),
            input_room: if normalises(args) { ROOM } else { 0.0 },
            ..QuantizeOptions::default()
        };
        let (mut graph, mut report) = quantized(ui, &lowered, samples, &options)?;
        let learns = args.plan.is_some() || args.learn.is_some();
        let has_float = board.is_none_or(|board| board.firmware.runtime.has("f32"));
        // Who asks for fewer bits, or for the bits of each layer, knows what that costs.
        let eight_bits = precision == Precision::Int8 && args.weight_bits.is_none();
        if !args.strict_int8 && eight_bits && has_float && !learns && subs.is_empty() {
            let found = quantize::remedy(&lowered, samples, &options, &report);
            if let Some(found) = found.map_err(|e| quantise_failure(&e))? {
                let int8 = graph;
                let keep_float = [options.keep_float.clone(), found.tensors.clone()].concat();
                let options = QuantizeOptions { keep_float, ..report.settled(&options) };
                (graph, report) = quantized(ui, &lowered, samples, &options)?;
                kept = Some((found, int8));
            }
        }
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
                let help = "give sub-networks of the model: the same operator names, and weights that are \
                 prefixes of the model's";
                let made = nest::nest(whole, Pair { float: sub, quantised: &small }, scales);
                let (small, report) = made.or_fail(Kind::Usage, help)?;
                nested.push(report);
                further.push(small);
            }
        }
    }
    // Networks that share weights, and layers that learn, need all of their channels.
    let int8 = !matches!(precision, Precision::F32 | Precision::Int16x8);
    if int8 && further.is_empty() && args.plan.is_none() && args.learn.is_none() {
        let made = passes::without_constant_channels(lowered);
        lowered = made.or_fail(Kind::Internal, "this is a bug in Offshoot: report it with the model")?;
    }
    if args.io == Io::F32 && quantised {
        // Codes in an array are then no real numbers.
        for &id in &lowered.inputs {
            let value = lowered.value(id);
            if value.dtype == DType::I8 {
                let name = value.name.clone();
                lowered.declared.insert(name, Declared::Codes);
            }
        }
    }
    let io: fn(Graph) -> offshoot_ir::Result<Graph> = match args.io {
        Io::Int8 if quantised => passes::integer_io,
        Io::Int8 => Ok,
        Io::F32 => passes::float_io,
    };
    lowered = io(lowered).or_fail(Kind::Internal, "this is a bug in Offshoot: report it with the model")?;
    for small in &mut further {
        *small = io(std::mem::take(small))
            .or_fail(Kind::Internal, "this is a bug in Offshoot: report it with the model")?;
    }
    let smallest = |a: Option<u64>, b: Option<u64>| match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    };
    let mut plan = learning_plan(args)?;
    if let Some(plan) = plan.as_mut().filter(|p| p.normalizer().is_some()) {
        plan.statistics = statistics(&lowered, samples)?;
    }
    let memory = target.and_then(Target::memory);
    let options = CompileOptions {
        prefer: args.prefer.into(),
        core: target.and_then(Target::board).map(core).or(args.core).unwrap_or_default(),
        source_hash,
        max_flash: smallest(args.max_flash, memory.map(|(flash, _)| flash)),
        max_arena: smallest(args.max_ram, memory.map(|(_, ram)| ram)),
        stateful: args.stateful,
        learning: plan,
        ..CompileOptions::default()
    };
    // For comparison only.
    let without_limits = CompileOptions { max_flash: None, max_arena: None, ..options.clone() };
    let compile = |options: &CompileOptions| {
        if further.is_empty() {
            offshoot_export::compile(&lowered, options)
        } else {
            let all: Vec<Graph> = std::iter::once(&lowered).chain(&further).cloned().collect();
            offshoot_export::compile_nested(&all, options)
        }
    };
    let (options, mut compiled) = fitting::first(options, &compile)?;
    let better = compiled.report.learning.as_mut().and_then(|l| l.better.take());
    if options.learning.as_ref().is_some_and(|p| p.wants_probes() && p.learns()) {
        let mut options = options;
        let probes = train_probes(&lowered, &compiled, samples, args)?;
        if let Some(plan) = &mut options.learning {
            plan.probes = probes;
        }
        compiled = compile(&options).map_err(|e| export_failure(&e))?;
    }
    if let Some(learning) = &mut compiled.report.learning {
        learning.better = better;
    }
    if let Some(board) = board {
        let file = OffFile::from_bytes(&compiled.bytes);
        offshoot_target::check_runtime(board, &compiled.bytes, &file.model()?)
            .map_err(|e| batch::device_failure(&e, batch::DEVICE_HELP))?;
    }
    let kept_float = kept.map(|(remedy, int8)| {
        let int8 = offshoot_export::compile(&int8, &without_limits).ok();
        let at = (&lowered, without_limits.core);
        KeptFloat::new(&remedy, at, int8.map(|c| c.report).as_ref(), &mut compiled.report)
    });
    Ok(Made { graph: lowered, compiled, quantisation, precision, calibrated, kept_float, nested })
}

/// A float network that is to be quantised, without samples.
fn no_samples(precision: &Precision) -> Failure {
    let message = format!("--precision {precision} of a float network needs calibration samples");
    Failure::new(Kind::Calibration, message, "give --calib X.npy with 50 to 500 typical samples")
}

/// The core that the compiler chooses layer forms for.
pub(crate) fn core(board: &Board) -> Core {
    match board.firmware.triple {
        _ if board.core.mve => Core::Mve,
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
        watch::stop_if_cancelled();
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
        Error::KeepFloat { .. } => (Kind::Usage, "give --keep-float one of the names or kinds above"),
        Error::NotFinite { .. } => (
            Kind::Calibration,
            "run the float network on these samples in ONNX Runtime to find the operator: a division by zero, an \
             overflow or a \
             fully masked row gives NaN or infinity",
        ),
        _ => (Kind::Calibration, "give typical samples, preprocessed exactly as for the float network"),
    };
    Failure::new(kind, error.to_string(), help)
}

/// Reads the sub-networks that share the weights of `whole`.
fn sub_networks(args: &Args, precision: &Precision, quantised: bool, whole: &Graph) -> Result<Vec<Graph>> {
    if args.nested.is_empty() {
        return Ok(Vec::new());
    }
    if *precision == Precision::F32 || quantised {
        let message = "--nested: sub-networks share int8 weights, which are quantised from float networks with \
         calibration samples";
        return Err(Failure::new(
            Kind::Usage,
            message,
            "give float .onnx files for the model and its sub-networks, and --calib X.npy; leave out --precision f32",
        ));
    }
    let shapes = |g: &Graph, ids: &[offshoot_ir::ValueId]| -> Vec<Vec<usize>> {
        ids.iter().map(|&id| g.value(id).shape.clone()).collect()
    };
    let read = |path: &PathBuf| {
        let (graph, _) = files::read_graph_with(path, &args.dims.all())?;
        if shapes(&graph, &graph.inputs) == shapes(whole, &whole.inputs) {
            return Ok(graph);
        }
        let message = format!("{}: its input shapes differ from the model's", path.display());
        Err(Failure::new(
            Kind::Shape,
            message,
            "give a sub-network with the model's input shapes: both are calibrated on the same samples",
        ))
    };
    args.nested.iter().map(read).collect()
}

/// Checks that the network can run on one long sequence, piece by piece.
fn check_stateful(graph: &Graph) -> Result<()> {
    let layers = || graph.nodes.iter().filter(|n| matches!(n.op, Op::Recurrent { .. }));
    if graph.nodes.iter().any(|n| n.op.keeps_state()) && layers().next().is_none() {
        return Ok(());
    }
    if layers().next().is_none() {
        let message = "--stateful: the network has no recurrent layer, so it keeps no state";
        return Err(Failure::new(Kind::Usage, message, "leave out --stateful: every sample is independent"));
    }
    let backward = layers().find(|n| matches!(n.op, Op::Recurrent { reverse: true, .. }));
    if let Some(node) = backward {
        let name = &graph.value(node.output).name;
        let message = format!(
            "--stateful: layer `{name}` runs backwards, as in a bidirectional network, and would need the end of the \
             sequence first"
        );
        return Err(Failure::new(
            Kind::Usage,
            message,
            "leave out --stateful and run whole sequences, or train a network that runs forwards only",
        ));
    }
    Ok(())
}

fn read_plan(path: &Path) -> Result<LearningPlan> {
    let text = std::fs::read_to_string(path).map_err(|e| Failure::reading(path, &e))?;
    parse_plan(&text, &path.display().to_string())
}

/// The learning plan of a text. `name` stands for its file in messages.
///
/// # Errors
/// The text is not a learning plan.
pub fn parse_plan(text: &str, name: &str) -> Result<LearningPlan> {
    LearningPlan::parse(text).or_fail_in(Kind::Format, name, PLAN_HELP)
}

/// Input statistics (mean and energy) of the samples as the network sees them; `None` without samples.
fn statistics(graph: &Graph, samples: &[Vec<ArrayD<f32>>]) -> Result<Option<Statistics>> {
    let [input] = graph.inputs[..] else { return Ok(None) };
    let port = Port::of_value(graph, input);
    let mut mean = Vec::new();
    let seen: Vec<Vec<f32>> =
        samples.iter().flatten().map(|x| port.decode(&port.encode_real(x.iter().copied()))).collect();
    mean.resize(seen.first().map_or(0, Vec::len), 0.0f32);
    let mut normalizer = offshoot::learn::InputNormalizer::new(&mut mean, 0.0, 0.0, 0.0);
    seen.iter().for_each(|x| normalizer.see(x));
    let energy = normalizer.energy();
    Ok((!seen.is_empty()).then_some(Statistics { mean, energy }))
}

/// Trains a probe for every layer that learns, on the samples' labels, or without labels on the network's own
/// predictions.
fn train_probes(
    graph: &Graph,
    compiled: &Compiled,
    samples: &[Vec<ArrayD<f32>>],
    args: &Args,
) -> Result<HashMap<u16, offshoot_export::probes::Probe>> {
    if samples.is_empty() || graph.inputs.len() != 1 {
        let message =
            "the plan needs probes, which are trained on calibration samples of a network with one input";
        return Err(Failure::new(
            Kind::Calibration,
            message,
            "give --calib X.npy (and --labels Y.npy), or choose another `projection` in the plan",
        ));
    }
    let labels = match &args.class_numbers {
        Some(given) => Some(given.clone()),
        None => args.labels.as_deref().map(super::read_array).transpose()?,
    };
    let labels =
        labels.map(|array| super::learn::labels(&array, samples.len(), "calibration")).transpose()?;
    let port = Port::of_value(graph, graph.inputs[0]);
    let inputs: Vec<Vec<u8>> =
        samples.iter().flatten().map(|x| port.encode_real(x.iter().copied())).collect();
    offshoot_export::probes::train(&compiled.bytes, &inputs, labels.as_deref())
        .map_err(|e| export_failure(&e))
}

const PLAN_HELP: &str = "the guide's page on learning plans lists every field with default, unit and range";

fn export_failure(error: &offshoot_export::Error) -> Failure {
    use offshoot_export::Error;
    let (kind, help) = match error {
        Error::Arena { .. } | Error::Flash { .. } => (
            Kind::Budget,
            "use --prefer ram or --prefer flash, int8 instead of float, a smaller network (`offshoot compress`), \
             a lower input \
             resolution, or a larger device",
        ),
        Error::TrainArena { .. } => (
            Kind::Budget,
            "train fewer layers or a smaller `part` of them, use int8 weights, a head on fewer `features`, or a \
             larger device",
        ),
        Error::Learning(_) => (Kind::Usage, PLAN_HELP),
        Error::Unsupported(_) | Error::Format { .. } | Error::Io { .. } => {
            (Kind::Unsupported, "replace or split the operators named above")
        }
        _ => (Kind::Internal, "this is a bug in Offshoot: report it with the model"),
    };
    Failure::new(kind, error.to_string(), help)
}
