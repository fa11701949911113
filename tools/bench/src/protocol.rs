//! Protocols: rows measured with several seeds, the research page's numbers, and goals.

use std::collections::BTreeMap;

use anyhow::Result;

/// Accuracy (0 to 1) by column.
pub type Measured = BTreeMap<String, f64>;

/// A row of the table.
#[derive(Clone, Debug)]
pub struct Row {
    /// Name of the rule or recipe.
    pub name: String,
    /// The research page's results in percent, by column.
    pub research: Vec<(&'static str, f64)>,
}

impl Row {
    /// A row without published numbers.
    pub fn new(name: &str) -> Self {
        Self { name: name.into(), research: Vec::new() }
    }

    /// A row with the research page's number for each column.
    pub fn beside(name: &str, research: &[(&'static str, f64)]) -> Self {
        Self { name: name.into(), research: research.to_vec() }
    }
}

/// A goal for the mean over seeds, in percent or points.
#[derive(Clone, Debug)]
pub enum Goal {
    /// A row's accuracy is at least this high.
    AtLeast {
        /// The row.
        row: &'static str,
        /// The column.
        column: &'static str,
        /// The accuracy in percent.
        percent: f64,
    },
    /// A row's accuracy is at most this many points below another's.
    Within {
        /// The row.
        row: &'static str,
        /// The row to compare with.
        of: &'static str,
        /// The column.
        column: &'static str,
        /// Points; 0 for "not behind".
        points: f64,
    },
    /// A row is ahead of another in at least this many columns.
    Ahead {
        /// The row.
        row: &'static str,
        /// The row to compare with.
        of: &'static str,
        /// The number of columns.
        columns: usize,
    },
}

/// A protocol. Rows share costly preparations, such as a network trained on the host, through `&mut self`.
pub trait Protocol {
    /// Name on the command line.
    fn name(&self) -> &'static str;
    /// Title: network and data.
    fn title(&self) -> &'static str;
    /// Names of the columns.
    fn columns(&self) -> Vec<&'static str>;
    /// Rows of the table.
    fn rows(&self) -> Vec<Row>;
    /// Goals of the protocol.
    fn goals(&self) -> Vec<Goal>;
    /// Measures one row with one seed. `tick` receives the number of samples processed.
    ///
    /// # Errors
    /// Data are missing.
    fn measure(&mut self, row: &str, seed: u32, tick: &dyn Fn(u64)) -> Result<Measured>;
    /// Approximate number of samples that [`Self::measure`] processes for a row, for the progress bar.
    fn work(&self, row: &str) -> u64;
    /// Tries other hyper-parameters on data that are neither the test data nor the shifts of the table; reports one
    /// line per trial. `only`: the row of this name.
    ///
    /// # Errors
    /// Data are missing.
    /// Data are missing.
    fn tune(&mut self, only: Option<&str>, say: &dyn Fn(&str, f64)) -> Result<()>;
}

impl Goal {
    /// Whether the means meet the goal, and a sentence; `None` while a number is missing.
    pub fn judge(
        &self,
        mean: impl Fn(&str, &str) -> Option<f64>,
        columns: &[&str],
    ) -> Option<(bool, String)> {
        match self {
            Self::AtLeast { row, column, percent } => {
                let is = 100.0 * mean(row, column)?;
                Some((is >= *percent, format!("{row}, {column}: {is:.2} % (goal {percent} %)")))
            }
            Self::Within { row, of, column, points } => {
                let (is, other) = (100.0 * mean(row, column)?, 100.0 * mean(of, column)?);
                let goal = if *points == 0.0 { "not behind".into() } else { format!("within {points}") };
                let text = format!("{row}, {column}: {is:.2} %, {of} {other:.2} % (goal: {goal})");
                Some((is >= other - points, text))
            }
            Self::Ahead { row, of, columns: wanted } => {
                let ahead = columns
                    .iter()
                    .map(|c| Some(mean(row, c)? > mean(of, c)?))
                    .collect::<Option<Vec<_>>>()?
                    .into_iter()
                    .filter(|&a| a)
                    .count();
                let all = columns.len();
                Some((ahead >= *wanted, format!("{row} ahead of {of} in {ahead} of {all} (goal {wanted})")))
            }
        }
    }
}
