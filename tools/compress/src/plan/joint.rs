//! Channels and bits chosen together.

use std::collections::BTreeMap;

use super::{Method, State, Work};
use crate::Result;
use crate::plan::bits::rounding;
use crate::prune::{PruneOptions, prune, tune_rounded};
use crate::quantize::WeightBits;

/// Removes channels and gives weights fewer bits, whichever loses less for what it saves of the limits that are exceeded.
#[derive(Clone, Debug, Default)]
pub struct Joint {
    /// Bits that are given, by name of the layer.
    pub bits: BTreeMap<String, u8>,
    /// Fewest bits: 4 or 2.
    pub fewest: u8,
    /// Passes over the data with rounded weights, if any layer got fewer bits.
    pub epochs: usize,
}

impl Method for Joint {
    fn name(&self) -> &'static str {
        "channels and bits"
    }

    fn apply(&self, state: State, work: &mut Work<'_>) -> Result<State> {
        let options = PruneOptions {
            fewest_bits: self.fewest,
            weight_bits: WeightBits { layers: self.bits.clone(), ..WeightBits::default() },
            ..work.options.clone()
        };
        let (mut graph, report) = prune(&state.graph, work.data, &options, work.progress)?;
        let lowered = report.weight_bits.layers.len();
        if self.epochs > 0 && lowered > 0 {
            let quant = rounding(&graph, &report.weight_bits);
            graph = tune_rounded(
                work.original,
                &graph,
                work.data,
                &work.options,
                self.epochs,
                quant,
                work.progress,
            )?;
        }
        let gone: usize = report.families.iter().map(|f| f.before - f.after).sum();
        let mut state = State { graph, weight_bits: report.weight_bits, ..state };
        state.done.push(format!("prune: {gone} channels"));
        state.done.push(format!("bits: {lowered} layers below 8"));
        state.families = report.families;
        Ok(state)
    }
}
