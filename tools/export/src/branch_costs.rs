//! What the branches of switches cost, and what a run costs at most: in every switch, the dearest branch.

use std::collections::BTreeMap;

use offshoot::Model;
use offshoot::format::record::{self, Record};
use offshoot_plan::Branch;
use serde::Serialize;

/// A branch of a switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct BranchCost {
    /// Number of the switch.
    pub switch: usize,
    /// Number of the branch, as its index has it.
    pub branch: usize,
    /// Operators in it, those of switches within it included.
    pub operators: usize,
    /// Multiply-accumulates of a run that goes through it, at most.
    pub macs: u64,
    /// Number of weights.
    pub weights: u64,
}

/// The branches that each operator of a network lies in, outermost first, in the order of the file.
pub fn branches(model: &Model<'_>) -> Vec<Vec<Branch>> {
    let mut all = Vec::new();
    // Branches around the next operator, with the operator at which they end.
    let mut open: Vec<(Branch, usize)> = Vec::new();
    // The branch that ended last and its switch: the record of the next one follows at once.
    let mut ended: Option<(record::Branch, Branch, usize)> = None;
    let mut begun: Vec<record::Branch> = Vec::new();
    let mut switches = 0;
    for (at, (_, _, record)) in model.ops().enumerate() {
        while let Some((branch, end)) = open.last().copied().filter(|(_, end)| *end <= at) {
            ended = begun.pop().map(|record| (record, branch, end));
            open.pop();
        }
        all.push(open.iter().map(|(branch, _)| *branch).collect());
        if let Record::Branch(record) = record {
            let next = ended.filter(|(last, _, end)| {
                *end == at
                    && (last.src, last.count) == (record.src, record.count)
                    && last.number + 1 == record.number
            });
            let switch = next.map_or(switches, |(_, branch, _)| branch.switch);
            switches = switches.max(switch + 1);
            open.push((Branch { switch, number: record.number.into() }, at + 1 + usize::from(record.ops)));
            begun.push(record);
        }
    }
    all
}

/// The most that a run costs: each step's cost, and the branches that it lies in.
pub fn most<'b>(steps: impl IntoIterator<Item = (&'b [Branch], u64)>) -> u64 {
    let mut costs: BTreeMap<Vec<Branch>, u64> = BTreeMap::new();
    for (branches, cost) in steps {
        *costs.entry(branches.to_vec()).or_default() += cost;
    }
    for depth in (1..=costs.keys().map(Vec::len).max().unwrap_or(0)).rev() {
        let mut dearest: BTreeMap<(Vec<Branch>, usize), u64> = BTreeMap::new();
        let deepest: Vec<Vec<Branch>> = costs.keys().filter(|path| path.len() == depth).cloned().collect();
        for path in deepest {
            let cost = costs.remove(&path).unwrap_or(0);
            if let Some((last, around)) = path.split_last() {
                let most = dearest.entry((around.to_vec(), last.switch)).or_default();
                *most = cost.max(*most);
            }
        }
        for ((around, _), cost) in dearest {
            *costs.entry(around).or_default() += cost;
        }
    }
    costs.into_values().sum()
}

/// The branches of a network, from its operators: the branches each lies in, its multiply-accumulates and weights.
pub fn costs(operators: &[(Vec<Branch>, u64, u64)]) -> Vec<BranchCost> {
    let mut all: Vec<Branch> = operators.iter().flat_map(|(branches, ..)| branches).copied().collect();
    all.sort_unstable();
    all.dedup();
    all.into_iter()
        .map(|branch| {
            let inside = || operators.iter().filter(|(branches, ..)| branches.contains(&branch));
            BranchCost {
                switch: branch.switch,
                branch: branch.number,
                operators: inside().count(),
                macs: most(inside().map(|(branches, macs, _)| (branches.as_slice(), *macs))),
                weights: inside().map(|(_, _, weights)| weights).sum(),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_costs_the_dearest_branch_of_each_switch() {
        let path = |of: &[(usize, usize)]| -> Vec<Branch> {
            of.iter().map(|&(switch, number)| Branch { switch, number }).collect()
        };
        let operators = [
            (path(&[]), 1, 1),
            (path(&[(0, 0)]), 10, 2),
            (path(&[(0, 1)]), 4, 3),
            (path(&[(0, 1), (1, 0)]), 3, 4),
            (path(&[(0, 1), (1, 1)]), 9, 5),
            (path(&[(2, 0)]), 100, 6),
            (path(&[]), 2, 0),
        ];
        let steps = || operators.iter().map(|(branches, macs, _)| (branches.as_slice(), *macs));
        assert_eq!(most(steps()), 1 + 13 + 100 + 2);
        let all: Vec<_> =
            costs(&operators).iter().map(|b| (b.switch, b.branch, b.operators, b.macs, b.weights)).collect();
        assert_eq!(
            all,
            [(0, 0, 1, 10, 2), (0, 1, 3, 13, 12), (1, 0, 1, 3, 4), (1, 1, 1, 9, 5), (2, 0, 1, 100, 6)]
        );
    }
}
