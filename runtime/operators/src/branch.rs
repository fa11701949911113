//! [`Branch`]: operators that run only if an index chooses them.
//!
//! Rules: the index lies in the arena; the branch's number is below the number of branches. Whether its range ends between two operators, within that of the branch around it, is checked where all
//! operators are (`Model::open`).

use crate::operator::{InPlace, Operator};
use offshoot_base::{Limits, Memory, Rule, Span, require};
use offshoot_format::record::{Branch, DType, Record};

impl Operator for Branch {
    fn check(&self, limits: &Limits<'_>) -> Result<u64, Rule> {
        limits.arena(&[self.output()?])?;
        require(self.number < self.count, Rule::Shape)?;
        Ok(1)
    }

    // A branch writes nothing: an observer sees the index.
    fn output(&self) -> Result<Span, Rule> {
        Span::new(self.src, 1, 4)
    }

    fn run(&self, _: &mut Memory<'_>) -> Result<(), Rule> {
        Ok(())
    }

    fn output_dtype(&self) -> DType {
        DType::I32
    }

    fn macs(&self) -> u64 {
        0
    }

    fn weights(&self) -> u64 {
        0
    }

    fn scratch(&self, _: &[u8]) -> Result<u32, Rule> {
        Ok(0)
    }

    fn in_place(&self, _: &[u8]) -> InPlace {
        InPlace::Apart
    }
}

/// The branch whose operators a run passes over after this record; `None` if it goes on with the next operator.
///
/// # Errors
/// None for a checked record.
#[inline(always)]
pub fn passed_over<'r>(record: &'r Record, arena: &[u8]) -> Result<Option<&'r Branch>, Rule> {
    match record {
        Record::Branch(branch) => {
            let bytes = arena.get(branch.src as usize..).and_then(|a| a.first_chunk());
            let index = i32::from_le_bytes(*bytes.ok_or(Rule::ArenaBounds)?);
            Ok((!branch.is_chosen(index)).then_some(branch))
        }
        _ => Ok(None),
    }
}
