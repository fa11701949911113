//! The policy file: bits of the weights of each layer, and step sizes and ranges found by training.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::form::WeightBits;
use super::trained::Learned;

/// A policy file.
///
/// ```toml
/// weights = 4            # of all layers that the device can pack, unless named below: 8, 4 or 2
///
/// [layers]               # by node name, or by kind (conv2d, fully_connected)
/// "conv_1" = 8
///
/// [levels]               # by node name or kind: a codebook with this many levels (3 to 16), fitted to data
/// "conv_2" = 16
///
/// [steps]                # by node name: step sizes of the weights, one per output channel; from training
/// "conv_3" = [0.0125, 0.008]
///
/// [ranges]               # by tensor: smallest and largest element; from training
/// "relu_3" = [0.0, 6.1]
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// As [`WeightBits::weights`].
    pub weights: u8,
    /// As [`WeightBits::layers`].
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub layers: BTreeMap<String, u8>,
    /// As [`WeightBits::levels`].
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub levels: BTreeMap<String, u8>,
    /// As [`Learned::steps`].
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub steps: BTreeMap<String, Vec<f32>>,
    /// As [`Learned::ranges`].
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub ranges: BTreeMap<String, (f32, f32)>,
}

impl Default for Policy {
    fn default() -> Self {
        Self::new(WeightBits::default(), Learned::default())
    }
}

impl Policy {
    /// Makes a policy from bits and learned numbers.
    pub fn new(bits: WeightBits, learned: Learned) -> Self {
        let WeightBits { weights, layers, levels } = bits;
        let Learned { steps, ranges } = learned;
        Self { weights, layers, levels, steps, ranges }
    }

    /// Bits of the weights.
    pub fn bits(&self) -> WeightBits {
        let Self { weights, layers, levels, .. } = self.clone();
        WeightBits { weights, layers, levels }
    }

    /// Step sizes and ranges from training; `None` if there are none.
    pub fn learned(&self) -> Option<Learned> {
        let Self { steps, ranges, .. } = self.clone();
        (!steps.is_empty() || !ranges.is_empty()).then_some(Learned { steps, ranges })
    }
}
