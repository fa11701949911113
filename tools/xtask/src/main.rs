//! `cargo xtask COMMAND`: what the repository does for itself.

use anyhow::Result;
use clap::{Parser, Subcommand};
use offshoot_xtask::bench;

/// The repository's own commands.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// What the MLPerf Tiny networks and the shipped models take on the emulated boards.
    Bench(bench::Args),
}

fn main() -> Result<()> {
    match Args::parse().command {
        Command::Bench(args) => bench::run(&args),
    }
}
