//! `cargo xtask preferences`: whether `compile --prefer` keeps its word, on every network at hand and every emulated
//! board.
//!
//! For each board, a network is compiled for it with all four preferences and measured. What a preference saves must
//! not be worse than with `balanced`, and what it pays for that must stay within its rate
//! ([`offshoot_export::SPEED_RATE`] and its siblings).

use std::path::PathBuf;

use anyhow::{Result, bail};
use offshoot_cli::commands::compile::Prefer;
use offshoot_cli::failure::{Failure, Kind};
use offshoot_export::{FLASH_RATE, RAM_RATE, SPEED_RATE};
use offshoot_report::Table;
use offshoot_report::table::thousands;

use crate::bench::measure::{self, Measured};
use crate::bench::{self, networks};

/// Arguments of `preferences`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Folder of public data sets with `mlperf_tiny/`. Default: $OFFSHOOT_DATA, or `../shared/data` beside the
    /// repository.
    #[arg(long)]
    pub data: Option<PathBuf>,
    /// Only networks whose name contains this (repeatable).
    #[arg(long)]
    pub network: Vec<String>,
    /// Only this target (repeatable). Default: every emulated board.
    #[arg(long)]
    pub target: Vec<String>,
}

/// What a model takes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Taken {
    instructions: f64,
    flash: f64,
    arena: f64,
}

/// Measures, prints a table, and fails if a preference breaks its word.
///
/// # Errors
/// A network does not compile, a board does not answer, or a preference saves nothing of what it prefers, or pays more
/// than its rate.
pub fn run(args: &Args) -> Result<()> {
    let data = args.data.clone().unwrap_or_else(bench::data_folder);
    let wanted = |name: &str| args.network.is_empty() || args.network.iter().any(|w| name.contains(w));
    let mut table = Table::new(["network", "board", "preference", "instructions", "flash", "arena", ""]);
    let (mut cases, mut broken) = (0, Vec::new());
    for network in networks::all().into_iter().filter(|n| wanted(n.name)) {
        let Some(source) = network.find(&data) else {
            eprintln!("skipped: {} ({} is absent)", network.name, network.path(&data).display());
            continue;
        };
        for target in bench::targets(&args.target)? {
            let taken = |prefer| -> Result<Option<Taken>> {
                eprintln!("{} {target} {} …", network.name, networks::preference(prefer));
                let off = match network.compile_for(&source, prefer, Some(&target)) {
                    Err(error) if error.downcast_ref::<Failure>().is_some_and(does_not_fit) => {
                        return Ok(None);
                    }
                    made => made?,
                };
                Ok(match measure::measure(&network, prefer, &off, &target, false)? {
                    Measured::DoesNotFit(_) => None,
                    Measured::Row(row) => Some(Taken {
                        instructions: row.instructions as f64,
                        flash: row.model_bytes as f64,
                        arena: row.arena_bytes as f64,
                    }),
                })
            };
            let Some(balanced) = taken(Prefer::Balanced)? else { continue };
            for prefer in [Prefer::Balanced, Prefer::Speed, Prefer::Ram, Prefer::Flash] {
                let own = if prefer == Prefer::Balanced { Some(balanced) } else { taken(prefer)? };
                let Some(own) = own else { continue };
                let verdict = verdict(prefer, &balanced, &own);
                cases += 1;
                table.row([
                    network.name.to_owned(),
                    target.clone(),
                    networks::preference(prefer).to_owned(),
                    thousands(own.instructions as u64),
                    thousands(own.flash as u64),
                    thousands(own.arena as u64),
                    verdict.clone().unwrap_or_default(),
                ]);
                broken.extend(
                    verdict
                        .map(|v| format!("{} {target} {}: {v}", network.name, networks::preference(prefer))),
                );
            }
        }
    }
    println!("{table}");
    if cases == 0 {
        bail!("nothing was measured: check --network and --target, and the folder of data sets");
    }
    if !broken.is_empty() {
        bail!("{} of {cases} cases break their word:\n{}", broken.len(), broken.join("\n"));
    }
    println!(
        "{cases} cases: no preference is worse than balanced in what it prefers, and none pays more than its rate"
    );
    Ok(())
}

fn does_not_fit(failure: &Failure) -> bool {
    matches!(failure.kind, Kind::Budget | Kind::Unsupported)
}

/// What is wrong with `own`, compiled with `prefer`, beside `balanced`.
fn verdict(prefer: Prefer, balanced: &Taken, own: &Taken) -> Option<String> {
    // What the preference saves, what it may pay for a unit of it, and what it pays.
    let saved = |pick: fn(&Taken) -> f64| pick(balanced) - pick(own);
    let (name, saved, paid, rate) = match prefer {
        Prefer::Balanced => return None,
        Prefer::Speed => ("instructions", saved(|t| t.instructions), -saved(|t| t.flash), 1.0 / SPEED_RATE),
        Prefer::Ram => ("arena", saved(|t| t.arena), -saved(|t| t.instructions), RAM_RATE),
        Prefer::Flash => ("flash", saved(|t| t.flash), -saved(|t| t.instructions), FLASH_RATE),
    };
    if saved < 0.0 {
        return Some(format!("{name} grow by {}", -saved));
    }
    (paid > rate * saved).then(|| format!("pays {paid} for {saved} of {name}: more than {rate} each"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preference_saves_and_pays_at_most_its_rate() {
        let balanced = Taken { instructions: 1000.0, flash: 500.0, arena: 100.0 };
        let speed = |instructions, flash| Taken { instructions, flash, ..balanced };
        assert_eq!(verdict(Prefer::Speed, &balanced, &balanced), None);
        assert_eq!(verdict(Prefer::Speed, &balanced, &speed(900.0, 900.0)), None);
        assert!(verdict(Prefer::Speed, &balanced, &speed(900.0, 901.0)).is_some());
        assert!(verdict(Prefer::Speed, &balanced, &speed(1001.0, 100.0)).is_some());
        let flash = Taken { instructions: 2000.0, flash: 490.0, ..balanced };
        assert_eq!(verdict(Prefer::Flash, &balanced, &flash), None);
        assert!(verdict(Prefer::Flash, &balanced, &Taken { instructions: 2001.0, ..flash }).is_some());
        assert!(verdict(Prefer::Ram, &balanced, &Taken { arena: 101.0, ..balanced }).is_some());
    }
}
