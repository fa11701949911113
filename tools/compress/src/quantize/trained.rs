//! Step sizes and ranges of a quantised network, found by training.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Step sizes and ranges found by training.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Learned {
    /// By node name, the step sizes of its weights: one per output channel.
    pub steps: BTreeMap<String, Vec<f32>>,
    /// By tensor name, its smallest and largest element.
    pub ranges: BTreeMap<String, (f32, f32)>,
}
