//! The device on the way forward: what fake quantisation only comes near to, whoever can run the device's integers gives
//! exactly. Training then sees every rounding, clamp and table of the runtime, and its gradients pass straight through.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;

use ndarray::ArrayD;
use offshoot_ir::{Graph, ValueId};

/// Numbers of a network that is being quantised.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Numbers {
    /// Step sizes by name of the weights, one an output channel.
    pub steps: BTreeMap<String, Vec<f32>>,
    /// Smallest and largest element of activations, by name.
    pub ranges: BTreeMap<String, (f32, f32)>,
}

/// A tensor as the device computes it.
#[derive(Clone, Debug, PartialEq)]
pub struct DeviceTensor {
    /// Real values of all samples, one after the other.
    pub values: Vec<f32>,
    /// Least and greatest value that its grid holds.
    pub bounds: (f32, f32),
}

/// Error of whoever runs the device's integers.
pub type DeviceError = Box<dyn std::error::Error + Send + Sync>;

/// Makes the device's form of a network.
pub trait Device: Debug + Send + Sync {
    /// Gets ready to run `graph`, whose weights are not rounded yet, with `numbers`.
    ///
    /// # Errors
    /// The device cannot run it.
    fn prepare(&self, graph: &Graph, numbers: &Numbers) -> Result<Box<dyn DeviceRun>, DeviceError>;
}

/// A network in the device's form.
pub trait DeviceRun {
    /// All tensors that the device has, of every sample along the first axis of `inputs` (one array a graph input).
    /// Tensors of the graph that the device does not have are left out.
    ///
    /// # Errors
    /// The device fails.
    fn run(&self, inputs: &[ArrayD<f32>]) -> Result<HashMap<ValueId, DeviceTensor>, DeviceError>;
}
