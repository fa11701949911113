//! Compares what targets make of mutated files. The portable kernels on this machine say what is right.

use crate::dice::Dice;
use crate::exercise::{Answers, Exercise};
use crate::mutant::{Seed, mutant};
use offshoot::{AlignedBytes, Model};
use offshoot_kernels::testing;
use offshoot_target::{BOARDS, Device, HostDevice, QemuDevice, TargetError};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A file that gives other bits on a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Number of the mutant.
    pub number: u64,
    /// The file it was made of.
    pub seed: String,
    /// The target.
    pub target: String,
    /// The first step that differs.
    pub step: String,
    /// Whether only what an operator wrote differs, but no output, no score and no learned byte.
    pub inner: bool,
}

/// Which mutants are compared.
#[derive(Clone, Debug)]
pub struct Plan<'s> {
    /// The files to begin with.
    pub seeds: &'s [Seed],
    /// Seed of the mutations.
    pub seed: u64,
    /// First number to try.
    pub from: u64,
    /// Files that open, and learn if asked for, to compare.
    pub count: usize,
    /// Only files that learn.
    pub learning: bool,
    /// Emulated boards, and of how many files each gets one.
    pub boards: Vec<(&'static str, usize)>,
    /// Emulators of each board at the same time.
    pub jobs: usize,
}

/// What was compared.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Mutants made.
    pub made: u64,
    /// Those that opened (and learn), by number.
    pub compared: Vec<u64>,
    /// For each target, files that it got.
    pub targets: Vec<(String, usize)>,
    /// Files whose bits differ, once a target.
    pub differences: Vec<Difference>,
}

/// Mutant `number`, and what is done with it if it opens; also the name of its seed.
pub fn exercise(plan: &Plan<'_>, number: u64) -> (Vec<u8>, String, Option<Exercise>) {
    let mut dice = Dice::new(plan.seed, number);
    let (seed, file) = mutant(plan.seeds, &mut dice);
    let aligned = AlignedBytes::copy_of(&file);
    let exercise = Model::open(aligned.bytes()).ok().and_then(|m| Exercise::of(&file, &m, &mut dice));
    let exercise = exercise.filter(|e| e.learns() || !plan.learning);
    (file, plan.seeds[seed].name.clone(), exercise)
}

/// What a fresh host makes of a file.
pub fn on_host(exercise: &Exercise) -> Answers {
    let mut host = HostDevice::new();
    match host.load(&exercise.file) {
        Ok(()) => exercise.on(&mut host),
        Err(error) => vec![("load".into(), error.to_string().into_bytes())],
    }
}

/// What the portable kernels make of a file.
pub fn portably(exercise: &Exercise) -> Answers {
    testing::portably(|| on_host(exercise))
}

/// The first step in which answers differ from those of the portable kernels, and whether it matters outside.
pub fn first_difference(right: &Answers, found: &Answers) -> Option<(String, bool)> {
    let inner = |step: &str| step.contains("operator");
    let differ = || right.iter().zip(found).filter(|(a, b)| a != b).map(|(a, _)| &a.0);
    let first = differ().next().cloned();
    // A board that cannot save stops there.
    let all = right.len() == found.len() || right.get(found.len()).is_some_and(|(step, _)| step == "save");
    let first = first.or_else(|| (!all).then(|| "number of steps".into()))?;
    let all_inner = all && differ().all(|step| inner(step));
    Some((first, all_inner))
}

/// Compares the instruction sets of this machine.
fn on_instruction_sets(exercise: &Exercise, right: &Answers) -> Vec<(String, String, bool)> {
    let mut all = Vec::new();
    let _ = testing::on_each_instruction_set(
        || match first_difference(right, &on_host(exercise)) {
            Some(difference) => Err((String::new(), difference)),
            None => Ok(()),
        },
        |(_, (step, inner)), name| {
            all.push((format!("host, {name}"), step, inner));
            (name, (String::new(), inner))
        },
    );
    all
}

/// What an emulated board makes of a file. The board is started anew if it does not answer.
pub fn on_board(
    device: &mut Option<QemuDevice>,
    board: &str,
    exercise: &Exercise,
) -> Result<Answers, TargetError> {
    let mut running = match device.take() {
        Some(device) => device,
        None => {
            let board = BOARDS.iter().find(|b| b.name == board);
            QemuDevice::new(board.ok_or_else(|| TargetError::Input("no such board".into()))?)?
        }
    };
    if let Err(error) = running.load_over_line(&exercise.file) {
        return Ok(vec![("load".into(), error.to_string().into_bytes())]);
    }
    let answers = exercise.on(&mut running);
    if running.info().is_ok() && answers.iter().all(|(_, answer)| answer != b"an error") {
        *device = Some(running);
    }
    Ok(answers)
}

/// Compares files until there are enough. `say` gets each difference when it is found.
///
/// # Errors
/// An emulator cannot be started.
pub fn run(plan: &Plan<'_>, say: &(impl Fn(&Difference) + Sync)) -> Result<Outcome, TargetError> {
    let mut outcome = Outcome::default();
    let found = Mutex::new(Vec::new());
    let put = |number, seed: &str, target: &str, (step, inner): (String, bool)| {
        let difference = Difference { number, seed: seed.into(), target: target.into(), step, inner };
        say(&difference);
        found.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(difference);
    };
    let mut number = plan.from;
    while outcome.compared.len() < plan.count {
        let (_, name, exercise) = exercise(plan, number);
        if let Some(exercise) = exercise {
            let right = portably(&exercise);
            for (target, step, inner) in on_instruction_sets(&exercise, &right) {
                put(number, &name, &target, (step, inner));
            }
            outcome.compared.push(number);
        }
        outcome.made += 1;
        number += 1;
    }
    outcome.targets.push(("host".into(), outcome.compared.len()));
    for &(board, each) in &plan.boards {
        let mine: Vec<u64> = outcome.compared.iter().copied().step_by(each.max(1)).collect();
        let next = AtomicUsize::new(0);
        let work = || {
            let mut device = None;
            while let Some(&number) = mine.get(next.fetch_add(1, Ordering::Relaxed)) {
                let (_, name, exercise) = exercise(plan, number);
                let Some(exercise) = exercise else { continue };
                let right = portably(&exercise);
                if let Some(difference) = first_difference(&right, &on_board(&mut device, board, &exercise)?)
                {
                    put(number, &name, board, difference);
                }
            }
            Ok::<(), TargetError>(())
        };
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..plan.jobs.max(1)).map(|_| scope.spawn(work)).collect();
            workers.into_iter().try_for_each(|w| w.join().unwrap_or(Ok(())))
        })?;
        outcome.targets.push((board.into(), mine.len()));
    }
    outcome.differences = found.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    Ok(outcome)
}
