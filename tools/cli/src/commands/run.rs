//! `offshoot run`: inference on a batch of samples.

use std::path::PathBuf;

use offshoot_data::npy;
use serde::Serialize;

use super::{parse_target, read_inputs};
use crate::batch::{self, Samples as _};
use crate::failure::{Failure, Kind, Result};
use crate::files::{OffFile, refuse_same_file};
use crate::saturation::Saturated;
use crate::ui::{Outcome, Ui};

/// Arguments of `run`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Compiled model (.off).
    pub model: PathBuf,
    /// Samples (.npy), once per input. An int8 array goes into an int8 input unchanged; any other holds real numbers.
    #[arg(long, required = true)]
    pub input: Vec<PathBuf>,
    /// File for an output (.npy), once per output, in order.
    #[arg(short, long, required = true)]
    pub output: Vec<PathBuf>,
    /// Write real numbers (float32) instead of the model's element type.
    #[arg(long)]
    pub real: bool,
    /// Where to run: host, qemu:BOARD or serial:PORT; see `offshoot target list`.
    #[arg(long, default_value = "host")]
    pub target: String,
    /// Which network to run, if the file holds several; 0 is the first.
    #[arg(long, default_value_t = 0, value_name = "K")]
    pub network: usize,
    /// Sequences, for a model that keeps state.
    #[command(flatten)]
    pub sequences: batch::Sequences,
}

/// What `run` did.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Number of samples.
    pub count: usize,
    /// File of the first output.
    pub output: String,
    /// Files of all outputs.
    pub outputs: Vec<String>,
    /// Shapes written, one per file.
    pub shapes: Vec<Vec<usize>>,
    /// Element types written.
    pub dtypes: Vec<String>,
    /// Values of each input outside the model's range; null if there are none.
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
/// A file cannot be read or written, a shape does not fit, or the device fails.
pub fn run(ui: &Ui, args: &Args) -> Result<Report> {
    let target = parse_target(&args.target)?;
    let file = OffFile::read_network(&args.model, args.network)?;
    let model = file.model()?;
    let outputs = model.output_count();
    if args.output.len() > outputs {
        let message =
            format!("the model has {outputs} output(s), but {} files were given", args.output.len());
        return Err(Failure::new(
            Kind::Usage,
            message,
            "give --output once per output, in order; the last ones may be left out",
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
        let array = batch::answer_port(&model, i)?.array(&samples, args.real)?;
        npy::write(path, &array).map_err(|e| {
            Failure::new(Kind::Io, e.to_string(), "check that the folder exists and is writable")
        })?;
        report.outputs.push(path.display().to_string());
        report.shapes.push(array.shape().to_vec());
        report.dtypes.push(array.dtype().to_owned());
    }
    Ok(report)
}
