//! A run in steps (`profile --steps N`): how many there are, and the longest time between two of them.

use offshoot::operators::parts::Parts;
use offshoot_export::branch_costs;
use offshoot_report::Table;
use offshoot_report::table::{tail, thousands};
use serde::Serialize;

use super::OperatorTime;
use crate::failure::Result;
use crate::files::OffFile;

/// A run in steps, as `Engine::steps` makes it.
#[derive(Clone, Debug, Serialize)]
pub struct Steps {
    /// The limit: multiply-accumulates, or elements touched.
    pub most_work: u32,
    /// Number of steps of a run; at most, if switches choose what runs.
    pub count: u64,
    /// The step that takes longest.
    pub longest: Option<Step>,
    /// Operators whose steps exceed the limit, since they cannot be divided further.
    pub above_limit: Vec<Step>,
}

/// The longest step of an operator.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    /// Position of the operator in the file.
    pub index: u16,
    /// Name of the operator.
    pub name: String,
    /// Number of steps of the operator.
    pub parts: u32,
    /// Work of the longest.
    pub work: u64,
    /// Its instructions: the operator's, shared among its parts by their work.
    pub instructions: Option<u64>,
    /// Its modelled cycles, likewise.
    pub cycles_modelled: Option<u64>,
    /// Its nanoseconds, likewise.
    pub nanoseconds: Option<u64>,
}

impl Steps {
    /// Divides the operators of a file, and what each was measured to take.
    ///
    /// # Errors
    /// The file does not open.
    pub fn new(file: &OffFile, most_work: u32, measured: &[OperatorTime]) -> Result<Self> {
        let model = file.model()?;
        let (mut counts, mut all) = (Vec::new(), Vec::new());
        for (info, _, record) in model.ops() {
            let parts = Parts::of(&record, model.blobs(), most_work);
            counts.push(u64::from(parts.count()));
            let Some(own) = measured.iter().find(|m| m.index == info.index) else { continue };
            let (work, whole) = (parts.most_work(&record), parts.whole_work(&record).max(1));
            let share = |n: u64| (u128::from(n) * u128::from(work) / u128::from(whole)) as u64;
            all.push(Step {
                index: info.index,
                name: own.name.clone(),
                parts: parts.count(),
                work,
                instructions: own.instructions.map(share),
                cycles_modelled: own.cycles_modelled.map(share),
                nanoseconds: own.nanoseconds.map(share),
            });
        }
        let paths = branch_costs::branches(&model);
        let count = branch_costs::most(paths.iter().map(Vec::as_slice).zip(counts));
        let time = |s: &Step| s.instructions.or(s.nanoseconds).unwrap_or(s.work);
        let longest = all.iter().max_by_key(|s| time(s)).cloned();
        all.retain(|s| s.work > most_work.into());
        all.sort_by_key(|s| core::cmp::Reverse(time(s)));
        Ok(Self { most_work, count, longest, above_limit: all })
    }

    /// A table of the longest step and of those above the limit.
    pub fn render(&self) -> String {
        let limit = thousands(self.most_work.into());
        let mut text = format!("\n{} steps of at most {limit} MACs or elements", thousands(self.count));
        let mut table = Table::new(["longest step of", "steps", "work", "instructions", "cycles", "µs"]);
        let number = |n: Option<u64>| n.map_or("-".into(), thousands);
        let mut row = |s: &Step| {
            table.row([
                tail(&s.name, 44),
                thousands(s.parts.into()),
                thousands(s.work),
                number(s.instructions),
                number(s.cycles_modelled),
                s.nanoseconds.map_or("-".into(), |n| format!("{:.1}", n as f64 / 1e3)),
            ]);
        };
        self.longest.iter().for_each(&mut row);
        let others =
            self.above_limit.iter().filter(|s| self.longest.as_ref().is_none_or(|l| l.index != s.index));
        others.take(10).for_each(&mut row);
        text += &format!("\n{table}");
        if !self.above_limit.is_empty() {
            let n = self.above_limit.len();
            text += &format!("\n{n} operators have steps above the limit: they cannot be divided further");
        }
        text
    }
}
