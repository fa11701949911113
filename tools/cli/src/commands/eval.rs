//! `offshoot eval`: accuracy on labelled data.

use std::path::PathBuf;

use offshoot_data::npy::Array;
use serde::Serialize;

use super::{parse_target, read_array, read_arrays};
use crate::batch::{self, Inputs};
use crate::failure::{Context, Failure, Kind, Result};
use crate::files::OffFile;
use crate::metrics::{self, Metric};
use crate::port::Port;
use crate::ui::{Outcome, Ui};

/// Arguments of `eval`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Compiled model.
    pub model: PathBuf,
    /// Samples (.npy), once for each input.
    #[arg(long, required = true)]
    pub input: Vec<PathBuf>,
    /// Labels (.npy): class numbers or one-hot rows for top1; 0 and 1 for auc; the wanted outputs for mse.
    #[arg(long)]
    pub labels: PathBuf,
    /// What to measure.
    #[arg(long, value_enum, default_value_t = Metric::Top1)]
    pub metric: Metric,
    /// Only the first so many samples.
    #[arg(long)]
    pub limit: Option<usize>,
    /// Where it runs.
    #[arg(long, default_value = "host")]
    pub target: String,
    /// Which network of the file, if it holds several; 0 is the first.
    #[arg(long, default_value_t = 0, value_name = "K")]
    pub network: usize,
}

/// What `eval` found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// What was measured.
    pub metric: Metric,
    /// Its value; accuracies are fractions.
    pub value: f64,
    /// Samples.
    pub count: usize,
    /// Where it ran.
    pub target: String,
}

impl Outcome for Report {
    fn render(&self) -> String {
        let value = match self.metric {
            Metric::Top1 => format!("top-1 {:.2} %", self.value * 100.0),
            Metric::Auc => format!("AUC {:.4}", self.value),
            Metric::Mse => format!("mean squared error {:.6}", self.value),
        };
        format!("{value} on {} samples ({})", self.count, self.target)
    }
}

/// Runs every sample and compares the first output with the labels.
///
/// # Errors
/// A file cannot be read, shapes do not fit, the device fails.
pub fn run(ui: &Ui, args: &Args) -> Result<Report> {
    let target = parse_target(&args.target)?;
    let file = OffFile::read_network(&args.model, args.network)?;
    let model = file.model()?;
    let (arrays, names) = read_arrays(&args.input)?;
    let mut inputs = Inputs::encode(&model, &arrays, &names)?;
    let labels = read_array(&args.labels)?;
    check_labels(&labels, inputs.count(), args)?;
    if let Some(limit) = args.limit {
        inputs = inputs.head(limit);
    }
    let results = batch::run(ui, &file, &inputs, &target)?;
    let port = batch::output_port(&model, 0)?;
    let outputs: Vec<Vec<f32>> =
        results.iter().filter_map(|r| r.first()).map(|bytes| port.decode(bytes)).collect();
    let value = match args.metric {
        Metric::Top1 => top1(&outputs, &labels)?,
        Metric::Auc => {
            let input = batch::input_port(&model, 0)?;
            let scores = anomaly_scores(&outputs, &inputs, &input)?;
            let positive = whole(&labels)?.into_iter().take(scores.len()).map(|l| l != 0).collect::<Vec<_>>();
            metrics::auc(&scores, &positive)?
        }
        Metric::Mse => mse(&outputs, &labels, &port, &args.labels.display().to_string())?,
    };
    Ok(Report { metric: args.metric, value, count: outputs.len(), target: args.target.clone() })
}

fn check_labels(labels: &Array, count: usize, args: &Args) -> Result<()> {
    let given = labels.shape().first().copied().unwrap_or(0);
    if given == count {
        return Ok(());
    }
    let message = format!("{}: {given} labels for {count} samples", args.labels.display());
    Err(Failure::new(Kind::Shape, message, "give one label a sample, in the same order"))
}

fn whole(labels: &Array) -> Result<Vec<i64>> {
    let integers = labels.to_i64().or_fail_in(Kind::Dtype, "labels", "give class numbers")?;
    Ok(integers.iter().copied().collect())
}

/// Fraction of samples whose largest output is the label.
///
/// # Errors
/// Labels are no class numbers, or name a class that the model does not have.
pub fn top1(outputs: &[Vec<f32>], labels: &Array) -> Result<f64> {
    let classes = outputs.first().map_or(0, Vec::len);
    let one_hot = labels.shape().len() == 2 && labels.shape()[1] > 1;
    let wanted: Vec<usize> = if one_hot {
        labels
            .to_f32()
            .outer_iter()
            .map(|row| metrics::argmax(&row.iter().copied().collect::<Vec<_>>()))
            .collect()
    } else {
        let mut wanted = Vec::new();
        for label in whole(labels)? {
            // One output that is itself the class number (ArgMax) has no range to check.
            match usize::try_from(label) {
                Ok(l) if l < classes || classes == 1 => wanted.push(l),
                _ => {
                    let message = format!("label {label} given, the model has {classes} classes");
                    return Err(Failure::new(
                        Kind::Mismatch,
                        message,
                        "check that labels and model belong together",
                    ));
                }
            }
        }
        wanted
    };
    let hit = |(out, label): &(&Vec<f32>, &usize)| match out.as_slice() {
        [class] => *class == **label as f32,
        many => metrics::argmax(many) == **label,
    };
    let hits = outputs.iter().zip(&wanted).filter(hit).count();
    Ok(hits as f64 / outputs.len().max(1) as f64)
}

fn anomaly_scores(outputs: &[Vec<f32>], inputs: &Inputs, input: &Port) -> Result<Vec<f64>> {
    let width = outputs.first().map_or(0, Vec::len);
    match width {
        1 => Ok(outputs.iter().map(|o| f64::from(o[0])).collect()),
        2 => Ok(outputs.iter().map(|o| f64::from(o[1]) - f64::from(o[0])).collect()),
        _ if width == input.len() => Ok(outputs
            .iter()
            .enumerate()
            .map(|(i, out)| metrics::mean_squared_error(out, &input.decode(inputs.sample(i)[0])))
            .collect()),
        _ => {
            let message = format!("AUC of {width} outputs is not defined");
            Err(Failure::new(
                Kind::Usage,
                message,
                "use a model with 1 or 2 outputs or an autoencoder, or --metric top1",
            ))
        }
    }
}

fn mse(outputs: &[Vec<f32>], labels: &Array, port: &Port, name: &str) -> Result<f64> {
    let wanted = port.real(labels, name)?;
    let sum: f64 = outputs.iter().zip(&wanted).map(|(o, w)| metrics::mean_squared_error(o, w)).sum();
    Ok(sum / outputs.len().max(1) as f64)
}

#[cfg(test)]
mod tests {
    use ndarray::arr1;

    use super::*;

    #[test]
    fn top1_reads_class_numbers_and_one_hot_rows() {
        let outputs = [vec![0.1, 0.9], vec![0.8, 0.2]];
        let numbers: Array = arr1(&[1i64, 1]).into_dyn().into();
        assert_eq!(top1(&outputs, &numbers).unwrap(), 0.5);
        let rows: Array = ndarray::arr2(&[[0.0f32, 1.0], [1.0, 0.0]]).into_dyn().into();
        assert_eq!(top1(&outputs, &rows).unwrap(), 1.0);
        let wrong: Array = arr1(&[1i64, 2]).into_dyn().into();
        assert_eq!(top1(&outputs, &wrong).unwrap_err().kind, Kind::Mismatch);
    }
}
