//! The `offshoot` command.

use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use offshoot_cli::commands::{
    compile, compress, demo, eval, inspect, learn, profile, qat, rank, run, search, sensitivity, target,
    verify,
};
use offshoot_cli::{Failure, Kind, Outcome, Ui};

/// Deploy a network to a microcontroller or a phone, and see what it takes there.
#[derive(Debug, Parser)]
#[command(name = "offshoot", version)]
struct Cli {
    /// Print one JSON object on stdout and nothing else.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// The whole way on a shipped model: compile, run, profile; writes report.html.
    Demo(demo::Args),
    /// What an .onnx or .off file holds.
    Inspect(inspect::Args),
    /// ONNX to .off.
    Compile(compile::Args),
    /// A smaller network under a budget of flash and RAM.
    Compress(compress::Args),
    /// Sub-networks that fit a device, the best of each size.
    Search(search::Args),
    /// What each layer costs in fewer bits, and a policy under a budget.
    Sensitivity(sensitivity::Args),
    /// Quantisation-aware training: weights of few bits with learned steps.
    Qat(qat::Args),
    /// Low rank: curves of rank against accuracy, flash and instructions.
    Rank(rank::Args),
    /// Inference over a batch.
    Run(run::Args),
    /// Accuracy on labelled data.
    Eval(eval::Args),
    /// Compares operator by operator: float with integer, host with device.
    Verify(verify::Args),
    /// Training on the device, without backpropagation.
    Learn(learn::Args),
    /// What every operator takes on a target.
    Profile(profile::Args),
    /// Known targets, and what answers.
    Target(target::Args),
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let ui = Ui { json: cli.json };
    let result = match &cli.verb {
        Verb::Demo(args) => show(&ui, demo::run(&ui, args)),
        Verb::Inspect(args) => show(&ui, inspect::run(&ui, args)),
        Verb::Compile(args) => show(&ui, compile::run(&ui, args)),
        Verb::Compress(args) => show(&ui, compress::run(&ui, args)),
        Verb::Search(args) => show(&ui, search::run(&ui, args)),
        Verb::Sensitivity(args) => show(&ui, sensitivity::run(&ui, args)),
        Verb::Qat(args) => show(&ui, qat::run(&ui, args)),
        Verb::Rank(args) => show(&ui, rank::run(&ui, args)),
        Verb::Run(args) => show(&ui, run::run(&ui, args)),
        Verb::Eval(args) => show(&ui, eval::run(&ui, args)),
        Verb::Verify(args) => show(&ui, verify::run(&ui, args)),
        Verb::Learn(args) => show(&ui, learn::run(&ui, args)),
        Verb::Profile(args) => show(&ui, profile::run(&ui, args)),
        Verb::Target(args) => show(&ui, target::run(&ui, args)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => fail(&ui, &failure, 1),
    }
}

fn show(ui: &Ui, outcome: Result<impl Outcome, Failure>) -> Result<(), Failure> {
    ui.show(&outcome?)
}

fn fail(ui: &Ui, failure: &Failure, code: u8) -> ExitCode {
    let printed = ui.json.then(|| serde_json::json!({ "error": failure }).to_string());
    // Where standard output does not take it, people read it on the other.
    if printed.is_none_or(|text| offshoot_cli::ui::print(&text).is_err()) {
        eprintln!("{failure}");
    }
    ExitCode::from(code)
}

/// clap's own errors: `--help` and `--version` succeed; the rest fail in the form that was asked for.
fn usage(error: &clap::Error) -> ExitCode {
    let json = std::env::args().any(|a| a == "--json");
    if !error.use_stderr() || !json {
        let printed = error.print().is_ok_and(|()| std::io::stdout().flush().is_ok());
        return ExitCode::from(if error.use_stderr() { 2 } else { u8::from(!printed) });
    }
    let message = error.to_string();
    let first = message.lines().next().unwrap_or("").trim_start_matches("error: ");
    fail(&Ui { json }, &Failure::new(Kind::Usage, first, "see `offshoot --help`"), 2)
}
