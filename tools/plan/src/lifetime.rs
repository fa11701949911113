//! Lifetimes of buffers, and the bytes that are live at each moment.

use std::ops::Range;

use crate::problem::compatible;
use crate::{Branch, BufferId, InPlace, Moment, Overlap, Problem};

/// Allowed placements of a buffer relative to another that is live at the same time; one of the three must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Relation {
    /// It starts at least this many bytes after the start of the other.
    pub above: u64,
    /// It starts at least this many bytes before the start of the other.
    pub below: u64,
    /// Both may start at the same offset.
    pub equal: bool,
}

impl Relation {
    /// Whether the buffer may start at `at` if the other starts at `other`.
    pub fn allows(&self, at: u64, other: u64) -> bool {
        at >= other.saturating_add(self.above)
            || at.saturating_add(self.below) <= other
            || self.equal && at == other
    }
}

/// When every buffer is live, for one order of the steps. Moment `t` is the `t`-th step executed.
///
/// A buffer is live at a moment if a run may go through the step there, one before that touches it, and one after. So
/// branches of a switch, of which a run goes through one, may use the same memory. Where a branch begins, nothing is written:
/// there only what that branch needs counts, and the index.
#[derive(Clone, Debug)]
pub struct Lifetimes {
    /// First and last moment, both inclusive; `None` for an unused buffer.
    pub spans: Vec<Option<(usize, usize)>>,
    /// The moments at which it is live, ascending: one range, unless there are branches.
    pub live: Vec<Vec<Range<usize>>>,
    /// In-place pairs that this order allows: the read buffer dies when the written one becomes live.
    pub pairs: Vec<(usize, InPlace)>,
    /// Number of moments (at least 1).
    pub moments: usize,
}

impl Lifetimes {
    /// Lifetimes under `order`, which must be a permutation of the steps.
    pub fn of(problem: &Problem, order: &[usize]) -> Self {
        let moments = order.len().max(1);
        let mut spans: Vec<Option<(usize, usize)>> = vec![None; problem.buffers.len()];
        let mut touch = |b: BufferId, t: usize| {
            let span = spans[b.0].get_or_insert((t, t));
            *span = (span.0.min(t), span.1.max(t));
        };
        problem.inputs.iter().for_each(|&b| touch(b, 0));
        for (t, &s) in order.iter().enumerate() {
            let step = &problem.steps[s];
            step.reads.iter().chain(&step.writes).for_each(|&b| touch(b, t));
        }
        problem.outputs.iter().for_each(|&b| touch(b, moments - 1));
        if order.iter().any(|&s| !problem.steps[s].branches.is_empty()) {
            return Self::with_branches(problem, order, spans);
        }
        let mut pairs = Vec::new();
        for (t, &s) in order.iter().enumerate() {
            for p in &problem.steps[s].in_place {
                let dies = spans[p.read.0].is_some_and(|x| x.1 == t) && !problem.outputs.contains(&p.read);
                let born = spans[p.write.0].is_some_and(|x| x.0 == t) && !problem.inputs.contains(&p.write);
                if dies && born {
                    pairs.push((t, *p));
                }
            }
        }
        let live = spans.iter().map(|span| span.iter().map(|s| s.0..s.1 + 1).collect()).collect();
        Self { spans, live, pairs, moments }
    }

    fn with_branches(problem: &Problem, order: &[usize], spans: Vec<Option<(usize, usize)>>) -> Self {
        let moments = order.len().max(1);
        let branches = |t: usize| order.get(t).map_or(&[][..], |&s| &problem.steps[s].branches);
        // Moments at which each buffer is touched, and the branches of these.
        let mut touched: Vec<Vec<(usize, &[Branch])>> = vec![Vec::new(); problem.buffers.len()];
        problem.inputs.iter().for_each(|b| touched[b.0].push((0, &[])));
        for (t, &s) in order.iter().enumerate() {
            let step = &problem.steps[s];
            step.reads.iter().chain(&step.writes).for_each(|b| touched[b.0].push((t, step.runs_in())));
        }
        problem.outputs.iter().for_each(|b| touched[b.0].push((moments - 1, &[])));
        let before = |b: BufferId, t: usize| {
            touched[b.0].iter().any(|(at, own)| *at < t && compatible(own, branches(t)))
        };
        let after = |b: BufferId, t: usize| {
            touched[b.0].iter().any(|(at, own)| *at > t && compatible(own, branches(t)))
        };
        let at = |b: BufferId, t: usize| touched[b.0].iter().any(|(at, _)| *at == t);
        let live = (0..spans.len()).map(|b| {
            let Some((first, last)) = spans[b] else { return Vec::new() };
            let b = BufferId(b);
            let is_live = |t: &usize| at(b, *t) || before(b, *t) && after(b, *t);
            let mut ranges: Vec<Range<usize>> = Vec::new();
            for t in (first..=last).filter(is_live) {
                match ranges.last_mut() {
                    Some(range) if range.end == t => range.end += 1,
                    _ => ranges.push(t..t + 1),
                }
            }
            ranges
        });
        let mut lifetimes = Self { live: live.collect(), spans, pairs: Vec::new(), moments };
        let mut pairs = Vec::new();
        for (t, &s) in order.iter().enumerate() {
            for p in &problem.steps[s].in_place {
                let dies = !after(p.read, t) && !problem.outputs.contains(&p.read);
                let born = !before(p.write, t) && !problem.inputs.contains(&p.write);
                if dies && born {
                    pairs.push((t, *p));
                }
            }
        }
        // A pair holds wherever both buffers are live, so it must be one at each of these moments.
        let holds = |(_, pair): &(usize, InPlace)| {
            let mut common =
                (0..moments).filter(|&t| lifetimes.is_live(pair.read, t) && lifetimes.is_live(pair.write, t));
            common.all(|t| pairs.contains(&(t, *pair)))
        };
        lifetimes.pairs = pairs.iter().filter(|pair| holds(pair)).copied().collect();
        lifetimes
    }

    /// Whether a buffer is live at a moment.
    pub fn is_live(&self, b: BufferId, t: usize) -> bool {
        self.live[b.0].iter().any(|range| range.contains(&t))
    }

    /// Whether both are live at some moment.
    pub fn meet(&self, a: BufferId, b: BufferId) -> bool {
        let meets = |x: &Range<usize>| self.live[b.0].iter().any(|y| x.start < y.end && y.start < x.end);
        self.live[a.0].iter().any(meets)
    }

    /// Allowed placements of `a` relative to `b`, if both are live at some moment.
    pub fn relation(&self, problem: &Problem, a: BufferId, b: BufferId) -> Relation {
        let size = |b: BufferId| u64::from(problem.buffers[b.0].bytes);
        let mut relation = Relation { above: size(b), below: size(a), equal: false };
        for (_, p) in &self.pairs {
            let (a_is_read, a_is_write) = (p.read == a && p.write == b, p.read == b && p.write == a);
            match p.overlap {
                Overlap::Exact => relation.equal |= a_is_read || a_is_write,
                Overlap::Offset { below, above } => {
                    let (read_above, write_above) = (u64::from(below), u64::from(above));
                    if a_is_read {
                        relation.above = relation.above.min(read_above);
                        relation.below = relation.below.min(write_above);
                    } else if a_is_write {
                        relation.above = relation.above.min(write_above);
                        relation.below = relation.below.min(read_above);
                    }
                }
            }
        }
        relation
    }

    /// Live buffers and bytes at every moment.
    pub fn timeline(&self, problem: &Problem, order: &[usize]) -> Vec<Moment> {
        let at = |t: usize| -> Vec<BufferId> {
            let live = |b: &BufferId| self.is_live(*b, t);
            (0..problem.buffers.len()).map(BufferId).filter(live).collect()
        };
        (0..self.moments)
            .map(|t| {
                let live = at(t);
                let pairs: Vec<InPlace> =
                    self.pairs.iter().filter(|(m, _)| *m == t).map(|(_, p)| *p).collect();
                let bytes = needed(problem, &live, &pairs);
                Moment { step: order.get(t).copied().unwrap_or(0), live, bytes }
            })
            .collect()
    }
}

/// Lower bound of the bytes for `live` if the `pairs` may share memory.
///
/// Every offset is a multiple of the smallest alignment of the problem. So in order of address, each buffer but the
/// last takes its size rounded up to that alignment. (The smallest alignment among `live` would be a tighter bound,
/// but then one more live buffer could lower the bound, and the search for an order relies on that not happening.)
/// Each written buffer hides at most the larger of its pairs.
pub fn needed(problem: &Problem, live: &[BufferId], pairs: &[InPlace]) -> u64 {
    let align = problem.buffers.iter().filter(|b| b.bytes > 0).map(|b| b.align).min().unwrap_or(1);
    let bytes = |b: BufferId| u64::from(problem.buffers[b.0].bytes);
    let round = |n: u64| n.next_multiple_of(u64::from(align));
    let sum: u64 = live.iter().map(|&b| round(bytes(b))).sum();
    let slack = live.iter().map(|&b| round(bytes(b)) - bytes(b)).max().unwrap_or(0);
    sum - slack.min(sum) - savings(pairs, |b| round(bytes(b))).min(sum - slack.min(sum))
}

/// Most bytes that sharing can save among these pairs at one moment.
pub fn savings(pairs: &[InPlace], bytes: impl Fn(BufferId) -> u64) -> u64 {
    let mut total = 0;
    for (i, p) in pairs.iter().enumerate() {
        if pairs[..i].iter().any(|q| q.write == p.write) {
            continue;
        }
        let saved = |q: &InPlace| {
            let (read, write) = (bytes(q.read), bytes(q.write));
            read + write - q.overlap.footprint(read, write)
        };
        let of_write = || pairs.iter().filter(|q| q.write == p.write);
        // At the same offset, a written buffer overlaps one read buffer; at an offset, it may overlap parts of several.
        total += if of_write().all(|q| q.overlap == Overlap::Exact) {
            of_write().map(saved).max().unwrap_or(0)
        } else {
            of_write().map(saved).sum()
        };
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Buffer, Step};

    #[test]
    fn in_place_counts_once_and_alignment_counts() {
        let pair = InPlace { read: BufferId(0), write: BufferId(1), overlap: Overlap::Exact };
        let p = Problem {
            buffers: vec![Buffer { bytes: 10, align: 4 }, Buffer { bytes: 10, align: 4 }],
            steps: vec![Step {
                reads: vec![BufferId(0)],
                writes: vec![BufferId(1)],
                in_place: vec![pair],
                ..Step::default()
            }],
            inputs: vec![BufferId(0)],
            outputs: vec![BufferId(1)],
        };
        let life = Lifetimes::of(&p, &[0]);
        assert_eq!(life.pairs.len(), 1);
        assert_eq!(needed(&p, &[BufferId(0), BufferId(1)], &[]), 22);
        assert_eq!(needed(&p, &[BufferId(0), BufferId(1)], &[pair]), 10);
        assert_eq!(life.timeline(&p, &[0])[0].bytes, 10);
    }
}
