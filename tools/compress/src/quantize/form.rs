//! Storage form of each layer's weights: bits, or levels of a codebook.

use std::collections::BTreeMap;

use offshoot_ir::{Graph, Node, Op};
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Bits of the weights of each layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct WeightBits {
    /// 8, 4 or 2. Depthwise, grouped and transposed convolutions keep 8: they have few weights, and the device has no
    /// packed form for them.
    pub weights: u8,
    /// Exceptions, by node name or by kind; a name takes precedence over a kind.
    pub layers: BTreeMap<String, u8>,
    /// Layers, by node name or by kind, whose weights use a codebook of this many levels (3 to 16), fitted to them.
    pub levels: BTreeMap<String, u8>,
}

impl Default for WeightBits {
    fn default() -> Self {
        Self { weights: 8, layers: BTreeMap::new(), levels: BTreeMap::new() }
    }
}

/// Storage form of one layer's weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Multiples of a step, with this many bits: 8, 4 or 2.
    Even(u8),
    /// This many levels.
    Codebook(u8),
}

impl Form {
    /// Bits that the device stores per weight.
    pub(crate) fn bits(self) -> u8 {
        match self {
            Self::Even(bits) => bits,
            Self::Codebook(levels) => 4 - 2 * u8::from(levels <= 4),
        }
    }
}

impl WeightBits {
    /// The same bits for all layers that the device can pack.
    pub fn all(weights: u8) -> Self {
        Self { weights, ..Self::default() }
    }

    /// Form of each node's weights (eight bits for nodes without any).
    pub(crate) fn of(&self, graph: &Graph) -> Result<Vec<Form>> {
        let option = |reason: String| Error::Option { option: "weight_bits", reason };
        for (name, bits) in
            self.layers.iter().map(|(n, &b)| (n.as_str(), b)).chain([("weights", self.weights)])
        {
            if !matches!(bits, 2 | 4 | 8) {
                return Err(option(format!("{bits} bits for `{name}`; expected 8, 4 or 2")));
            }
        }
        if let Some((name, levels)) = self.levels.iter().find(|(_, l)| !(3..=16).contains(*l)) {
            return Err(option(format!("{levels} levels for `{name}`; expected 3 to 16")));
        }
        for (wanted, packed) in
            self.layers.iter().map(|(n, b)| (n, *b < 8)).chain(self.levels.keys().map(|n| (n, true)))
        {
            let found = graph.nodes.iter().filter(|n| n.name == *wanted || n.op.name() == wanted);
            if !found.into_iter().any(|n| is_weighted(&n.op)) {
                let counts = |n: &Node| is_weighted(&n.op);
                return Err(Error::unknown_operator(wanted, graph, " with weights", counts));
            }
            // Layout operators added by an import may have the layer's name.
            let mut named = graph.nodes.iter().filter(|n| n.name == *wanted && is_weighted(&n.op));
            if let Some(n) = named.find(|n| packed && !packs(graph, n)) {
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

/// Whether an operator has weights `[O, …]` that are fitted.
pub(crate) fn is_weighted(op: &Op) -> bool {
    matches!(op, Op::Conv2d { .. } | Op::ConvTranspose2d { .. } | Op::FullyConnected { .. })
}
