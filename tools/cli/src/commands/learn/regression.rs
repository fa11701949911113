//! Learning of real targets.

use offshoot::format::learn::HeadKind;
use offshoot::graph::Model;
use offshoot_data::npy::Array;
use offshoot_target::Device;
use serde::Serialize;

use super::evaluate::each;
use super::steps::Trace;
use crate::batch::{DEVICE_HELP, Inputs};
use crate::failure::{Context, Failure, Kind, Result};
use crate::files::OffFile;
use crate::metrics::mean_squared_error;
use crate::ui::Ui;
use crate::watch;

/// Mean squared errors of a head that learns real targets.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Regression {
    /// Of the test samples before learning; none without test samples.
    pub before: Option<f64>,
    /// Of the test samples afterwards.
    pub after: Option<f64>,
    /// Of the training samples along the way, each predicted before it was learned.
    pub along: Vec<ErrorPoint>,
}

/// A point of the learning curve.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ErrorPoint {
    /// Steps so far.
    pub steps: usize,
    /// Mean squared error of the samples since the previous point.
    pub mean_squared_error: f64,
}

/// Number of targets, if the model has a head that learns real ones.
pub fn outputs(model: &Model<'_>) -> Option<usize> {
    let classifier = model.learning()?.head.classifier?;
    matches!(classifier.kind, HeadKind::Regression { .. }).then(|| classifier.classes.into())
}

/// Targets, a row per sample.
///
/// # Errors
/// The array has too few or too many numbers, or one that is not finite.
pub(super) fn targets(array: &Array, outputs: usize, samples: usize, what: &str) -> Result<Vec<Vec<f32>>> {
    let help = "give one row of real numbers per sample, in the same order";
    let numbers: Vec<f32> = array.to_f32().iter().copied().collect();
    if numbers.len() != samples * outputs {
        let message =
            format!("{} {what} targets for {samples} samples with {outputs} outputs", numbers.len());
        return Err(Failure::new(Kind::Shape, message, help));
    }
    if !numbers.iter().all(|n| n.is_finite()) {
        return Err(Failure::new(Kind::Mismatch, format!("a {what} target is not finite"), help));
    }
    Ok(numbers.chunks_exact(outputs).map(<[f32]>::to_vec).collect())
}

/// Mean squared error of all samples by what was learned.
///
/// # Errors
/// The learned bytes do not belong to the model.
pub(super) fn judge(
    file: &OffFile,
    learned: Option<&[u8]>,
    inputs: &Inputs,
    targets: &[Vec<f32>],
) -> Result<f64> {
    let predictions = each(file, learned, None, inputs, <[f32]>::to_vec)?;
    let sum: f64 = predictions.iter().zip(targets).map(|(p, t)| mean_squared_error(p, t)).sum();
    Ok(sum / targets.len().max(1) as f64)
}

/// Takes the steps, beginning with sample `skip`.
pub(super) fn take_steps(
    ui: &Ui,
    device: &mut dyn Device,
    samples: &Inputs,
    targets: &[Vec<f32>],
    steps: usize,
    skip: usize,
) -> Result<(Trace, Vec<ErrorPoint>)> {
    let bar = ui.progress("learning", steps as u64);
    let stretch = steps.div_ceil(20).max(1);
    let (mut along, mut sum, mut since) = (Vec::new(), 0.0, 0);
    let (mut count, mut stack) = (0, 0);
    let mut trace = Trace::default();
    for step in 0..steps {
        watch::stop_if_cancelled();
        let i = (skip % targets.len().max(1) + step) % targets.len().max(1);
        let report = device.fit(&samples.sample(i), &targets[i]).or_fail(Kind::Device, DEVICE_HELP)?;
        let predicted = device.scores().or_fail(Kind::Device, DEVICE_HELP)?;
        sum += mean_squared_error(&predicted, &targets[i]);
        since += 1;
        trace.left_out += usize::from(report.left_out);
        trace.arena = trace.arena.max(report.arena.into());
        count = count.max(report.count);
        stack = stack.max(report.stack);
        if since == stretch || step + 1 == steps {
            along.push(ErrorPoint { steps: step + 1, mean_squared_error: sum / since as f64 });
            (sum, since) = (0.0, 0);
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    let some = |n: u32| (n > 0).then_some(u64::from(n));
    (trace.count, trace.stack) = (some(count), some(stack));
    Ok((trace, along))
}
