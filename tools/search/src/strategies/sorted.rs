//! Choice without search (SortedNet, Valipour et al. 2023): nested sub-networks of a super-network trained for them
//! are good without further training; take the largest that fits.

use super::{Strategy, View};
use crate::space::Encoding;

/// A chain of nested sub-networks, from the largest to the smallest, then the links in between.
#[derive(Debug, Default)]
pub struct Sorted {
    rungs: usize,
}

/// Rungs above which the chain gets no more links.
const MOST: usize = 1025;

impl Strategy for Sorted {
    fn name(&self) -> &'static str {
        "sorted"
    }

    fn propose(&mut self, view: View<'_>, most: usize) -> Vec<Encoding> {
        while self.rungs < MOST {
            self.rungs = if self.rungs == 0 { 9 } else { 2 * self.rungs - 1 };
            let mut batch: Vec<Encoding> = Vec::new();
            for rung in (0..self.rungs).rev() {
                let e = link(view, rung as f64 / (self.rungs - 1) as f64);
                if !view.history.knows(&e) && !batch.contains(&e) && batch.len() < most {
                    batch.push(e);
                }
            }
            if !batch.is_empty() {
                return batch;
            }
        }
        Vec::new()
    }
}

/// The sub-network at this share of the way from the smallest to the largest. All variables grow together, one after
/// another within a step, so that each network is part of the next.
fn link(view: View<'_>, share: f64) -> Encoding {
    let (largest, count) = (view.space.largest(), view.space.len().max(1) as f64);
    let one = |(v, &most): (usize, &u16)| {
        let phase = v as f64 / count;
        (f64::from(most) * share + phase * f64::from(u8::from(share < 1.0))).floor().min(f64::from(most))
            as u16
    };
    view.space.canonical(largest.iter().enumerate().map(one).collect())
}
