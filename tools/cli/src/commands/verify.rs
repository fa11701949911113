//! `offshoot verify`: float against integer, host against device, operator by operator; and what another runtime computed against both.

pub mod dump;

use std::path::PathBuf;

use ndarray::{ArrayD, IxDyn};
use offshoot::base::{Memory, Rule};
use offshoot::format::record::{OpHeader, Record, Tag};
use offshoot::trace::{Observer, OpInfo};
use offshoot::{AlignedBytes, Model, operators};
use offshoot_compress::quantize;
use offshoot_data::npy::Array;
use offshoot_ir::passes::origin_hash;
use offshoot_ir::{Graph, ValueId};
use offshoot_report::Table;
use offshoot_report::table::tail;
use offshoot_target::{Device, HostDevice, Target};
use serde::Serialize;

use super::{parse_target, read_arrays};
use crate::batch::{self, DEVICE_HELP, Inputs, Sequences};
use crate::failure::{Context, Failure, Kind, Result};
use crate::files::{self, OffFile};
use crate::port::Port;
use crate::ui::{Outcome, Ui};
use crate::watch;

/// Arguments of `verify`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The network (.onnx, .tflite).
    pub model: PathBuf,
    /// Extents of symbolic axes, as for `compile`.
    #[command(flatten)]
    pub dims: super::compile::Dims,
    /// What it was compiled to (.off); may be left out with --dump.
    #[arg(required_unless_present = "dump")]
    pub compiled: Option<PathBuf>,
    /// Samples (.npy), once for each input. May be left out with --dump if the dump holds the inputs.
    #[arg(long, required_unless_present = "dump")]
    pub input: Vec<PathBuf>,
    /// Tensors that another runtime gave for these samples, by their names in the network: an .npz archive or a folder of .npy files.
    /// They are compared with float, and with the compiled file; the first operator that departs is named.
    #[arg(long, value_name = "TENSORS", conflicts_with_all = ["target", "reset_every"])]
    pub dump: Option<PathBuf>,
    /// Device to compare with the host.
    #[arg(long, default_value = "host")]
    pub target: String,
    /// Samples to compare.
    #[arg(long, default_value_t = 4)]
    pub limit: usize,
    /// Signal-to-noise ratio (dB) under which an operator departs from float.
    #[arg(long, default_value_t = 15.0)]
    pub threshold: f64,
    /// Which network of the file, if it holds several; 0 is the first.
    #[arg(long, default_value_t = 0, value_name = "K")]
    pub network: usize,
    /// Which samples form a sequence, if the file keeps state.
    #[command(flatten)]
    pub sequences: Sequences,
}

/// One operator's comparison.
#[derive(Clone, Debug, Serialize)]
pub struct OperatorDifference {
    /// Position in the `.off` file.
    pub index: u16,
    /// Name of the tensor in the ONNX file that it completes.
    pub name: String,
    /// Kind of operator.
    pub kind: String,
    /// Signal-to-noise ratio against float, dB; null where there is no float value or no difference.
    pub snr_db: Option<f64>,
    /// The same with this operator alone: it runs on the float network's values, quantised to its inputs' scales, so that
    /// the errors of the operators before it do not count.
    pub alone_snr_db: Option<f64>,
    /// Largest difference from float.
    pub max_abs_error: Option<f64>,
    /// Whether host and device gave the same bits.
    pub equal: bool,
}

/// What `verify` found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Device compared with the host.
    pub target: String,
    /// Whether every operator's output has the same bits on host and device.
    pub equal: bool,
    /// First operator whose bits differ.
    pub first_difference: Option<String>,
    /// First operator below the threshold against float.
    pub first_departure: Option<String>,
    /// Largest difference of the network's outputs from float.
    pub max_abs_error: f64,
    /// Samples compared.
    pub count: usize,
    /// Operator by operator.
    pub operators: Vec<OperatorDifference>,
}

impl Outcome for Report {
    fn render(&self) -> String {
        // On the host there is nothing to compare bits with.
        let device = self.target != "host";
        let mut heads = vec!["#", "operator", "kind", "against float", "alone", "largest difference"];
        heads.extend(device.then_some("bits"));
        heads.push("");
        let mut table = Table::new(heads);
        for op in &self.operators {
            let departs = self.first_departure.as_ref() == Some(&op.name);
            let mut row = vec![
                op.index.to_string(),
                tail(&op.name, 44),
                op.kind.clone(),
                ratio(op.snr_db, op),
                ratio(op.alone_snr_db, op),
                op.max_abs_error.map_or("-".into(), |v| format!("{v:.5}")),
            ];
            row.extend(device.then(|| if op.equal { "equal" } else { "DIFFER" }.into()));
            row.push(if departs { "departs" } else { "" }.into());
            table.row(row);
        }
        let bits = match (&self.first_difference, self.target.as_str()) {
            (Some(op), target) => format!("{target} departs from host at operator `{op}`"),
            (None, "host") => "bits: host only; give --target to compare with a device".into(),
            (None, target) => {
                format!("{target} gives the same bits as host, every intermediate tensor included")
            }
        };
        format!(
            "{table}\n{bits}\nlargest difference of the outputs from float: {:.6} ({} samples)",
            self.max_abs_error, self.count
        )
    }
}

/// A ratio as text. Without one, the operator was either exact or not compared.
fn ratio(snr_db: Option<f64>, op: &OperatorDifference) -> String {
    match (snr_db, op.max_abs_error) {
        (Some(v), _) => super::decibels(v),
        (None, Some(_)) => "exact".into(),
        (None, None) => "-".into(),
    }
}

/// Compares.
///
/// # Errors
/// The two files do not belong together, a file cannot be read, the device fails.
pub fn run(ui: &Ui, args: &Args) -> Result<Report> {
    let (graph, _) = files::read_graph_with(&args.model, &args.dims.all())?;
    let compiled = args.compiled.as_ref().ok_or_else(|| {
        Failure::new(
            Kind::Usage,
            "there is no compiled file to compare with",
            "give the .off file, or --dump",
        )
    })?;
    let file = OffFile::read_network(compiled, args.network)?;
    let (arrays, names) = read_arrays(&args.input)?;
    verify(ui, &graph, &file, (&arrays, &names), args)
}

/// As [`run`], with network, compiled file, and samples with their names in memory; the names in `args` are for messages.
///
/// # Errors
/// As [`run`].
pub fn verify(
    ui: &Ui,
    graph: &Graph,
    file: &OffFile,
    (arrays, names): (&[Array], &[String]),
    args: &Args,
) -> Result<Report> {
    let target = parse_target(&args.target)?;
    let model = file.model()?;
    if model.source_hash() != origin_hash(graph) {
        return Err(not_compiled_from(args));
    }
    let inputs = Inputs::encode(&model, arrays, names)?.head(args.limit.max(1));
    let mut float = Vec::new();
    for ((array, name), id) in arrays.iter().zip(names).zip(&graph.inputs) {
        let mut samples = Port::of_value(graph, *id).real(array, name)?;
        // All samples share the only one of an input.
        if samples.len() == 1 {
            samples = vec![samples.remove(0); inputs.count()];
        }
        float.push(samples);
    }
    compare(ui, graph, file, &inputs, &float, &target, args)
}

fn not_compiled_from(args: &Args) -> Failure {
    let compiled = args.compiled.as_ref().map_or(String::new(), |p| p.display().to_string());
    let message = format!("{compiled} was not compiled from {}", args.model.display());
    Failure::new(Kind::Mismatch, message, "compile it again from this file")
}

fn compare(
    ui: &Ui,
    graph: &Graph,
    file: &OffFile,
    inputs: &Inputs,
    float: &[Vec<Vec<f32>>],
    target: &Target,
    args: &Args,
) -> Result<Report> {
    const HELP: &str = "report this model";
    let model = file.model()?;
    let sequence = args.sequences.length(&model)?;
    let references = references(graph, float, inputs.count(), sequence)?;
    let mut sums = Sums::new(&model);
    let mut max_abs_error = 0.0f64;
    let bar = ui.progress("comparing with float", inputs.count() as u64);
    let length = sequence.unwrap_or(1).min(inputs.count().max(1));
    for first in (0..inputs.count()).step_by(length) {
        // A state begins anew in a new engine, and in an arena of zeros.
        let mut alone = AlignedBytes::zeroed(model.arena_bytes() as usize);
        batch::with_engine(file, |engine| {
            for i in first..(first + length).min(inputs.count()) {
                watch::stop_if_cancelled();
                sums.reference.clone_from(&references[i]);
                batch::set_inputs(engine, &inputs.sample(i))?;
                engine.run_with(&mut sums).or_fail(Kind::Internal, HELP)?;
                for (o, id) in graph.outputs.iter().enumerate() {
                    let bytes = engine.output(o).or_fail(Kind::Internal, HELP)?;
                    let want =
                        sums.reference.get(id.0 as usize).and_then(Option::as_deref).unwrap_or_default();
                    for (a, b) in batch::output_port(&model, o)?.decode(bytes).iter().zip(want) {
                        max_abs_error = max_abs_error.max(f64::from((a - b).abs()));
                    }
                }
                if sequence.is_none() {
                    alone = AlignedBytes::zeroed(model.arena_bytes() as usize);
                }
                sums.run_alone(&model, &inputs.sample(i), &mut alone)?;
                bar.inc(1);
            }
            Ok(())
        })?;
    }
    bar.finish_and_clear();
    let differing = differing_operators(ui, file, inputs, target, sequence)?;
    let operators = sums.reports(graph, &differing);
    let first = |test: &dyn Fn(&OperatorDifference) -> bool| {
        operators.iter().find(|o| test(o)).map(|o| o.name.clone())
    };
    Ok(Report {
        target: args.target.clone(),
        equal: differing.is_empty(),
        first_difference: first(&|o| !o.equal),
        first_departure: first(&|o| o.snr_db.is_some_and(|v| v < args.threshold)),
        max_abs_error,
        count: inputs.count(),
        operators,
    })
}

/// Float values of each sample, by value, where the state is carried through `sequence` samples.
fn references(
    graph: &Graph,
    float: &[Vec<Vec<f32>>],
    count: usize,
    sequence: Option<usize>,
) -> Result<Vec<Vec<Option<Vec<f32>>>>> {
    let mut samples: Vec<Vec<ArrayD<f32>>> = vec![Vec::new(); count];
    for (column, id) in float.iter().zip(&graph.inputs) {
        for (sample, values) in samples.iter_mut().zip(column) {
            let array = ArrayD::from_shape_vec(IxDyn(&graph.value(*id).shape), values.clone());
            sample.push(array.or_fail(Kind::Internal, "report this")?);
        }
    }
    let samples: Vec<&Vec<ArrayD<f32>>> = samples.iter().collect();
    let mut references = vec![vec![None; graph.values.len()]; count];
    let mut keep = |i: usize, id: ValueId, value: &ArrayD<f32>| {
        references[i][id.0 as usize] = Some(value.iter().copied().collect());
    };
    quantize::trace(graph, &samples, sequence, &mut keep).or_fail(Kind::Internal, "report this model")?;
    Ok(references)
}

/// Indices of the operators whose output differs between host and device on any sample.
fn differing_operators(
    ui: &Ui,
    file: &OffFile,
    inputs: &Inputs,
    target: &Target,
    sequence: Option<usize>,
) -> Result<Vec<u16>> {
    if matches!(target, Target::Host) {
        return Ok(Vec::new());
    }
    let mut device = batch::connect(target)?;
    batch::load(device.as_mut(), file)?;
    let mut host = HostDevice::new();
    batch::load(&mut host, file)?;
    // Which operators run in a network with switches.
    let switches = file.model()?.ops().any(|(info, ..)| info.tag == Tag::Branch);
    let mut router = switches.then(HostDevice::new);
    if let Some(router) = &mut router {
        batch::load(router, file)?;
    }
    let bar = ui.progress("comparing with device", inputs.count() as u64);
    let mut differing = Vec::new();
    for i in 0..inputs.count() {
        watch::stop_if_cancelled();
        if i > 0 && sequence.is_some_and(|n| i % n == 0) {
            device.reopen().map_err(|e| batch::device_failure(&e, DEVICE_HELP))?;
            host.reopen().or_fail(Kind::Internal, "report this model")?;
            if let Some(router) = &mut router {
                router.reopen().or_fail(Kind::Internal, "report this model")?;
            }
        }
        let sample = inputs.sample(i);
        let here = host.digests(&sample).or_fail(Kind::Internal, "report this model")?;
        let there = device.digests(&sample).or_fail(Kind::Device, DEVICE_HELP)?;
        if let Some(router) = &mut router {
            let way = router.profile(&sample).or_fail(Kind::Internal, "report this model")?.operators;
            let first = here.iter().zip(&there).position(|(a, b)| a != b);
            // Behind the first that differs, the device may have taken another branch.
            differing.extend(first.and_then(|at| way.get(at)).map(|operator| operator.index));
            bar.inc(1);
            continue;
        }
        if here.len() != there.len() {
            let message = format!("the device ran {} operators, the host {}", there.len(), here.len());
            return Err(Failure::new(Kind::Device, message, "build the firmware again from this version"));
        }
        differing.extend((0u16..).zip(here.iter().zip(&there)).filter(|(_, (a, b))| a != b).map(|(k, _)| k));
        bar.inc(1);
    }
    bar.finish_and_clear();
    differing.sort_unstable();
    differing.dedup();
    Ok(differing)
}

/// How the output of a record is read.
fn record_port(header: &OpHeader, record: &Record) -> Port {
    Port {
        shape: Vec::new(),
        channels_first_outside: false,
        dtype: operators::output_dtype(record),
        scale: header.scale,
        zero_point: header.zero_point,
        declared: None,
    }
}

/// Sums over samples of signal and noise, one an operator.
struct Sums {
    /// Float values of this sample, by value.
    reference: Vec<Option<Vec<f32>>>,
    operators: Vec<Sum>,
}

struct Sum {
    info: OpInfo,
    port: Port,
    /// Along the network.
    network: Noise,
    /// The operator alone, on the reference's inputs.
    alone: Noise,
}

/// How far values are from those of the reference.
#[derive(Clone, Copy, Default)]
struct Noise {
    signal: f64,
    noise: f64,
    max: f64,
    compared: bool,
}

impl Noise {
    fn add(&mut self, got: &[f32], want: &[f32]) {
        self.compared = true;
        for (a, b) in got.iter().zip(want) {
            let (a, b) = (f64::from(*a), f64::from(*b));
            self.signal += b * b;
            self.noise += (a - b) * (a - b);
            self.max = self.max.max((a - b).abs());
        }
    }

    fn snr_db(&self) -> Option<f64> {
        (self.compared && self.noise > 0.0).then(|| 10.0 * (self.signal / self.noise).log10())
    }
}

impl Sums {
    fn new(model: &Model<'_>) -> Self {
        let operators = model
            .ops()
            .map(|(info, header, record)| Sum {
                info,
                port: record_port(&header, &record),
                network: Noise::default(),
                alone: Noise::default(),
            })
            .collect();
        Self { reference: Vec::new(), operators }
    }

    fn reports(&self, graph: &Graph, differing: &[u16]) -> Vec<OperatorDifference> {
        let name = |origin: u16| {
            graph.values.get(usize::from(origin)).map_or("(part of the next)".to_owned(), |v| v.name.clone())
        };
        self.operators
            .iter()
            .map(|s| OperatorDifference {
                index: s.info.index,
                name: name(s.info.origin),
                kind: s.info.tag.name().to_owned(),
                snr_db: s.network.snr_db(),
                alone_snr_db: s.alone.snr_db(),
                max_abs_error: s.network.compared.then_some(s.network.max),
                equal: !differing.contains(&s.info.index),
            })
            .collect()
    }
}

impl Sums {
    /// The reference's value that operator `index` completes, if its output is that value in full: one of several copies that
    /// write parts of a value is not comparable.
    fn wanted(&self, info: OpInfo, len: usize) -> Option<&[f32]> {
        let want = self.reference.get(usize::from(info.origin))?.as_deref()?;
        (want.len() == len).then_some(want)
    }

    /// Runs the operators one by one. After each, the reference's value takes the place of its output, quantised as the output
    /// is, so that every operator reads the reference's values.
    fn run_alone(&mut self, model: &Model<'_>, sample: &[&[u8]], arena: &mut [u8]) -> Result<()> {
        const HELP: &str = "report this model";
        for (i, bytes) in sample.iter().enumerate() {
            let place = model.input(i).map_or(0, |io| io.offset as usize);
            let memory = arena.get_mut(place..).and_then(|a| a.get_mut(..bytes.len()));
            let memory = memory.ok_or(offshoot::Error::NoSuchTensor).or_fail(Kind::Internal, HELP)?;
            memory.copy_from_slice(bytes);
        }
        let mut ops = model.ops();
        while let Some((info, _, record)) = ops.next() {
            let fault = |rule: Rule| offshoot::Error::Invalid { op: info.index, rule };
            let run = operators::run(&record, &mut Memory::new(arena, model.blobs()));
            let span = run.and_then(|()| operators::output(&record)).map_err(fault);
            let span = span.or_fail(Kind::Internal, HELP)?;
            ops.pass_over(&record, arena).map_err(fault).or_fail(Kind::Internal, HELP)?;
            let index = usize::from(info.index);
            let (Some(output), Some(sum)) = (arena.get_mut(span.range()), self.operators.get(index)) else {
                continue;
            };
            let got = sum.port.decode(output);
            let Some(want) = self.wanted(info, got.len()) else { continue };
            let forced = sum.port.encode_real(want.iter().copied());
            let mut alone = sum.alone;
            alone.add(&got, want);
            output.copy_from_slice(&forced);
            self.operators[index].alone = alone;
        }
        Ok(())
    }
}

impl Observer for Sums {
    fn after(&mut self, op: OpInfo, output: &[u8]) {
        let index = usize::from(op.index);
        let Some(sum) = self.operators.get(index) else { return };
        let got = sum.port.decode(output);
        let Some(want) = self.wanted(op, got.len()) else { return };
        let mut network = sum.network;
        network.add(&got, want);
        self.operators[index].network = network;
    }
}
