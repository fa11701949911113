//! Disjoint sets (Tarjan 1975) of channels that go together, and of the families in which they were created.

/// Channels and families.
#[derive(Debug, Default)]
pub(super) struct Units {
    parent: Vec<u32>,
    family: Vec<u32>,
    /// For each family: its parent.
    families: Vec<u32>,
    /// For each root: why it must stay.
    fixed: Vec<Option<String>>,
}

impl Units {
    /// `count` new units in a family of their own.
    pub(super) fn family(&mut self, count: usize) -> Vec<u32> {
        let (first, family) = (self.parent.len() as u32, self.families.len() as u32);
        self.families.push(family);
        let ids: Vec<u32> = (0..count as u32).map(|i| first + i).collect();
        self.parent.extend(&ids);
        self.family.resize(self.parent.len(), family);
        self.fixed.resize(self.parent.len(), None);
        ids
    }

    /// The unit that represents all units joined with `unit`.
    pub(super) fn root(&mut self, unit: u32) -> u32 {
        find(&mut self.parent, unit)
    }

    /// The family of a unit.
    pub(super) fn family_of(&mut self, unit: u32) -> u32 {
        let family = self.family[unit as usize];
        find(&mut self.families, family)
    }

    /// Unites the two units, and their families.
    pub(super) fn join(&mut self, a: u32, b: u32) {
        let (f, g) = (self.family_of(a), self.family_of(b));
        self.families[f.max(g) as usize] = f.min(g);
        let (a, b) = (self.root(a), self.root(b));
        if a != b {
            let (low, high) = (a.min(b), a.max(b));
            self.parent[high as usize] = low;
            let reason = self.fixed[high as usize].take();
            let kept = &mut self.fixed[low as usize];
            *kept = kept.take().or(reason);
        }
    }

    /// Marks units as fixed.
    pub(super) fn fix_all(&mut self, units: &[u32], why: &str) {
        for &u in units {
            let root = self.root(u) as usize;
            self.fixed[root].get_or_insert_with(|| why.to_owned());
        }
    }

    /// Why the set of this root must stay.
    pub(super) fn reason(&self, root: u32) -> Option<&str> {
        self.fixed[root as usize].as_deref()
    }
}

fn find(parent: &mut [u32], mut at: u32) -> u32 {
    while parent[at as usize] != at {
        // Path halving keeps later searches short.
        let up = parent[parent[at as usize] as usize];
        parent[at as usize] = up;
        at = up;
    }
    at
}
