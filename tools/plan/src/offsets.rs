//! Offsets of the buffers: the smallest arena for given lifetimes.
//!
//! Greedy layouts give a first solution. Branch and bound improves it until it meets the lower bound, proves that
//! nothing is better, or has visited its budget of nodes. It places buffers by non-decreasing offset, each as low as
//! those below allow. Every layout can be pushed down to such a *canonical* one, so a partial layout is a skyline over
//! the moments. Three rules prune the tree. Dominance: a buffer is not placed where another unplaced buffer would fit
//! entirely below. Floor inference: everything unplaced at a moment must fit between the skyline and the best known
//! arena. An offset is never below the previous one.

use std::ops::Range;

use crate::lifetime::{Lifetimes, Relation, savings};
use crate::{BufferId, Error, InPlace, Problem, Result};

/// Result of [`pack`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packed {
    /// Byte offset of each buffer.
    pub offsets: Vec<u32>,
    /// End of the highest buffer.
    pub arena_bytes: u32,
    /// Whether the search proved that no layout is smaller.
    pub complete: bool,
}

/// Packs the buffers. `bound` is a lower bound of the arena, at which the search stops; `budget` is its number of
/// nodes.
pub fn pack(problem: &Problem, lifetimes: &Lifetimes, bound: u32, budget: usize) -> Result<Packed> {
    let items = Items::new(problem, lifetimes);
    let (mut best, mut offsets) = items.greedy();
    let mut complete = best == u64::from(bound);
    if !complete {
        let mut search = Search::new(&items, best, offsets, u64::from(bound), budget);
        search.descend(0);
        complete = search.budget > 0 || search.best == u64::from(bound);
        (best, offsets) = (search.best, search.best_offsets);
    }
    let too_large = |_| Error::TooLarge { bytes: best };
    let mut all = vec![0; problem.buffers.len()];
    for (item, &offset) in items.all.iter().zip(&offsets) {
        all[item.id.0] = u32::try_from(offset).map_err(too_large)?;
    }
    Ok(Packed { offsets: all, arena_bytes: u32::try_from(best).map_err(too_large)?, complete })
}

/// A buffer that is live at some moment.
struct Item {
    id: BufferId,
    bytes: u64,
    align: u64,
    span: (usize, usize),
    /// The moments at which it is live.
    live: Vec<Range<usize>>,
    /// Others that are live at the same time, and this one's allowed placements relative to them.
    meets: Vec<(usize, Relation)>,
    /// Largest alignment among those that may start at the same offset, directly or through others.
    shared_align: u64,
}

impl Item {
    fn moments(&self) -> impl Iterator<Item = usize> + '_ {
        self.live.iter().cloned().flatten()
    }
}

/// Priority of an item in a greedy layout: the largest is placed first.
type Key<'k> = dyn Fn(&Item) -> (u64, u64) + 'k;

struct Items {
    all: Vec<Item>,
    moments: usize,
    /// Most bytes that in-place pairs can save at each moment.
    savings: Vec<u64>,
}

impl Items {
    fn new(problem: &Problem, lifetimes: &Lifetimes) -> Self {
        let mut all: Vec<Item> = Vec::new();
        for (i, b) in problem.buffers.iter().enumerate() {
            // Unused and empty buffers stay at offset 0 and take no part.
            if let Some(span) = lifetimes.spans[i].filter(|_| b.bytes > 0) {
                let (bytes, align) = (u64::from(b.bytes), u64::from(b.align));
                all.push(Item {
                    id: BufferId(i),
                    bytes,
                    align,
                    span,
                    live: lifetimes.live[i].clone(),
                    meets: Vec::new(),
                    shared_align: align,
                });
            }
        }
        for i in 0..all.len() {
            for j in 0..all.len() {
                let (a, b) = (all[i].id, all[j].id);
                if i != j && lifetimes.meet(a, b) {
                    all[i].meets.push((j, lifetimes.relation(problem, a, b)));
                }
            }
        }
        spread_alignment(&mut all);
        let savings = (0..lifetimes.moments)
            .map(|t| {
                let pairs: Vec<InPlace> =
                    lifetimes.pairs.iter().filter(|(m, _)| *m == t).map(|(_, p)| *p).collect();
                savings(&pairs, |b| {
                    let b = problem.buffers[b.0];
                    u64::from(b.bytes).next_multiple_of(u64::from(b.align))
                })
            })
            .collect();
        Self { all, moments: lifetimes.moments, savings }
    }

    /// The best of several greedy layouts: arena and offsets.
    fn greedy(&self) -> (u64, Vec<u64>) {
        let n = self.all.len();
        let keys: [&Key; 4] = [
            &|i| (i.bytes, (i.span.1 - i.span.0) as u64),
            &|i| (i.bytes * (i.span.1 - i.span.0 + 1) as u64, i.bytes),
            &|i| ((i.span.1 - i.span.0) as u64, i.bytes),
            &|i| ((self.moments - i.span.0) as u64, i.bytes),
        ];
        let mut best = (u64::MAX, vec![0; n]);
        for key in keys {
            let mut order: Vec<usize> = (0..n).collect();
            order.sort_by_key(|&i| (std::cmp::Reverse(key(&self.all[i])), i));
            let mut offsets: Vec<Option<u64>> = vec![None; n];
            for i in order {
                offsets[i] = Some(self.lowest_gap(i, &offsets));
            }
            // All were placed in the loop above.
            let offsets: Vec<u64> = offsets.into_iter().map(|o| o.unwrap_or(0)).collect();
            let arena = self.all.iter().zip(&offsets).map(|(i, o)| o + i.bytes).max().unwrap_or(0);
            if arena < best.0 {
                best = (arena, offsets);
            }
        }
        best
    }

    /// Lowest offset for item `i` that all placed items it meets allow.
    fn lowest_gap(&self, i: usize, placed: &[Option<u64>]) -> u64 {
        let item = &self.all[i];
        let mut candidates = vec![0];
        for &(j, relation) in &item.meets {
            if let Some(o) = placed[j] {
                candidates.push((o + relation.above).next_multiple_of(item.align));
                if relation.equal && o % item.align == 0 {
                    candidates.push(o);
                }
                if let Some(below) = o.checked_sub(relation.below) {
                    candidates.push(below - below % item.align);
                }
            }
        }
        candidates.sort_unstable();
        let fits = |&at: &u64| {
            item.meets.iter().all(|&(j, relation)| placed[j].is_none_or(|o| relation.allows(at, o)))
        };
        // The highest candidate is above everything placed, so one always fits.
        candidates.iter().copied().find(fits).unwrap_or(0)
    }
}

struct Search<'i> {
    items: &'i Items,
    offsets: Vec<Option<u64>>,
    /// Top of the placed items at each moment.
    skyline: Vec<u64>,
    /// Bytes still to be placed at each moment.
    pending: Vec<u64>,
    best: u64,
    best_offsets: Vec<u64>,
    bound: u64,
    /// Number of nodes left.
    budget: usize,
}

impl<'i> Search<'i> {
    fn new(items: &'i Items, best: u64, best_offsets: Vec<u64>, bound: u64, budget: usize) -> Self {
        let mut pending = vec![0; items.moments];
        for item in &items.all {
            item.moments().for_each(|t| pending[t] += item.bytes);
        }
        let skyline = vec![0; items.moments];
        let offsets = vec![None; items.all.len()];
        Self { items, offsets, skyline, pending, best, best_offsets, bound, budget }
    }

    /// Places one more item at `floor` or above, in every way that may lead to a smaller arena.
    fn descend(&mut self, floor: u64) {
        if self.budget == 0 || self.best == self.bound {
            return;
        }
        self.budget -= 1;
        if self.offsets.iter().all(Option::is_some) {
            // `fits` held for every placement: this layout is smaller than the best.
            self.best_offsets = self.offsets.iter().map(|o| o.unwrap_or(0)).collect();
            self.best = self.skyline.iter().copied().max().unwrap_or(0);
            return;
        }
        if !self.hopeful(floor) {
            return;
        }
        let mut places = Vec::new();
        let mut lowest_top = u64::MAX;
        for i in (0..self.offsets.len()).filter(|&i| self.offsets[i].is_none()) {
            let options = self.places(i, floor);
            let bytes = self.items.all[i].bytes;
            lowest_top = options.iter().map(|o| o + bytes).min().unwrap_or(u64::MAX).min(lowest_top);
            places.extend(options.into_iter().map(|o| (o, std::cmp::Reverse(bytes), i)));
        }
        places.retain(|&(o, _, _)| o < lowest_top);
        places.sort_unstable();
        for (offset, _, i) in places {
            let item = &self.items.all[i];
            if offset + item.bytes >= self.best {
                continue;
            }
            let before: Vec<u64> = item.moments().map(|t| self.skyline[t]).collect();
            self.offsets[i] = Some(offset);
            for t in item.moments() {
                self.skyline[t] = self.skyline[t].max(offset + item.bytes);
                self.pending[t] -= item.bytes;
            }
            self.descend(offset);
            self.offsets[i] = None;
            for (t, top) in item.moments().zip(before) {
                self.skyline[t] = top;
                self.pending[t] += item.bytes;
            }
        }
    }

    /// Whether the unplaced items fit between the skyline and the best arena at every moment.
    fn hopeful(&self, floor: u64) -> bool {
        (0..self.items.moments).all(|t| match self.pending[t] {
            0 => self.skyline[t] < self.best,
            pending => self.skyline[t].max(floor) + pending.saturating_sub(self.items.savings[t]) < self.best,
        })
    }

    /// Canonical offsets of an unplaced item, none below `floor`: as low as the items it meets allow, or the offset of
    /// one that it may share memory with.
    fn places(&self, i: usize, floor: u64) -> Vec<u64> {
        let item = &self.items.all[i];
        let placed = || item.meets.iter().filter_map(|&(j, relation)| self.offsets[j].map(|o| (o, relation)));
        let top = placed().map(|(o, relation)| o + relation.above).max().unwrap_or(0);
        // An item that shares its offset later may have a stricter alignment.
        let mut places = Vec::new();
        for align in [item.align, item.shared_align] {
            let top = top.next_multiple_of(align);
            if top >= floor && !places.contains(&top) {
                places.push(top);
            }
        }
        for (o, relation) in placed() {
            let level = relation.equal || relation.below == 0;
            let clear = || placed().all(|(p, relation)| relation.allows(o, p));
            if level && o >= floor && o % item.align == 0 && !places.contains(&o) && clear() {
                places.push(o);
            }
        }
        places
    }
}

/// Fills [`Item::shared_align`].
fn spread_alignment(all: &mut [Item]) {
    loop {
        let mut changed = false;
        for i in 0..all.len() {
            let shared = |&(j, relation): &(usize, Relation)| relation.equal.then(|| all[j].shared_align);
            let largest = all[i].meets.iter().filter_map(shared).max().unwrap_or(1);
            if largest > all[i].shared_align {
                all[i].shared_align = largest;
                changed = true;
            }
        }
        if !changed {
            return;
        }
    }
}
