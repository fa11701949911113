//! The cost of fewer bits for each layer, and a policy derived from it.
//!
//! Quantises one layer after the other to every form on offer, with all others at eight bits; each compiled file is
//! judged with the device's arithmetic. The policy then takes forms greedily, least loss per saved byte first (losses
//! of single layers are assumed to add up), until the whole network, as measured, meets the budget.

use std::collections::BTreeMap;

use offshoot_ir::Graph;
use offshoot_train::Dataset;
use serde::Serialize;

use super::device::{DeviceJudgement, device_judgement};
use super::form::{Form, WeightBits, is_weighted, packs};
use super::options::{QuantizeOptions, Rounding, Toggle};
use super::post_training::quantize;
use super::report::QuantizeReport;
use crate::prune::{Progress, samples};
use crate::{Error, Result};

/// Settings of [`sensitivity`].
#[derive(Clone, Debug)]
pub struct SensitivityOptions {
    /// Calibration samples: the first of the data.
    pub calibration: usize,
    /// Samples to judge by; by default the data that are given.
    pub judged: Option<Dataset>,
    /// Also tries codebooks of 16 and 4 levels, besides 4 and 2 bits.
    pub codebooks: bool,
    /// Most bytes of the `.off` file.
    pub max_flash: Option<u64>,
    /// Accuracy that may be lost against eight bits, as a fraction. (For value targets: share by which the loss may
    /// grow.)
    pub max_loss: Option<f64>,
}

impl Default for SensitivityOptions {
    fn default() -> Self {
        Self { calibration: 64, judged: None, codebooks: false, max_flash: None, max_loss: None }
    }
}

/// One layer in one form, all others at eight bits.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Trial {
    /// Name of the operator.
    pub layer: String,
    /// Its weights.
    pub weights: u64,
    /// Bits per weight.
    pub bits: u8,
    /// Levels, if it is a codebook.
    pub levels: Option<u8>,
    /// Bytes of the file that are saved.
    pub saved: i64,
    /// Growth of the loss.
    pub loss: f64,
    /// Drop of the accuracy, as a fraction.
    pub drop: Option<f64>,
}

/// Report of [`sensitivity`].
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SensitivityReport {
    /// All weights at eight bits.
    pub whole: DeviceJudgement,
    /// Layer by layer, in the network's order.
    pub trials: Vec<Trial>,
    /// The policy.
    pub policy: WeightBits,
    /// The network quantised by the policy.
    pub result: DeviceJudgement,
}

/// Measures every trial and derives the policy. Without a budget the policy is eight bits everywhere.
///
/// # Errors
/// [`Error::Budget`] with the smallest file that these forms reach; the data do not fit the graph.
pub fn sensitivity(
    graph: &Graph,
    data: &Dataset,
    options: &SensitivityOptions,
    progress: &mut dyn Progress,
) -> Result<SensitivityReport> {
    data.check(graph).map_err(Error::Training)?;
    let judged = options.judged.as_ref().unwrap_or(data);
    let calibration = samples(graph, data, options.calibration.max(1));
    let (base, found) = quantize(graph, &calibration, &QuantizeOptions::default())?;
    let fixed = settled(&found);
    let whole = device_judgement(&base, judged)?;
    let judge = |bits: &WeightBits| -> Result<DeviceJudgement> {
        let options = QuantizeOptions { weight_bits: bits.clone(), ..fixed.clone() };
        device_judgement(&quantize(graph, &calibration, &options)?.0, judged)
    };
    let forms: &[Form] = match options.codebooks {
        true => &[Form::Even(4), Form::Codebook(16), Form::Even(2), Form::Codebook(4)],
        false => &[Form::Even(4), Form::Even(2)],
    };
    let layers: Vec<_> = graph.nodes.iter().filter(|n| is_weighted(&n.op) && packs(graph, n)).collect();
    let (mut trials, total) = (Vec::new(), layers.len() * forms.len());
    for node in &layers {
        for form in forms {
            progress.tick("layers", trials.len(), total);
            let mut bits = WeightBits::default();
            set(&mut bits, &node.name, *form);
            let with = judge(&bits)?;
            trials.push(Trial {
                layer: node.name.clone(),
                weights: offshoot_ir::cost::weights(graph, node),
                bits: form.bits(),
                levels: match form {
                    Form::Codebook(levels) => Some(*levels),
                    Form::Even(_) => None,
                },
                saved: whole.bytes as i64 - with.bytes as i64,
                loss: with.loss - whole.loss,
                drop: whole.accuracy.zip(with.accuracy).map(|(a, b)| a - b),
            });
        }
    }
    let moves = moves(&trials);
    let (policy, result) = meet(&moves, &trials, whole, options, &judge, progress)?;
    Ok(SensitivityReport { whole, trials, policy, result })
}

/// The choices made for the whole network are used in every trial.
fn settled(found: &QuantizeReport) -> QuantizeOptions {
    QuantizeOptions {
        clipping: found.clipping,
        weight_scale: found.weight_scale,
        rounding: Rounding::ErrorFeedback,
        bias_correction: if found.bias_correction { Toggle::On } else { Toggle::Off },
        ..QuantizeOptions::default()
    }
}

fn set(bits: &mut WeightBits, layer: &str, form: Form) {
    bits.layers.remove(layer);
    bits.levels.remove(layer);
    match form {
        Form::Even(8) => {}
        Form::Even(n) => drop(bits.layers.insert(layer.to_owned(), n)),
        Form::Codebook(levels) => drop(bits.levels.insert(layer.to_owned(), levels)),
    }
}

/// Forms in the order in which they are taken: for each layer, those on the convex hull of loss over saved bytes.
fn moves(trials: &[Trial]) -> Vec<(&str, Form)> {
    let mut by_layer: BTreeMap<&str, Vec<&Trial>> = BTreeMap::new();
    trials.iter().for_each(|t| by_layer.entry(&t.layer).or_default().push(t));
    let mut steps: Vec<(f64, i64, &str, Form)> = Vec::new();
    for (layer, trials) in by_layer {
        let (mut saved, mut loss) = (0i64, 0.0f64);
        loop {
            // A loss that falls is chance: it counts as no loss.
            let next = trials
                .iter()
                .filter(|t| t.saved > saved)
                .map(|t| (((t.loss.max(0.0) - loss).max(0.0)) / (t.saved - saved) as f64, *t));
            // Among equal slopes, the one that saves most.
            let Some((slope, t)) = next.min_by(|a, b| a.0.total_cmp(&b.0).then(b.1.saved.cmp(&a.1.saved)))
            else {
                break;
            };
            let form = t.levels.map_or(Form::Even(t.bits), Form::Codebook);
            steps.push((slope, t.saved, layer, form));
            (saved, loss) = (t.saved, t.loss.max(0.0));
        }
    }
    steps.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    steps.into_iter().map(|(_, _, layer, form)| (layer, form)).collect()
}

/// The fewest moves that meet the flash limit; without one, the most moves that keep the accuracy.
fn meet(
    moves: &[(&str, Form)],
    trials: &[Trial],
    whole: DeviceJudgement,
    options: &SensitivityOptions,
    judge: &dyn Fn(&WeightBits) -> Result<DeviceJudgement>,
    progress: &mut dyn Progress,
) -> Result<(WeightBits, DeviceJudgement)> {
    let after = |count: usize| {
        let mut bits = WeightBits::default();
        moves[..count].iter().for_each(|(layer, form)| set(&mut bits, layer, *form));
        bits
    };
    let keeps = |now: &DeviceJudgement| match (options.max_loss, whole.accuracy, now.accuracy) {
        (None, ..) => true,
        (Some(most), Some(a), Some(b)) => a - b <= most,
        (Some(most), ..) => now.loss <= whole.loss * (1.0 + most),
    };
    let fits = |now: &DeviceJudgement| options.max_flash.is_none_or(|most| now.bytes <= most);
    if options.max_flash.is_none() && options.max_loss.is_none() {
        return Ok((after(0), whole));
    }
    let mut seen: BTreeMap<usize, DeviceJudgement> = [(0, whole)].into();
    let mut at = |count: usize, seen: &mut BTreeMap<usize, DeviceJudgement>| -> Result<DeviceJudgement> {
        progress.tick("policy", seen.len(), seen.len() + 4);
        if let Some(known) = seen.get(&count) {
            return Ok(*known);
        }
        let found = judge(&after(count))?;
        seen.insert(count, found);
        Ok(found)
    };
    // More moves take fewer bytes and usually lose more.
    let (mut low, mut high) = (0, moves.len());
    while low < high {
        let by_flash = options.max_flash.is_some();
        let middle = if by_flash { low.midpoint(high) } else { (low + high).div_ceil(2) };
        let now = at(middle, &mut seen)?;
        match (by_flash, if by_flash { fits(&now) } else { keeps(&now) }) {
            (true, true) => high = middle,
            (true, false) => low = middle + 1,
            (false, true) => low = middle,
            (false, false) => high = middle - 1,
        }
    }
    let result = at(low, &mut seen)?;
    if fits(&result) && keeps(&result) {
        let most = options.max_flash.unwrap_or(u64::MAX);
        let fewer = options.max_flash.and_then(|_| given_back(&moves[..low], trials, whole.bytes, most));
        if let Some(bits) = fewer {
            let less = judge(&bits)?;
            // Savings of single layers add up but for padding.
            if fits(&less) && keeps(&less) {
                return Ok((bits, less));
            }
        }
        return Ok((after(low), result));
    }
    // The nearest point: the smallest measured file that keeps the accuracy.
    let nearest = seen.values().filter(|j| keeps(j)).min_by_key(|j| j.bytes).unwrap_or(&whole);
    Err(Error::Precision {
        flash: nearest.bytes,
        accuracy: nearest.accuracy,
        wanted: result.bytes,
        reached: result.accuracy,
    })
}

/// The policy of `moves` without those that the last of them makes unnecessary, the dearest first; `None` if all are
/// needed.
fn given_back(moves: &[(&str, Form)], trials: &[Trial], whole: u64, most: u64) -> Option<WeightBits> {
    let saved = |layer: &str, form: Form| {
        let of = |t: &&Trial| t.layer == layer && t.levels.map_or(Form::Even(t.bits), Form::Codebook) == form;
        trials.iter().find(of).map_or(0, |t| t.saved)
    };
    let mut taken: BTreeMap<&str, Form> = moves.iter().copied().collect();
    let bytes =
        |taken: &BTreeMap<&str, Form>| whole as i64 - taken.iter().map(|(l, f)| saved(l, *f)).sum::<i64>();
    let mut changed = false;
    for at in (0..moves.len()).rev() {
        let (layer, form) = moves[at];
        if taken.get(layer) != Some(&form) {
            continue;
        }
        // Not at all, or else the form before.
        let mut fewer = taken.clone();
        fewer.remove(layer);
        let before = moves[..at].iter().rev().find(|(l, _)| *l == layer);
        if bytes(&fewer) > most as i64 {
            let Some(&(_, milder)) = before else { continue };
            fewer.insert(layer, milder);
        }
        if bytes(&fewer) <= most as i64 {
            (taken, changed) = (fewer, true);
        }
    }
    changed.then(|| {
        let mut bits = WeightBits::default();
        taken.iter().for_each(|(layer, form)| set(&mut bits, layer, *form));
        bits
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cheapest_bytes_go_first() {
        let trial = |layer: &str, bits, saved, loss| Trial {
            layer: layer.into(),
            weights: 0,
            bits,
            levels: None,
            saved,
            loss,
            drop: None,
        };
        let trials = [
            trial("a", 4, 100, 0.2),
            trial("a", 2, 150, 0.25),
            trial("b", 4, 100, 0.01),
            trial("b", 2, 150, 1.0),
            trial("c", 4, -8, 0.0),
        ];
        // Two bits for `a` alone save enough, so the four bits chosen for `b` before are given back.
        let taken = moves(&trials);
        let bits = given_back(&taken[..2], &trials, 1000, 850).expect("one is too much");
        assert_eq!(bits.layers, [("a".to_owned(), 2)].into());
        let bits = given_back(&taken, &trials, 1000, 750).expect("one is too much");
        assert_eq!(bits.layers, [("a".to_owned(), 2), ("b".to_owned(), 4)].into());
        assert_eq!(given_back(&taken[..2], &trials, 1000, 750), None);
        // Two bits for `a` are a better trade than four.
        assert_eq!(moves(&trials), [("b", Form::Even(4)), ("a", Form::Even(2)), ("b", Form::Even(2))]);
    }
}
