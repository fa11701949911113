//! What a command says when it cannot do its work: a kind for scripts, a message, and the way out.

use std::fmt;
use std::path::Path;

use serde::Serialize;

/// Kind of failure, stable for scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Kind {
    /// The command line is not understood.
    Usage,
    /// A file that was named is not there.
    NotFound,
    /// Reading or writing failed.
    Io,
    /// A file is not what it should be.
    Format,
    /// A tensor has the wrong shape.
    Shape,
    /// A tensor has the wrong element type.
    Dtype,
    /// The network needs something that Offshoot does not have.
    Unsupported,
    /// Calibration data cannot be used.
    Calibration,
    /// What was made is too far from the float network.
    Accuracy,
    /// It does not fit.
    Budget,
    /// The target is unknown, missing or does not answer.
    Device,
    /// Two files do not belong together.
    Mismatch,
    /// A fault in Offshoot itself.
    Internal,
}

/// Why a command failed and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// For scripts.
    pub kind: Kind,
    /// What is wrong and where.
    pub message: String,
    /// What to do.
    pub help: String,
}

impl Failure {
    /// A failure with its way out.
    pub fn new(kind: Kind, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { kind, message: message.into(), help: help.into() }
    }

    /// A file could not be read.
    pub fn reading(path: &Path, error: &std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::NotFound {
            let message = format!("{}: no such file", path.display());
            return Self::new(Kind::NotFound, message, "check the path");
        }
        Self::new(Kind::Io, format!("{}: {error}", path.display()), "check that the file can be read")
    }

    /// A file could not be written.
    pub fn writing(path: &Path, error: &std::io::Error) -> Self {
        let message = format!("{}: cannot write: {error}", path.display());
        Self::new(Kind::Io, message, "check that the folder exists and can be written to")
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.message)?;
        if !self.help.is_empty() {
            write!(f, "\n help: {}", self.help)?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

/// Result of a command.
pub type Result<T> = std::result::Result<T, Failure>;

/// Turns a library's error into a failure.
pub trait Context<T> {
    /// `kind` and `help` for whatever the error says.
    fn or_fail(self, kind: Kind, help: &str) -> Result<T>;
    /// As `or_fail`, with `what` before the error's text.
    fn or_fail_in(self, kind: Kind, what: impl fmt::Display, help: &str) -> Result<T>;
}

impl<T, E: std::error::Error> Context<T> for std::result::Result<T, E> {
    fn or_fail(self, kind: Kind, help: &str) -> Result<T> {
        self.map_err(|e| Failure::new(kind, chain(&e), help))
    }

    fn or_fail_in(self, kind: Kind, what: impl fmt::Display, help: &str) -> Result<T> {
        self.map_err(|e| Failure::new(kind, format!("{what}: {}", chain(&e)), help))
    }
}

/// The error and its sources, without repeating what an outer one already says.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        source = inner.source();
    }
    text
}
