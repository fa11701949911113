//! `offshoot run`: inference over a batch.

use std::path::PathBuf;

use offshoot_data::npy;
use serde::Serialize;

use super::{parse_target, read_inputs};
use crate::batch;
use crate::failure::{Failure, Kind, Result};
use crate::files::{OffFile, refuse_same_file};
use crate::saturation::Saturated;
use crate::ui::{Outcome, Ui};

/// Arguments of `run`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Compiled model.
    pub model: PathBuf,
    /// Samples (.npy), once for each input. int8 arrays go into int8 inputs as they are; all others hold real numbers.
    #[arg(long, required = true)]
    pub input: Vec<PathBuf>,
    /// Where the outputs go (.npy), once for each output.
    #[arg(short, long, required = true)]
    pub output: Vec<PathBuf>,
    /// Write real numbers (float32) instead of the model's own int8.
    #[arg(long)]
    pub real: bool,
    /// Where it runs.
    #[arg(long, default_value = "host")]
    pub target: String,
    /// Which network of the file, if it holds several; 0 is the first.
    #[arg(long, default_value_t = 0, value_name = "K")]
    pub network: usize,
    /// Sequences of a model that keeps its state.
    #[command(flatten)]
    pub sequences: batch::Sequences,
}

/// What `run` did.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Samples.
    pub count: usize,
    /// File of the first output.
    pub output: String,
    /// Files of all outputs.
    pub outputs: Vec<String>,
    /// Shapes written, one a file.
    pub shapes: Vec<Vec<usize>>,
    /// Element types written.
    pub dtypes: Vec<String>,
    /// Of each input, what lies outside of what the model can represent; null where nothing does.
    pub saturated: Vec<Option<Saturated>>,
}

impl Outcome for Report {
    fn render(&self) -> String {
        let lines: Vec<String> = (self.outputs.iter().zip(&self.shapes).zip(&self.dtypes))
            .map(|((file, shape), dtype)| format!("{file}: {dtype} {shape:?}"))
            .collect();
        let mut text = format!("{} samples\n{}", self.count, lines.join("\n"));
        for (i, s) in self.saturated.iter().enumerate() {
            s.iter().for_each(|s| text.push_str(&format!("\n{}", s.sentence(i))));
        }
        text
    }
}

/// Runs every sample and writes the outputs.
///
/// # Errors
/// A file cannot be read or written, shapes do not fit, the device fails.
pub fn run(ui: &Ui, args: &Args) -> Result<Report> {
    let target = parse_target(&args.target)?;
    let file = OffFile::read_network(&args.model, args.network)?;
    let model = file.model()?;
    let outputs = model.output_count();
    if args.output.len() > outputs {
        let message = format!("the model has {outputs} output(s), {} files given", args.output.len());
        return Err(Failure::new(
            Kind::Usage,
            message,
            "give --output once for each output you want, in order",
        ));
    }
    refuse_same_file(args.input.iter().chain([&args.model]), &args.output)?;
    let inputs = read_inputs(&model, &args.input)?;
    let results = batch::run(ui, &file, &inputs, &target, args.sequences)?;
    let mut report = Report {
        count: inputs.count(),
        output: args.output.first().map(|p| p.display().to_string()).unwrap_or_default(),
        outputs: Vec::new(),
        shapes: Vec::new(),
        dtypes: Vec::new(),
        saturated: inputs.saturation(),
    };
    for (i, path) in args.output.iter().enumerate() {
        let samples: Vec<Vec<u8>> = results.iter().filter_map(|r| r.get(i).cloned()).collect();
        let array = batch::output_port(&model, i)?.array(&samples, args.real)?;
        npy::write(path, &array).map_err(|e| {
            Failure::new(Kind::Io, e.to_string(), "check that the folder exists and can be written to")
        })?;
        report.outputs.push(path.display().to_string());
        report.shapes.push(array.shape().to_vec());
        report.dtypes.push(array.dtype().to_owned());
    }
    Ok(report)
}
