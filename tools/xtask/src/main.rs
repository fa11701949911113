//! `cargo xtask COMMAND`: the repository's own commands.

use anyhow::Result;
use clap::{Parser, Subcommand};
use offshoot_xtask::{bench, chips, graphs, mutate, preferences, single};

/// The repository's own commands.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measure the MLPerf Tiny networks and the shipped models on the emulated boards.
    Bench(bench::Args),
    /// Write the table of chips from probe-rs' target descriptions.
    Chips(chips::Args),
    /// Compile random graphs and compare their answers with those of the ONNX reference evaluator.
    Graphs(graphs::Args),
    /// Check on every network and board that `compile --prefer` saves what it prefers, and pays at most its rate.
    Preferences(preferences::Args),
    /// Build a firmware with one model and only what that model needs, measure its sizes and run it.
    Single(single::Args),
    /// Mutate files and compare what every target makes of them, bit by bit.
    Mutate(mutate::Args),
}

fn main() -> Result<()> {
    match Args::parse().command {
        Command::Bench(args) => bench::run(&args),
        Command::Chips(args) => chips::run(&args),
        Command::Graphs(args) => graphs::run(&args),
        Command::Preferences(args) => preferences::run(&args),
        Command::Single(args) => single::run(&args),
        Command::Mutate(args) => mutate::run(&args),
    }
}
