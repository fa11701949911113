//! Bits of the weights of each layer, and numbers that training has found: what a policy file holds.

use std::collections::BTreeMap;

use offshoot_ir::{Graph, Node, Op};
use serde::{Deserialize, Serialize};

use super::learned::Learned;
use super::skeleton::is_weighted;
use crate::{Error, Result};

/// How many bits the weights of each layer take.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct WeightBits {
    /// 8, 4 or 2. Depthwise, grouped and transposed convolutions keep 8: they have few weights, and the device no packed
    /// form for them.
    pub weights: u8,
    /// Exceptions, by node name or by kind; a name goes before a kind.
    pub layers: BTreeMap<String, u8>,
    /// Layers, by node name or by kind, whose weights are of so many kinds (3 to 16) that are fitted to them: a codebook.
    pub levels: BTreeMap<String, u8>,
}

/// A policy file.
///
/// ```toml
/// weights = 4            # of all layers that the device can pack, unless named below: 8, 4 or 2
///
/// [layers]               # by node name, or by kind (conv2d, fully_connected)
/// "conv_1" = 8
///
/// [levels]               # by node name or kind: a codebook of so many kinds of weights (3 to 16), fitted to data
/// "conv_2" = 16
///
/// [steps]                # by node name: what one step of the weights stands for, one an output channel; from training
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

impl Default for WeightBits {
    fn default() -> Self {
        Self { weights: 8, layers: BTreeMap::new(), levels: BTreeMap::new() }
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self::new(WeightBits::default(), Learned::default())
    }
}

impl Policy {
    /// Of its parts.
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

    /// Numbers from training; `None` if it holds none.
    pub fn learned(&self) -> Option<Learned> {
        let Self { steps, ranges, .. } = self.clone();
        (!steps.is_empty() || !ranges.is_empty()).then_some(Learned { steps, ranges })
    }
}

/// How the weights of one layer are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Multiples of a step, of so many bits: 8, 4 or 2.
    Even(u8),
    /// So many kinds.
    Codebook(u8),
}

impl Form {
    /// Bits that the device stores of a weight.
    pub(crate) fn bits(self) -> u8 {
        match self {
            Self::Even(bits) => bits,
            Self::Codebook(levels) => 4 - 2 * u8::from(levels <= 4),
        }
    }
}

impl WeightBits {
    /// The same for all layers that the device can pack.
    pub fn all(weights: u8) -> Self {
        Self { weights, ..Self::default() }
    }

    /// Form of each node's weights (eight bits where it has none).
    pub(crate) fn of(&self, graph: &Graph) -> Result<Vec<Form>> {
        let option = |reason: String| Error::Option { option: "weight_bits", reason };
        for (name, bits) in
            self.layers.iter().map(|(n, &b)| (n.as_str(), b)).chain([("weights", self.weights)])
        {
            if !matches!(bits, 2 | 4 | 8) {
                return Err(option(format!("{bits} bits for `{name}`; 8, 4 or 2")));
            }
        }
        if let Some((name, levels)) = self.levels.iter().find(|(_, l)| !(3..=16).contains(*l)) {
            return Err(option(format!("{levels} levels for `{name}`; 3 to 16")));
        }
        for (wanted, packed) in
            self.layers.iter().map(|(n, b)| (n, *b < 8)).chain(self.levels.keys().map(|n| (n, true)))
        {
            let found = graph.nodes.iter().filter(|n| n.name == *wanted || n.op.name() == wanted);
            if !found.into_iter().any(|n| is_weighted(&n.op)) {
                return Err(Error::UnknownOperator(wanted.clone()));
            }
            let named = graph.nodes.iter().find(|n| n.name == *wanted);
            if let Some(n) = named.filter(|n| packed && !packs(graph, n)) {
                let (name, kind) = (&n.name, n.op.name());
                return Err(option(format!(
                    "`{name}` ({kind}) with less than 8 bits: the device packs convolutions of one group and fully \
                     connected layers"
                )));
            }
        }
        let own = |table: &BTreeMap<String, u8>, n: &Node| {
            table.get(&n.name).map(|&v| (true, v)).or_else(|| table.get(n.op.name()).map(|&v| (false, v)))
        };
        let form = |n: &Node| {
            if !packs(graph, n) {
                return Form::Even(8);
            }
            match (own(&self.layers, n), own(&self.levels, n)) {
                (Some((true, bits)), Some((false, _))) | (Some((_, bits)), None) => Form::Even(bits),
                (_, Some((_, levels))) => Form::Codebook(levels),
                (None, None) => Form::Even(self.weights),
            }
        };
        Ok(graph.nodes.iter().map(form).collect())
    }
}

/// Whether the device has a packed form of the node's weights, so that they can take 4 or 2 bits.
pub fn packs(graph: &Graph, node: &Node) -> bool {
    match node.op {
        Op::Conv2d { groups, window, .. } => {
            groups == 1 && (window.dilation[1] == 1 || window.kernel[1] == 1)
        }
        Op::FullyConnected { .. } => node.inputs.get(1).is_some_and(|&w| graph.value(w).data.is_some()),
        _ => false,
    }
}
