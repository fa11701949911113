//! Bits of the weights of each layer.

use std::collections::BTreeMap;

use offshoot_ir::{Graph, Node, Op};
use serde::{Deserialize, Serialize};

use super::skeleton::is_weighted;
use crate::{Error, Result};

/// How many bits the weights of each layer take.
///
/// ```toml
/// weights = 4            # of all layers that the device can pack, unless named below: 8, 4 or 2
///
/// [layers]               # by node name, or by kind (conv2d, fully_connected)
/// "conv_1" = 8
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WeightBits {
    /// 8, 4 or 2. Depthwise, grouped and transposed convolutions keep 8: they have few weights, and the device no packed
    /// form for them.
    pub weights: u8,
    /// Exceptions, by node name or by kind; a name goes before a kind.
    pub layers: BTreeMap<String, u8>,
}

impl Default for WeightBits {
    fn default() -> Self {
        Self { weights: 8, layers: BTreeMap::new() }
    }
}

impl WeightBits {
    /// The same for all layers that the device can pack.
    pub fn all(weights: u8) -> Self {
        Self { weights, ..Self::default() }
    }

    /// Bits of each node's weights (8 where it has none).
    pub(crate) fn of(&self, graph: &Graph) -> Result<Vec<u8>> {
        for (name, bits) in
            self.layers.iter().map(|(n, &b)| (n.as_str(), b)).chain([("weights", self.weights)])
        {
            if !matches!(bits, 2 | 4 | 8) {
                return Err(Error::Option {
                    option: "weight_bits",
                    reason: format!("{bits} bits for `{name}`; 8, 4 or 2"),
                });
            }
        }
        for wanted in self.layers.keys() {
            let found = graph.nodes.iter().filter(|n| n.name == *wanted || n.op.name() == wanted);
            let weighted: Vec<&Node> = found.filter(|n| is_weighted(&n.op)).collect();
            if weighted.is_empty() {
                return Err(Error::UnknownOperator(wanted.clone()));
            }
            let named = graph.nodes.iter().find(|n| n.name == *wanted);
            if let Some(n) = named.filter(|n| self.layers[wanted] < 8 && !packs(graph, n)) {
                return Err(Error::Option {
                    option: "weight_bits",
                    reason: format!(
                        "`{}` ({}) with {} bits: the device packs convolutions of one group and fully connected layers",
                        n.name,
                        n.op.name(),
                        self.layers[wanted]
                    ),
                });
            }
        }
        let bits = |n: &Node| {
            if !packs(graph, n) {
                return 8;
            }
            let own = self.layers.get(&n.name).or_else(|| self.layers.get(n.op.name()));
            own.copied().unwrap_or(self.weights)
        };
        Ok(graph.nodes.iter().map(bits).collect())
    }
}

/// Whether the device has a packed form of the node's weights.
pub(crate) fn packs(graph: &Graph, node: &Node) -> bool {
    match node.op {
        Op::Conv2d { groups, window, .. } => {
            groups == 1 && (window.dilation[1] == 1 || window.kernel[1] == 1)
        }
        Op::FullyConnected { .. } => node.inputs.get(1).is_some_and(|&w| graph.value(w).data.is_some()),
        _ => false,
    }
}
