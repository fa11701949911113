//! `offshoot verify`: compares float with int8 and host with device, operator by operator.

use std::path::PathBuf;

use ndarray::{ArrayD, IxDyn};
use offshoot::trace::{Observer, OpInfo};
use offshoot::{Model, operators};
use offshoot_ir::passes::origin_hash;
use offshoot_ir::{Graph, ValueId};
use offshoot_report::Table;
use offshoot_report::table::tail;
use offshoot_target::{Device, HostDevice, Target};
use serde::Serialize;

use super::{parse_target, read_arrays};
use crate::batch::{self, DEVICE_HELP, Inputs};
use crate::failure::{Context, Failure, Kind, Result};
use crate::files::{self, OffFile};
use crate::port::Port;
use crate::ui::{Outcome, Ui};

/// Arguments of `verify`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Float network (.onnx).
    pub model: PathBuf,
    /// The model compiled from it (.off).
    pub compiled: PathBuf,
    /// Samples (.npy), once per input.
    #[arg(long, required = true)]
    pub input: Vec<PathBuf>,
    /// Target to compare with the host; see `offshoot target list`.
    #[arg(long, default_value = "host")]
    pub target: String,
    /// Number of samples to compare.
    #[arg(long, default_value_t = 4)]
    pub limit: usize,
    /// Signal-to-noise ratio (dB) below which an operator counts as departing from float.
    #[arg(long, default_value_t = 15.0)]
    pub threshold: f64,
    /// Which network to compare, if the file holds several; 0 is the first.
    #[arg(long, default_value_t = 0, value_name = "K")]
    pub network: usize,
}

/// One operator's comparison.
#[derive(Clone, Debug, Serialize)]
pub struct OperatorReport {
    /// Position in the `.off` file.
    pub index: u16,
    /// Name of its output tensor in the ONNX file.
    pub name: String,
    /// Kind of operator.
    pub kind: String,
    /// Signal-to-noise ratio against float in dB; null if there is no float value or no difference.
    pub snr_db: Option<f64>,
    /// Largest absolute difference from float.
    pub max_abs_error: Option<f64>,
    /// Whether host and device computed the same bits.
    pub equal: bool,
}

/// Result of `verify`.
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
    /// Largest absolute difference of the network's outputs from float.
    pub max_abs_error: f64,
    /// Number of samples compared.
    pub count: usize,
    /// Operator by operator.
    pub operators: Vec<OperatorReport>,
}

impl Outcome for Report {
    fn render(&self) -> String {
        let mut table =
            Table::new(["#", "operator", "kind", "against float", "largest difference", "bits", ""]);
        for op in &self.operators {
            let departs = self.first_departure.as_ref() == Some(&op.name);
            table.row([
                op.index.to_string(),
                tail(&op.name, 44),
                op.kind.clone(),
                match (op.snr_db, op.max_abs_error) {
                    (Some(v), _) => super::decibels(v),
                    (None, Some(_)) => "exact".into(),
                    (None, None) => "-".into(),
                },
                op.max_abs_error.map_or("-".into(), |v| format!("{v:.5}")),
                if op.equal { "equal" } else { "DIFFER" }.into(),
                if departs { "departs" } else { "" }.into(),
            ]);
        }
        let bits = match (&self.first_difference, self.target.as_str()) {
            (Some(op), target) => format!("{target} differs from the host from operator `{op}` on"),
            (None, "host") => {
                "bits: the host alone; give --target qemu:cortex-m4 to compare with a device".into()
            }
            (None, target) => {
                format!("{target} computes the same bits as the host in every tensor")
            }
        };
        format!(
            "{table}\n{bits}\nlargest difference of the outputs from float: {:.6} ({} samples)",
            self.max_abs_error, self.count
        )
    }
}

/// Compares the compiled model with its float network, and the target with the host.
///
/// # Errors
/// The two files do not belong together, a file cannot be read, or the device fails.
pub fn run(ui: &Ui, args: &Args) -> Result<Report> {
    let target = parse_target(&args.target)?;
    let (graph, _) = files::read_graph(&args.model)?;
    let file = OffFile::read_network(&args.compiled, args.network)?;
    let model = file.model()?;
    if model.source_hash() != origin_hash(&graph) {
        let message = format!("{} was not compiled from {}", args.compiled.display(), args.model.display());
        return Err(Failure::new(
            Kind::Mismatch,
            message,
            "compile this ONNX file again, or give the one that the model was compiled from",
        ));
    }
    let (arrays, names) = read_arrays(&args.input)?;
    let inputs = Inputs::encode(&model, &arrays, &names)?.head(args.limit.max(1));
    let mut float = Vec::new();
    for ((array, name), id) in arrays.iter().zip(&names).zip(&graph.inputs) {
        float.push(Port::of_value(&graph, *id).real(array, name)?);
    }
    compare(ui, &graph, &file, &inputs, &float, &target, args)
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
    let model = file.model()?;
    let executor = offshoot_reference::Executor::new(graph)
        .or_fail(Kind::Internal, "this is a bug in Offshoot: report it with the model")?;
    let mut sums = Sums::new(graph, &model);
    let mut max_abs_error = 0.0f64;
    let bar = ui.progress("comparing with float", inputs.count() as u64);
    for i in 0..inputs.count() {
        let mut arrays = Vec::new();
        for (column, id) in float.iter().zip(&graph.inputs) {
            let shape = IxDyn(&graph.value(*id).shape);
            arrays.push(
                ArrayD::from_shape_vec(shape, column[i].clone())
                    .or_fail(Kind::Internal, "this is a bug in Offshoot: report it with this message")?,
            );
        }
        sums.reference.clear();
        let wanted = executor
            .run_all(&arrays, &mut |id: ValueId, value: &ArrayD<f32>| sums.keep(id, value))
            .or_fail(Kind::Internal, "this is a bug in Offshoot: report it with the model")?;
        let outputs = batch::with_engine(file, |engine| {
            batch::set_inputs(engine, &inputs.sample(i))?;
            engine
                .run_with(&mut sums)
                .or_fail(Kind::Internal, "this is a bug in Offshoot: report it with the model")?;
            (0..model.output_count())
                .map(|o| {
                    engine
                        .output(o)
                        .map(<[u8]>::to_vec)
                        .or_fail(Kind::Internal, "this is a bug in Offshoot: report it with the model")
                })
                .collect::<Result<Vec<_>>>()
        })?;
        for (o, (bytes, want)) in outputs.iter().zip(&wanted).enumerate() {
            for (a, b) in batch::output_port(&model, o)?.decode(bytes).iter().zip(want.iter()) {
                max_abs_error = max_abs_error.max(f64::from((a - b).abs()));
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    let differing = differing_operators(ui, file, inputs, target)?;
    let operators = sums.reports(graph, &differing);
    let first =
        |test: &dyn Fn(&OperatorReport) -> bool| operators.iter().find(|o| test(o)).map(|o| o.name.clone());
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

/// Indices of the operators whose output differs between host and device on any sample.
fn differing_operators(ui: &Ui, file: &OffFile, inputs: &Inputs, target: &Target) -> Result<Vec<u16>> {
    if matches!(target, Target::Host) {
        return Ok(Vec::new());
    }
    let mut device = batch::connect(target)?;
    batch::load(device.as_mut(), file)?;
    let mut host = HostDevice::new();
    batch::load(&mut host, file)?;
    let bar = ui.progress("comparing with device", inputs.count() as u64);
    let mut differing = Vec::new();
    for i in 0..inputs.count() {
        let sample = inputs.sample(i);
        let here = host
            .digests(&sample)
            .or_fail(Kind::Internal, "this is a bug in Offshoot: report it with the model")?;
        let there = device.digests(&sample).or_fail(Kind::Device, DEVICE_HELP)?;
        if here.len() != there.len() {
            let message = format!("the device ran {} operators, the host {}", there.len(), here.len());
            return Err(Failure::new(
                Kind::Device,
                message,
                "build and flash the firmware of this version of Offshoot",
            ));
        }
        differing.extend((0u16..).zip(here.iter().zip(&there)).filter(|(_, (a, b))| a != b).map(|(k, _)| k));
        bar.inc(1);
    }
    bar.finish_and_clear();
    differing.sort_unstable();
    differing.dedup();
    Ok(differing)
}

/// Power of signal and noise, summed over samples, for each operator.
struct Sums {
    /// Float tensors of the current sample, by value index.
    reference: Vec<Option<Vec<f32>>>,
    operators: Vec<Sum>,
}

struct Sum {
    info: OpInfo,
    port: Port,
    signal: f64,
    noise: f64,
    max: f64,
    compared: bool,
}

impl Sums {
    fn new(graph: &Graph, model: &Model<'_>) -> Self {
        let operators = model
            .ops()
            .map(|(info, header, record)| Sum {
                info,
                port: Port {
                    shape: Vec::new(),
                    channels_first_outside: false,
                    dtype: operators::output_dtype(&record),
                    scale: header.scale,
                    zero_point: header.zero_point,
                },
                signal: 0.0,
                noise: 0.0,
                max: 0.0,
                compared: false,
            })
            .collect();
        Self { reference: vec![None; graph.values.len()], operators }
    }

    fn keep(&mut self, id: ValueId, value: &ArrayD<f32>) {
        let index = id.0 as usize;
        if self.reference.len() <= index {
            self.reference.resize(index + 1, None);
        }
        self.reference[index] = Some(value.iter().copied().collect());
    }

    fn reports(&self, graph: &Graph, differing: &[u16]) -> Vec<OperatorReport> {
        let name = |origin: u16| {
            graph.values.get(usize::from(origin)).map_or("(part of the next)".to_owned(), |v| v.name.clone())
        };
        self.operators
            .iter()
            .map(|s| OperatorReport {
                index: s.info.index,
                name: name(s.info.origin),
                kind: s.info.tag.name().to_owned(),
                snr_db: (s.compared && s.noise > 0.0).then(|| 10.0 * (s.signal / s.noise).log10()),
                max_abs_error: s.compared.then_some(s.max),
                equal: !differing.contains(&s.info.index),
            })
            .collect()
    }
}

impl Observer for Sums {
    fn after(&mut self, op: OpInfo, output: &[u8]) {
        let Some(sum) = self.operators.get_mut(usize::from(op.index)) else { return };
        let Some(Some(want)) = self.reference.get(usize::from(op.origin)) else { return };
        let got = sum.port.decode(output);
        // An operator that writes only part of the tensor, such as one of several copies, cannot be compared.
        if got.len() != want.len() {
            return;
        }
        sum.compared = true;
        for (a, b) in got.iter().zip(want) {
            let (a, b) = (f64::from(*a), f64::from(*b));
            sum.signal += b * b;
            sum.noise += (a - b) * (a - b);
            sum.max = sum.max.max((a - b).abs());
        }
    }
}
