//! A network that is at least as accurate as the hand-made one in half of its instructions and flash.

use offshoot_compress::quantize::WeightBits;
use offshoot_search::evaluate::Evaluator;
use offshoot_search::executor::Local;
use offshoot_search::metrics::{Constraint, Goal, Measured, Metric};
use offshoot_search::run::{self, Cache, Outcome};
use offshoot_search::strategies::{Evaluated, Linas, Strategy};

use crate::Result;
use crate::task::Task;

/// Candidates that are measured, and those that are trained further.
const EVALUATIONS: usize = 150;
const TUNED: usize = 3;
/// Accuracy that so few samples do not tell from the best, as a share.
const ALIKE: f64 = 0.01;

/// One line of a table.
pub(crate) fn row(name: &str, m: &Measured) {
    println!(
        "{name:<28} {:>6.2} % {:>8} bytes {:>7} bytes {:>10} instructions",
        100.0 * m.accuracy,
        m.flash,
        m.ram,
        m.instructions.unwrap_or(0)
    );
}

/// The reference on what the search judges by, and on the test set.
pub(crate) fn reference(task: &Task) -> Result<(Measured, Measured)> {
    let graph = offshoot_ir::passes::lossless(task.reference()?)?.0;
    let elastic = task.elastic()?;
    let thorough = task.evaluator(elastic.clone(), true, &task.held)?;
    let candidate = thorough.compiled(graph, WeightBits::default())?;
    let held = thorough.measure(&candidate)?;
    let test = task.evaluator(elastic, true, &task.test)?.measure(&candidate)?;
    Ok((held, test))
}

pub(crate) fn run(task: &Task) -> Result<()> {
    let (held, test) = reference(task)?;
    println!("reference, int8 (accuracy, flash, RAM, instructions)");
    row("  held out for the search", &held);
    row("  test", &test);
    let instructions = held.instructions.unwrap_or(0) as f64;
    let goal = Goal {
        objectives: vec![Metric::Accuracy, Metric::Instructions],
        constraints: vec![
            Constraint { metric: Metric::Flash, limit: held.flash as f64 / 2.0 },
            Constraint { metric: Metric::Ram, limit: held.ram as f64 },
            Constraint { metric: Metric::Instructions, limit: instructions / 2.0 },
        ],
    };
    let evaluator = task.evaluator(task.elastic()?, false, &task.held)?;
    let mut cache = Cache::open(Some(&task.out.join("evaluations.jsonl")))?;
    let outcome = search(&evaluator, &goal, &mut Linas::new(1), EVALUATIONS, &mut cache)?;
    println!("{} candidates, {} of them measured now", outcome.history.all().len(), outcome.evaluated);
    outcome.notes.iter().for_each(|n| println!("{n}"));
    let mut front: Vec<_> = outcome.history.front().into_iter().cloned().collect();
    front.sort_by(|a, b| a.costs[0].total_cmp(&b.costs[0]));
    for e in &front {
        if let Some(m) = &e.measured {
            row("  front, inherited weights", m);
        }
    }
    let judge = task.evaluator(task.elastic()?, true, &task.test)?;
    for (i, e) in worth_training(outcome.history.all()).into_iter().enumerate() {
        let name = format!("tuned-{}", evaluator.key(&e.encoding));
        let options = task.options(&name, task.space.training.epochs);
        let candidate = judge.tuned(&e.encoding, &options, Some((2.0, 0.5)), &mut ())?;
        let m = judge.measure(&candidate)?;
        println!("{}", judge.elastic.space.describe(&e.encoding));
        row(&format!("  found {i}, tuned, test"), &m);
        println!(
            "    of the reference: {:+.2} points, {:.1} % of flash, {:.1} % of RAM, {:.1} % of instructions",
            100.0 * (m.accuracy - test.accuracy),
            100.0 * m.flash as f64 / test.flash as f64,
            100.0 * m.ram as f64 / test.ram as f64,
            100.0 * m.instructions.unwrap_or(0) as f64 / instructions
        );
    }
    Ok(())
}

/// Of those that keep the limits and are as accurate as the best, some from the largest to the smallest: with inherited weights
/// the small ones may do as well, trained further the large ones have more to gain.
fn worth_training(all: &[Evaluated]) -> Vec<&Evaluated> {
    let accuracy = |e: &Evaluated| e.measured.as_ref().map_or(0.0, |m| m.accuracy);
    let kept = || all.iter().filter(|e| e.violation == 0.0 && e.measured.is_some());
    let best = kept().map(accuracy).fold(0.0, f64::max);
    let mut alike: Vec<&Evaluated> = kept().filter(|e| accuracy(e) >= best - ALIKE).collect();
    let work = |e: &Evaluated| e.measured.as_ref().and_then(|m| m.instructions).unwrap_or(0);
    alike.sort_by_key(|e| std::cmp::Reverse(work(e)));
    let count = TUNED.min(alike.len());
    (0..count).map(|i| alike[i * alike.len() / count]).collect()
}

/// A search with the measurements that all of them share.
pub(crate) fn search(
    evaluator: &Evaluator,
    goal: &Goal,
    strategy: &mut dyn Strategy,
    evaluations: usize,
    cache: &mut Cache,
) -> Result<Outcome> {
    Ok(run::run(evaluator, goal, strategy, evaluations, cache, &Local, &mut ())?)
}
