//! Errors of the search.

use std::path::PathBuf;

/// Result type of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Error of a search. Each message says what is wrong, where, and what would be right.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An invalid search space.
    #[error("space: {0}")]
    Space(String),
    /// An encoding that does not belong to the space.
    #[error("encoding: {0}")]
    Encoding(String),
    /// Samples, labels or options that do not fit.
    #[error("{0}")]
    Data(String),
    /// A candidate cannot be built or measured.
    #[error("candidate {candidate}: {reason}")]
    Candidate {
        /// Its options.
        candidate: String,
        /// The cause.
        reason: String,
    },
    /// A file cannot be read, written or understood.
    #[error("{path}: {reason}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A batch system or its program failed.
    #[error("executor {executor}: {reason}")]
    Executor {
        /// The executor.
        executor: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The observer stopped the search.
    #[error("stopped; the same command resumes from here")]
    Stopped,
    /// Training failed.
    #[error(transparent)]
    Train(#[from] offshoot_train::Error),
    /// Slicing or quantisation failed.
    #[error(transparent)]
    Compress(#[from] offshoot_compress::Error),
    /// The network has no device form.
    #[error(transparent)]
    Export(#[from] offshoot_export::Error),
    /// The target does not respond.
    #[error(transparent)]
    Target(#[from] offshoot_target::TargetError),
    /// The graph is not well formed.
    #[error(transparent)]
    Graph(#[from] offshoot_ir::Error),
}

impl Error {
    pub(crate) fn file(path: impl Into<PathBuf>, reason: impl std::fmt::Display) -> Self {
        Self::File { path: path.into(), reason: reason.to_string() }
    }
}
