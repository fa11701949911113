//! Measured figures, and their changes against the committed ones.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// The committed figures, in the repository.
pub const FILE: &str = "tools/xtask/figures.json";

/// Growth that is tolerated, percent. Compilers differ by less; a kernel that got worse differs by more.
pub const TOLERANCE_PERCENT: u64 = 1;

/// Figures of one network on one board.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// Network.
    pub network: String,
    /// Its `--prefer`: `balanced` or `speed`.
    pub prefer: String,
    /// Board.
    pub target: String,
    /// Multiply-accumulates of a run.
    pub macs: u64,
    /// Instructions of a run.
    pub instructions: u64,
    /// Modelled cycles of a run; null without a timing model, or without a compiler for the emulator's plugin.
    pub cycles_modelled: Option<u64>,
    /// Modelled cycles spent waiting for flash.
    #[serde(default)]
    pub flash_waits_modelled: Option<u64>,
    /// Bytes of the arena.
    pub arena_bytes: u64,
    /// Deepest stack of a run, bytes.
    pub stack_bytes: u64,
    /// Bytes of the `.off` file.
    pub model_bytes: u64,
    /// Bytes of the firmware for any model, with its protocol and observers.
    pub code_bytes: u64,
    /// Instructions by kind of operator.
    pub kinds: BTreeMap<String, u64>,
}

/// A network, its `--prefer`, and a board.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// Network.
    pub network: String,
    /// Its `--prefer`.
    pub prefer: String,
    /// Board.
    pub target: String,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.network, self.prefer, self.target)
    }
}

impl Row {
    /// The case that the figures belong to.
    pub fn case(&self) -> Case {
        Case { network: self.network.clone(), prefer: self.prefer.clone(), target: self.target.clone() }
    }

    /// Figures that must not grow. Code and stack depend on the compiler too much to be among them.
    fn held(&self) -> [(&'static str, u64); 3] {
        [
            ("instructions", self.instructions),
            ("arena bytes", self.arena_bytes),
            ("model bytes", self.model_bytes),
        ]
    }
}

/// Figures of several networks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Figures {
    /// One for each network, preference and board.
    pub rows: Vec<Row>,
}

/// A figure that differs from the committed one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    case: String,
    figure: &'static str,
    before: u64,
    after: u64,
}

impl Change {
    /// Whether it grew by more than is tolerated.
    pub fn is_growth(&self) -> bool {
        self.after * 100 > self.before * (100 + TOLERANCE_PERCENT)
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = 100.0 * (self.after as f64 / self.before.max(1) as f64 - 1.0);
        let word = if self.is_growth() { "GROWN" } else { "changed" };
        write!(f, "{word}: {} {}: {} → {} ({percent:+.2} %)", self.case, self.figure, self.before, self.after)
    }
}

/// Path of [`FILE`].
pub fn committed() -> PathBuf {
    super::root().join(FILE)
}

impl Figures {
    /// Reads figures; empty if there is no such file.
    ///
    /// # Errors
    /// The file cannot be read or is damaged.
    pub fn read_or_empty(path: &Path) -> Result<Self> {
        match std::fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes).with_context(|| path.display().to_string()),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(e) => Err(e).with_context(|| path.display().to_string()),
        }
    }

    /// Writes figures.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        offshoot_report::write_atomically(path, text.as_bytes()).with_context(|| path.display().to_string())
    }

    /// Whether there are figures for a case: the network fitted the board when they were measured.
    pub fn fits(&self, case: &Case) -> bool {
        self.rows.iter().any(|r| r.case() == *case)
    }

    /// The figures of one board.
    #[must_use]
    pub fn of_target(&self, target: &str) -> Self {
        Self { rows: self.rows.iter().filter(|r| r.target == target).cloned().collect() }
    }

    /// Differences in `measured`. Cases that were not measured, or had no figures, do not count.
    pub fn changes(&self, measured: &Self) -> Vec<Change> {
        let mut changes = vec![];
        for row in &measured.rows {
            let case = row.case();
            let Some(before) = self.rows.iter().find(|r| r.case() == case) else { continue };
            for ((figure, before), (_, after)) in before.held().into_iter().zip(row.held()) {
                if before != after {
                    changes.push(Change { case: case.to_string(), figure, before, after });
                }
            }
        }
        changes
    }

    /// These figures without those of networks that no longer fit a board.
    #[must_use]
    pub fn without(mut self, gone: &[Case]) -> Self {
        self.rows.retain(|r| !gone.contains(&r.case()));
        self
    }

    /// These figures, with those of `measured` replacing the same cases.
    #[must_use]
    pub fn replaced_by(mut self, measured: &Self) -> Self {
        for row in &measured.rows {
            match self.rows.iter_mut().find(|r| r.case() == row.case()) {
                Some(old) => *old = row.clone(),
                None => self.rows.push(row.clone()),
            }
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(instructions: u64) -> Figures {
        let row = Row {
            network: "n".into(),
            prefer: "speed".into(),
            target: "t".into(),
            macs: 1,
            instructions,
            cycles_modelled: None,
            flash_waits_modelled: None,
            arena_bytes: 100,
            stack_bytes: 0,
            model_bytes: 0,
            code_bytes: 0,
            kinds: BTreeMap::new(),
        };
        Figures { rows: vec![row] }
    }

    #[test]
    fn more_than_a_per_cent_is_growth() {
        let before = figures(1000);
        assert!(before.changes(&before).is_empty());
        let growth = |after| before.changes(&figures(after))[0].is_growth();
        assert!(!growth(900) && !growth(1010) && growth(1011));
        assert!(Figures::default().changes(&before).is_empty());
    }

    #[test]
    fn new_figures_take_the_place_of_old_ones() {
        let mut both = figures(1000);
        both.rows[0].target = "other".into();
        let both = both.replaced_by(&figures(5)).replaced_by(&figures(6));
        assert_eq!(both.rows.iter().map(|r| r.instructions).collect::<Vec<_>>(), [1000, 6]);
        let gone = Case { network: "n".into(), prefer: "speed".into(), target: "other".into() };
        assert!(both.fits(&gone));
        let left = both.without(&[gone]);
        assert_eq!(left.rows.iter().map(|r| r.instructions).collect::<Vec<_>>(), [6]);
    }
}
