//! Numbers of a quantised network that training has found.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Numbers that training has found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Learned {
    /// By node name, what one step of its weights stands for: one number an output channel.
    pub steps: BTreeMap<String, Vec<f32>>,
    /// By name of the tensor, its smallest and largest element.
    pub ranges: BTreeMap<String, (f32, f32)>,
}
