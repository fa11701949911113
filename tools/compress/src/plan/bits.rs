//! Reduces the bits of as few layers as the budget allows, the least sensitive first.

use std::collections::BTreeMap;
use std::sync::Arc;

use offshoot_ir::{Data, Graph};
use offshoot_train::{WeightQuant, evaluate};

use super::{Method, State, Work};
use crate::prune::{fits, head, samples, size, tune_rounded};
use crate::quantize::{WeightBits, packs};
use crate::{Error, Result};

/// Reduces weights to 4 or 2 bits when the flash limit requires it.
///
/// Layers are ordered by the loss that rounding them alone costs per byte saved. The shortest run of layers that
/// meets the limit is rounded, and trained with rounding.
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
        state.weight_bits = bits(&order[..high]);
        work.options.weight_bits = state.weight_bits.clone();
        debug_assert!(!fits(measure(&order[..high])?, &work.options) || high <= order.len());
        if self.epochs > 0 && high > 0 {
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
        let loss = |g: &Graph| evaluate(g, &data).map(|j| f64::from(j.loss)).map_err(Error::Training);
        let whole = loss(graph)?;
        let mut order = Vec::new();
        let steps: &[u8] = if self.fewest <= 2 { &[4, 2] } else { &[4] };
        let layers = layers(graph);
        for (index, (name, weights)) in layers.iter().enumerate() {
            work.progress.tick("rounding layers", index, layers.len());
            let mut dearest = f64::MIN;
            for &bits in steps {
                let saved = graph.value(*weights).len() as f64 * (8.0 - f64::from(bits)) / 8.0;
                let price = (loss(&rounded(graph, *weights, bits))? - whole) / saved.max(1.0);
                // A layer goes to 4 bits before it goes to 2.
                dearest = dearest.max(price);
                order.push((dearest, name.clone(), bits));
            }
        }
        order.sort_by(|a, b| a.0.total_cmp(&b.0));
        Ok(order.into_iter().map(|(_, name, bits)| (name, bits)).collect())
    }
}

/// Names and weights of the layers that the device can pack.
fn layers(graph: &Graph) -> Vec<(String, offshoot_ir::ValueId)> {
    let packed = graph.nodes.iter().filter(|n| packs(graph, n));
    packed.map(|n| (n.name.clone(), n.inputs[1])).collect()
}

/// `graph` with the weights `id` on a grid of `bits`, one step per output channel.
fn rounded(graph: &Graph, id: offshoot_ir::ValueId, bits: u8) -> Graph {
    let mut out = graph.clone();
    let channels = graph.value(id).shape.first().copied().unwrap_or(1).max(1);
    if let Some(Data::F32(data)) = out.value_mut(id).data.as_mut().map(Arc::make_mut) {
        let width = (data.len() / channels).max(1);
        for row in data.chunks_mut(width) {
            let limit = f32::from((1u8 << (bits - 1)) - 1);
            let step = row.iter().fold(0.0f32, |m, w| m.max(w.abs())) / limit;
            if step > 0.0 {
                row.iter_mut().for_each(|w| *w = (*w / step).round() * step);
            }
        }
    }
    out
}

/// The rounding applied in training for these bits.
fn rounding(graph: &Graph, bits: &WeightBits) -> WeightQuant {
    let mut quant = WeightQuant::uniform(8, false);
    for (name, weights) in layers(graph) {
        if let Some(&b) = bits.layers.get(&name) {
            quant.overrides.insert(graph.value(weights).name.clone(), b);
        }
    }
    quant
}
