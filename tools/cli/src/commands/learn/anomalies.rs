//! What a head that learns what is normal makes of test samples.

use offshoot::format::learn::HeadKind;
use offshoot::graph::Model;
use serde::Serialize;

use super::evaluate::each;
use crate::batch::Inputs;
use crate::failure::Result;
use crate::files::OffFile;
use crate::metrics;

/// How well normal and anomalous test samples are told apart. Rates are fractions from 0 to 1; none without samples of the kind.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Anomalies {
    /// Area under the ROC curve of the distances, which needs no threshold.
    pub auc: Option<f64>,
    /// Distance above which a sample is an anomaly; none before there are enough normal samples.
    pub threshold: Option<f32>,
    /// Greatest rate of false alarms that the plan allows.
    pub false_alarms_allowed: f64,
    /// Normal test samples above the threshold.
    pub false_alarms: Option<f64>,
    /// Anomalous test samples above the threshold.
    pub detected: Option<f64>,
}

/// Greatest rate of false alarms, if the model has a head that learns what is normal.
pub fn allowed(model: &Model<'_>) -> Option<f64> {
    match model.learning()?.head.classifier?.kind {
        HeadKind::Anomaly { false_alarms, .. } => Some(f64::from(false_alarms) / 10_000.0),
        _ => None,
    }
}

/// Class numbers for the head: 0 is normal, others are not.
pub(super) fn two_classes(labels: &mut [u16]) {
    labels.iter_mut().for_each(|label| *label = (*label).min(1));
}

/// Judges test samples by what was learned; a label that is not 0 marks an anomaly. None if the head is of another kind.
///
/// # Errors
/// The learned bytes do not belong to the model.
pub fn judge(
    file: &OffFile,
    learned: Option<&[u8]>,
    inputs: &Inputs,
    labels: &[u16],
) -> Result<Option<Anomalies>> {
    let Some(false_alarms_allowed) = allowed(&file.model()?) else { return Ok(None) };
    let scores = each(file, learned, None, inputs, |scores| [scores[0], scores[1]])?;
    let anomalous: Vec<bool> = labels.iter().map(|&label| label != 0).collect();
    let alarms = |wanted: bool| {
        let of = || scores.iter().zip(&anomalous).filter(|(_, a)| **a == wanted);
        let above = of().filter(|([threshold, distance], _)| distance > threshold).count();
        (of().count() > 0).then(|| above as f64 / of().count() as f64)
    };
    let distances: Vec<f64> = scores.iter().map(|[_, distance]| f64::from(*distance)).collect();
    let both = anomalous.contains(&true) && anomalous.contains(&false);
    let knows = scores.iter().all(|[_, distance]| *distance > f32::NEG_INFINITY);
    Ok(Some(Anomalies {
        auc: (both && knows).then(|| metrics::auc(&distances, &anomalous)).transpose()?,
        threshold: scores.first().map(|[threshold, _]| *threshold).filter(|&t| knows && t < f32::MAX),
        false_alarms_allowed,
        false_alarms: alarms(false),
        detected: alarms(true),
    }))
}
