//! `offshoot qat`: quantisation-aware training with learned step sizes (LSQ, Esser et al. 2020, arXiv:1902.08153).

use std::path::PathBuf;

use offshoot_compress::quantize::Policy;
use offshoot_compress::quantize::aware::{AwareOptions, aware};
use offshoot_ir::Graph;
use offshoot_report::Table;
use offshoot_train::Checkpoint;
use serde::Serialize;

use super::compile::{self, Precision};
use super::parse_target;
use super::sensitivity::failure;
use crate::failure::{Context, Failure, Kind, Result};
use crate::files;
use crate::measure::{Measured, TITLES, measure};
use crate::samples::{self, Sets};
use crate::ui::{Bar, Outcome, Ui};

/// Arguments of `qat`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Float network (.onnx, .tflite) with one input.
    pub model: PathBuf,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub samples: samples::Args,
    /// Folder for model.off, model.onnx and policy.toml; created if needed.
    #[arg(short, long)]
    pub output: PathBuf,
    /// Bits of the weights: int8, int4, int2, or a policy file (.toml).
    #[arg(long, value_parser = Precision::parse, value_name = "FORMAT", default_value = "int4")]
    pub precision: Precision,
    /// Epochs. An interrupted run continues from its checkpoint.
    #[arg(long, default_value_t = 4)]
    pub epochs: usize,
    /// Peak learning rate, relative to the magnitude of the weights.
    #[arg(long, default_value_t = 1e-3)]
    pub rate: f32,
    /// Samples per step.
    #[arg(long, default_value_t = 64)]
    pub batch: usize,
    /// Weight of distillation from the float network, 0 to 1; the labels have the rest.
    #[arg(long, default_value_t = 0.7, value_parser = super::compress::parse_share)]
    pub distil: f32,
    /// Emulated board to count instructions on, such as qemu:cortex-m4.
    #[arg(long)]
    pub target: Option<String>,
}

/// Result of `qat`.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Folder written.
    pub output: String,
    /// Bits of the weights.
    pub precision: Precision,
    /// Seed.
    pub seed: u64,
    /// Numbers of training samples and of test samples.
    pub samples: [usize; 2],
    /// Accuracy of the float network, from 0 to 1.
    pub float_accuracy: f64,
    /// Eight bits, without training.
    pub eight: Measured,
    /// Few bits, without training.
    pub before: Measured,
    /// Few bits, after training.
    pub after: Measured,
    /// Best epoch, from 1, which the result is from; 0 if none was better than no training.
    pub best: usize,
}

impl Outcome for Report {
    fn render(&self) -> String {
        let mut table = Table::new(std::iter::once("").chain(TITLES));
        for (name, m) in [
            ("int8, not trained".to_owned(), &self.eight),
            (format!("{}, not trained", self.precision), &self.before),
            (format!("{}, trained", self.precision), &self.after),
        ] {
            table.row(std::iter::once(name).chain(m.cells()));
        }
        format!(
            "{}: model.off, model.onnx, policy.toml\n{table}\nfloat: {:.2} % ({} test samples, {} training \
             samples, best epoch \
             {})",
            self.output,
            100.0 * self.float_accuracy,
            self.samples[1],
            self.samples[0],
            self.best
        )
    }
}

/// Trains and writes the results.
///
/// # Errors
/// A file cannot be read or written, or the data do not fit the network.
pub fn run(ui: &Ui, args: &Args) -> Result<Report> {
    let target = args.target.as_deref().map(parse_target).transpose()?;
    let target = args.target.as_deref().zip(target.as_ref());
    let (graph, _) = files::read_graph(&args.model)?;
    let sets = Sets::read(&graph, &args.samples, args.samples.seed)?;
    let weight_bits = args.precision.policy()?.bits();
    std::fs::create_dir_all(&args.output).map_err(|e| Failure::writing(&args.output, &e))?;
    let calibration = offshoot_compress::prune::samples(&graph, &sets.train, args.samples.calibration.max(1));
    let judge = |graph: &Graph, precision: Precision| -> Result<(compile::Made, Measured)> {
        let compile =
            compile::Args { precision: Some(precision), strict_int8: true, ..compile::Args::default() };
        let made = compile::make(ui, graph.clone(), &calibration, &compile, None)?;
        let measured = measure(&made, &sets.judged, target)?;
        Ok((made, measured))
    };
    let plain = Policy::new(weight_bits.clone(), Default::default());
    let (_, eight) = judge(&graph, Precision::Int8)?;
    let (_, before) = judge(&graph, Precision::Given(Box::new(plain)))?;
    let checkpoint = args.output.join("training.checkpoint");
    let options = AwareOptions {
        weight_bits,
        calibration: args.samples.calibration.max(1),
        epochs: args.epochs,
        batch: args.batch,
        rate: args.rate,
        distil: args.distil,
        validation: Some(sets.validation.clone()),
        seed: args.samples.seed,
        checkpoint: Some(Checkpoint { path: checkpoint.clone(), every: 100 }),
        ..AwareOptions::default()
    };
    let mut bar = Bar(ui.progress("training", 0));
    let (trained, report) = aware(&graph, &sets.train, &options, &mut bar).map_err(|e| failure(&e))?;
    bar.0.finish_and_clear();
    let onnx = offshoot_import::emit(&trained).or_fail(
        Kind::Unsupported,
        "the trained network has no ONNX form: replace the operator named above",
    )?;
    let again = crate::policy::read_back(&onnx)?;
    // Steps and ranges are stored under the names in the written file.
    let policy = crate::policy::renamed(&report.policy, &trained, &again)?;
    let text = toml::to_string(&policy)
        .or_fail(Kind::Internal, "this is a bug in Offshoot: report it with this message")?;
    let (made, after) = judge(&again, Precision::Given(Box::new(policy)))?;
    for (name, bytes) in [
        ("model.off", made.compiled.bytes.as_slice()),
        ("model.onnx", &onnx),
        ("policy.toml", text.as_bytes()),
    ] {
        let path = args.output.join(name);
        offshoot_report::write_atomically(&path, bytes).map_err(|e| Failure::writing(&path, &e))?;
    }
    // The checkpoint is no longer needed.
    let _ = std::fs::remove_file(checkpoint);
    let float_accuracy =
        offshoot_compress::quantize::aware::float_accuracy(&graph, &sets.judged).map_err(|e| failure(&e))?;
    Ok(Report {
        output: args.output.display().to_string(),
        precision: args.precision.clone(),
        seed: args.samples.seed,
        samples: [sets.train.len(), sets.judged.len()],
        float_accuracy,
        eight,
        before,
        after,
        best: report.best,
    })
}
