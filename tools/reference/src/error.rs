//! Errors of float execution.

/// Result type of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Error of the float executor.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The graph is not well formed.
    #[error(transparent)]
    Graph(#[from] offshoot_ir::Error),
    /// An input is missing or has the wrong shape.
    #[error("input `{name}`: given {given:?}, wanted {wanted:?}")]
    Input {
        /// Name of the input.
        name: String,
        /// Shape given; empty if missing.
        given: Vec<usize>,
        /// Shape expected.
        wanted: Vec<usize>,
    },
    /// An operator cannot be run (a bug: the graph has been validated).
    #[error("operator `{node}`: {reason}")]
    Operator {
        /// Name of the node.
        node: String,
        /// The cause.
        reason: String,
    },
}
