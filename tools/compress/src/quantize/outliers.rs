//! Calibration samples that lie far beyond all others: a sensor's fault, a sample that was not normalised.
//!
//! A step that is wide enough for one such sample leaves no codes for the others, and the network answers a constant. So it is
//! left out, and its numbers saturate. A sample is an outlier if the largest number of an input is at least [`BEYOND`] times
//! that of all samples but a few (at most one of [`FEW`]), and if the answers to these differ: where most samples are silence, to
//! which the float network gives one answer too, the others are what counts.

use ndarray::ArrayD;
use offshoot_ir::Graph;

use super::post_training::evenly;
use super::reach::Reach;
use super::simulate::{capture, probes};
use super::tensors::Batch;
use crate::Result;

/// In a range that is this many times as wide as a number, the number has at most 8 codes on each side of zero.
const BEYOND: f32 = 16.0;
/// At most one of this many samples, rounded up to 1, is an outlier.
const FEW: usize = 8;
/// Fewest samples of which one can be said to lie beyond the others.
const LEAST: usize = 5;
/// Samples on which answers are compared.
const COMPARED: usize = 32;
/// Answers differ if a constant would have less than 20 dB.
const VARIED: f64 = 1e-2;

/// Samples to leave out.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Outliers {
    /// Their indices, ascending.
    pub(super) samples: Vec<usize>,
    /// What the user should know; empty if there are none.
    pub(super) warnings: Vec<String>,
}

/// Outliers among `samples`. Samples of a sequence are never left out.
///
/// # Errors
/// The samples do not fit the graph.
pub(super) fn find(graph: &Graph, samples: &[Vec<ArrayD<f32>>], sequence: Option<usize>) -> Result<Outliers> {
    let mut found = Outliers::default();
    if sequence.is_some() {
        return Ok(found);
    }
    for (at, &id) in graph.inputs.iter().enumerate() {
        let peaks: Vec<f32> =
            samples.iter().map(|s| s[at].iter().fold(0.0f32, |peak, v| peak.max(v.abs()))).collect();
        let Some((far, usual)) = beyond(&peaks) else { continue };
        let others: Vec<&Vec<ArrayD<f32>>> =
            samples.iter().enumerate().filter(|(i, _)| !far.contains(i)).map(|(_, s)| s).collect();
        if !answers_differ(graph, &others)? {
            continue;
        }
        let largest = far.iter().map(|&i| peaks[i]).fold(0.0, f32::max);
        let which = far.iter().take(8).map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let more = if far.len() > 8 { format!(" and {} more", far.len() - 8) } else { String::new() };
        found.warnings.push(format!(
            "{} of {} calibration samples (number {which}{more}) were left out: input `{}` reaches {largest:.4e} \
             there and {usual:.4e} in all others, which would keep almost none of the 256 codes; the compiled \
             network limits such numbers to the range of the others",
            far.len(),
            samples.len(),
            graph.value(id).name,
        ));
        found.samples.extend(far);
    }
    found.samples.sort_unstable();
    found.samples.dedup();
    Ok(found)
}

/// The samples whose peaks lie far beyond those of all others, and the largest of the others.
fn beyond(peaks: &[f32]) -> Option<(Vec<usize>, f32)> {
    if peaks.len() < LEAST {
        return None;
    }
    let mut order: Vec<usize> = (0..peaks.len()).collect();
    order.sort_by(|&a, &b| peaks[b].total_cmp(&peaks[a]));
    let most = (peaks.len() / FEW).max(1);
    let gap = |k: &usize| {
        let (far, usual) = (peaks[order[k - 1]], peaks[order[*k]]);
        usual > 0.0 && far >= BEYOND * usual
    };
    let count = (1..=most).rev().find(gap)?;
    let mut far = order[..count].to_vec();
    far.sort_unstable();
    Some((far, peaks[order[count]]))
}

/// Whether the float network's answers to these samples differ by more than noise.
fn answers_differ(graph: &Graph, samples: &[&Vec<ArrayD<f32>>]) -> Result<bool> {
    let probes = probes(graph);
    let ids: Vec<_> = probes.iter().map(|p| p.id).collect();
    let taken = evenly(samples, COMPARED, None);
    let answers = capture(graph, &taken, &ids, &Reach::whole(graph), None)?;
    Ok(answers.iter().any(varies))
}

fn varies(batch: &Batch) -> bool {
    let Some(first) = batch.first() else { return false };
    let mut sums = vec![(0.0f64, 0.0f64); first.len()];
    for array in batch {
        for ((sum, squares), v) in sums.iter_mut().zip(array.iter()) {
            (*sum, *squares) = (*sum + f64::from(*v), *squares + f64::from(*v).powi(2));
        }
    }
    let n = batch.len() as f64;
    let (variance, signal) = sums
        .iter()
        .fold((0.0, 0.0), |(v, s), (sum, squares)| (v + (squares - sum * sum / n).max(0.0), s + squares));
    variance > VARIED * signal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_peaks_far_beyond_all_others_are_outliers() {
        let usual = |n: usize| (0..n).map(|i| 1.0 + (i % 7) as f32 * 0.3).collect::<Vec<f32>>();
        for (n, far) in [(5, vec![2]), (8, vec![7]), (50, vec![0]), (200, vec![3, 40, 41, 199])] {
            let mut peaks = usual(n);
            far.iter().enumerate().for_each(|(k, &i)| peaks[i] *= 50.0 * 40f32.powi(k as i32));
            let (found, usual) = beyond(&peaks).unwrap();
            assert_eq!(found, far);
            assert!(usual < 3.0);
        }
    }

    #[test]
    fn heavy_tails_and_silence_have_no_outliers() {
        // Each is 8 times the one before: a step between neighbours is no gap.
        let tail: Vec<f32> = (0..10).map(|i| 8f32.powi(i)).collect();
        assert_eq!(beyond(&tail), None);
        let mut silence = vec![0.0; 20];
        silence[3] = 1.0;
        assert_eq!(beyond(&silence), None);
        // Two of eight are not few.
        assert_eq!(beyond(&[1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 900.0, 900.0]), None);
        assert_eq!(beyond(&[1.0, 1.0, 1.0, 900.0]), None);
    }
}
