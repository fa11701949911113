//! Checks the ranges of operators that branches hold.

use super::Ops;
use offshoot_base::{Rule, require};
use offshoot_format::branch::MOST_NESTED;
use offshoot_format::record::Record;

/// The ranges that hold the next operator, outermost first.
pub(super) struct Open {
    ranges: [Range; MOST_NESTED],
    open: usize,
}

/// Where the range of a branch ends: before this operator, with so many bytes of records behind it.
#[derive(Clone, Copy)]
struct Range {
    end: u16,
    left: usize,
}

impl Open {
    pub(super) fn new() -> Self {
        Self { ranges: [Range { end: 0, left: 0 }; MOST_NESTED], open: 0 }
    }

    /// Takes a record; `after` is at the one behind it.
    ///
    /// # Errors
    /// The range of a branch does not end between two operators, or not within the range around it; or there are too many
    /// within each other.
    #[inline(always)]
    pub(super) fn check(&mut self, record: &Record, after: &Ops<'_>) -> Result<(), Rule> {
        if let Record::Branch(branch) = record {
            let end = after.next.checked_add(branch.ops).ok_or(Rule::Table)?;
            let left = after.rest.len().checked_sub(branch.bytes as usize).ok_or(Rule::Table)?;
            let around = self.open.checked_sub(1).and_then(|i| self.ranges.get(i));
            require(end <= around.map_or(after.count, |range| range.end), Rule::Table)?;
            *self.ranges.get_mut(self.open).ok_or(Rule::Table)? = Range { end, left };
            self.open += 1;
        }
        while let Some(range) = self.open.checked_sub(1).and_then(|i| self.ranges.get(i)) {
            if range.end != after.next {
                break;
            }
            require(range.left == after.rest.len(), Rule::Table)?;
            self.open -= 1;
        }
        Ok(())
    }
}
