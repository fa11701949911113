//! Strategies against each other on the same measurements: volume of the front over the number of evaluations.

use offshoot_search::evaluate::Evaluator;
use offshoot_search::metrics::{Goal, Metric};
use offshoot_search::pareto::hypervolume;
use offshoot_search::run::Cache;
use offshoot_search::space::{Kind, Space, Variable};
use offshoot_search::strategies::{Choice, Evaluated, History, Strategy, View};
use serde::Serialize;

use crate::Result;
use crate::found::search;
use crate::task::Task;

/// Numbers of evaluations at which volumes are compared.
const STOPS: [usize; 3] = [50, 100, 150];
const LONG: usize = 1000;

/// One run.
#[derive(Serialize)]
struct Run {
    strategy: String,
    seed: u64,
    /// Volume after each number of evaluations.
    curve: Vec<(usize, f64)>,
}

/// Between no error and chance, and between nothing and what the super-network costs.
fn volume(history: &[Evaluated], whole: &Evaluated) -> f64 {
    let accuracy = |e: &Evaluated| e.measured.as_ref().map_or(0.0, |m| m.accuracy);
    let costs: Vec<Vec<f64>> =
        history.iter().map(|e| vec![1.0 - accuracy(e), e.costs[1] / whole.costs[1]]).collect();
    hypervolume(&costs, &[0.9, 1.05])
}

fn measured(evaluator: &Evaluator, goal: &Goal, cache: &mut Cache) -> Result<Evaluated> {
    struct One;
    impl std::fmt::Debug for One {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("One")
        }
    }
    impl Strategy for One {
        fn name(&self) -> &'static str {
            "one"
        }
        fn propose(&mut self, view: View<'_>, _: usize) -> Vec<Vec<u16>> {
            vec![view.space.largest()]
        }
    }
    let outcome = search(evaluator, goal, &mut One, 1, cache)?;
    Ok(outcome.history.all()[0].clone())
}

fn curve(history: &History, whole: &Evaluated) -> Vec<(usize, f64)> {
    let n = history.all().len();
    let stops = (10..=n).step_by(10).chain([n]);
    let mut curve: Vec<(usize, f64)> = stops.map(|n| (n, volume(&history.all()[..n], whole))).collect();
    curve.dedup();
    curve
}

/// LINAS against NSGA-II and chance.
pub(crate) fn strategies(task: &Task) -> Result<()> {
    let evaluator = task.evaluator(task.elastic()?, false, &task.held)?;
    let mut cache = Cache::open(Some(&task.out.join("evaluations.jsonl")))?;
    let goal = Goal { objectives: vec![Metric::Accuracy, Metric::Instructions], constraints: vec![] };
    let whole = measured(&evaluator, &goal, &mut cache)?;
    let seeds = 0..number("SEEDS", 5);
    let mut runs = Vec::new();
    for (choice, evaluations) in [(Choice::Linas, 150), (Choice::Random, 150), (Choice::Nsga2, LONG)] {
        // The long runs are the yardstick: fewer of them do.
        let most = if choice == Choice::Nsga2 { number("LONG_SEEDS", 1) } else { seeds.end };
        for seed in 0..most {
            let outcome = search(&evaluator, &goal, choice.strategy(seed).as_mut(), evaluations, &mut cache)?;
            let curve = curve(&outcome.history, &whole);
            eprintln!(
                "{choice:?} {seed}: {} now, {:.4}",
                outcome.evaluated,
                curve.last().map_or(0.0, |c| c.1)
            );
            runs.push(Run { strategy: format!("{choice:?}").to_lowercase(), seed, curve });
            std::fs::write(task.out.join("strategies.json"), serde_json::to_vec(&runs)?)?;
        }
    }
    let at = |r: &Run, n: usize| r.curve.iter().take_while(|c| c.0 <= n).last().map_or(0.0, |c| c.1);
    println!(
        "volume of the front (accuracy, instructions) after so many evaluations: mean (least to most) over seeds"
    );
    for name in ["linas", "random", "nsga2"] {
        let all: Vec<&Run> = runs.iter().filter(|r| r.strategy == name).collect();
        let cells = STOPS.iter().chain(if name == "nsga2" { [250, 500, LONG].iter() } else { [].iter() });
        let cell = |n: &usize| {
            let v: Vec<f64> = all.iter().map(|r| at(r, *n)).collect();
            let (low, high) = v.iter().fold((f64::MAX, f64::MIN), |(l, h), x| (l.min(*x), h.max(*x)));
            format!("{n}: {:.4} ({low:.4} to {high:.4})", v.iter().sum::<f64>() / v.len().max(1) as f64)
        };
        println!("  {name:<7} {}", cells.map(cell).collect::<Vec<_>>().join("  "));
    }
    let yard = runs.iter().filter(|r| r.strategy == "nsga2").map(|r| at(r, LONG)).fold(0.0, f64::max);
    for r in runs.iter().filter(|r| r.strategy == "linas") {
        let reached = r.curve.iter().find(|c| c.1 >= 0.95 * yard).map(|c| c.0);
        let share = 100.0 * at(r, 150) / yard;
        println!("  linas, seed {}: 95 % of NSGA-II's {LONG} after {reached:?}; at 150 {share:.1} %", r.seed);
    }
    Ok(())
}

fn number(variable: &str, usual: u64) -> u64 {
    std::env::var(variable).ok().and_then(|v| v.parse().ok()).unwrap_or(usual)
}

/// A strategy on some of the variables, the others as they are told.
#[derive(Debug)]
struct Part<'s> {
    inner: Box<dyn Strategy + Send>,
    space: Space,
    /// Of each variable, whether it is searched.
    open: Vec<bool>,
    base: Vec<u16>,
    history: History,
    goal: &'s Goal,
}

impl Strategy for Part<'_> {
    fn name(&self) -> &'static str {
        "part"
    }

    fn propose(&mut self, view: View<'_>, most: usize) -> Vec<Vec<u16>> {
        for e in &view.history.all()[self.history.all().len().min(view.history.all().len())..] {
            let part = e.encoding.iter().zip(&self.open).filter(|(_, o)| **o).map(|(i, _)| *i).collect();
            self.history.add(Evaluated { encoding: part, ..e.clone() });
        }
        let inner = View { space: &self.space, goal: self.goal, history: &self.history };
        let full = |part: Vec<u16>| {
            let mut part = part.into_iter();
            let each = self
                .open
                .iter()
                .zip(&self.base)
                .map(|(o, b)| if *o { part.next().unwrap_or(*b) } else { *b });
            view.space.canonical(each.collect())
        };
        let mut all: Vec<Vec<u16>> = self.inner.propose(inner, most).into_iter().map(full).collect();
        all.sort();
        all.dedup();
        all
    }
}

fn part<'s>(
    whole: &Space,
    open: impl Fn(&Variable) -> bool,
    base: Vec<u16>,
    goal: &'s Goal,
    seed: u64,
) -> Result<Part<'s>> {
    let open: Vec<bool> = whole.variables.iter().map(open).collect();
    let variables = whole.variables.iter().zip(&open).filter(|(_, o)| **o).map(|(v, _)| v.clone()).collect();
    let (inner, space) = (Choice::Linas.strategy(seed), Space::new(variables)?);
    Ok(Part { inner, space, open, base, history: History::default(), goal })
}

/// Architecture and bits together against architecture first, in as many evaluations.
pub(crate) fn joint(task: &Task) -> Result<()> {
    const EACH: usize = 100;
    let evaluator = task.evaluator(task.elastic()?, false, &task.held)?;
    let mut cache = Cache::open(Some(&task.out.join("evaluations.jsonl")))?;
    let goal = Goal { objectives: vec![Metric::Accuracy, Metric::Flash], constraints: vec![] };
    let whole = measured(&evaluator, &goal, &mut cache)?;
    let space = &evaluator.elastic.space;
    println!("volume of the front (accuracy, flash) after {EACH} evaluations");
    let mut rows = Vec::new();
    for seed in 0..number("SEEDS", 3) {
        let together = search(&evaluator, &goal, Choice::Linas.strategy(seed).as_mut(), EACH, &mut cache)?;
        let together = volume(together.history.all(), &whole);
        // Half for architectures of 8 bits; then bits of the four front points that add most, each its share.
        let mut first = part(space, Variable::is_architecture, space.largest(), &goal, seed)?;
        let first = search(&evaluator, &goal, &mut first, EACH / 2, &mut cache)?;
        let mut all = first.history.all().to_vec();
        let front: Vec<Vec<u16>> = first.history.front().iter().map(|e| e.encoding.clone()).collect();
        let chosen: Vec<&Vec<u16>> =
            (0..4.min(front.len())).map(|i| &front[i * front.len() / 4.min(front.len())]).collect();
        let count = chosen.len();
        for (i, base) in chosen.into_iter().enumerate() {
            let share = EACH / 2 * (i + 1) / count - EACH / 2 * i / count;
            let mut then = part(space, |v| matches!(v.kind, Kind::Bits { .. }), base.clone(), &goal, seed)?;
            all.extend(search(&evaluator, &goal, &mut then, share, &mut cache)?.history.all().to_vec());
        }
        let apart = volume(&all, &whole);
        println!(
            "  seed {seed}: together {together:.4}, one after the other {apart:.4} ({} evaluations)",
            all.len()
        );
        rows.push((seed, together, apart));
        std::fs::write(task.out.join("joint.json"), serde_json::to_vec(&rows)?)?;
    }
    Ok(())
}
