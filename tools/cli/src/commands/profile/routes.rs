//! Runs through the branches of switches: which branches the samples took, what each costs, and what a run costs on average and at
//! most.

use offshoot_export::branch_costs;
use offshoot_plan::Branch;
use offshoot_report::Table;
use offshoot_report::table::thousands;
use offshoot_target::{Device, OperatorProfile, Profile};
use serde::Serialize;

use crate::batch::{DEVICE_HELP, Inputs};
use crate::failure::{Context, Kind, Result};
use crate::files::OffFile;

/// Most samples that are measured.
const MOST_SAMPLES: usize = 64;

/// What samples cost that take different branches. Costs are instructions, or nanoseconds if the target has a clock and no counter.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Routes {
    /// Samples measured.
    pub samples: usize,
    /// Average cost of a run.
    pub average: Option<u64>,
    /// Cost of the dearest of these runs.
    pub dearest: Option<u64>,
    /// Cost of a run with the dearest branch of every switch; null if the samples left out a branch.
    pub worst_case: Option<u64>,
    /// Branches.
    pub branches: Vec<BranchTime>,
}

/// A branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct BranchTime {
    /// Number of the switch.
    pub switch: usize,
    /// Number of the branch.
    pub branch: usize,
    /// Samples that took it.
    pub samples: usize,
    /// The most that its operators cost; null if no sample took it.
    pub cost: Option<u64>,
}

fn cost(operator: &OperatorProfile) -> Option<u64> {
    operator.instructions.or(operator.nanoseconds)
}

fn whole(profile: &Profile) -> Option<u64> {
    profile.instructions.or(profile.nanoseconds)
}

impl Routes {
    /// Measures samples of a model with switches; `None` if it has none. `measured` is the profile of the first sample: operators
    /// that only other samples ran join it.
    ///
    /// # Errors
    /// The device does not answer.
    pub fn measure(
        device: &mut dyn Device,
        file: &OffFile,
        inputs: &Inputs,
        measured: &mut Profile,
    ) -> Result<Option<Self>> {
        let paths = branch_costs::branches(&file.model()?);
        let mut all: Vec<Branch> = paths.iter().flatten().copied().collect();
        if all.is_empty() {
            return Ok(None);
        }
        all.sort_unstable();
        all.dedup();
        let mut runs = vec![measured.clone()];
        for i in 1..inputs.count().min(MOST_SAMPLES) {
            runs.push(device.profile(&inputs.sample(i)).or_fail(Kind::Device, DEVICE_HELP)?);
        }
        for operator in runs[1..].iter().flat_map(|run| &run.operators) {
            if measured.operators.iter().all(|known| known.index != operator.index) {
                measured.operators.push(operator.clone());
            }
        }
        measured.operators.sort_by_key(|operator| operator.index);
        Ok(Some(Self::of(&paths, &all, &runs)))
    }

    fn of(paths: &[Vec<Branch>], all: &[Branch], runs: &[Profile]) -> Self {
        let path = |index: u16| paths.get(usize::from(index)).map_or(&[][..], Vec::as_slice);
        let took = |run: &Profile, branch: &Branch| {
            run.operators.iter().any(|operator| path(operator.index).contains(branch))
        };
        // The most that each operator cost.
        let mut most: Vec<Option<u64>> = vec![None; paths.len()];
        for operator in runs.iter().flat_map(|run| &run.operators) {
            if let Some(known) = most.get_mut(usize::from(operator.index)) {
                *known = (*known).max(cost(operator));
            }
        }
        let steps = |within: Option<&Branch>| {
            let inside: Vec<(&[Branch], u64)> = (paths.iter().zip(&most))
                .filter(|(path, _)| within.is_none_or(|branch| path.contains(branch)))
                .map(|(path, cost)| (path.as_slice(), cost.unwrap_or(0)))
                .collect();
            branch_costs::most(inside)
        };
        let branches: Vec<BranchTime> = (all.iter())
            .map(|branch| {
                let samples = runs.iter().filter(|run| took(run, branch)).count();
                let cost = (samples > 0).then(|| steps(Some(branch)));
                BranchTime { switch: branch.switch, branch: branch.number, samples, cost }
            })
            .collect();
        let totals: Option<Vec<u64>> = runs.iter().map(whole).collect();
        // What a run takes besides its operators.
        let rest = runs
            .first()
            .and_then(|run| Some(whole(run)?.saturating_sub(run.operators.iter().filter_map(cost).sum())));
        let complete = branches.iter().all(|branch| branch.samples > 0);
        Self {
            samples: runs.len(),
            average: totals.as_ref().map(|all| all.iter().sum::<u64>() / all.len() as u64),
            dearest: totals.and_then(|all| all.into_iter().max()),
            worst_case: rest.filter(|_| complete).map(|rest| rest + steps(None)),
            branches,
        }
    }

    /// A table of the branches, and the costs of a run.
    pub fn render(&self, unit: &str) -> String {
        let mut table = Table::new(["switch", "branch", "samples", unit]);
        let number = |n: Option<u64>| n.map_or("-".into(), thousands);
        for b in &self.branches {
            table.row([b.switch.to_string(), b.branch.to_string(), b.samples.to_string(), number(b.cost)]);
        }
        let mut facts = Table::new(["", unit]);
        facts.row(["average run", &number(self.average)]);
        facts.row(["dearest run", &number(self.dearest)]);
        facts.row(["dearest branch of every switch", &number(self.worst_case)]);
        let note = match self.worst_case {
            None if self.average.is_some() => {
                "\nno sample took some branches: give more samples with --input for the cost at most"
            }
            _ => "",
        };
        format!("\n{} samples\n{table}\n{facts}{note}", self.samples)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use offshoot::format::record::Tag;

    fn run(operators: &[(u16, u64)], rest: u64) -> Profile {
        let one = |&(index, instructions): &(u16, u64)| OperatorProfile {
            index,
            tag: Tag::Lut,
            origin: u16::MAX,
            instructions: Some(instructions),
            cycles: None,
            nanoseconds: None,
            stack_bytes: None,
        };
        Profile {
            target: String::new(),
            instructions: Some(operators.iter().map(|o| o.1).sum::<u64>() + rest),
            cycles: None,
            cycles_range: None,
            flash_waits: None,
            nanoseconds: None,
            operators: operators.iter().map(one).collect(),
            arena_bytes: 0,
            stack_bytes: None,
            code_bytes: None,
            model_bytes: 0,
        }
    }

    #[test]
    fn costs_are_those_of_the_branches_taken() {
        let branch = |number| Branch { switch: 0, number };
        let paths = [vec![], vec![], vec![branch(0)], vec![], vec![branch(1)], vec![]];
        let all = [branch(0), branch(1)];
        let first = run(&[(0, 50), (1, 2), (2, 10), (3, 2), (5, 6)], 4);
        let alone = Routes::of(&paths, &all, std::slice::from_ref(&first));
        assert_eq!((alone.average, alone.worst_case), (Some(74), None));
        assert_eq!(alone.branches[1].cost, None);
        let second = run(&[(0, 50), (1, 2), (3, 2), (4, 30), (5, 6)], 4);
        let both = Routes::of(&paths, &all, &[first.clone(), second, first]);
        assert_eq!(
            (both.samples, both.average, both.dearest, both.worst_case),
            (3, Some(80), Some(94), Some(94))
        );
        let taken: Vec<_> = both.branches.iter().map(|b| (b.branch, b.samples, b.cost)).collect();
        assert_eq!(taken, [(0, 2, Some(10)), (1, 1, Some(30))]);
    }
}
