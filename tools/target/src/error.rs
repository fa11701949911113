//! What can go wrong on the way to a device, and what to do about it.

use crate::client::ClientError;
use std::path::PathBuf;

/// Error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// No such target.
    #[error(
        "`{0}` is no target: use host, qemu:BOARD, serial:PORT or probe:CHIP (`offshoot target list` names the boards)"
    )]
    Unknown(String),
    /// A target that this build cannot reach.
    #[error("{target} is not built in: {help}")]
    NotBuiltIn {
        /// The target.
        target: String,
        /// What to do.
        help: String,
    },
    /// The emulator is not installed.
    #[error(
        "{program} was not found: run scripts/install-deps.sh, or install QEMU (Debian, Ubuntu: apt-get install {package})"
    )]
    NoEmulator {
        /// The program that was looked for.
        program: String,
        /// Debian's package that has it.
        package: &'static str,
    },
    /// There is no firmware.
    #[error("no firmware for {board} (looked for {}): build it with firmware/build.sh, or set OFFSHOOT_FIRMWARE_DIR to the folder that holds it", list(.searched))]
    NoFirmware {
        /// The board.
        board: &'static str,
        /// Where it was looked for.
        searched: Vec<PathBuf>,
    },
    /// Building the firmware failed.
    #[error("building the firmware failed:\n{0}\nRun scripts/install-deps.sh once, then firmware/build.sh")]
    Build(String),
    /// The firmware is made of other sources, and building it changes nothing.
    #[error("{} is made of other sources than these, though by the times of the files it is up to date: remove firmware/target, then run firmware/build.sh", .0.display())]
    Stale(PathBuf),
    /// The board has no room for the model.
    #[error("the model does not fit {board}: {what} takes {needed} bytes, there are {there}")]
    DoesNotFit {
        /// The board.
        board: String,
        /// What there is no room for.
        what: &'static str,
        /// Bytes that it takes.
        needed: u64,
        /// Bytes that there are.
        there: u64,
    },
    /// The emulator ended or could not be started.
    #[error("the emulator failed: {0}")]
    Emulator(String),
    /// The firmware file cannot be read.
    #[error("{}: {reason}", path.display())]
    Elf {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Cycles cannot be modelled.
    #[error("no modelled cycles: {0}")]
    NoCycles(String),
    /// The device or the line to it.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The model does not open or run.
    #[error("the model cannot run: {0}")]
    Model(#[from] offshoot::Error),
    /// A call that does not fit the model.
    #[error("{0}")]
    Input(String),
    /// No model is loaded.
    #[error("no model is loaded")]
    NoModel,
    /// Operating system.
    #[error("{what}: {source}")]
    Io {
        /// What was done.
        what: String,
        /// What the system said.
        source: std::io::Error,
    },
}

impl TargetError {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}

fn list(paths: &[PathBuf]) -> String {
    paths.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", ")
}
