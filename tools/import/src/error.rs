//! Errors of the importer.

use std::fmt;
use std::path::PathBuf;

/// One node that cannot be imported, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsupported {
    /// Name of the node (or of its first output, if it has none).
    pub node: String,
    /// Operator, with its domain if it is not ONNX's default domain.
    pub operator: String,
    /// Why it cannot be imported.
    pub reason: String,
}

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} `{}`: {}", self.operator, self.node, self.reason)
    }
}

/// Error of the importer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// The file cannot be read.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The bytes are not an ONNX model.
    #[error("not an ONNX model: {0}")]
    Format(String),
    /// The bytes begin as a TensorFlow Lite file does, but do not hold one.
    #[error("the TensorFlow Lite file is damaged: {0}")]
    Damaged(String),
    /// Some nodes cannot be imported; all of them are listed.
    #[error("{} node(s) cannot be imported:\n  {}", .0.len(), join(.0))]
    Unsupported(Vec<Unsupported>),
    /// The imported graph is not well formed.
    #[error(transparent)]
    Graph(#[from] offshoot_ir::Error),
    /// tract cannot run the model.
    #[error("float oracle: {0}")]
    Oracle(String),
}

/// Result type of this crate.
pub type Result<T> = std::result::Result<T, ImportError>;

fn join(all: &[Unsupported]) -> String {
    all.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n  ")
}
