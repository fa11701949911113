//! The cost of fewer bits for each layer, and a policy derived from it.
//!
//! Quantises one layer after the other to every form on offer, with all others at eight bits; each compiled file is
//! judged with the device's arithmetic. The policy is the choice of forms whose losses add up to the least, of all that
//! meet the budget (losses and savings of single layers are assumed to add up; the whole network is measured).

use std::collections::BTreeMap;

use offshoot_ir::Graph;
use offshoot_train::Dataset;
use serde::Serialize;

use super::device::{DeviceJudgement, device_judgement};
use super::form::{Form, WeightBits, is_weighted, packs};
use super::options::{QuantizeOptions, Rounding, Toggle};
use super::post_training::quantize;
use super::report::QuantizeReport;
use crate::knapsack::{Choice, choose};
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

impl Trial {
    fn form(&self) -> Form {
        self.levels.map_or(Form::Even(self.bits), Form::Codebook)
    }
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
            steps.push((slope, t.saved, layer, t.form()));
            (saved, loss) = (t.saved, t.loss.max(0.0));
        }
    }
    steps.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    steps.into_iter().map(|(_, _, layer, form)| (layer, form)).collect()
}

/// The policy that meets the flash limit at the least loss; without one, the most moves that keep the accuracy.
fn meet(
    moves: &[(&str, Form)],
    trials: &[Trial],
    whole: DeviceJudgement,
    options: &SensitivityOptions,
    judge: &dyn Fn(&WeightBits) -> Result<DeviceJudgement>,
    progress: &mut dyn Progress,
) -> Result<(WeightBits, DeviceJudgement)> {
    let keeps = |now: &DeviceJudgement| match (options.max_loss, whole.accuracy, now.accuracy) {
        (None, ..) => true,
        (Some(most), Some(a), Some(b)) => a - b <= most,
        (Some(most), ..) => now.loss <= whole.loss * (1.0 + most),
    };
    let Some(flash) = options.max_flash else {
        return match options.max_loss {
            None => Ok((WeightBits::default(), whole)),
            Some(_) => most(moves, whole, &keeps, judge, progress),
        };
    };
    let mut need = whole.bytes.saturating_sub(flash);
    // Savings of single layers add up but for padding.
    let (bits, result) = loop {
        progress.tick("policy", 0, 1);
        let (bits, last) = match cheapest(trials, need) {
            Some(bits) => (bits, false),
            None => (smallest(trials), true),
        };
        let result = judge(&bits)?;
        if last || result.bytes <= flash {
            break (bits, result);
        }
        need += result.bytes - flash;
    };
    if result.bytes <= flash && keeps(&result) {
        return Ok((bits, result));
    }
    // The nearest point: the smallest file that keeps the accuracy.
    let (_, nearest) = most(moves, whole, &keeps, judge, progress)?;
    Err(Error::Precision {
        flash: nearest.bytes,
        accuracy: nearest.accuracy,
        wanted: result.bytes,
        reached: result.accuracy,
    })
}

/// The most moves that keep the accuracy, assuming that more moves lose more.
fn most(
    moves: &[(&str, Form)],
    whole: DeviceJudgement,
    keeps: &dyn Fn(&DeviceJudgement) -> bool,
    judge: &dyn Fn(&WeightBits) -> Result<DeviceJudgement>,
    progress: &mut dyn Progress,
) -> Result<(WeightBits, DeviceJudgement)> {
    let (mut low, mut high) = (0, moves.len());
    let mut best = (WeightBits::default(), whole);
    while low < high {
        progress.tick("policy", low, high);
        let middle = (low + high).div_ceil(2);
        let mut bits = WeightBits::default();
        moves[..middle].iter().for_each(|(layer, form)| set(&mut bits, layer, *form));
        let now = judge(&bits)?;
        match keeps(&now) {
            true => (low, best) = (middle, (bits, now)),
            false => high = middle - 1,
        }
    }
    Ok(best)
}

/// The policy that saves `need` bytes at the least loss, by what single layers save and lose; `None` if all save less.
fn cheapest(trials: &[Trial], need: u64) -> Option<WeightBits> {
    let mut layers: BTreeMap<&str, Vec<&Trial>> = BTreeMap::new();
    trials.iter().filter(|t| t.saved > 0).for_each(|t| layers.entry(&t.layer).or_default().push(t));
    // A loss that falls is chance: it counts as no loss.
    let choice = |t: &&Trial| Choice { saved: t.saved.unsigned_abs(), lost: t.loss.max(0.0) };
    let choices: Vec<Vec<Choice>> = layers.values().map(|forms| forms.iter().map(choice).collect()).collect();
    let chosen = choose(&choices, need)?;
    let mut bits = WeightBits::default();
    for (form, forms) in chosen.iter().zip(layers.values()) {
        if let Some(trial) = form.map(|at| forms[at]) {
            set(&mut bits, &trial.layer, trial.form());
        }
    }
    Some(bits)
}

/// The policy that saves most.
fn smallest(trials: &[Trial]) -> WeightBits {
    let mut most: BTreeMap<&str, &Trial> = BTreeMap::new();
    for t in trials.iter().filter(|t| t.saved > 0) {
        let known = most.entry(&t.layer).or_insert(t);
        if t.saved > known.saved {
            *known = t;
        }
    }
    let mut bits = WeightBits::default();
    most.values().for_each(|t| set(&mut bits, &t.layer, t.form()));
    bits
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
        let layers = |need: u64| cheapest(&trials, need).map(|bits| bits.layers);
        let named = |all: &[(&str, u8)]| Some(all.iter().map(|(n, b)| ((*n).to_owned(), *b)).collect());
        assert_eq!(layers(0), named(&[]));
        assert_eq!(layers(100), named(&[("b", 4)]));
        // Two bits for `a` alone save enough, but four for both lose less.
        assert_eq!(layers(150), named(&[("a", 4), ("b", 4)]));
        assert_eq!(layers(250), named(&[("a", 2), ("b", 4)]));
        assert_eq!(layers(301), None);
        assert_eq!(smallest(&trials).layers, named(&[("a", 2), ("b", 2)]).unwrap());
        // Two bits for `a` are a better trade than four.
        assert_eq!(moves(&trials), [("b", Form::Even(4)), ("a", Form::Even(2)), ("b", Form::Even(2))]);
    }
}
