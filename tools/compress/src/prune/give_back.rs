//! Gives back what was taken too much: a budget is met by moves of very different sizes, and what went first is often
//! not needed any more once the last has gone.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use offshoot_ir::Graph;

use super::allocate::{Cost, Lowering, Rates, Rules, gcd};
use super::budget::{Gauge, Limits, Measured, Size};
use super::groups::Groups;
use super::slice::slice;
use crate::Result;
use crate::quantize::WeightBits;

/// Share of the tightest limit that is to be used. Below it, channel counts other than multiples are tried.
pub(super) const WANTED: f64 = 0.95;
/// By how much the model of sizes may exceed a limit for a candidate to be measured.
const DOUBT: f64 = 1.02;
/// Most measurements.
const TRIES: usize = 80;

/// What is left of a network.
#[derive(Clone, Debug)]
pub(super) struct Choice {
    /// For each group, whether it is removed.
    pub(super) removed: Vec<bool>,
    /// Bits of the weights.
    pub(super) bits: WeightBits,
}

/// What has been measured, by removed groups and bits.
pub(super) type Known = RefCell<HashMap<(Vec<bool>, BTreeMap<String, u8>), Measured>>;

/// What a choice is judged by.
#[derive(Clone, Copy)]
pub(super) struct Judge<'a> {
    pub(super) graph: &'a Graph,
    pub(super) groups: &'a Groups,
    pub(super) scores: &'a [f64],
    pub(super) lowerings: &'a [Lowering],
    pub(super) rules: &'a Rules,
    pub(super) gauge: &'a Gauge<'a>,
    pub(super) limits: Limits,
    /// Size of the whole network.
    pub(super) before: Size,
    /// Choices of the same graph and groups that were measured before.
    pub(super) known: &'a Known,
}

impl Judge<'_> {
    pub(super) fn measure(&self, choice: &Choice) -> Result<Measured> {
        let key = (choice.removed.clone(), choice.bits.layers.clone());
        if let Some(known) = self.known.borrow().get(&key) {
            return Ok(known.clone());
        }
        let found = self.gauge.measure(&slice(self.graph, self.groups, &choice.removed)?, &choice.bits)?;
        self.known.borrow_mut().insert(key, found.clone());
        Ok(found)
    }

    /// The largest share of a limit that `choice` uses.
    pub(super) fn used(&self, choice: &Choice) -> Result<f64> {
        Ok(self.limits.used(self.before, self.measure(choice)?.size))
    }

    /// Whether `choice` uses enough of its tightest limit.
    pub(super) fn is_full(&self, choice: &Choice) -> Result<bool> {
        Ok(self.used(choice)? >= WANTED)
    }

    /// Loss of a choice beyond `base`, in units of the scores.
    pub(super) fn lost(&self, base: &Choice, choice: &Choice) -> f64 {
        let gone = (0..choice.removed.len()).filter(|&g| choice.removed[g] && !base.removed[g]);
        let channels: f64 = gone.map(|g| self.scores[g]).sum();
        channels + self.lowered(base, choice).map(|(_, lost)| lost).sum::<f64>()
    }

    /// Layers with fewer bits than in `base`, and what that loses.
    fn lowered<'c>(&'c self, base: &'c Choice, choice: &'c Choice) -> impl Iterator<Item = (&'c str, f64)> {
        let changed = choice.bits.layers.iter().filter(|(layer, b)| base.bits.layers.get(*layer) != Some(b));
        changed.map(|(layer, bits)| {
            let lost = self.lowerings.iter().find(|l| l.layer == *layer && l.bits == *bits);
            (layer.as_str(), lost.map_or(0.0, |l| l.lost))
        })
    }

    fn cost(&self, choice: &Choice, now: &Measured) -> [f64; 3] {
        let (work, elements, live) = (now.rates.clone(), now.elements.clone(), now.live.clone());
        let rates = Rates { work, elements, live, bits: choice.bits.clone() };
        Cost::new(self.graph, self.groups, &choice.removed, &rates).totals()
    }

    /// Bytes, work and bytes of arena of a size, and their limits.
    fn aims(&self, size: Size) -> [(f64, f64); 3] {
        let work = match size.instructions {
            Some(i) if self.limits.instructions < u64::MAX => (i, self.limits.instructions),
            _ => (size.macs, self.limits.macs),
        };
        [(size.flash, self.limits.flash), work, (size.ram, self.limits.ram)]
            .map(|(now, limit)| (now as f64, limit as f64))
    }

    /// Gives back channels and bits that `choice` takes beyond `base`, the most important for their size first, as long
    /// as the limits hold.
    pub(super) fn give_back(&self, base: &Choice, mut choice: Choice) -> Result<Choice> {
        let mut now = self.measure(&choice)?;
        let (mut multiple, mut tries) = (self.rules.multiple.max(1), 0);
        let mut failed: BTreeSet<(usize, usize)> = BTreeSet::new();
        while tries < TRIES {
            let totals = self.cost(&choice, &now);
            let aims = self.aims(now.size);
            let mut candidates: Vec<(f64, (usize, usize), Choice)> = Vec::new();
            for (key, lost, larger) in self.larger(base, &choice, multiple) {
                let added = self.cost(&larger, &now);
                let grown = [0, 1, 2].map(|i| (added[i] - totals[i]).max(0.0));
                // Tensors share memory in more ways than the model knows: RAM is only measured.
                let over = [0, 1].iter().any(|&i| aims[i].0 + grown[i] > aims[i].1 * DOUBT);
                if !over && !failed.contains(&key) {
                    let size: f64 = [0, 1, 2].map(|i| grown[i] / aims[i].1.max(1.0)).iter().sum();
                    candidates.push((lost / size.max(f64::MIN_POSITIVE), key, larger));
                }
            }
            candidates.sort_by(|a, b| b.0.total_cmp(&a.0));
            let mut accepted = false;
            for (_, key, larger) in candidates {
                tries += 1;
                let measured = self.measure(&larger)?;
                if self.limits.hold(measured.size) {
                    (choice, now, accepted) = (larger, measured, true);
                    break;
                }
                failed.insert(key);
                if tries >= TRIES {
                    break;
                }
            }
            if accepted {
                continue;
            }
            if multiple == 1 || self.limits.used(self.before, now.size) >= WANTED {
                break;
            }
            multiple /= 2;
            failed.clear();
        }
        Ok(choice)
    }

    /// Every choice that is one step larger: a key, what comes back in units of the scores, and the choice.
    pub(super) fn larger(
        &self,
        base: &Choice,
        choice: &Choice,
        multiple: usize,
    ) -> Vec<((usize, usize), f64, Choice)> {
        let mut all = Vec::new();
        for (index, family) in self.groups.families.iter().enumerate() {
            let kept = family.groups.iter().filter(|&&g| !choice.removed[g]).count();
            let mut gone: Vec<usize> =
                family.groups.iter().copied().filter(|&g| choice.removed[g] && !base.removed[g]).collect();
            if gone.is_empty() {
                continue;
            }
            gone.sort_by(|&a, &b| self.scores[b].total_cmp(&self.scores[a]));
            let step = multiple / gcd(multiple, family.channels);
            gone.truncate((kept / step + 1) * step - kept);
            let mut larger = choice.clone();
            gone.iter().for_each(|&g| larger.removed[g] = false);
            all.push(((index, kept + gone.len()), gone.iter().map(|&g| self.scores[g]).sum(), larger));
        }
        for (at, (layer, lost)) in self.lowered(base, choice).enumerate() {
            let mut larger = choice.clone();
            // One step at a time: from 2 bits to 4, if there is that step.
            let step = self.lowerings.iter().find(|l| l.layer == layer && l.bits > choice.bits.layers[layer]);
            let back = match base.bits.layers.get(layer) {
                Some(&bits) => Some((bits, 0.0)),
                None => step.map(|l| (l.bits, l.lost)),
            };
            match back {
                Some((bits, _)) => larger.bits.layers.insert(layer.to_owned(), bits),
                None => larger.bits.layers.remove(layer),
            };
            let lost = lost - back.map_or(0.0, |(_, left)| left);
            let bits = back.map_or(8, |(bits, _)| bits);
            all.push(((self.groups.families.len() + at, usize::from(bits)), lost, larger));
        }
        all
    }
}
