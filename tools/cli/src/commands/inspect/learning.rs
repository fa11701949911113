//! What a compiled file learns.

use offshoot::Model;
use offshoot_report::table::thousands;
use serde::Serialize;

use super::OperatorRow;
use crate::commands::learn::head_name;

/// The learning records of a file.
#[derive(Clone, Debug, Serialize)]
pub struct LearningRow {
    /// Bytes of arena that learning needs, inference included.
    pub train_arena_bytes: u64,
    /// Bytes that learning changes: what is saved.
    pub learned_bytes: u64,
    /// Names of the operators that learn.
    pub layers: Vec<String>,
    /// Kind of the classifier head, if there is one.
    pub head: Option<String>,
    /// Number of classes that can be learned.
    pub classes: u16,
}

impl LearningRow {
    /// The learning records of a model with these operators; none if nothing learns.
    pub(super) fn of(model: &Model<'_>, operators: &[OperatorRow]) -> Option<Self> {
        let learning = model.learning()?;
        let name =
            |op: u16| operators.iter().find(|o| o.index == op).map_or(op.to_string(), |o| o.name.clone());
        Some(Self {
            train_arena_bytes: model.train_arena_bytes()?.into(),
            learned_bytes: learning.learned_bytes() as u64,
            layers: learning.layers().map(|layer| name(layer.repr.op)).collect(),
            head: learning.head.classifier.map(|c| head_name(c.kind).to_owned()),
            classes: learning.classes(),
        })
    }

    /// A line of text.
    pub(super) fn line(&self) -> String {
        let layers = if self.layers.is_empty() { "no layer".into() } else { self.layers.join(", ") };
        let head = self.head.as_ref().map_or(String::new(), |head| format!(" and a head ({head})"));
        format!(
            "learns: {layers}{head}, {} classes; {} bytes of arena to learn, {} to save",
            self.classes,
            thousands(self.train_arena_bytes),
            thousands(self.learned_bytes)
        )
    }
}
