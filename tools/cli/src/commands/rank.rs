//! `offshoot rank`: accuracy, flash and instructions against rank, for several ways to choose ranks.

use std::path::PathBuf;

use ndarray::ArrayD;
use offshoot_compress::low_rank::{
    Cut, MaestroOptions, SplitLayer, analyse, choices, maestro, ranks_of, split,
};
use offshoot_compress::prune;
use offshoot_ir::Graph;
use offshoot_report::{Table, plot};
use offshoot_target::Target;
use serde::Serialize;

use super::compile::{self, Precision};
use super::parse_target;
use super::sensitivity::failure;
use crate::failure::{Context, Failure, Kind, Result};
use crate::files;
use crate::measure::{Measured, TITLES, measure};
use crate::samples::{self, Sets};
use crate::ui::{Bar, Outcome, Ui};

/// How ranks are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// Singular values of the weights.
    Svd,
    /// Singular values of the outputs on calibration samples.
    Aware,
    /// As `aware`, after as many epochs as `maestro` but without its ordered dropout.
    Frozen,
    /// Maestro: training with ordered dropout and group lasso.
    Maestro,
}

/// Arguments of `rank`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Float network (.onnx, .tflite) with one input.
    pub model: PathBuf,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub samples: samples::Args,
    /// Folder for curve.json and curve.svg; created if needed.
    #[arg(short, long)]
    pub output: PathBuf,
    /// How ranks are chosen.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "svd,aware,frozen,maestro")]
    pub methods: Vec<Method>,
    /// Shares of the layers' size to keep, in percent; size is the mean of weights and multiply-accumulates.
    #[arg(long, value_delimiter = ',', default_value = "100,70,50,35,25,17,12,8")]
    pub shares: Vec<f64>,
    /// Epochs of `frozen` and `maestro`.
    #[arg(long, default_value_t = 12)]
    pub epochs: usize,
    /// Peak learning rate of `frozen` and `maestro`.
    #[arg(long, default_value_t = 1e-3)]
    pub rate: f32,
    /// Samples per step of `frozen` and `maestro`.
    #[arg(long, default_value_t = 64)]
    pub batch: usize,
    /// Factor of the group lasso.
    #[arg(long, default_value_t = 1e-4)]
    pub lasso: f32,
    /// Epochs of fine-tuning at every point of all methods, with distillation from the whole network.
    #[arg(long, default_value_t = 0)]
    pub tune: usize,
    /// Number of seeds; each one shuffles, trains and is tested on its own.
    #[arg(long, default_value_t = 1)]
    pub seeds: u64,
    /// Emulated board to count instructions on, such as qemu:cortex-m4.
    #[arg(long)]
    pub target: Option<String>,
}

/// Number of samples for the singular values of outputs: a fully connected layer gets only one row from each.
const SPECTRA: usize = 512;

/// One point of one curve.
#[derive(Clone, Debug, Serialize)]
pub struct Point {
    /// How ranks were chosen.
    pub method: Method,
    /// Largest share of the layers' weights and multiply-accumulates to keep, in percent.
    pub share: f64,
    /// Seed.
    pub seed: u64,
    /// Layers and their ranks; none for a layer that stays whole.
    pub ranks: Vec<(String, Option<usize>)>,
    /// Measurements of the int8 file.
    #[serde(flatten)]
    pub measured: Measured,
}

/// All curves.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Folder written.
    pub output: String,
    /// Numbers of training samples and of test samples.
    pub samples: [usize; 2],
    /// The whole network as int8, for each seed.
    pub whole: Vec<Measured>,
    /// The points.
    pub points: Vec<Point>,
}

impl Report {
    fn at(&self, method: Method, share: f64) -> Vec<&Point> {
        self.points.iter().filter(|p| p.method == method && p.share == share).collect()
    }

    /// Methods and shares in order.
    fn keys(&self) -> Vec<(Method, f64)> {
        let mut keys = Vec::new();
        for p in &self.points {
            if !keys.contains(&(p.method, p.share)) {
                keys.push((p.method, p.share));
            }
        }
        keys
    }
}

fn mean<'a, T: 'a>(items: &[&'a T], value: impl Fn(&T) -> f64) -> f64 {
    items.iter().map(|i| value(i)).sum::<f64>() / items.len().max(1) as f64
}

impl Outcome for Report {
    fn render(&self) -> String {
        let mut table = Table::new(
            ["method", "share, %", "ranks"].into_iter().chain(TITLES).chain(["lowest to highest"]),
        );
        let mut row = |name: String, share: String, ranks: String, all: &[&Measured]| {
            let average = |value: &dyn Fn(&Measured) -> f64| mean(all, value).round() as u64;
            let now = Measured {
                flash: average(&|m| m.flash as f64),
                ram: average(&|m| m.ram as f64),
                macs: average(&|m| m.macs as f64),
                instructions: all
                    .iter()
                    .all(|m| m.instructions.is_some())
                    .then(|| average(&|m| m.instructions.unwrap_or(0) as f64)),
                accuracy: mean(all, |m| m.accuracy),
            };
            let range =
                all.iter().map(|m| m.accuracy).fold((1.0f64, 0.0f64), |(l, h), a| (l.min(a), h.max(a)));
            let range = format!("{:.2} to {:.2}", 100.0 * range.0, 100.0 * range.1);
            table.row([name, share, ranks].into_iter().chain(now.cells()).chain([range]));
        };
        row("whole".into(), "100".into(), "-".into(), &self.whole.iter().collect::<Vec<_>>());
        for (method, share) in self.keys() {
            let points = self.at(method, share);
            let ranks = points.first().map(|p| {
                let each = p.ranks.iter().map(|(_, r)| r.map_or("-".to_owned(), |r| r.to_string()));
                each.collect::<Vec<_>>().join(" ")
            });
            let measured: Vec<&Measured> = points.iter().map(|p| &p.measured).collect();
            let name = format!("{method:?}").to_lowercase();
            row(name, share.to_string(), ranks.unwrap_or_default(), &measured);
        }
        format!(
            "{}: curve.json, curve.svg\n{table}\nmeans of {} seeds, ranks of the first; {} training samples, {} \
             test samples",
            self.output,
            self.whole.len(),
            self.samples[0],
            self.samples[1]
        )
    }
}

/// Computes all curves and writes them.
///
/// # Errors
/// A file cannot be read or written, the data do not fit, or the board does not answer.
pub fn run(ui: &Ui, args: &Args) -> Result<Report> {
    let target = args.target.as_deref().map(parse_target).transpose()?;
    let target = args.target.as_deref().zip(target.as_ref());
    let (graph, _) = files::read_graph(&args.model)?;
    if let Some(share) = args.shares.iter().find(|s| !(**s > 0.0 && **s <= 100.0)) {
        let message = format!("--shares: {share} is not a percentage above 0, up to 100");
        return Err(Failure::new(Kind::Usage, message, "give shares such as 100,50,25"));
    }
    std::fs::create_dir_all(&args.output).map_err(|e| Failure::writing(&args.output, &e))?;
    let mut report = Report {
        output: args.output.display().to_string(),
        samples: [0, 0],
        whole: Vec::new(),
        points: Vec::new(),
    };
    let first = args.samples.seed;
    for seed in first..first + args.seeds.max(1) {
        one_seed(ui, &graph, args, target, seed, &mut report)?;
        // Written after every seed, so that an interrupted run is not lost.
        write(args, &report)?;
    }
    Ok(report)
}

fn one_seed(
    ui: &Ui,
    graph: &Graph,
    args: &Args,
    target: Option<(&str, &Target)>,
    seed: u64,
    report: &mut Report,
) -> Result<()> {
    let sets = Sets::read(graph, &args.samples, seed)?;
    report.samples = [sets.train.len(), sets.judged.len()];
    let calibration = prune::samples(graph, &sets.train, args.samples.calibration.max(2));
    let wide = prune::samples(graph, &sets.train, SPECTRA);
    let judge = |graph: &Graph| -> Result<Measured> {
        let compile =
            compile::Args { precision: Some(Precision::Int8), strict_int8: true, ..compile::Args::default() };
        let made = compile::make(&Ui { json: true }, graph.clone(), &calibration, &compile, None)?;
        measure(&made, &sets.judged, target)
    };
    report.whole.push(judge(graph)?);
    for &method in &args.methods {
        let mut bar = Bar(ui.progress("training", 0));
        let (whole, layers) = ordered(graph, &sets, args, method, seed, &wide, &mut bar)?;
        bar.0.finish_and_clear();
        let choices = choices(&layers);
        let bar = ui.progress("points", args.shares.len() as u64);
        for &share in &args.shares {
            let enough = choices.iter().position(|c| 100.0 * c.left <= share);
            let count = if share >= 100.0 { 0 } else { enough.map_or(choices.len(), |i| i + 1) };
            let ranks = ranks_of(&layers, &choices, count);
            let chosen: Vec<(&SplitLayer, usize)> =
                layers.iter().zip(&ranks).filter_map(|(l, r)| Some((l, (*r)?))).collect();
            let mut small = split(&whole, &chosen).map_err(|e| failure(&e))?;
            if args.tune > 0 {
                small = tuned(graph, &small, &sets, args, seed)?;
            }
            let ranks = layers.iter().map(|l| l.name.clone()).zip(ranks).collect();
            report.points.push(Point { method, share, seed, ranks, measured: judge(&small)? });
            bar.inc(1);
        }
        bar.finish_and_clear();
    }
    Ok(())
}

/// The whole network that a method cuts, and its layers with their singular values.
fn ordered(
    graph: &Graph,
    sets: &Sets,
    args: &Args,
    method: Method,
    seed: u64,
    samples: &[Vec<ArrayD<f32>>],
    bar: &mut Bar,
) -> Result<(Graph, Vec<SplitLayer>)> {
    let plain = |graph: &Graph, samples: &[Vec<ArrayD<f32>>]| {
        analyse(graph, samples, Cut::Channels).map(|layers| (graph.clone(), layers)).map_err(|e| failure(&e))
    };
    match method {
        Method::Svd => plain(graph, &[]),
        Method::Aware => plain(graph, samples),
        Method::Frozen | Method::Maestro => {
            let options = MaestroOptions {
                epochs: args.epochs,
                shrink_every: args.epochs.div_ceil(4).max(1),
                batch: args.batch,
                rate: args.rate,
                lasso: args.lasso,
                ordered: method == Method::Maestro,
                samples: SPECTRA,
                seed,
                ..MaestroOptions::default()
            };
            let (nested, _) = maestro(graph, &sets.train, &options, bar).map_err(|e| failure(&e))?;
            if method == Method::Maestro {
                return nested.layers(samples).map_err(|e| failure(&e));
            }
            let whole = offshoot_compress::low_rank::join(&nested.graph, true).map_err(|e| failure(&e))?;
            plain(&whole, samples)
        }
    }
}

/// Fine-tunes without changing ranks.
fn tuned(graph: &Graph, small: &Graph, sets: &Sets, args: &Args, seed: u64) -> Result<Graph> {
    offshoot_compress::low_rank::tune(graph, small, &sets.train, args.tune, args.rate, seed)
        .map_err(|e| failure(&e))
}

fn write(args: &Args, report: &Report) -> Result<()> {
    let mut series: Vec<(String, Vec<(f64, f64)>)> = Vec::new();
    for &method in &args.methods {
        let line = report.keys().into_iter().filter(|(m, _)| *m == method).map(|(m, share)| {
            let points = report.at(m, share);
            (mean(&points, |p| p.measured.flash as f64), 100.0 * mean(&points, |p| p.measured.accuracy))
        });
        series.push((format!("{method:?}").to_lowercase(), line.collect()));
    }
    let svg = plot::lines(&series, "flash, bytes", "int8 accuracy, %")
        .or_fail(Kind::Internal, "this is a bug in Offshoot: report it with this message")?;
    let json = serde_json::to_vec(report)
        .or_fail(Kind::Internal, "this is a bug in Offshoot: report it with this message")?;
    for (name, bytes) in [("curve.json", json.as_slice()), ("curve.svg", svg.as_bytes())] {
        let path = args.output.join(name);
        offshoot_report::write_atomically(&path, bytes).map_err(|e| Failure::writing(&path, &e))?;
    }
    Ok(())
}
