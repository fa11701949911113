//! Recorded output of commands that take too long to run with every measurement. It is committed in
//! `tools/xtask/recorded`.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use offshoot_report::table::thousands;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::peers;
use super::table::markdown;
use crate::single;

/// Output of `scripts/host-speed.sh JSON`.
pub const HOST_SPEED: &str = "tools/xtask/recorded/host-speed.json";
/// Outputs of `cargo xtask single --json`, one per network.
pub const SINGLE: &str = "tools/xtask/recorded/single.json";
/// Tables that scripts print after hours of training.
pub const RUNS: &str = "tools/xtask/recorded/runs.json";

/// A table that a command printed.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recorded {
    /// Name of the table in documents.
    pub name: String,
    /// Command that prints it.
    pub command: String,
    /// Column headings.
    pub columns: Vec<String>,
    /// Cells, row by row.
    pub rows: Vec<Vec<String>>,
}

/// Time of one inference on the host by each engine.
#[derive(Clone, Debug, Deserialize)]
pub struct HostSpeed {
    images: u64,
    repetitions: u64,
    rows: Vec<Speed>,
}

/// One engine with a number of threads.
#[derive(Clone, Debug, Deserialize)]
struct Speed {
    engine: String,
    threads: u64,
    top1: f64,
    wall_us: f64,
    wall_us_range: [f64; 2],
}

/// Reads a file of this folder.
///
/// # Errors
/// The file is missing or damaged.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
    serde_json::from_slice(&bytes).with_context(|| path.display().to_string())
}

impl Recorded {
    /// The command and its table.
    ///
    /// # Errors
    /// The number of cells in a row differs from the number of columns.
    pub fn table(&self) -> Result<String> {
        let fits = self.rows.iter().all(|r| r.len() == self.columns.len());
        ensure!(fits, "{}: the number of cells in a row differs from the number of columns", self.name);
        Ok(format!("`{}`\n\n{}", self.command, markdown(&self.columns, &self.rows)))
    }
}

impl HostSpeed {
    /// Microseconds per image, by engine and threads.
    pub fn table(&self) -> String {
        let columns = ["engine", "threads", "µs an image: median (least to most)", "top-1"].map(String::from);
        let row = |s: &Speed| {
            let [least, most] = s.wall_us_range;
            vec![
                s.engine.clone(),
                s.threads.to_string(),
                format!("{:.0} ({least:.0} to {most:.0})", s.wall_us),
                format!("{:.2} %", 100.0 * s.top1),
            ]
        };
        let rows: Vec<_> = self.rows.iter().map(row).collect();
        let note = format!("{} images, {} repetitions.", thousands(self.images), self.repetitions);
        format!("{note}\n\n{}", markdown(&columns, &rows))
    }
}

/// Single-model firmware of each network, with TFLite Micro's code for comparison.
pub fn single(reports: &[single::Report]) -> String {
    let columns = [
        "network",
        "target",
        "code and constants without the model, bytes (TFLM)",
        "model",
        "statics",
        "stack",
    ]
    .map(String::from);
    let row = |r: &single::Report| {
        let peer = peers::tflm_cortex_m4(&r.model).and_then(|p| p.code_bytes);
        let code = match peer {
            Some(peer) => format!("{} ({})", thousands(r.code_bytes), thousands(peer)),
            None => thousands(r.code_bytes),
        };
        let numbers = [r.model_bytes, r.ram_bytes, r.stack_bytes].map(thousands);
        [r.model.clone(), r.target.clone(), code].into_iter().chain(numbers).collect()
    };
    markdown(&columns, &reports.iter().map(row).collect::<Vec<_>>())
}
