//! Why a command failed: a kind for scripts, a message, and help that says what to do.

use std::fmt;
use std::path::Path;

use serde::Serialize;

/// Kind of failure, stable for scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Kind {
    /// The command line is wrong.
    Usage,
    /// A named file does not exist.
    NotFound,
    /// Reading or writing failed.
    Io,
    /// A file has the wrong format or is damaged.
    Format,
    /// A tensor has the wrong shape.
    Shape,
    /// A tensor has the wrong element type.
    Dtype,
    /// The network needs something that Offshoot does not support.
    Unsupported,
    /// Calibration data cannot be used.
    Calibration,
    /// The result differs too much from the float network.
    Accuracy,
    /// The model exceeds a limit or does not fit the target.
    Budget,
    /// The target is unknown, is missing or does not answer.
    Device,
    /// Two files do not belong together.
    Mismatch,
    /// A signature does not hold, or is not trusted.
    Signature,
    /// A fault in Offshoot itself.
    Internal,
}

/// Why a command failed and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// Kind, for scripts.
    pub kind: Kind,
    /// What is wrong and where.
    pub message: String,
    /// What to do.
    pub help: String,
}

impl Failure {
    /// A failure with help.
    pub fn new(kind: Kind, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { kind, message: message.into(), help: help.into() }
    }

    /// Arguments that clap refuses.
    pub fn arguments(error: &clap::Error) -> Self {
        let message = error.to_string();
        // The first paragraph: what is wrong and which arguments it is about.
        let lines = message.lines().map(str::trim).take_while(|line| !line.is_empty());
        let first = lines.collect::<Vec<_>>().join(" ");
        let help = "run `offshoot --help`, or `offshoot COMMAND --help`, for the arguments";
        Self::new(Kind::Usage, first.trim_start_matches("error: "), help)
    }

    /// The failure to read `path`.
    pub fn reading(path: &Path, error: &std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::NotFound {
            let message = format!("{}: no such file", path.display());
            return Self::new(
                Kind::NotFound,
                message,
                "check the path; relative paths start at the current folder",
            );
        }
        Self::new(Kind::Io, format!("{}: {error}", path.display()), "check that you may read the file")
    }

    /// The failure to write `path`.
    pub fn writing(path: &Path, error: &std::io::Error) -> Self {
        let message = format!("{}: cannot write: {error}", path.display());
        Self::new(Kind::Io, message, "check that the folder exists and is writable")
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
    /// Adds `kind` and `help`; the error's text becomes the message.
    fn or_fail(self, kind: Kind, help: &str) -> Result<T>;
    /// As `or_fail`, with `what: ` before the error's text.
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

/// The error's text and its sources'. A source whose text is already included is left out.
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
