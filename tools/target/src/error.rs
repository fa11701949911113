//! Errors of reaching and using a device. Messages say what to do.

use crate::client::ClientError;
use std::path::PathBuf;

/// Error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// There is no such target.
    #[error(
        "there is no target `{0}`{like}: use host, qemu:BOARD, serial:PORT or the name of a \
         chip (`offshoot target list` names the boards, `offshoot target list --search NAME` the chips)",
        like = boards_like(.0)
    )]
    Unknown(String),
    /// Several chips with different memories have names that begin like this.
    #[error("`{name}` may be any of {} chips ({}): give more of the name (`offshoot target list --search {name}` \
     shows them)", .chips.len(), first(.chips))]
    Ambiguous {
        /// The name.
        name: String,
        /// Names of the chips.
        chips: Vec<&'static str>,
    },
    /// This build does not support the target.
    #[error("{target} is not built in: {help}")]
    NotBuiltIn {
        /// The target.
        target: String,
        /// What to do.
        help: String,
    },
    /// The emulator is not installed.
    #[error(
        "{program} was not found: run scripts/install-deps.sh, or install QEMU (Debian, Ubuntu: apt-get install \
         {package})"
    )]
    NoEmulator {
        /// The program that is missing.
        program: String,
        /// Debian package that has it.
        package: &'static str,
    },
    /// The board's firmware was not found.
    #[error("no firmware for {board} (looked for {}): build it with firmware/build.sh, or set \
     OFFSHOOT_FIRMWARE_DIR to the folder that holds it", list(.searched))]
    NoFirmware {
        /// The board.
        board: &'static str,
        /// Files that were looked for.
        searched: Vec<PathBuf>,
    },
    /// Building the firmware failed.
    #[error("building the firmware failed:\n{0}\nRun scripts/install-deps.sh once, then firmware/build.sh")]
    Build(String),
    /// The firmware was built from other sources, and building it again does not change that.
    #[error("{} was built from other sources, although by its time stamp it is up to date: remove \
     firmware/target, then run firmware/build.sh", .0.display())]
    Stale(PathBuf),
    /// The model does not fit the board.
    #[error("the model does not fit {board}: {what} takes {needed} bytes, there are {there}")]
    DoesNotFit {
        /// The board.
        board: String,
        /// What does not fit.
        what: &'static str,
        /// Bytes that it takes.
        needed: u64,
        /// Bytes that the board has for it.
        there: u64,
    },
    /// The board's firmware is built without runtime features that the model needs.
    #[error("{board} cannot run this model: its firmware is built without {}", .features.join(", "))]
    MissingFeatures {
        /// The board.
        board: &'static str,
        /// Names of the features.
        features: Vec<String>,
    },
    /// The emulator could not be started or ended early.
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
    /// Talking to the device failed.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The model cannot be opened or run.
    #[error("the model cannot run: {0}")]
    Model(#[from] offshoot::Error),
    /// A call does not fit the model.
    #[error("{0}")]
    Input(String),
    /// No model is loaded.
    #[error("no model is loaded")]
    NoModel,
    /// An operation of the system failed.
    #[error("{what}: {source}")]
    Io {
        /// What failed.
        what: String,
        /// The system's error.
        source: std::io::Error,
    },
}

impl TargetError {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}

/// The boards whose names have `name` as a part, as the middle of a message: ` (did you mean `qemu:cortex-m4`?)`, or nothing.
fn boards_like(name: &str) -> String {
    let part = name.rsplit(':').next().unwrap_or(name).to_lowercase();
    let likely = |board: &&str| part.len() > 1 && board.contains(&part);
    let names: Vec<_> =
        crate::BOARDS.iter().map(|b| b.name).filter(likely).map(|name| format!("`{name}`")).collect();
    if names.is_empty() { String::new() } else { format!(" (did you mean {}?)", names.join(" or ")) }
}

/// The first names of a list.
fn first(names: &[&str]) -> String {
    let more = if names.len() > 4 { ", …" } else { "" };
    names.iter().take(4).copied().collect::<Vec<_>>().join(", ") + more
}

fn list(paths: &[PathBuf]) -> String {
    paths.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", ")
}
