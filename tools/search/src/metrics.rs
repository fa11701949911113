//! Metrics of a candidate, objectives, and constraints.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Measurements of a candidate.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Accuracy of its `.off` file on the held-out samples.
    pub accuracy: f64,
    /// Accuracy on the samples of other tasks, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tasks: BTreeMap<String, f64>,
    /// Bytes of the `.off` file.
    pub flash: u64,
    /// Bytes of its arena.
    pub ram: u64,
    /// Multiply-accumulates per run.
    pub macs: u64,
    /// Instructions per run on the target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instructions: Option<u64>,
    /// Modelled cycles per run on the target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cycles: Option<u64>,
    /// Milliseconds per run: modelled cycles (or else instructions) at the target's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<f64>,
}

/// A metric of [`Measured`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
#[allow(missing_docs)]
pub enum Metric {
    Accuracy,
    /// Accuracy on the samples of a task.
    Task(String),
    Flash,
    Ram,
    Macs,
    Instructions,
    Cycles,
    Latency,
}

impl Metric {
    /// Whether larger is better.
    pub fn grows(&self) -> bool {
        matches!(self, Self::Accuracy | Self::Task(_))
    }

    /// Its value; `None` if it was not measured.
    pub fn of(&self, m: &Measured) -> Option<f64> {
        match self {
            Self::Accuracy => Some(m.accuracy),
            Self::Task(name) => m.tasks.get(name).copied(),
            Self::Flash => Some(m.flash as f64),
            Self::Ram => Some(m.ram as f64),
            Self::Macs => Some(m.macs as f64),
            Self::Instructions => m.instructions.map(|i| i as f64),
            Self::Cycles => m.cycles.map(|c| c as f64),
            Self::Latency => m.latency_ms,
        }
    }

    /// Its value with the sign that makes smaller better; infinite if it was not measured.
    pub fn cost(&self, m: &Measured) -> f64 {
        let value = self.of(m).unwrap_or(if self.grows() { f64::NEG_INFINITY } else { f64::INFINITY });
        if self.grows() { -value } else { value }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Task(name) => write!(f, "accuracy@{name}"),
            Self::Accuracy => f.write_str("accuracy"),
            Self::Flash => f.write_str("flash"),
            Self::Ram => f.write_str("ram"),
            Self::Macs => f.write_str("macs"),
            Self::Instructions => f.write_str("instructions"),
            Self::Cycles => f.write_str("cycles"),
            Self::Latency => f.write_str("latency"),
        }
    }
}

impl From<Metric> for String {
    fn from(metric: Metric) -> Self {
        metric.to_string()
    }
}

impl FromStr for Metric {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "accuracy" => Self::Accuracy,
            "flash" => Self::Flash,
            "ram" => Self::Ram,
            "macs" => Self::Macs,
            "instructions" => Self::Instructions,
            "cycles" => Self::Cycles,
            "latency" => Self::Latency,
            _ => match text.strip_prefix("accuracy@") {
                Some(name) if !name.is_empty() => Self::Task(name.to_owned()),
                _ => {
                    return Err(format!(
                        "`{text}`: accuracy, accuracy@TASK, flash, ram, macs, instructions, cycles or latency"
                    ));
                }
            },
        })
    }
}

impl TryFrom<String> for Metric {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// A constraint: at most `limit`, or at least for metrics where larger is better.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Constraint {
    /// The constrained metric.
    pub metric: Metric,
    /// Its bound.
    pub limit: f64,
}

impl Constraint {
    /// Violation as a share of the limit; 0 if the constraint holds.
    pub fn violation(&self, m: &Measured) -> f64 {
        let sign = if self.metric.grows() { -1.0 } else { 1.0 };
        let over = self.metric.cost(m) - sign * self.limit;
        if over <= 0.0 { 0.0 } else { (over / self.limit.abs().max(f64::MIN_POSITIVE)).min(1e9) }
    }
}

/// Objectives and constraints of a search.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Goal {
    /// Metrics to optimise.
    pub objectives: Vec<Metric>,
    /// Constraints that must hold.
    pub constraints: Vec<Constraint>,
}

impl Goal {
    /// The objectives as costs (smaller is better).
    pub fn costs(&self, m: &Measured) -> Vec<f64> {
        self.objectives.iter().map(|o| o.cost(m)).collect()
    }

    /// Sum of the constraints' violations.
    pub fn violation(&self, m: &Measured) -> f64 {
        self.constraints.iter().map(|c| c.violation(m)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_metrics_are_read_back() {
        for m in ["accuracy", "accuracy@noisy", "flash", "ram", "macs", "instructions", "cycles", "latency"] {
            assert_eq!(m.parse::<Metric>().unwrap().to_string(), m);
        }
        assert!("speed".parse::<Metric>().is_err() && "accuracy@".parse::<Metric>().is_err());
    }

    #[test]
    fn constraints_bound_on_the_side_that_is_worse() {
        let m = Measured { accuracy: 0.8, flash: 150, ..Measured::default() };
        let bound = |metric, limit| Constraint { metric, limit }.violation(&m);
        assert_eq!(bound(Metric::Flash, 150.0), 0.0);
        assert_eq!(bound(Metric::Flash, 100.0), 0.5);
        assert_eq!(bound(Metric::Accuracy, 0.8), 0.0);
        assert!((bound(Metric::Accuracy, 0.9) - 0.1 / 0.9).abs() < 1e-12);
        assert!(bound(Metric::Latency, 1.0) > 1e8, "what was not measured is not kept");
    }
}
