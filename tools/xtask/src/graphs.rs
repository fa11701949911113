//! `cargo xtask graphs`: random graphs of the supported operators, in float32 and int8, against the answers of ONNX's
//! reference evaluator.
//!
//! `tests/onnx/graphs.py` draws the graphs and writes them with their answers. In float32 none may be refused or wrong. In int8
//! an output below [`LEAST_INT8`] is explained if the float network itself falls below [`EXPLAINS`] once its inputs and weights
//! are rounded to int8: it enlarges the error of its numbers' format.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, bail};
use ndarray::ArrayD;
use offshoot_cli::batch::{self, Inputs, Sequences};
use offshoot_cli::commands::compile::{self, Precision};
use offshoot_cli::files::{self, OffFile};
use offshoot_cli::ui::Ui;
use offshoot_compress::quantize::{self, QuantizeOptions};
use offshoot_data::npy;
use offshoot_target::Target;
use serde::Deserialize;

/// Least signal-to-noise ratio of an output in float32, in dB.
pub const LEAST_FLOAT: f64 = 80.0;
/// Least ratio in int8 that needs no explanation, in dB.
pub const LEAST_INT8: f64 = 15.0;
/// Least median of the ratios in int8, in dB.
pub const MEDIAN_INT8: f64 = 40.0;
/// A network with only inputs and weights rounded that is below this explains a low ratio in int8, in dB.
pub const EXPLAINS: f32 = 25.0;
/// Noise below this share of the largest number wanted is rounding in float32, as where all of an output cancels.
const ROUNDING: f64 = 1e-6;

const UI: Ui = Ui { json: true };

/// Arguments of `graphs`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Number of graphs.
    #[arg(long, default_value_t = 2000)]
    pub count: usize,
    /// Seed of the first graph's numbers; graph I of a seed is always the same.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Only this graph.
    #[arg(long)]
    pub only: Option<usize>,
    /// Leave out int8.
    #[arg(long)]
    pub float: bool,
    /// Print what the rounding of the outputs of each kind of operator costs in int8, instead of comparing.
    #[arg(long)]
    pub operators: bool,
}

/// What became of a graph.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Its number.
    pub name: String,
    /// Its operators, in ONNX's names.
    pub operators: Vec<String>,
    /// Lowest ratio of its outputs in float32, in dB; or why it has none.
    pub float: std::result::Result<f64, String>,
    /// The same in int8; `None` if it was not asked for.
    pub int8: Option<std::result::Result<f64, String>>,
    /// The float network's ratio with inputs and weights rounded to int8, where that of int8 is low.
    pub rounded: Option<f32>,
}

impl Outcome {
    /// What is wrong with it, if anything is.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        match (&self.float, &self.int8) {
            (Err(reason), _) => Some(format!("float32: {reason}")),
            (Ok(db), _) if *db < LEAST_FLOAT => Some(format!("float32: {db:.1} dB")),
            (_, Some(Err(reason))) => Some(format!("int8: {reason}")),
            (_, Some(Ok(db))) if *db < LEAST_INT8 && self.rounded.is_none_or(|db| db >= EXPLAINS) => {
                Some(format!("int8: {db:.1} dB, {:.1} dB rounded alone", self.rounded.unwrap_or(f32::NAN)))
            }
            _ => None,
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
struct Case {
    name: String,
    inputs: usize,
    outputs: usize,
    operators: Vec<String>,
}

/// Makes the graphs, runs them, and prints what is wrong.
///
/// # Errors
/// Python or its package `onnx` is not there, a graph is wrong or refused, or the median in int8 is low.
pub fn run(args: &Args) -> Result<()> {
    let Some(folder) = drawn(args.count, args.seed)? else {
        bail!("Python lacks the package `onnx`; OFFSHOOT_PYTHON names another interpreter")
    };
    if args.operators {
        return losses(&folder, args.count, args.only);
    }
    let outcomes = compared(&folder, args.count, args.only, !args.float)?;
    for outcome in &outcomes {
        if let Some(fault) = outcome.fault() {
            println!("{}: {fault}: {}", outcome.name, outcome.operators.join(" "));
        }
    }
    let median = summary(&outcomes);
    let faults = outcomes.iter().filter(|o| o.fault().is_some()).count();
    if faults > 0 {
        bail!("{faults} of {} graphs are wrong or refused", outcomes.len());
    }
    // Few graphs have no meaningful median.
    if let Some(median) = median.filter(|db| outcomes.len() >= 200 && *db < MEDIAN_INT8) {
        bail!("the median in int8 is {median:.1} dB, below {MEDIAN_INT8} dB");
    }
    Ok(())
}

/// Prints numbers of graphs, operators and ratios. The median in int8.
pub fn summary(outcomes: &[Outcome]) -> Option<f64> {
    let mut used: BTreeMap<&str, usize> = BTreeMap::new();
    outcomes.iter().flat_map(|o| &o.operators).for_each(|name| *used.entry(name).or_default() += 1);
    let sorted = |ratios: Vec<f64>| {
        let mut ratios = ratios;
        ratios.sort_by(f64::total_cmp);
        ratios
    };
    let float = sorted(outcomes.iter().filter_map(|o| o.float.clone().ok()).collect());
    let int8 = sorted(outcomes.iter().filter_map(|o| o.int8.clone()?.ok()).collect());
    println!("{} graphs of {} operators", outcomes.len(), used.len());
    if let Some(least) = float.first() {
        println!("float32: {} ran, lowest {least:.1} dB", float.len());
    }
    let low = outcomes.iter().filter(|o| matches!(o.int8, Some(Ok(db)) if db < LEAST_INT8)).count();
    let median = int8.get(int8.len() / 2).copied();
    if let Some(median) = median {
        println!("int8: {} ran, median {median:.1} dB, {low} below {LEAST_INT8} dB", int8.len());
    }
    median
}

/// The folder of the graphs, which Python writes; `None` if it lacks the package `onnx`.
///
/// # Errors
/// There is no Python, or the script fails.
pub fn drawn(count: usize, seed: u64) -> Result<Option<PathBuf>> {
    script(&[&count.to_string(), &seed.to_string()])
}

/// The folder that `tests/onnx/graphs.py` writes with these arguments; `None` if Python lacks the package `onnx`.
///
/// # Errors
/// There is no Python, or the script fails.
pub fn script(args: &[&str]) -> Result<Option<PathBuf>> {
    let python = std::env::var("OFFSHOOT_PYTHON").unwrap_or_else(|_| "python3".into());
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let folder = root.join("target/onnx_graphs");
    std::fs::create_dir_all(&folder)?;
    let mut command = Command::new(&python);
    command.arg(root.join("tests/onnx/graphs.py")).arg(&folder).args(args);
    let output = command.output().with_context(|| format!("{python} does not start"))?;
    if output.status.code() == Some(3) {
        return Ok(None);
    }
    if !output.status.success() {
        bail!("graphs.py: {}", String::from_utf8_lossy(&output.stderr));
    }
    let printed = String::from_utf8_lossy(&output.stdout);
    Ok(printed.lines().last().map(PathBuf::from))
}

/// Compiles the first `count` graphs of the folder, or the one number `only`, and runs them on the host.
///
/// # Errors
/// The folder is not as the script writes it.
pub fn compared(folder: &Path, count: usize, only: Option<usize>, int8: bool) -> Result<Vec<Outcome>> {
    let text = std::fs::read_to_string(folder.join("cases.json"))?;
    let mut cases: Vec<Case> = serde_json::from_str(&text)?;
    cases.truncate(count);
    if let Some(only) = only {
        cases = cases.into_iter().skip(only).take(1).collect();
    }
    let next = AtomicUsize::new(0);
    let outcomes = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let outcome = outcome(folder, case, int8);
                    if let Ok(mut all) = outcomes.lock() {
                        all.push(outcome);
                    }
                }
            });
        }
    });
    let mut outcomes = outcomes.into_inner().unwrap_or_default();
    outcomes.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(outcomes)
}

fn outcome(folder: &Path, case: &Case, int8: bool) -> Outcome {
    let ratio = |precision| attempt(folder, case, precision).map_err(|e| one_line(&format!("{e:#}")));
    let float = ratio(Precision::F32);
    let int8 = int8.then(|| ratio(Precision::Int8));
    let low = matches!(int8, Some(Ok(db)) if db < LEAST_INT8);
    let rounded = if low { rounded(folder, case).ok() } else { None };
    Outcome { name: case.name.clone(), operators: case.operators.clone(), float, int8, rounded }
}

/// Prints, for each kind of operator, in how many graphs its rounding costs more than half a decibel, and how many decibels the
/// lowest output would gain without it, summed over the graphs.
fn losses(folder: &Path, count: usize, only: Option<usize>) -> Result<()> {
    let mut cases: Vec<Case> = serde_json::from_str(&std::fs::read_to_string(folder.join("cases.json"))?)?;
    cases.truncate(count);
    let cases: Vec<&Case> =
        cases.iter().enumerate().filter(|(i, _)| only.is_none_or(|o| o == *i)).map(|c| c.1).collect();
    let mut kinds: BTreeMap<String, (usize, usize, f64)> = BTreeMap::new();
    let (mut all, mut oracles) = (Vec::new(), Vec::new());
    for case in cases {
        let (graph, samples) = read(folder, case)?;
        let options = QuantizeOptions::default();
        let Ok((quantized, _)) = quantize::quantize(&graph, &samples, &options) else { continue };
        let tested =
            compile::calibration(&graph, &arrays(folder, case, 'x', case.inputs)?, &names(case.inputs))?;
        let (db, each) = quantize::rounding_losses(&graph, &quantized, &tested)?;
        let oracle = quantize::rounded_oracle_db(&graph, &quantized, &tested, &options)?;
        all.push(f64::from(db));
        oracles.push(f64::from(oracle));
        let mut line = Vec::new();
        for (id, without) in each {
            let producer = quantized.producer(id).map(|n| &quantized.nodes[n]);
            let kind = producer.map_or_else(|| "input".into(), |n| kind_of(&n.op));
            let entry = kinds.entry(kind.clone()).or_default();
            let gain = f64::from(without - db);
            entry.0 += 1;
            entry.1 += usize::from(gain > 0.5);
            // One that costs all of the noise would count without a bound.
            entry.2 += gain.clamp(0.0, 20.0);
            if gain > 0.5 {
                line.push(format!("{kind} {gain:.1}"));
            }
        }
        println!("{}: {db:.1} dB, {oracle:.1} dB rounded alone: {}", case.name, line.join(", "));
    }
    let mut rows: Vec<_> = kinds.into_iter().collect();
    rows.sort_by(|a, b| b.1.2.total_cmp(&a.1.2));
    for (kind, (count, often, gain)) in rows {
        println!("{kind:24} {count:5} tensors, {often:4} cost more than 0.5 dB, {gain:7.1} dB in all");
    }
    let median = |mut v: Vec<f64>| {
        v.sort_by(f64::total_cmp);
        v.get(v.len() / 2).copied().unwrap_or(f64::NAN)
    };
    println!("median {:.1} dB, {:.1} dB with only inputs and weights rounded", median(all), median(oracles));
    Ok(())
}

/// The kind of an operator, and of the function that it computes.
fn kind_of(op: &offshoot_ir::Op) -> String {
    use offshoot_ir::Op;
    let detail = match op {
        Op::Unary(kind) => format!("{kind:?}"),
        Op::Binary { kind, .. } => format!("{kind:?}"),
        Op::Pool { kind, .. } => format!("{kind:?}"),
        Op::Reduce { kind, .. } => format!("{kind:?}"),
        _ => return op.name().into(),
    };
    let first = detail.split([' ', '{']).next().unwrap_or_default().to_owned();
    format!("{} {first}", op.name())
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn arrays(folder: &Path, case: &Case, kind: char, count: usize) -> Result<Vec<npy::Array>> {
    let read = |i: usize| Ok(npy::read(&folder.join(format!("{}.{kind}{i}.npy", case.name)))?);
    (0..count).map(read).collect()
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|i| format!("input {i}")).collect()
}

type Samples = Vec<Vec<ArrayD<f32>>>;

fn read(folder: &Path, case: &Case) -> Result<(offshoot_ir::Graph, Samples)> {
    let (graph, _) = files::read_graph(&folder.join(format!("{}.onnx", case.name)))?;
    let calibration = arrays(folder, case, 'c', case.inputs)?;
    let samples = compile::calibration(&graph, &calibration, &names(case.inputs))?;
    Ok((graph, samples))
}

/// The lowest ratio of the outputs, in dB.
fn attempt(folder: &Path, case: &Case, precision: Precision) -> Result<f64> {
    let (graph, samples) = read(folder, case)?;
    let samples = if precision == Precision::F32 { Vec::new() } else { samples };
    let args = compile::Args { precision: Some(precision), ..compile::Args::default() };
    let made = compile::make(&UI, graph, &samples, &args, None)?;
    let file = OffFile::from_bytes(&made.compiled.bytes);
    let model = file.model()?;
    let inputs = Inputs::encode(&model, &arrays(folder, case, 'x', case.inputs)?, &names(case.inputs))?;
    let results = batch::run(&UI, &file, &inputs, &Target::Host, Sequences::default())?;
    let mut lowest = f64::INFINITY;
    for (i, wanted) in arrays(folder, case, 'y', case.outputs)?.iter().enumerate() {
        let samples: Vec<Vec<u8>> = results.iter().filter_map(|r| r.get(i).cloned()).collect();
        let got = batch::output_port(&model, i)?.array(&samples, true)?;
        if got.shape() != wanted.shape() {
            bail!("output {i} is {:?} instead of {:?}", got.shape(), wanted.shape());
        }
        let pairs: Vec<(f64, f64)> = got
            .to_f32()
            .iter()
            .zip(wanted.to_f32().iter())
            .map(|(g, w)| ((*g).into(), (*w).into()))
            .collect();
        lowest = lowest.min(ratio(&pairs));
    }
    Ok(lowest)
}

/// Signal-to-noise ratio in dB of numbers got and wanted; 200 if they are as good as equal.
fn ratio(pairs: &[(f64, f64)]) -> f64 {
    let noise: f64 = pairs.iter().map(|(g, w)| (g - w).powi(2)).sum();
    let signal: f64 = pairs.iter().map(|(_, w)| w.powi(2)).sum();
    let largest = pairs.iter().map(|(_, w)| w.abs()).fold(1.0, f64::max);
    if noise.sqrt() <= ROUNDING * largest {
        return 200.0;
    }
    let db = 10.0 * (signal / noise).log10();
    if db.is_nan() { -200.0 } else { db.clamp(-200.0, 200.0) }
}

/// The float network's ratio with inputs and weights rounded to int8, on the samples that int8 ran: a decision that falls
/// otherwise for one of them need not for another.
fn rounded(folder: &Path, case: &Case) -> Result<f32> {
    let (graph, samples) = read(folder, case)?;
    let options = QuantizeOptions::default();
    let (quantized, _) = quantize::quantize(&graph, &samples, &options)?;
    let tested = compile::calibration(&graph, &arrays(folder, case, 'x', case.inputs)?, &names(case.inputs))?;
    Ok(quantize::rounded_oracle_db(&graph, &quantized, &tested, &options)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(float: f64, int8: f64, rounded: Option<f32>) -> Outcome {
        let (name, operators) = (String::new(), Vec::new());
        Outcome { name, operators, float: Ok(float), int8: Some(Ok(int8)), rounded }
    }

    #[test]
    fn a_low_ratio_is_explained_by_rounded_numbers_alone() {
        assert_eq!(with(120.0, 40.0, None).fault(), None);
        assert_eq!(with(120.0, 12.0, Some(14.0)).fault(), None);
        assert!(with(120.0, 12.0, Some(40.0)).fault().is_some_and(|f| f.starts_with("int8")));
        assert!(with(70.0, 40.0, None).fault().is_some_and(|f| f.starts_with("float32")));
    }

    #[test]
    fn ratios_of_equal_and_of_lost_numbers() {
        assert_eq!(ratio(&[(1.0, 1.0), (0.0, 1e-9)]), 200.0);
        assert!((ratio(&[(1.1, 1.0)]) - 20.0).abs() < 1e-6);
        assert_eq!(ratio(&[(f64::NAN, 1.0)]), -200.0);
    }
}
