//! `offshoot sensitivity`: measures what fewer weight bits cost in each layer, and chooses a policy for a budget.

use std::path::PathBuf;

use offshoot_compress::Error;
use offshoot_compress::quantize::sensitivity::{SensitivityOptions, SensitivityReport, sensitivity};
use offshoot_compress::quantize::{Policy, WeightBits};
use offshoot_report::Table;
use offshoot_report::table::{tail, thousands};
use serde::Serialize;

use super::compress::{Limit, parse_limit, parse_percent};
use crate::failure::{Context, Failure, Kind, Result};
use crate::files;
use crate::samples::{self, Sets};
use crate::ui::{Bar, Outcome, Ui};

/// Arguments of `sensitivity`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Float network (.onnx, .tflite) with one input.
    pub model: PathBuf,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub samples: samples::Args,
    /// Policy to write (.toml), for `compile --precision` and `qat --precision`.
    #[arg(short, long)]
    pub output: Option<PathBuf>,
    /// Largest .off file: bytes such as 64k or 1M, or a percentage of the file with 8-bit weights such as 70%.
    #[arg(long, value_parser = parse_limit)]
    pub max_flash: Option<Limit>,
    /// Most accuracy to lose against 8-bit weights, in percentage points, such as 0.5%.
    #[arg(long, value_parser = parse_percent)]
    pub max_loss: Option<f64>,
    /// Also try codebooks of 16 and 4 levels.
    #[arg(long)]
    pub codebooks: bool,
}

/// Result of `sensitivity`.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Policy written.
    pub output: Option<String>,
    /// Number of test samples.
    pub judged: usize,
    /// Losses of each layer, the policy, and the network with it.
    #[serde(flatten)]
    pub found: SensitivityReport,
}

impl Outcome for Report {
    fn render(&self) -> String {
        let mut table = Table::new(["layer", "weights", "form", "bytes saved", "loss", "accuracy, points"]);
        for t in &self.found.trials {
            let form = t.levels.map_or(format!("{} bits", t.bits), |l| format!("{l} levels"));
            table.row([
                tail(&t.layer, 44),
                thousands(t.weights),
                form,
                t.saved.to_string(),
                format!("{:+.4}", t.loss),
                t.drop.map_or("-".into(), |d| format!("{:+.2}", -100.0 * d)),
            ]);
        }
        let say = |j: &offshoot_compress::quantize::DeviceJudgement| {
            let accuracy = j.accuracy.map_or("-".into(), |a| format!("{:.2} %", 100.0 * a));
            format!("{} bytes, {accuracy}, loss {:.4}", thousands(j.bytes), j.loss)
        };
        let policy = Policy::new(self.found.policy.clone(), Default::default());
        format!(
            "{table}\n8 bits: {}\npolicy: {} (on {} test samples)\n\n{}",
            say(&self.found.whole),
            say(&self.found.result),
            self.judged,
            toml::to_string(&policy).unwrap_or_default()
        )
    }
}

/// Measures every layer and writes the policy.
///
/// # Errors
/// A file cannot be read or written, the data do not fit, or the budget cannot be met (the message names the nearest
/// point).
pub fn run(ui: &Ui, args: &Args) -> Result<Report> {
    let (graph, _) = files::read_graph(&args.model)?;
    let sets = Sets::read(&graph, &args.samples, args.samples.seed)?;
    let mut options = SensitivityOptions {
        calibration: args.samples.calibration,
        judged: Some(sets.judged.clone()),
        codebooks: args.codebooks,
        max_flash: None,
        max_loss: args.max_loss,
    };
    let mut bar = Bar(ui.progress("layers", 0));
    if let Some(limit) = args.max_flash {
        let few = offshoot_compress::prune::samples(&graph, &sets.train, 2);
        let whole = offshoot_compress::prune::size(&graph, &few, &WeightBits::default(), None)
            .map_err(|e| failure(&e))?;
        options.max_flash = Some(limit.bytes(whole.flash));
    }
    let found = sensitivity(&graph, &sets.train, &options, &mut bar).map_err(|e| failure(&e))?;
    bar.0.finish_and_clear();
    if let Some(path) = &args.output {
        let policy = Policy::new(found.policy.clone(), Default::default());
        let text = toml::to_string(&policy)
            .or_fail(Kind::Internal, "this is a bug in Offshoot: report it with this message")?;
        offshoot_report::write_atomically(path, text.as_bytes()).map_err(|e| Failure::writing(path, &e))?;
    }
    let output = args.output.as_ref().map(|p| p.display().to_string());
    Ok(Report { output, judged: sets.judged.len(), found })
}

/// Turns an error of compression into a failure.
pub(crate) fn failure(error: &Error) -> Failure {
    let (kind, help) = match error {
        Error::Precision { .. } => {
            (Kind::Budget, "raise --max-flash or --max-loss; `offshoot qat` recovers accuracy by training")
        }
        Error::Budget { .. } => (Kind::Budget, "raise --max-flash"),
        Error::AlreadyQuantized { .. } => {
            (Kind::Usage, "the network is already quantised: give the float network")
        }
        Error::UnknownOperator { .. } | Error::Option { .. } => {
            (Kind::Usage, "`offshoot inspect` of the ONNX file lists the operators' names")
        }
        Error::Training(offshoot_train::Error::Checkpoint { .. }) => {
            (Kind::Mismatch, "remove that file, or give the arguments that it was written with")
        }
        Error::Training(_) => (Kind::Mismatch, "give data of the kind that the network was trained on"),
        _ => (Kind::Internal, "this is a bug in Offshoot: report it with the model"),
    };
    Failure::new(kind, error.to_string(), help)
}
