//! `offshoot profile`: counts what every operator costs on a target.

mod estimate;
mod paced;
mod routes;

use std::path::PathBuf;

use offshoot_data::npy::Array;
use offshoot_report::Table;
use offshoot_report::table::{tail, thousands};
use offshoot_target::{Device, Profile, Target, cycles};
use serde::Serialize;

use super::{inspect, parse_target, read_arrays};
use crate::batch::{self, DEVICE_HELP, Inputs};
use crate::failure::{Context, Kind, Result};
use crate::files::{self, OffFile};
use crate::ui::{Outcome, Ui};

pub use estimate::Estimate;
pub use paced::{Step, Steps};
pub use routes::{BranchTime, Routes};

/// Arguments of `profile`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Compiled model (.off).
    pub model: PathBuf,
    /// Where to run: host, qemu:BOARD, serial:PORT, or the name of a chip, whose core is emulated; see `offshoot target
    /// list`.
    #[arg(long)]
    pub target: String,
    /// A sample (.npy), once per input. Default: zeros; the cost does not depend on the data, unless a switch chooses what
    /// runs. Then up to 64 samples are measured, and shown for each branch.
    #[arg(long)]
    pub input: Vec<PathBuf>,
    /// Network that the model was compiled from (.onnx), to show its names.
    #[arg(long)]
    pub onnx: Option<PathBuf>,
    /// Which network to run, if the file holds several; 0 is the first.
    #[arg(long, default_value_t = 0, value_name = "K")]
    pub network: usize,
    /// Also show a run in steps of at most so many multiply-accumulates (`Engine::steps`): their number, and the longest.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub steps: Option<u32>,
}

/// One operator's cost.
#[derive(Clone, Debug, Serialize)]
pub struct OperatorTime {
    /// Position in the file.
    pub index: u16,
    /// Name of its output tensor in the ONNX file, or kind and position.
    pub name: String,
    /// Kind.
    pub kind: String,
    /// Multiply-accumulates.
    pub macs: u64,
    /// Instructions; null if the target cannot count them.
    pub instructions: Option<u64>,
    /// Modelled cycles; null if there is no timing model of the core.
    pub cycles_modelled: Option<u64>,
    /// Nanoseconds, if the target has a clock and no counter.
    pub nanoseconds: Option<u64>,
    /// Deepest stack in bytes; null if the target cannot tell.
    pub stack_bytes: Option<u64>,
}

/// Cost of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Where it ran.
    pub target: String,
    /// Instructions of a whole run without an observer; null if the target cannot count them.
    pub instructions: Option<u64>,
    /// Modelled cycles; null if there is no timing model of the core.
    pub cycles_modelled: Option<u64>,
    /// Modelled cycles spent waiting for flash.
    pub flash_waits_modelled: Option<u64>,
    /// Error of the timing model, or why there are no modelled cycles; null if none were requested.
    pub cycles_note: Option<String>,
    /// Published measurements, and the modelled cycles for them.
    pub cycles_model_error: Vec<cycles::KnownPoint>,
    /// Time on the chip that was named as the target.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_on_chip: Option<Estimate>,
    /// Nanoseconds of a run, if the target has a clock and no counter.
    pub nanoseconds: Option<u64>,
    /// Bytes of the model's arena.
    pub arena_bytes: u64,
    /// Deepest stack of the run in bytes.
    pub stack_bytes: Option<u64>,
    /// Bytes of the firmware's code and constants, without the model.
    pub code_bytes: Option<u64>,
    /// Bytes of the `.off` file.
    pub model_bytes: u64,
    /// Operator by operator.
    pub operators: Vec<OperatorTime>,
    /// What the branches of switches cost, if the model has any; operators are those that some sample ran.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub routes: Option<Routes>,
    /// A run in steps, if it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<Steps>,
}

impl Outcome for Report {
    fn render(&self) -> String {
        let counted = self.instructions.is_some();
        let cost = if counted { "instructions" } else { "µs" };
        let mut table =
            Table::new(["#", "operator", "kind", "MACs", cost, "per MAC", "share %", "cycles", "stack"]);
        let value = |o: &OperatorTime| if counted { o.instructions } else { o.nanoseconds }.unwrap_or(0);
        let total: u64 = self.operators.iter().map(value).sum();
        for op in &self.operators {
            let v = value(op);
            let ran = op.instructions.or(op.nanoseconds).is_some() || self.routes.is_none();
            table.row([
                op.index.to_string(),
                tail(&op.name, 44),
                op.kind.clone(),
                thousands(op.macs),
                match (ran, counted) {
                    (false, _) => "not run".into(),
                    (_, true) => thousands(v),
                    _ => format!("{:.1}", v as f64 / 1e3),
                },
                if op.macs > 0 && counted && ran {
                    format!("{:.2}", v as f64 / op.macs as f64)
                } else {
                    "-".into()
                },
                format!("{:.1}", 100.0 * v as f64 / total.max(1) as f64),
                op.cycles_modelled.map_or("-".into(), thousands),
                op.stack_bytes.map_or("-".into(), thousands),
            ]);
        }
        let mut facts = Table::new(["", self.target.as_str()]);
        if let Some(n) = self.instructions {
            facts.row(["instructions", &thousands(n)]);
        }
        if let Some(n) = self.cycles_modelled {
            facts.row(["cycles, modelled", &thousands(n)]);
        }
        if let Some(n) = self.flash_waits_modelled {
            facts.row(["  waiting for flash", &thousands(n)]);
        }
        if let Some(time) = &self.time_on_chip {
            time.rows(&mut facts);
        }
        if let Some(n) = self.nanoseconds {
            facts.row(["time of this run", &format!("{:.1} µs", n as f64 / 1e3)]);
        }
        facts.row(["arena (RAM), bytes", &thousands(self.arena_bytes)]);
        if let Some(n) = self.stack_bytes {
            facts.row(["deepest stack, bytes", &thousands(n)]);
        }
        if let Some(n) = self.code_bytes {
            facts.row(["code (flash), bytes", &thousands(n)]);
        }
        facts.row(["model (flash), bytes", &thousands(self.model_bytes)]);
        let note = match (&self.time_on_chip, &self.cycles_note) {
            (Some(time), _) => format!("\n{}", time.note()),
            (None, Some(note)) => format!("\ncycles: {note}"),
            (None, None) => String::new(),
        };
        let known: String = self
            .cycles_model_error
            .iter()
            .map(|k| {
                let (published, modelled) = (thousands(k.published_cycles), thousands(k.modelled_cycles));
                format!(
                    "\ntiming model error: {:+.0} % ({modelled} modelled, {published} published): {}",
                    k.percent(),
                    k.what
                )
            })
            .collect();
        let steps = self.steps.as_ref().map(Steps::render).unwrap_or_default();
        let unit = if counted { "instructions" } else { "nanoseconds" };
        let routes = self.routes.as_ref().map(|routes| routes.render(unit)).unwrap_or_default();
        format!("{table}\n{facts}{note}{known}{routes}{steps}")
    }
}

/// Profiles one run.
///
/// # Errors
/// A file cannot be read, or the device is missing or does not answer.
pub fn run(_ui: &Ui, args: &Args) -> Result<Report> {
    let target = parse_target(&args.target)?;
    let file = OffFile::read_network(&args.model, args.network)?;
    let inputs = if args.input.is_empty() {
        zeros(&file)?
    } else {
        let (arrays, names) = read_arrays(&args.input)?;
        Inputs::encode(&file.model()?, &arrays, &names)?
    };
    let graph = args.onnx.as_deref().map(files::read_graph).transpose()?.map(|(g, _)| g);
    let mut device = batch::connect(&target)?;
    let mut report = profile_with_cycles(device.as_mut(), &file, &inputs, &args.target, graph.as_ref())?;
    report.steps = args.steps.map(|most| Steps::new(&file, most, &report.operators)).transpose()?;
    Ok(report)
}

/// One sample of zeros for every input.
///
/// # Errors
/// The model cannot be opened.
pub fn zeros(file: &OffFile) -> Result<Inputs> {
    let model = file.model()?;
    let mut arrays: Vec<Array> = Vec::new();
    for i in 0..model.input_count() {
        let shape = batch::input_port(&model, i)?.outside_shape();
        arrays.push(ndarray::ArrayD::<f32>::zeros(ndarray::IxDyn(&shape)).into());
    }
    let names = vec!["zeros".to_owned(); arrays.len()];
    Inputs::encode(&model, &arrays, &names)
}

/// Profiles a run of the first sample on a connected device; of further samples too, if switches choose what runs.
///
/// # Errors
/// The device does not answer.
pub fn profile(
    device: &mut dyn Device,
    file: &OffFile,
    inputs: &Inputs,
    target: &str,
    graph: Option<&offshoot_ir::Graph>,
) -> Result<Report> {
    batch::load(device, file)?;
    let mut measured = device.profile(&inputs.sample(0)).or_fail(Kind::Device, DEVICE_HELP)?;
    let routes = Routes::measure(device, file, inputs, &mut measured)?;
    Ok(Report { routes, ..report(&measured, file, target, graph, None)? })
}

/// As [`profile`], and models cycles if the target supports it; if not, the report says why.
///
/// # Errors
/// As [`profile`].
pub fn profile_with_cycles(
    device: &mut dyn Device,
    file: &OffFile,
    inputs: &Inputs,
    target: &str,
    graph: Option<&offshoot_ir::Graph>,
) -> Result<Report> {
    batch::load(device, file)?;
    let sample = inputs.sample(0);
    let mut measured = device.profile(&sample).or_fail(Kind::Device, DEVICE_HELP)?;
    let note = match device.model_cycles(&sample, &mut measured) {
        Ok(()) => cycles::ERROR.to_owned(),
        Err(why) => why.to_string(),
    };
    let routes = Routes::measure(device, file, inputs, &mut measured)?;
    Ok(Report { routes, ..report(&measured, file, target, graph, Some(note))? })
}

fn report(
    measured: &Profile,
    file: &OffFile,
    target: &str,
    graph: Option<&offshoot_ir::Graph>,
    cycles_note: Option<String>,
) -> Result<Report> {
    let model = file.model()?;
    let described = inspect::operators(&model, graph);
    let operators = described
        .into_iter()
        .map(|d| {
            let cost = measured.operators.iter().find(|m| m.index == d.index);
            OperatorTime {
                index: d.index,
                name: d.name,
                kind: d.kind,
                macs: d.macs,
                instructions: cost.and_then(|c| c.instructions),
                cycles_modelled: cost.and_then(|c| c.cycles),
                nanoseconds: cost.and_then(|c| c.nanoseconds),
                stack_bytes: cost.and_then(|c| c.stack_bytes),
            }
        })
        .collect();
    let time_on_chip = match parse_target(target) {
        Ok(Target::Chip(chip)) => Estimate::new(chip, measured),
        _ => None,
    };
    // The chip's own note says what its cycles rest on.
    let cycles_note = cycles_note.filter(|_| time_on_chip.is_none() || measured.cycles.is_none());
    Ok(Report {
        time_on_chip,
        target: target.to_owned(),
        instructions: measured.instructions,
        cycles_modelled: measured.cycles,
        flash_waits_modelled: measured.flash_waits,
        cycles_model_error: match (measured.cycles, parse_target(target)) {
            (Some(_), Ok(Target::Qemu(board))) => cycles::known(board.core.name).to_vec(),
            _ => Vec::new(),
        },
        cycles_note,
        nanoseconds: measured.nanoseconds,
        arena_bytes: u64::from(model.arena_bytes()),
        stack_bytes: measured.stack_bytes,
        code_bytes: measured.code_bytes,
        model_bytes: file.bytes().len() as u64,
        operators,
        routes: None,
        steps: None,
    })
}
