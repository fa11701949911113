//! `offshoot demo`: compiles, runs, profiles and adapts a shipped model; needs no files.

mod learning;
mod page;

use std::path::PathBuf;

use ndarray::{ArrayD, IxDyn};
use offshoot_data::npy::{self, Array};
use offshoot_data::synth::Task;
use offshoot_report::Table;
use offshoot_report::table::thousands;
use offshoot_target::{Device, HostDevice, Target};
use serde::Serialize;

use super::compile;
use super::{eval, parse_target, profile};
use crate::batch::{self, Inputs};
use crate::failure::{Context, Failure, Kind, Result};
use crate::files::{self, OffFile};
use crate::metrics::argmax;
use crate::port::Port;
use crate::ui::{Outcome, Ui};

/// A model that is built into the binary.
struct Shipped {
    name: &'static str,
    what: &'static str,
    onnx: &'static [u8],
    calib: &'static [u8],
    test_x: &'static [u8],
    test_y: &'static [u8],
    shifted: Option<Shifted>,
}

impl Shipped {
    /// The task that generates its data.
    fn task(&self) -> Result<Task> {
        let missing = || {
            Failure::new(
                Kind::Internal,
                format!("no task generates data for {}", self.name),
                "this is a bug in Offshoot: report it with this message",
            )
        };
        Task::ALL.into_iter().find(|t| t.name() == self.name).ok_or_else(missing)
    }
}

/// Data that differ from the model's training data: samples and labels to learn from, and to test on.
struct Shifted {
    what: &'static str,
    train: [&'static [u8]; 2],
    test: [&'static [u8]; 2],
}

macro_rules! shifted {
    ($name:literal, $what:literal) => {
        Some(Shifted {
            what: $what,
            train: [
                include_bytes!(concat!("../../../../models/", $name, "/shifted_train_x.npy")),
                include_bytes!(concat!("../../../../models/", $name, "/shifted_train_y.npy")),
            ],
            test: [
                include_bytes!(concat!("../../../../models/", $name, "/shifted_test_x.npy")),
                include_bytes!(concat!("../../../../models/", $name, "/shifted_test_y.npy")),
            ],
        })
    };
}

macro_rules! shipped {
    ($name:literal, $what:literal, $shifted:expr) => {
        Shipped {
            name: $name,
            what: $what,
            onnx: include_bytes!(concat!("../../../../models/", $name, "/model.onnx")),
            calib: include_bytes!(concat!("../../../../models/", $name, "/calibration_x.npy")),
            test_x: include_bytes!(concat!("../../../../models/", $name, "/test_x.npy")),
            test_y: include_bytes!(concat!("../../../../models/", $name, "/test_y.npy")),
            shifted: $shifted,
        }
    };
}

const MODELS: [Shipped; 3] = [
    shipped!(
        "glyphs",
        "drawn symbols, a residual convolutional network",
        shifted!("glyphs", "the camera turned by 45 degrees, a finer pen")
    ),
    shipped!(
        "vibration",
        "machine vibration, a one-dimensional depthwise-separable network",
        shifted!("vibration", "the sensor mounted elsewhere: turned, less gain, more hum")
    ),
    shipped!("tones", "sounds as spectrograms, a depthwise-separable network", None),
];

/// Samples and the networks' outputs for them, for the page.
struct Answers {
    x: Array,
    labels: Vec<usize>,
    float: Vec<Vec<f32>>,
    int8: Vec<Vec<f32>>,
    shifted_x: Array,
    shifted_labels: Vec<usize>,
}

/// Arguments of `demo`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Shipped model: glyphs, vibration or tones.
    #[arg(long, default_value = "glyphs")]
    pub model: String,
    /// Also run, profile and learn on this target, for example qemu:cortex-m4.
    #[arg(long)]
    pub target: Option<String>,
    /// Report to write (.html).
    #[arg(long, default_value = "report.html")]
    pub report: PathBuf,
}

/// What the demo found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Name of the shipped model.
    pub model: String,
    /// Size of the ONNX file in bytes.
    pub onnx_bytes: u64,
    /// Size of the `.off` file in bytes.
    pub model_bytes: u64,
    /// Size of the arena in bytes.
    pub arena_bytes: u64,
    /// Proved lower bound of the arena in bytes.
    pub arena_lower_bound_bytes: u64,
    /// Multiply-accumulates of a run.
    pub macs: u64,
    /// Accuracy of the float network, from 0 to 1.
    pub accuracy_float: f64,
    /// Accuracy of the compiled network, from 0 to 1.
    pub accuracy_int8: f64,
    /// Number of test samples.
    pub count: usize,
    /// Cost on the target, or on the host if no target was given.
    pub profile: profile::Report,
    /// Whether host and target computed the same bits; null without a target.
    pub equal: Option<bool>,
    /// Confusion matrix of the compiled network on the test samples: `[class][predicted class]`.
    pub confusion: Vec<Vec<u32>>,
    /// Adaptation to shifted data, if the model ships with any.
    pub learn: Option<learning::Learned>,
    /// Page written.
    pub report: String,
}

impl Outcome for Report {
    fn render(&self) -> String {
        let mut table = Table::new(["", self.model.as_str()]);
        table
            .row(["float ONNX, bytes", &thousands(self.onnx_bytes)])
            .row(["compiled .off, bytes", &thousands(self.model_bytes)])
            .row(["arena (RAM), bytes", &thousands(self.arena_bytes)])
            .row(["  proved lower bound", &thousands(self.arena_lower_bound_bytes)])
            .row(["MACs", &thousands(self.macs)])
            .row(["accuracy, float", &format!("{:.2} %", 100.0 * self.accuracy_float)])
            .row(["accuracy, int8", &format!("{:.2} %", 100.0 * self.accuracy_int8)]);
        let bits = match self.equal {
            Some(true) => {
                format!("\n{} computes the same bits as the host in every tensor", self.profile.target)
            }
            Some(false) => format!(
                "\n{} DIFFERS from the host: `offshoot verify --target` finds the operator",
                self.profile.target
            ),
            None => "\nto run this on an emulated board: --target qemu:cortex-m4".to_owned(),
        };
        let learned = self.learn.as_ref().map_or(String::new(), |l| {
            format!(
                "\n\n{}: learning from {} labelled samples on {}, without backpropagation, raises accuracy from \
                 {:.1} to {:.1} % \
                 in {} bytes of arena\n\n{}\n",
                l.what,
                l.samples,
                l.report.target,
                100.0 * l.report.accuracy_before,
                100.0 * l.report.accuracy_after,
                thousands(l.report.train_arena_bytes),
                l.bars()
            )
        });
        format!("{table}\n\n{}{bits}{learned}\nreport: {}", self.profile.render(), self.report)
    }
}

/// Compiles, evaluates, profiles and adapts a shipped model, and writes a page about it.
///
/// # Errors
/// There is no such model or target, the target fails, or the page cannot be written.
pub fn run(ui: &Ui, args: &Args) -> Result<Report> {
    let Some(model) = MODELS.iter().find(|m| m.name == args.model) else {
        let names: Vec<&str> = MODELS.iter().map(|m| m.name).collect();
        let message = format!("there is no shipped model `{}`", args.model);
        return Err(Failure::new(Kind::Usage, message, format!("give --model one of: {}", names.join(", "))));
    };
    ui.note(&format!("{}: {}", model.name, model.what));
    let graph = offshoot_import::import_bytes(model.onnx, model.name)
        .or_fail(Kind::Internal, "this is a bug in Offshoot: report it with this message")?;
    let (graph, _) = files::optimise(graph)?;
    let (calib, x, y) = (parse(model.calib)?, parse(model.test_x)?, parse(model.test_y)?);

    ui.note("quantising to int8 and compiling");
    let samples = compile::calibration(&graph, &[calib], &["calibration".into()])?;
    let made = compile::make(ui, graph.clone(), &samples, &compile::Args::default(), None)?;
    let file = OffFile::from_bytes(&made.compiled.bytes);
    let off = file.model()?;

    ui.note("running the float and int8 networks on the test samples");
    let inputs = Inputs::encode(&off, std::slice::from_ref(&x), &["test samples".into()])?;
    let results = batch::run(ui, &file, &inputs, &Target::Host, batch::Sequences::default())?;
    let port = batch::output_port(&off, 0)?;
    let outputs: Vec<Vec<f32>> = results.iter().filter_map(|r| r.first()).map(|b| port.decode(b)).collect();
    let float = float_outputs(&graph, &x)?;
    let (accuracy_int8, accuracy_float) = (eval::top1(&outputs, &y)?, eval::top1(&float, &y)?);

    let (costs, equal) = match &args.target {
        None => {
            let mut host = HostDevice::new();
            (profile::profile(&mut host, &file, &inputs, "host", Some(&made.graph))?, None)
        }
        Some(name) => on_target(ui, name, &file, &inputs, &made.graph)?,
    };
    let task = model.task()?;
    let target = args.target.as_deref().map_or(Ok(Target::Host), parse_target)?;
    let learned = match &model.shifted {
        Some(shifted) => Some(learning::adapt(ui, task, shifted, &graph, &samples, &target)?),
        None => None,
    };
    let labels = classes_of(&y)?;
    let guessed: Vec<usize> = outputs.iter().map(|scores| argmax(scores)).collect();
    let shifted = match &model.shifted {
        Some(shifted) => (parse(shifted.test[0])?, classes_of(&parse(shifted.test[1])?)?),
        None => (x.clone(), vec![]),
    };
    let report = Report {
        model: model.name.into(),
        onnx_bytes: model.onnx.len() as u64,
        model_bytes: made.compiled.bytes.len() as u64,
        arena_bytes: u64::from(off.arena_bytes()),
        arena_lower_bound_bytes: u64::from(off.arena_lower_bound()),
        macs: made.compiled.report.macs,
        accuracy_float,
        accuracy_int8,
        count: inputs.count(),
        profile: costs,
        equal,
        confusion: confusion(task.classes().len(), &labels, &guessed),
        learn: learned,
        report: args.report.display().to_string(),
    };
    let answers =
        Answers { x, labels, float, int8: outputs, shifted_x: shifted.0, shifted_labels: shifted.1 };
    let html = page::page(model, task, &report, &made, &off, &answers)?;
    offshoot_report::write_atomically(&args.report, html.as_bytes())
        .map_err(|e| Failure::writing(&args.report, &e))?;
    Ok(report)
}

fn parse(bytes: &[u8]) -> Result<Array> {
    npy::parse(bytes).or_fail(Kind::Internal, "the built-in data are damaged: build offshoot again")
}

fn classes_of(labels: &Array) -> Result<Vec<usize>> {
    let whole =
        labels.to_i64().or_fail(Kind::Internal, "the built-in data are damaged: build offshoot again")?;
    Ok(whole.iter().map(|&label| label.max(0) as usize).collect())
}

/// Confusion matrix: `[class][predicted class]`.
fn confusion(classes: usize, labels: &[usize], guessed: &[usize]) -> Vec<Vec<u32>> {
    let mut counts = vec![vec![0; classes]; classes];
    for (&label, &guess) in labels.iter().zip(guessed) {
        if let Some(count) = counts.get_mut(label).and_then(|row| row.get_mut(guess)) {
            *count += 1;
        }
    }
    counts
}

fn float_outputs(graph: &offshoot_ir::Graph, x: &Array) -> Result<Vec<Vec<f32>>> {
    use rayon::prelude::*;
    let executor = offshoot_reference::Executor::new(graph)
        .or_fail(Kind::Internal, "this is a bug in Offshoot: report it with this message")?;
    let port = Port::of_value(graph, graph.inputs[0]);
    port.real(x, "test samples")?
        .into_par_iter()
        .map(|sample| {
            let array = ArrayD::from_shape_vec(IxDyn(&port.shape), sample)
                .or_fail(Kind::Internal, "this is a bug in Offshoot: report it with this message")?;
            let out = executor
                .run(&[array])
                .or_fail(Kind::Internal, "this is a bug in Offshoot: report it with this message")?;
            Ok(out.first().map(|o| o.iter().copied().collect()).unwrap_or_default())
        })
        .collect()
}

fn on_target(
    ui: &Ui,
    name: &str,
    file: &OffFile,
    inputs: &Inputs,
    graph: &offshoot_ir::Graph,
) -> Result<(profile::Report, Option<bool>)> {
    ui.note(&format!("running on {name}"));
    let target = parse_target(name)?;
    let mut device = batch::connect(&target)?;
    let costs = profile::profile(device.as_mut(), file, inputs, name, Some(graph))?;
    let mut host = HostDevice::new();
    host.load(file.bytes()).or_fail(Kind::Internal, "this is a bug in Offshoot: report it with the model")?;
    let sample = inputs.sample(0);
    let here = host
        .digests(&sample)
        .or_fail(Kind::Internal, "this is a bug in Offshoot: report it with the model")?;
    let there = device.digests(&sample).or_fail(Kind::Device, batch::DEVICE_HELP)?;
    Ok((costs, Some(here == there)))
}
