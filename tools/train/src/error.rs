//! Errors of training.

/// Result type of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Error of training.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An operator that has no gradient.
    #[error("operator `{node}` ({op}) cannot be trained: {reason}")]
    Unsupported {
        /// Name of the node.
        node: String,
        /// Its operator.
        op: &'static str,
        /// The cause.
        reason: String,
    },
    /// Samples, targets, options and network do not fit together.
    #[error("{0}")]
    Data(String),
    /// The loss became NaN or infinite.
    #[error("training diverged in epoch {epoch}: the loss is {loss}; lower the learning rate")]
    Diverged {
        /// Epoch, from 1.
        epoch: usize,
        /// Its mean loss.
        loss: f32,
    },
    /// The device's form of the network cannot be run.
    #[error("the device's form of the network: {0}")]
    Device(crate::device::DeviceError),
    /// A checkpoint cannot be read, written or used.
    #[error("checkpoint {path}: {reason}")]
    Checkpoint {
        /// The file.
        path: std::path::PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The graph is not well formed.
    #[error(transparent)]
    Graph(#[from] offshoot_ir::Error),
    /// The graph cannot be run.
    #[error(transparent)]
    Reference(#[from] offshoot_reference::Error),
}
