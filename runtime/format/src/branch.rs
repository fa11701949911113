//! The record of a branch of a switch: operators that run only if an index chooses them.

use serde::{Deserialize, Serialize};

/// A branch of a switch: the next `ops` operators run only if the index at `src` chooses branch `number` of `count`.
/// Otherwise a run goes on behind them.
///
/// Their records take `bytes` in the graph section, so that they are passed over without decoding them. A branch may
/// hold switches itself: a range lies within another one or outside it, at most [`MOST_NESTED`] deep.
///
/// **Index.** int32. One below 0 counts from the end (`index + count`); then it is clamped to `0..count`, so some
/// branch is always chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Branch {
    pub src: u32,
    pub number: u16,
    pub count: u16,
    pub ops: u16,
    pub bytes: u32,
}

/// Most branches within each other.
pub const MOST_NESTED: usize = 8;

impl Branch {
    /// Whether an index chooses this branch.
    pub fn is_chosen(&self, index: i32) -> bool {
        let count = i32::from(self.count);
        let from_start = if index < 0 { index.saturating_add(count) } else { index };
        from_start.max(0).min(count.saturating_sub(1)) == i32::from(self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_index_chooses_one_branch() {
        let chosen = |index: i32| {
            let branch = |number| Branch { src: 0, number, count: 3, ops: 1, bytes: 1 };
            let all: Vec<u16> = (0..3).filter(|&n| branch(n).is_chosen(index)).collect();
            assert_eq!(all.len(), 1, "{index}");
            all[0]
        };
        assert_eq!([0, 1, 2, 3, i32::MAX].map(chosen), [0, 1, 2, 2, 2]);
        assert_eq!([-1, -2, -3, -4, i32::MIN].map(chosen), [2, 1, 0, 0, 0]);
    }
}
