//! Writes the tables of measured numbers in documents from committed JSON. Each table is between `<!-- table: NAME -->`
//! and `<!-- end -->`, and is never edited by hand.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use offshoot_bench::table::Results;

use super::figures::{self, Figures};
use super::recorded::{HostSpeed, Recorded};
use super::{learning, recorded, table};
use crate::single;

/// Documents of the repository with such tables.
pub const FILES: [&str; 2] = ["README.md", "docs/benchmarks.md"];

/// Accuracies of local learning, written by `offshoot-bench table --json`.
pub const LEARNING: &str = "tools/bench/results.json";

const OPEN: &str = "<!-- table: ";
const CLOSE: &str = " -->";
const END: &str = "<!-- end -->";

/// All committed numbers.
#[derive(Debug)]
pub struct Numbers {
    figures: Figures,
    learning: Results,
    host_speed: HostSpeed,
    single: Vec<single::Report>,
    recorded: Vec<Recorded>,
}

impl Numbers {
    /// Reads the numbers from the repository at `root`.
    ///
    /// # Errors
    /// A file is missing or damaged.
    pub fn read(root: &Path) -> Result<Self> {
        Ok(Self {
            figures: Figures::read_or_empty(&root.join(figures::FILE))?,
            learning: Results::open(Some(&root.join(LEARNING)))?,
            host_speed: recorded::read(&root.join(recorded::HOST_SPEED))?,
            single: recorded::read(&root.join(recorded::SINGLE))?,
            recorded: recorded::read(&root.join(recorded::RUNS))?,
        })
    }

    /// The table with this name, in Markdown.
    ///
    /// # Errors
    /// There is no such table.
    pub fn table(&self, name: &str) -> Result<String> {
        let figures = &self.figures;
        Ok(match name {
            "peers" => table::peers(figures, true),
            "sizes" => table::sizes(figures, true),
            "cortex-m4" => table::costs(&figures.of_target("qemu:cortex-m4"), true),
            "instructions" => table::by_board(figures, |row| Some(row.instructions), true),
            "cycles" => table::by_board(figures, |row| row.cycles_modelled, true),
            "single" => recorded::single(&self.single),
            "host-speed" => self.host_speed.table(),
            _ => match name.split_once(' ') {
                Some(("learning", protocol)) => learning::table(&self.learning, protocol)?,
                Some(("recorded", run)) => {
                    let run = self.recorded.iter().find(|r| r.name == run);
                    run.with_context(|| format!("{}: no run `{name}`", recorded::RUNS))?.table()?
                }
                _ => bail!("there is no table `{name}`"),
            },
        })
    }
}

/// `text` with its tables updated.
///
/// # Errors
/// A marker has no end, or names no table.
pub fn rewritten(text: &str, numbers: &Numbers) -> Result<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(OPEN) {
        let (before, marked) = rest.split_at(start);
        let (name, body) = marked[OPEN.len()..].split_once(CLOSE).context("a marker is not closed")?;
        let (_, after) = body.split_once(END).with_context(|| format!("table `{name}` has no `{END}`"))?;
        out.push_str(before);
        out.push_str(&format!("{OPEN}{name}{CLOSE}\n{}\n{END}", numbers.table(name)?.trim_end()));
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

/// Updates the tables of all documents; returns the documents that changed.
///
/// # Errors
/// As [`rewritten`]; a file cannot be read or written.
pub fn update(root: &Path) -> Result<Vec<PathBuf>> {
    let numbers = Numbers::read(root)?;
    let mut changed = vec![];
    for file in FILES {
        let path = root.join(file);
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let new = rewritten(&text, &numbers).with_context(|| path.display().to_string())?;
        if new != text {
            offshoot_report::write_atomically(&path, new.as_bytes())
                .with_context(|| path.display().to_string())?;
            changed.push(path);
        }
    }
    Ok(changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_hold_the_committed_numbers() {
        let root = crate::bench::root();
        let numbers = Numbers::read(&root).unwrap();
        for file in FILES {
            let text = std::fs::read_to_string(root.join(file)).unwrap();
            let wanted = rewritten(&text, &numbers).unwrap();
            assert!(
                text == wanted,
                "{file} differs from the committed figures: cargo xtask bench --document"
            );
            assert!(text.contains(OPEN), "{file} holds no table");
        }
    }

    #[test]
    fn only_what_lies_between_the_markers_changes() {
        let numbers = Numbers::read(&crate::bench::root()).unwrap();
        let text = "a\n<!-- table: single -->\nold\n<!-- end -->\nb\n";
        let new = rewritten(text, &numbers).unwrap();
        assert!(
            new.starts_with("a\n<!-- table: single -->\n|") && new.ends_with("<!-- end -->\nb\n"),
            "{new}"
        );
        assert!(!new.contains("old"));
        assert_eq!(rewritten(&new, &numbers).unwrap(), new);
        for wrong in
            ["<!-- table: nothing -->\n<!-- end -->", "<!-- table: single -->\n", "<!-- table: single"]
        {
            assert!(rewritten(wrong, &numbers).is_err(), "{wrong}");
        }
    }
}
