//! Benchmark of local learning: runs the research protocols behind the rules with the runtime's own functions. Prints
//! tables next to the research page's numbers, and keeps results in JSON. Does not measure time.
//!
//! `cargo run --release -p offshoot-bench -- table --seeds 3 --json results.json`

use std::io::IsTerminal;
use std::ops::Range;
use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, Subcommand};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use offshoot_bench::protocol::Protocol;
use offshoot_bench::table::Results;

/// Accuracy of local learning, by published protocols.
#[derive(Debug, Parser)]
struct Args {
    #[command(subcommand)]
    command: Command,
    /// Folder of data sets.
    #[arg(long, default_value = "../shared/data", global = true)]
    data: PathBuf,
    /// Only these protocols.
    #[arg(long, value_delimiter = ',', global = true)]
    only: Vec<String>,
    /// Only this row; may be given more than once.
    #[arg(long = "row", global = true)]
    rows: Vec<String>,
}

/// The command.
#[derive(Debug, Subcommand)]
enum Command {
    /// Measure missing cells and print the tables.
    Table {
        /// Number of seeds.
        #[arg(long, default_value_t = 1)]
        seeds: u32,
        /// The first seed.
        #[arg(long, default_value_t = 0)]
        first: u32,
        /// File of results; cells found there are not measured again.
        #[arg(long)]
        json: Option<PathBuf>,
        /// Print existing results without measuring.
        #[arg(long)]
        print: bool,
    },
    /// Try hyper-parameters on data that the tables do not use.
    Tune,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let mut protocols = offshoot_bench::protocols(&args.data);
    for name in &args.only {
        let known = protocols.iter().any(|p| p.name() == name);
        anyhow::ensure!(known, "no protocol `{name}`: there are {}", names(&protocols));
    }
    protocols.retain(|p| args.only.is_empty() || args.only.iter().any(|o| o == p.name()));
    match args.command {
        Command::Table { seeds, first, ref json, print } => {
            let mut results = Results::open(json.as_deref())?;
            for protocol in &mut protocols {
                if !print {
                    measure(protocol.as_mut(), first..first + seeds, &args.rows, &mut results)?;
                }
                println!("{}", results.render(protocol.as_ref()));
            }
        }
        Command::Tune => {
            for protocol in &mut protocols {
                let name = protocol.name();
                let say = |trial: &str, accuracy: f64| println!("{name} {trial}: {:.2} %", 100.0 * accuracy);
                if args.rows.is_empty() {
                    protocol.tune(None, &say)?;
                }
                for row in &args.rows {
                    protocol.tune(Some(row), &say)?;
                }
            }
        }
    }
    Ok(())
}

fn names(protocols: &[Box<dyn Protocol>]) -> String {
    protocols.iter().map(|p| p.name()).collect::<Vec<_>>().join(", ")
}

fn measure(
    protocol: &mut dyn Protocol,
    seeds: Range<u32>,
    rows: &[String],
    results: &mut Results,
) -> Result<()> {
    // Seed by seed: an interrupted run has all rows with fewer seeds, and rows share a seed's host network.
    for seed in seeds {
        for row in protocol.rows() {
            let wanted = rows.is_empty() || rows.contains(&row.name);
            if !wanted || results.has(protocol.name(), &row.name, seed) {
                continue;
            }
            let bar = progress(&format!("{} {} {seed}", protocol.name(), row.name), protocol.work(&row.name));
            let measured = protocol.measure(&row.name, seed, &|done| bar.inc(done))?;
            bar.finish_and_clear();
            let shown: Vec<String> =
                measured.iter().map(|(column, a)| format!("{column} {:.2} %", 100.0 * a)).collect();
            eprintln!("{} {} seed {seed}: {}", protocol.name(), row.name, shown.join(", "));
            results.keep(protocol, &row.name, seed, measured)?;
        }
    }
    Ok(())
}

/// A progress bar on stderr, if that is a terminal.
fn progress(what: &str, total: u64) -> ProgressBar {
    let terminal = std::io::stderr().is_terminal();
    let target = if terminal { ProgressDrawTarget::stderr_with_hz(8) } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(Some(total), target);
    let style = ProgressStyle::with_template("{msg:<32} {bar:32} {pos}/{len} {eta}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.set_message(what.to_owned());
    bar
}
