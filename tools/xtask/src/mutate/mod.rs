//! `cargo xtask mutate`: mutated files that open must give the same bits on every target. What differs is printed with
//! the number that makes it again: `cargo xtask mutate --seed S --only N`.

pub mod rare;
pub mod seeds;

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use offshoot_mutate::compare::{self, Plan};
use offshoot_target::BOARDS;

/// Arguments of `mutate`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Files that open (and learn, with `--learning`) to compare.
    #[arg(long, default_value_t = 1000)]
    pub count: usize,
    /// Seed of the mutations.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// First number to try.
    #[arg(long, default_value_t = 0)]
    pub from: u64,
    /// Files that learn: train steps, saving and restoring too.
    #[arg(long)]
    pub learning: bool,
    /// Emulated boards, each with the share of files that it gets: `qemu:cortex-m4` gets all, `qemu:riscv32/20` every
    /// twentieth. None: only the kernels of this machine.
    #[arg(long, value_delimiter = ',', default_value = "qemu:cortex-m4,qemu:cortex-m3/20,qemu:riscv32/20")]
    pub boards: Vec<String>,
    /// Emulators at the same time.
    #[arg(long, default_value_t = 2)]
    pub jobs: usize,
    /// Compare this mutant only, say what differs, and write the file.
    #[arg(long)]
    pub only: Option<u64>,
    /// Where `--only` writes the file.
    #[arg(long, default_value = "mutant.off")]
    pub output: PathBuf,
}

/// Name and share of a board.
fn board(text: &str) -> Result<(&'static str, usize)> {
    let (name, each) = text.split_once('/').unwrap_or((text, "1"));
    match BOARDS.iter().find(|b| b.name == name) {
        Some(board) => Ok((board.name, each.parse()?)),
        None => bail!("there is no board {name}: `offshoot target list` has their names"),
    }
}

/// Compares and prints.
///
/// # Errors
/// A target cannot be started, or files differ.
pub fn run(args: &Args) -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let seeds = seeds::all(&root, args.learning)?;
    let boards = args.boards.iter().filter(|b| !b.is_empty()).map(|b| board(b));
    let plan = Plan {
        seeds: &seeds,
        seed: args.seed,
        from: args.from,
        count: args.count,
        learning: args.learning,
        boards: boards.collect::<Result<_>>()?,
        jobs: args.jobs,
    };
    if let Some(number) = args.only {
        return show(&plan, number, &args.output);
    }
    println!("{} files to begin with", seeds.len());
    let outcome =
        compare::run(&plan, &|d| println!("{} {}: {} differs at {}", d.number, d.seed, d.target, d.step))?;
    for (target, files) in &outcome.targets {
        let differ = outcome.differences.iter().filter(|d| d.target.starts_with(target)).count();
        println!("{target}: {differ} of {files} differ");
    }
    println!("{} mutants made, {} of them compared", outcome.made, outcome.compared.len());
    if !outcome.differences.is_empty() {
        bail!("{} files differ", outcome.differences.len());
    }
    Ok(())
}

/// Says all about one mutant.
fn show(plan: &Plan<'_>, number: u64, output: &Path) -> Result<()> {
    let (file, seed, exercise) = compare::exercise(plan, number);
    std::fs::write(output, &file)?;
    println!("{number} of {seed}: {} bytes, written to {}", file.len(), output.display());
    let Some(exercise) = exercise else { bail!("it does not open, or is too large, or does not learn") };
    let right = compare::portably(&exercise);
    let mut all = vec![("host", compare::on_host(&exercise))];
    for &(board, _) in &plan.boards {
        all.push((board, compare::on_board(&mut None, board, &exercise)?));
    }
    for (target, found) in all {
        let different = right.iter().zip(&found).filter(|(a, b)| a != b);
        let mut count = 0;
        for ((step, right), (_, found)) in different {
            let at =
                right.iter().zip(found).position(|(a, b)| a != b).unwrap_or(right.len().min(found.len()));
            println!("{target}: {step}, from byte {at} on");
            count += 1;
        }
        println!("{target}: {count} of {} steps differ", right.len());
    }
    Ok(())
}
