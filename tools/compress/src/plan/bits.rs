//! Reduces the bits of the layers that lose least by it, as far as the budget requires.

use std::collections::BTreeMap;

use offshoot_ir::Graph;
use offshoot_train::WeightQuant;

use super::{Method, State, Work};
use crate::Result;
use crate::knapsack::{Choice, choose};
use crate::prune::{PruneOptions, head, layers, lowerings, samples, size_for, tune_rounded};
use crate::quantize::WeightBits;

/// Reduces weights to 4 or 2 bits when the flash limit requires it.
///
/// Of all ways to meet the limit the one is taken whose losses add up to the least, where the loss of a layer is that of
/// rounding it alone, and its bytes are those of the file; then the network is trained with rounding.
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
        let uncounted = PruneOptions { max_instructions: None, ..work.options.clone() };
        let measure = |lowered: &[(String, u8)]| size_for(&uncounted, &state.graph, &few, &bits(lowered));
        let data = head(work.data, work.options.score_samples.max(1));
        let found = lowerings(&state.graph, &data, self.fewest, &WeightBits::default(), work.progress)?;
        // Fewer bits save neither instructions nor arena, so only flash decides here.
        let flash = work.options.max_flash.unwrap_or(u64::MAX);
        let whole = measure(&[])?;
        let mut forms: Vec<(Vec<u8>, Vec<Choice>)> = Vec::new();
        let packed = layers(&state.graph);
        for (name, _) in &packed {
            let mut form = (Vec::new(), Vec::new());
            for l in found.iter().filter(|l| l.layer == *name && whole.flash > flash) {
                let saved = whole.flash.saturating_sub(measure(&[(name.clone(), l.bits)])?.flash);
                form.0.push(l.bits);
                form.1.push(Choice { saved, lost: l.lost });
            }
            forms.push(form);
        }
        let choices: Vec<Vec<Choice>> = forms.iter().map(|(_, choices)| choices.clone()).collect();
        let taken = |chosen: &[Option<usize>]| -> Vec<(String, u8)> {
            let all = chosen.iter().zip(&forms).zip(&packed);
            all.filter_map(|((form, (bits, _)), (name, _))| Some((name.clone(), bits[(*form)?]))).collect()
        };
        let mut need = whole.flash.saturating_sub(flash);
        // Savings of single layers add up but for padding.
        let lowered = loop {
            let Some(chosen) = choose(&choices, need) else {
                let all: Vec<Option<usize>> = choices.iter().map(|c| c.len().checked_sub(1)).collect();
                return Err(measure(&taken(&all))?.too_large());
            };
            let lowered = taken(&chosen);
            let now = measure(&lowered)?.flash;
            if now <= flash {
                break lowered;
            }
            need += now - flash;
        };
        state.weight_bits = bits(&lowered);
        work.options.weight_bits = state.weight_bits.clone();
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
        state.done.push(format!("bits: {lowered} of {} layers below 8", packed.len()));
        Ok(state)
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
