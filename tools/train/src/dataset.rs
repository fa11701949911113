//! Samples and their targets.

use ndarray::ArrayD;
use offshoot_ir::Graph;

use crate::error::{Error, Result};

/// Target of the graph's first output.
#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    /// Class of each sample; the loss is cross-entropy, applied before a softmax that ends the graph.
    Labels(Vec<i64>),
    /// Desired output of each sample along the first axis; the loss is the mean squared error.
    Values(ArrayD<f32>),
    /// No targets: only a teacher provides them.
    Unlabelled,
}

/// Samples with their targets.
#[derive(Clone, Debug, PartialEq)]
pub struct Dataset {
    /// One array for each graph input: samples along the first axis, each in the shape of the input (the input is for
    /// one sample; its first extent of 1 is the batch axis).
    pub inputs: Vec<ArrayD<f32>>,
    /// Targets of the outputs.
    pub target: Target,
}

impl Dataset {
    /// Samples of a graph with one input.
    pub fn new(x: ArrayD<f32>, target: Target) -> Self {
        Self { inputs: vec![x], target }
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        self.inputs.first().and_then(|x| x.shape().first().copied()).unwrap_or(0)
    }

    /// Whether there are no samples.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Checks the samples and targets against the graph.
    ///
    /// # Errors
    /// [`Error::Data`] if shapes do not fit, numbers are not finite, or labels exceed the network's outputs.
    pub fn check(&self, graph: &Graph) -> Result<()> {
        let fail = |message: String| Err(Error::Data(message));
        if self.inputs.len() != graph.inputs.len() {
            return fail(format!("{} arrays for {} inputs", self.inputs.len(), graph.inputs.len()));
        }
        for (x, id) in self.inputs.iter().zip(&graph.inputs) {
            let value = graph.value(*id);
            // An input without a batch axis takes samples of its shape.
            let wanted = match value.shape.split_first() {
                Some((1, rest)) => rest,
                _ => &value.shape,
            };
            if x.ndim() == 0 || x.shape()[1..] != *wanted || x.shape()[0] == 0 || x.shape()[0] != self.len() {
                return fail(format!(
                    "samples of shape {:?}, input `{}` takes {wanted:?} after an axis of {} samples",
                    x.shape(),
                    value.name,
                    self.len().max(1)
                ));
            }
            if x.iter().any(|v| !v.is_finite()) {
                return fail("samples hold NaN or infinity".into());
            }
        }
        let elements = graph.outputs.first().map_or(0, |o| graph.value(*o).len());
        match &self.target {
            Target::Labels(labels) => {
                if labels.len() != self.len() {
                    return fail(format!("{} labels for {} samples", labels.len(), self.len()));
                }
                match labels.iter().find(|l| **l < 0 || **l >= elements as i64) {
                    Some(label) => fail(format!("label {label}, but the network has {elements} outputs")),
                    None => Ok(()),
                }
            }
            Target::Values(values) if values.len() != self.len() * elements => fail(format!(
                "{} target values for {} samples of {elements} outputs",
                values.len(),
                self.len()
            )),
            Target::Values(_) | Target::Unlabelled => Ok(()),
        }
    }
}
