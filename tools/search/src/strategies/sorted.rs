//! Choice without search (SortedNet, Valipour et al. 2023): nested sub-networks of a super-network that was trained for it
//! are good as they are; one takes the largest that fits.

use super::linas::ladder;
use super::{Strategy, View};
use crate::space::Encoding;

/// A ladder of nested sub-networks, from the largest to the smallest; then the rungs between.
#[derive(Debug, Default)]
pub struct Sorted {
    rungs: usize,
}

/// Rungs beyond which a ladder adds nothing.
const MOST: usize = 129;

impl Strategy for Sorted {
    fn name(&self) -> &'static str {
        "sorted"
    }

    fn propose(&mut self, view: View<'_>, most: usize) -> Vec<Encoding> {
        while self.rungs < MOST {
            self.rungs = if self.rungs == 0 { 9 } else { 2 * self.rungs - 1 };
            let mut batch: Vec<Encoding> =
                ladder(view, self.rungs).into_iter().rev().filter(|e| !view.history.knows(e)).collect();
            batch.truncate(most);
            if !batch.is_empty() {
                return batch;
            }
        }
        Vec::new()
    }
}
