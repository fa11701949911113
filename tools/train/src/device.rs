//! The device's arithmetic in the forward pass: fake quantisation only approximates the device's integers, while a
//! [`Device`] computes them exactly. Training then sees every rounding, clamp and table of the runtime; gradients
//! pass straight through.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;

use ndarray::ArrayD;
use offshoot_ir::{Graph, ValueId};

/// Step sizes and ranges of a network being quantised.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Numbers {
    /// Step sizes by name of the weights, one per output channel.
    pub steps: BTreeMap<String, Vec<f32>>,
    /// Smallest and largest element of activations, by name.
    pub ranges: BTreeMap<String, (f32, f32)>,
}

/// A tensor as the device computes it.
#[derive(Clone, Debug, PartialEq)]
pub struct DeviceTensor {
    /// Real values of all samples, one after the other.
    pub values: Vec<f32>,
    /// Smallest and largest value on its grid.
    pub bounds: (f32, f32),
}

/// Error of a device implementation.
pub type DeviceError = Box<dyn std::error::Error + Send + Sync>;

/// Lowers networks to the device's form.
pub trait Device: Debug + Send + Sync {
    /// Prepares to run `graph`, whose weights are not rounded yet, with `numbers`.
    ///
    /// # Errors
    /// The device cannot run it.
    fn prepare(&self, graph: &Graph, numbers: &Numbers) -> Result<Box<dyn DeviceRun>, DeviceError>;
}

/// A network in the device's form.
pub trait DeviceRun {
    /// All tensors that the device computes, for every sample along the first axis of `inputs` (one array per graph
    /// input). Tensors of the graph that do not exist on the device are left out.
    ///
    /// # Errors
    /// The device fails.
    fn run(&self, inputs: &[ArrayD<f32>]) -> Result<HashMap<ValueId, DeviceTensor>, DeviceError>;
}
