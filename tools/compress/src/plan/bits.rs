//! Reduces the bits of as few layers as the budget allows, the least sensitive first.

use std::collections::BTreeMap;

use offshoot_ir::Graph;
use offshoot_train::WeightQuant;

use super::{Method, State, Work};
use crate::prune::{fits, head, layers, lowerings, samples, size, tune_rounded};
use crate::quantize::WeightBits;
use crate::{Error, Result};

/// Reduces weights to 4 or 2 bits when the flash limit requires it.
///
/// Layers are ordered by the loss that rounding them alone costs per byte saved. The shortest run of layers that
/// meets the limit is rounded, except for those that the last of them makes unnecessary, and trained with rounding.
#[derive(Clone, Copy, Debug)]
pub struct FewerBits {
    /// 4 or 2.
    pub fewest: u8,
    /// Passes over the data with rounded weights.
    pub epochs: usize,
}

impl Method for FewerBits {
    fn name(&self) -> &'static str {
        "bits"
    }

    fn fewest_bits(&self) -> u8 {
        self.fewest
    }

    fn apply(&self, mut state: State, work: &mut Work<'_>) -> Result<State> {
        let few = samples(&state.graph, work.data, 2);
        let bits = |lowered: &[(String, u8)]| WeightBits {
            weights: 8,
            layers: lowered.iter().cloned().collect::<BTreeMap<_, _>>(),
            ..WeightBits::default()
        };
        let measure = |lowered: &[(String, u8)]| size(&state.graph, &few, &bits(lowered), None);
        let order = self.order(&state.graph, work)?;
        let (mut low, mut high) = (0, order.len());
        let smallest = measure(&order)?;
        // Fewer bits save neither instructions nor arena, so only flash decides here.
        let flash = work.options.max_flash.unwrap_or(u64::MAX);
        if smallest.flash > flash {
            return Err(Error::Budget { flash: smallest.flash, ram: smallest.ram, macs: smallest.macs });
        }
        while low < high {
            let middle = low.midpoint(high);
            if measure(&order[..middle])?.flash <= flash { high = middle } else { low = middle + 1 }
        }
        let mut lowered = order[..high].to_vec();
        // A large layer at the end may have made earlier ones unnecessary: the dearest are given back first.
        for at in (0..high).rev() {
            let mut fewer = lowered.clone();
            let (name, least) = fewer.remove(at);
            // A layer at 2 bits passes through 4.
            if fewer.iter().any(|(other, b)| *other == name && *b < least) {
                continue;
            }
            if measure(&fewer)?.flash <= flash {
                lowered = fewer;
            }
        }
        state.weight_bits = bits(&lowered);
        work.options.weight_bits = state.weight_bits.clone();
        debug_assert!(!fits(measure(&lowered)?, &work.options) || lowered.len() <= order.len());
        if self.epochs > 0 && !lowered.is_empty() {
            let quant = rounding(&state.graph, &state.weight_bits);
            state.graph = tune_rounded(
                work.original,
                &state.graph,
                work.data,
                &work.options,
                self.epochs,
                quant,
                work.progress,
            )?;
        }
        let lowered = state.weight_bits.layers.len();
        state.done.push(format!(
            "bits: {lowered} of {} layers below 8",
            order.len().min(layers(&state.graph).len())
        ));
        Ok(state)
    }
}

impl FewerBits {
    /// Layers with their new bits, in the order in which they are reduced.
    fn order(&self, graph: &Graph, work: &mut Work<'_>) -> Result<Vec<(String, u8)>> {
        let data = head(work.data, work.options.score_samples.max(1));
        let found = lowerings(graph, &data, self.fewest, &WeightBits::default(), work.progress)?;
        let price = |l: &crate::prune::Lowering| {
            let saved = graph.value(l.weights).len() as f64 * (8.0 - f64::from(l.bits)) / 8.0;
            l.lost / saved.max(1.0)
        };
        let mut order: Vec<(f64, String, u8)> = Vec::new();
        let mut dearest: BTreeMap<String, f64> = BTreeMap::new();
        for l in found {
            // A layer goes to 4 bits before it goes to 2.
            let most = dearest.entry(l.layer.clone()).or_insert(0.0);
            *most = most.max(price(&l));
            order.push((*most, l.layer, l.bits));
        }
        order.sort_by(|a, b| a.0.total_cmp(&b.0));
        Ok(order.into_iter().map(|(_, name, bits)| (name, bits)).collect())
    }
}

/// The rounding applied in training for these bits.
pub(super) fn rounding(graph: &Graph, bits: &WeightBits) -> WeightQuant {
    let mut quant = WeightQuant::uniform(8, false);
    for (name, weights) in layers(graph) {
        if let Some(&b) = bits.layers.get(&name) {
            quant.overrides.insert(graph.value(weights).name.clone(), b);
        }
    }
    quant
}
