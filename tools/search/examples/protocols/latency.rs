//! The predictor of instructions, and sums over measured operators, against the emulator on sub-networks held out.

use offshoot_data::Random;
use offshoot_search::journal::Journal;
use offshoot_search::operators::{Operator, profile};
use offshoot_search::predict::{Latency, kendall, relative_error};
use offshoot_target::Target;

use crate::Result;
use crate::task::Task;

const HELD_OUT: usize = 50;
/// Candidates whose operators the predictor is fitted on.
const FITTED: usize = 60;

pub(crate) fn run(task: &Task) -> Result<()> {
    let evaluator = task.evaluator(task.elastic()?, false, &task.held.head(1))?;
    let mut random = Random::new(99, 0);
    let space = &evaluator.elastic.space;
    let target = Target::parse("qemu:cortex-m4")?;
    // A file of its own: nothing of the held-out ones is in it.
    let path = task.out.join("latency-operators.jsonl");
    let known = offshoot_search::operators::Operators::new(target.clone(), Some(&path))?;
    for i in 0..FITTED {
        let e = if i == 0 { space.largest() } else { space.sample(&mut random) };
        known.instructions(&evaluator.candidate(&e)?.compiled.bytes)?;
    }
    let (_, operators) = Journal::open::<Operator>(&path)?;
    let latency = Latency::fit(&operators);
    let (mut said, mut truth, mut sums, mut of_sums) = (vec![], vec![], vec![], vec![]);
    for _ in 0..HELD_OUT {
        let e = space.sample(&mut random);
        let off = evaluator.candidate(&e)?.compiled.bytes;
        let measured = profile(&target, &off, false)?.instructions.ok_or("no instructions")? as f64;
        said.push(latency.predict(&off)?);
        truth.push(measured);
        if let Some(sum) = known.composed(&off)? {
            sums.push(sum as f64);
            of_sums.push(measured);
        }
    }
    println!("{} distinct operators of {FITTED} sub-networks", operators.len());
    println!(
        "predictor on {HELD_OUT} others: Kendall's tau {:.3}, mean error {:.2} %, most {:.2} %",
        kendall(&said, &truth),
        100.0 * relative_error(&said, &truth),
        100.0 * said.iter().zip(&truth).map(|(s, t)| (s / t - 1.0).abs()).fold(0.0, f64::max)
    );
    let far = sums.iter().zip(&of_sums).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    println!(
        "sums over operators: {} of {HELD_OUT} known in full, farthest from the emulator {far} instructions",
        sums.len()
    );
    Ok(())
}
