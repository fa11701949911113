//! Results: kept in a JSON file, so that an interrupted run continues where it stopped; printed as tables next to the
//! research page's numbers.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use offshoot_report::{Table, write_atomically};
use serde::{Deserialize, Serialize};

use crate::protocol::{Measured, Protocol};

/// `protocol → row → seed → column → accuracy`
type Cells = BTreeMap<String, BTreeMap<String, BTreeMap<u32, Measured>>>;

/// All measurements so far.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Results {
    /// Accuracies, 0 to 1.
    pub cells: Cells,
    /// Goals by protocol, judged on the means of the available seeds.
    #[serde(default)]
    pub goals: BTreeMap<String, Vec<Verdict>>,
    #[serde(skip)]
    path: Option<PathBuf>,
}

/// Verdict on a goal.
#[derive(Debug, Serialize, Deserialize)]
pub struct Verdict {
    /// Whether it is met.
    pub met: bool,
    /// The goal and the measured numbers.
    pub goal: String,
}

impl Results {
    /// Reads the contents of a file; empty if it does not exist. Later results are written there too.
    ///
    /// # Errors
    /// The file exists and cannot be read.
    pub fn open(path: Option<&Path>) -> Result<Self> {
        let mut results = Self::default();
        if let Some(path) = path.filter(|p| p.exists()) {
            let text = std::fs::read(path).with_context(|| path.display().to_string())?;
            results = serde_json::from_slice(&text).with_context(|| path.display().to_string())?;
        }
        results.path = path.map(Path::to_owned);
        Ok(results)
    }

    /// Whether a cell is measured.
    pub fn has(&self, protocol: &str, row: &str, seed: u32) -> bool {
        self.cells.get(protocol).and_then(|p| p.get(row)).is_some_and(|r| r.contains_key(&seed))
    }

    /// Stores a cell and writes the file.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn keep(&mut self, protocol: &dyn Protocol, row: &str, seed: u32, measured: Measured) -> Result<()> {
        let rows = self.cells.entry(protocol.name().into()).or_default();
        rows.entry(row.into()).or_default().insert(seed, measured);
        self.judge(protocol);
        if let Some(path) = &self.path {
            let text = serde_json::to_string_pretty(self)?;
            write_atomically(path, text.as_bytes()).with_context(|| path.display().to_string())?;
        }
        Ok(())
    }

    /// Accuracies of a row in a column, seed by seed.
    pub fn of(&self, protocol: &str, row: &str, column: &str) -> Vec<f64> {
        let seeds = self.cells.get(protocol).and_then(|p| p.get(row));
        seeds.into_iter().flatten().filter_map(|(_, m)| m.get(column).copied()).collect()
    }

    fn mean(&self, protocol: &str, row: &str, column: &str) -> Option<f64> {
        let all = self.of(protocol, row, column);
        (!all.is_empty()).then(|| all.iter().sum::<f64>() / all.len() as f64)
    }

    fn judge(&mut self, protocol: &dyn Protocol) {
        let mean = |row: &str, column: &str| self.mean(protocol.name(), row, column);
        let verdicts = protocol
            .goals()
            .iter()
            .filter_map(|goal| goal.judge(mean, &protocol.columns()))
            .map(|(met, goal)| Verdict { met, goal })
            .collect();
        self.goals.insert(protocol.name().into(), verdicts);
    }

    /// A protocol's table: mean ± deviation over seeds, with the research page's number in brackets; then its goals.
    pub fn render(&mut self, protocol: &dyn Protocol) -> String {
        self.judge(protocol);
        let name = protocol.name();
        let mut table = Table::new(
            ["rule", "seeds"].into_iter().chain(protocol.columns()).map(String::from).collect::<Vec<_>>(),
        );
        for row in protocol.rows() {
            let mut seeds = 0;
            let mut cells = Vec::new();
            for column in protocol.columns() {
                let all = self.of(name, &row.name, column);
                seeds = seeds.max(all.len());
                let mut cell = summary(&all);
                if let Some((_, research)) = row.research.iter().find(|(c, _)| *c == column) {
                    let _ = write!(cell, " [{research}]");
                }
                cells.push(cell);
            }
            table.row([row.name.clone(), seeds.to_string()].into_iter().chain(cells));
        }
        let mut text = format!("{name}: {}\n{table}\n", protocol.title());
        for verdict in self.goals.get(name).into_iter().flatten() {
            let word = if verdict.met { "met   " } else { "MISSED" };
            let _ = writeln!(text, "  {word} {}", verdict.goal);
        }
        text
    }
}

/// Mean and deviation in percent.
fn summary(all: &[f64]) -> String {
    let count = all.len() as f64;
    match all {
        [] => "-".into(),
        [one] => format!("{:.2}", 100.0 * one),
        _ => {
            let mean = all.iter().sum::<f64>() / count;
            let variance = all.iter().map(|a| (a - mean).powi(2)).sum::<f64>() / (count - 1.0);
            format!("{:.2} ± {:.2}", 100.0 * mean, 100.0 * variance.sqrt())
        }
    }
}
