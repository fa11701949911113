//! What a protocol is: rows that are measured with some seeds, numbers of the research page beside them, and goals.

use std::collections::BTreeMap;

use anyhow::Result;

/// Accuracy (0 to 1) by column.
pub type Measured = BTreeMap<String, f64>;

/// A row of the table.
#[derive(Clone, Debug)]
pub struct Row {
    /// Name of the rule or recipe.
    pub name: String,
    /// What the research page measured, in percent, by column.
    pub research: Vec<(&'static str, f64)>,
}

impl Row {
    /// A row without numbers beside it.
    pub fn new(name: &str) -> Self {
        Self { name: name.into(), research: Vec::new() }
    }

    /// A row with a number of the research page for each of the columns.
    pub fn beside(name: &str, research: &[(&'static str, f64)]) -> Self {
        Self { name: name.into(), research: research.to_vec() }
    }
}

/// What is wanted of the mean over seeds, in percent or points.
#[derive(Clone, Debug)]
pub enum Goal {
    /// A row's accuracy is at least so high.
    AtLeast {
        /// Whose.
        row: &'static str,
        /// Where.
        column: &'static str,
        /// Percent.
        percent: f64,
    },
    /// A row's accuracy is at most so many points below another's.
    Within {
        /// Whose.
        row: &'static str,
        /// Below which row.
        of: &'static str,
        /// Where.
        column: &'static str,
        /// Points; 0 for "not behind".
        points: f64,
    },
    /// A row is ahead of another in at least so many columns.
    Ahead {
        /// Which.
        row: &'static str,
        /// Of which.
        of: &'static str,
        /// In how many.
        columns: usize,
    },
}

/// A protocol. Rows share what is costly, such as a network trained on the host, through `&mut self`.
pub trait Protocol {
    /// Name on the command line.
    fn name(&self) -> &'static str;
    /// What is trained on what.
    fn title(&self) -> &'static str;
    /// What a row measures.
    fn columns(&self) -> Vec<&'static str>;
    /// Rows of the table.
    fn rows(&self) -> Vec<Row>;
    /// What is wanted.
    fn goals(&self) -> Vec<Goal>;
    /// Measures one row with one seed. `tick` is told of work done, in samples.
    ///
    /// # Errors
    /// Data are missing.
    fn measure(&mut self, row: &str, seed: u32, tick: &dyn Fn(u64)) -> Result<Measured>;
    /// Samples that [`Self::measure`] of a row goes through, about; for the progress bar.
    fn work(&self, row: &str) -> u64;
    /// Tries other hyper-parameters on data that are neither tested on nor shifted as those of the table; gives a
    /// line a trial. `only`: the row of this name.
    ///
    /// # Errors
    /// Data are missing.
    fn tune(&mut self, only: Option<&str>, say: &dyn Fn(&str, f64)) -> Result<()>;
}

impl Goal {
    /// Whether the means meet it, and a sentence; `None` while a number is missing.
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
