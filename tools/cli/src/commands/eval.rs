//! `offshoot eval`: accuracy on labelled data.

use std::path::PathBuf;

use offshoot_data::npy::Array;
use serde::Serialize;

use super::learn::{anomalies, regression};
use super::{parse_target, read_array, read_inputs};
use crate::batch::{self, Samples};
use crate::failure::{Context, Failure, Kind, Result};
use crate::files::OffFile;
use crate::metrics::{self, Metric};
use crate::port::Port;
use crate::saturation::Saturated;
use crate::ui::{Outcome, Ui};

/// Arguments of `eval`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Compiled model (.off).
    pub model: PathBuf,
    /// Samples (.npy), once per input.
    #[arg(long, required = true)]
    pub input: Vec<PathBuf>,
    /// Labels (.npy): class numbers or one-hot rows for top1; 0 and 1 for auc; target values for mse.
    #[arg(long)]
    pub labels: PathBuf,
    /// Metric to measure. Default: top1; auc for a file that has learned what is normal, mse for one that has learned real
    /// targets.
    #[arg(long, value_enum)]
    pub metric: Option<Metric>,
    /// Use only the first samples, this many (at least 1).
    #[arg(long, value_parser = super::at_least_one)]
    pub limit: Option<usize>,
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

/// What `eval` found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The metric.
    pub metric: Metric,
    /// Its value; an accuracy is a fraction from 0 to 1.
    pub value: f64,
    /// Number of samples.
    pub count: usize,
    /// Where it ran.
    pub target: String,
    /// Values of each input outside the model's range; null if there are none.
    pub saturated: Vec<Option<Saturated>>,
}

impl Outcome for Report {
    fn render(&self) -> String {
        let value = match self.metric {
            Metric::Top1 => format!("top-1 {:.2} %", self.value * 100.0),
            Metric::Auc => format!("AUC {:.4}", self.value),
            Metric::Mse => format!("mean squared error {:.6}", self.value),
        };
        let mut text = format!("{value} on {} samples ({})", self.count, self.target);
        for (i, s) in self.saturated.iter().enumerate() {
            s.iter().for_each(|s| text.push_str(&format!("\n{}", s.sentence(i))));
        }
        text
    }
}

/// Runs every sample and compares the first output with the labels.
///
/// # Errors
/// A file cannot be read, a shape does not fit, or the device fails.
pub fn run(ui: &Ui, args: &Args) -> Result<Report> {
    let file = OffFile::read_network(&args.model, args.network)?;
    let inputs = read_inputs(&file.model()?, &args.input)?;
    evaluate(ui, &file, inputs, &read_array(&args.labels)?, args)
}

/// As [`run`], with model, samples and labels in memory; the names in `args` are for messages.
///
/// # Errors
/// As [`run`].
pub fn evaluate(
    ui: &Ui,
    file: &OffFile,
    mut inputs: impl Samples,
    labels: &Array,
    args: &Args,
) -> Result<Report> {
    let target = parse_target(&args.target)?;
    let model = file.model()?;
    check_labels(labels, inputs.count(), args)?;
    if let Some(limit) = args.limit {
        inputs.truncate(limit);
    }
    let judges = batch::has_begun(&model) && anomalies::allowed(&model).is_some();
    let fits = batch::has_begun(&model) && regression::outputs(&model).is_some();
    let metric = args.metric.unwrap_or(match (judges, fits) {
        (true, _) => Metric::Auc,
        (_, true) => Metric::Mse,
        _ => Metric::Top1,
    });
    let port = batch::answer_port(&model, 0)?;
    let input = batch::input_port(&model, 0)?;
    // Keep only what the metric needs of an output, since outputs may be as large as the inputs.
    let (mut classes, mut answers, mut scores) = (0, Vec::new(), Vec::new());
    let wanted = match metric {
        Metric::Mse => port.real(labels, &args.labels.display().to_string())?,
        Metric::Top1 | Metric::Auc => Vec::new(),
    };
    let mut count = 0;
    batch::run_each(ui, file, &inputs, &target, args.sequences, &mut |sample| {
        let out = port.decode(sample.first().map_or(&[][..], Vec::as_slice));
        match metric {
            Metric::Top1 => {
                classes = out.len();
                answers.push(class_of(&out));
            }
            // Scores are the threshold, which may be that of no alarms, and the distance.
            Metric::Auc if judges => scores.extend(out.get(1).map(|&distance| f64::from(distance))),
            Metric::Auc => scores.push(anomaly_score(&out, &inputs.inputs(count)?[0], &input)?),
            Metric::Mse => {
                scores.extend(wanted.get(count).map(|want| metrics::mean_squared_error(&out, want)));
            }
        }
        count += 1;
        Ok(())
    })?;
    let value = match metric {
        Metric::Top1 => share_right(&answers, classes, labels)?,
        Metric::Auc => {
            let positive = whole(labels)?.into_iter().take(scores.len()).map(|l| l != 0).collect::<Vec<_>>();
            metrics::auc(&scores, &positive)?
        }
        Metric::Mse => scores.iter().sum::<f64>() / count.max(1) as f64,
    };
    let (target, saturated) = (args.target.clone(), inputs.saturation());
    Ok(Report { metric, value, count, target, saturated })
}

fn check_labels(labels: &Array, count: usize, args: &Args) -> Result<()> {
    let given = labels.shape().first().copied().unwrap_or(0);
    if given == count {
        return Ok(());
    }
    let message = format!("{}: {given} labels for {count} samples", args.labels.display());
    Err(Failure::new(Kind::Shape, message, "give one label per sample, in the same order"))
}

fn whole(labels: &Array) -> Result<Vec<i64>> {
    let integers =
        labels.to_i64().or_fail_in(Kind::Dtype, "labels", "give whole class numbers, counted from 0")?;
    Ok(integers.iter().copied().collect())
}

/// Fraction of samples whose largest output is the label.
///
/// # Errors
/// Labels are not class numbers, or name a class that the model does not have.
pub fn top1(outputs: &[Vec<f32>], labels: &Array) -> Result<f64> {
    let answers: Vec<f64> = outputs.iter().map(|out| class_of(out)).collect();
    share_right(&answers, outputs.first().map_or(0, Vec::len), labels)
}

/// The class that an output names: a single number is the class itself (ArgMax).
fn class_of(out: &[f32]) -> f64 {
    match out {
        [class] => f64::from(*class),
        many => metrics::argmax(many) as f64,
    }
}

/// Fraction of answers that are the label, of a model with outputs of `classes` numbers.
fn share_right(answers: &[f64], classes: usize, labels: &Array) -> Result<f64> {
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
            // A single output is the class number itself (ArgMax) and has no range to check.
            match usize::try_from(label) {
                Ok(l) if l < classes || classes == 1 => wanted.push(l),
                _ => {
                    let message =
                        format!("label {label} is out of range: the model has {classes} classes, from 0");
                    return Err(Failure::new(
                        Kind::Mismatch,
                        message,
                        "check that the labels belong to this model and start at 0",
                    ));
                }
            }
        }
        wanted
    };
    let hits = answers.iter().zip(&wanted).filter(|(answer, label)| **answer == **label as f64).count();
    Ok(hits as f64 / answers.len().max(1) as f64)
}

/// How anomalous a sample is, from the network's first output.
fn anomaly_score(out: &[f32], sample: &[u8], input: &Port) -> Result<f64> {
    match out {
        [score] => Ok(f64::from(*score)),
        [normal, anomalous] => Ok(f64::from(*anomalous) - f64::from(*normal)),
        _ if out.len() == input.len() => Ok(metrics::mean_squared_error(out, &input.decode(sample))),
        _ => {
            let message = format!("AUC is not defined for {} outputs", out.len());
            Err(Failure::new(
                Kind::Usage,
                message,
                "use --metric top1, or a model with 1 or 2 outputs or an autoencoder",
            ))
        }
    }
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
