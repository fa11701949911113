//! Errors of graphs.

/// Result type of the graph crates.
pub type Result<T> = std::result::Result<T, Error>;

/// Error in a graph; names the node.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A node's inputs do not fit its operator.
    #[error("operator `{node}` ({op}): {reason}")]
    Node {
        /// Name of the node.
        node: String,
        /// Its operator.
        op: &'static str,
        /// What does not fit.
        reason: String,
    },
    /// The graph as a whole is not well formed.
    #[error("graph: {0}")]
    Graph(String),
}
