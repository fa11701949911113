//! What `learn` reports, and how it is shown.

use offshoot::format::learn::HeadKind;
use offshoot_report::Table;
use offshoot_report::table::thousands;
use serde::Serialize;

use super::anomalies::Anomalies;
use super::regression::Regression;
use crate::ui::Outcome;

/// A point of the learning curve.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Point {
    /// Steps so far.
    pub steps: usize,
    /// Accuracy on the samples since the previous point, each predicted before it was learned; from 0 to 1.
    pub accuracy: f64,
}

/// Result of `learn`. Accuracies are fractions from 0 to 1.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Rule of the hidden layers.
    pub rule: String,
    /// Kind of the classifier head, if there is one.
    pub head: Option<String>,
    /// Classes that can be learned.
    pub classes: u16,
    /// Steps taken.
    pub steps: usize,
    /// Accuracy on the test samples before learning.
    pub accuracy_before: f64,
    /// Accuracy after learning. The host measures it with the weights that the target learned.
    pub accuracy_after: f64,
    /// Accuracy after learning on classes that the network knew before, if there are new ones.
    pub accuracy_known: Option<f64>,
    /// Accuracy after learning on the new classes.
    pub accuracy_new: Option<f64>,
    /// Accuracy of the written model.
    pub accuracy_written: Option<f64>,
    /// How well anomalies are told from normal samples afterwards, if the head learns what is normal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub anomalies: Option<Anomalies>,
    /// Mean squared errors, if the head learns real targets; accuracies are then none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub regression: Option<Regression>,
    /// Accuracy and cost of a boosted head with one active block, two, and so on.
    pub blocks: Vec<Block>,
    /// Active blocks afterwards, if `active_blocks` was given.
    pub kept: Option<u8>,
    /// Steps of the course, if the plan's schedule has an end.
    pub course: Option<u32>,
    /// Steps so far, those before this command included.
    pub steps_so_far: u32,
    /// Samples that were left out, because they are not finite or much farther from the others than is usual.
    pub left_out: usize,
    /// Bytes of arena that learning needs.
    pub train_arena_bytes: u64,
    /// High-water mark of the arena over all steps, including what is learned.
    pub train_arena_used_bytes: u64,
    /// CRC-32 of everything that was learned.
    pub digest: u32,
    /// Where it learned.
    pub target: String,
    /// Cost of a step, if the target counts.
    pub step_count: Option<u64>,
    /// Deepest stack of a step in bytes, if the target can tell.
    pub stack_bytes: Option<u64>,
    /// Learning curve.
    pub curve: Vec<Point>,
    /// Number of the save in the target's flash that learning started from.
    pub restored: Option<u32>,
    /// Number of the save that was written; it was read back with the same bits.
    pub saved: Option<u32>,
    /// Path of the written model.
    pub output: Option<String>,
    /// Path of the model written for inference alone.
    pub inference: Option<String>,
    /// Path of the arrays of what was learned.
    pub export: Option<String>,
    /// Path of the written page.
    pub page: Option<String>,
}

/// A boosted head with some active blocks.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Block {
    /// Number of active blocks.
    pub blocks: u8,
    /// Accuracy on the test samples.
    pub accuracy: f64,
    /// Cost of a run, if the target counts.
    pub run_count: Option<u64>,
}

impl Outcome for Report {
    fn render(&self) -> String {
        let mut table = Table::new(["", ""]);
        for [name, value] in facts(self) {
            table.row([name, value]);
        }
        let blocks =
            if self.blocks.is_empty() { String::new() } else { format!("\n{}", blocks_table(&self.blocks)) };
        format!("{}{table}{blocks}\n", curve(&self.curve))
    }
}

/// Name of a kind of head.
pub fn head_name(kind: HeadKind) -> &'static str {
    match kind {
        HeadKind::Softmax { .. } => "softmax",
        HeadKind::NearestMean { .. } => "nearest-mean",
        HeadKind::Lda { .. } => "lda",
        HeadKind::LeastSquares { .. } => "least-squares",
        HeadKind::Simplex { .. } => "simplex",
        HeadKind::Boosted { .. } => "boosted",
        HeadKind::Anomaly { .. } => "anomaly",
        HeadKind::Regression { .. } => "regression",
    }
}

/// The report as names and values.
pub(super) fn facts(r: &Report) -> Vec<[String; 2]> {
    let percent = |a: f64| if a.is_nan() { "-".into() } else { format!("{:.2} %", 100.0 * a) };
    let mut all: Vec<(&str, String)> = vec![("rule", r.rule.clone())];
    all.extend(r.head.iter().map(|h| ("head", h.clone())));
    all.push(("classes", r.classes.to_string()));
    all.push(("steps", thousands(r.steps as u64)));
    let earlier = Some(r.steps_so_far).filter(|&n| n as usize != r.steps);
    all.extend(earlier.map(|n| ("  with those before", thousands(n.into()))));
    let left_out = Some(r.left_out).filter(|&n| n > 0);
    all.extend(left_out.map(|n| ("samples left out as outliers", thousands(n as u64))));
    all.extend(r.course.map(|n| ("steps of the course", thousands(n.into()))));
    all.push(("accuracy before", percent(r.accuracy_before)));
    all.push(("accuracy after", percent(r.accuracy_after)));
    all.extend(r.accuracy_known.map(|a| ("  on classes known before", percent(a))));
    all.extend(r.accuracy_new.map(|a| ("  on new classes", percent(a))));
    all.extend(r.accuracy_written.map(|a| ("accuracy of the written model", percent(a))));
    if let Some(e) = &r.regression {
        let number = |e: Option<f64>| e.map_or("-".into(), |e| format!("{e:.6}"));
        all.retain(|(name, _)| !name.starts_with("accuracy"));
        all.push(("mean squared error before", number(e.before)));
        all.push(("mean squared error after", number(e.after)));
        all.push(("  of the last steps, before each", number(e.along.last().map(|p| p.mean_squared_error))));
    }
    if let Some(a) = r.anomalies {
        all.push(("AUC of the distances", a.auc.map_or("-".into(), |auc| format!("{auc:.4}"))));
        all.push(("  threshold", a.threshold.map_or("-".into(), |t| format!("{t:.4}"))));
        all.push(("  false alarms", percent(a.false_alarms.unwrap_or(f64::NAN))));
        all.push(("  false alarms allowed", percent(a.false_alarms_allowed)));
        all.push(("  anomalies detected", percent(a.detected.unwrap_or(f64::NAN))));
    }
    all.push(("training arena (RAM), bytes", thousands(r.train_arena_bytes)));
    all.push(("  used, bytes", thousands(r.train_arena_used_bytes)));
    all.push(("digest of learned weights", format!("{:08x}", r.digest)));
    all.extend(r.step_count.map(|c| ("cost of a step", thousands(c))));
    all.extend(r.stack_bytes.map(|b| ("stack, bytes", thousands(b))));
    all.extend(r.restored.map(|n| ("continued from save", n.to_string())));
    all.extend(r.saved.map(|n| ("saved in flash as", n.to_string())));
    all.extend(r.kept.map(|n| ("active blocks", n.to_string())));
    all.extend(r.output.iter().map(|p| ("written model", p.clone())));
    all.extend(r.inference.iter().map(|p| ("written model, inference alone", p.clone())));
    all.extend(r.export.iter().map(|p| ("written arrays", p.clone())));
    all.extend(r.page.iter().map(|p| ("report", p.clone())));
    all.into_iter().map(|(name, value)| [name.to_owned(), value]).collect()
}

/// Accuracy and cost of a boosted head by number of active blocks.
pub(super) fn blocks_table(blocks: &[Block]) -> Table {
    let mut table = Table::new(["active blocks", "accuracy", "cost of a run"]);
    for b in blocks {
        let cost = b.run_count.map_or("-".into(), thousands);
        table.row([b.blocks.to_string(), format!("{:.2} %", 100.0 * b.accuracy), cost]);
    }
    table
}

/// The learning curve as bars.
fn curve(points: &[Point]) -> String {
    let bar = |p: &Point| {
        let filled = (p.accuracy * 40.0).round() as usize;
        format!(
            "{:>7} {}{} {:5.1} %\n",
            p.steps,
            "█".repeat(filled),
            "·".repeat(40 - filled),
            100.0 * p.accuracy
        )
    };
    points.iter().map(bar).collect()
}
