//! The `offshoot` command.

use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use offshoot_cli::commands::{
    compile, compress, delta, demo, eval, frontend, inspect, keygen, learn, merge, profile, qat, rank, run,
    search, sensitivity, sign, target, verify, verify_signature,
};
use offshoot_cli::{Failure, Outcome, Ui};

/// Deploy a neural network to a microcontroller or a phone, and see what it costs there.
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
    /// Compile, run, profile and adapt a shipped model, and write report.html.
    Demo(demo::Args),
    /// Show what an .onnx, .tflite or .off file holds.
    Inspect(inspect::Args),
    /// Compile a network (.onnx, .tflite) to a .off file.
    Compile(compile::Args),
    /// Make a front end: an ONNX file that turns samples of a signal into a network's features.
    Frontend(frontend::Args),
    /// Shrink a network until it fits a flash and RAM budget.
    Compress(compress::Args),
    /// Search a super-network for the best sub-network of each size that fits a device.
    Search(search::Args),
    /// Measure what fewer weight bits cost in each layer, and choose a policy for a budget.
    Sensitivity(sensitivity::Args),
    /// Train with quantised weights (QAT): few bits, learned step sizes.
    Qat(qat::Args),
    /// Cut layers to low rank, and plot accuracy, flash and instructions against rank.
    Rank(rank::Args),
    /// Run inference on a batch of samples.
    Run(run::Args),
    /// Measure accuracy on labelled data.
    Eval(eval::Args),
    /// Compare operator by operator: float with int8, host with device, another runtime with both.
    Verify(verify::Args),
    /// Train on the device, without backpropagation.
    Learn(learn::Args),
    /// Combine what several devices learned.
    Merge(merge::Args),
    /// Count what every operator costs on a target.
    Profile(profile::Args),
    /// Make a key pair that signs models or commands.
    Keygen(keygen::Args),
    /// Sign a compiled model.
    Sign(sign::Args),
    /// Check a signed model as a device does.
    VerifySignature(verify_signature::Args),
    /// Make what a device needs to get from one version of a model to the next.
    Delta(delta::Args),
    /// List the known targets, or probe which of them answer.
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
        Verb::Frontend(args) => show(&ui, frontend::run(&ui, args)),
        Verb::Compress(args) => show(&ui, compress::run(&ui, args)),
        Verb::Search(args) => show(&ui, search::run(&ui, args)),
        Verb::Sensitivity(args) => show(&ui, sensitivity::run(&ui, args)),
        Verb::Qat(args) => show(&ui, qat::run(&ui, args)),
        Verb::Rank(args) => show(&ui, rank::run(&ui, args)),
        Verb::Run(args) => show(&ui, run::run(&ui, args)),
        Verb::Eval(args) => show(&ui, eval::run(&ui, args)),
        Verb::Verify(args) => match &args.dump {
            Some(dump) => show(&ui, verify::dump::run(&ui, args, dump)),
            None => show(&ui, verify::run(&ui, args)),
        },
        Verb::Learn(args) => show(&ui, learn::run(&ui, args)),
        Verb::Merge(args) => show(&ui, merge::run(&ui, args)),
        Verb::Profile(args) => show(&ui, profile::run(&ui, args)),
        Verb::Keygen(args) => show(&ui, keygen::run(&ui, args)),
        Verb::Sign(args) => show(&ui, sign::run(&ui, args)),
        Verb::VerifySignature(args) => show(&ui, verify_signature::run(&ui, args)),
        Verb::Delta(args) => show(&ui, delta::run(&ui, args)),
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
    // If stdout cannot be written to, the failure goes to stderr as text.
    if printed.is_none_or(|text| offshoot_cli::ui::print(&text).is_err()) {
        eprintln!("{failure}");
    }
    ExitCode::from(code)
}

/// Reports clap's own errors. `--help` and `--version` succeed; all others fail, as JSON if `--json` was given.
fn usage(error: &clap::Error) -> ExitCode {
    let json = std::env::args().any(|a| a == "--json");
    if !error.use_stderr() || !json {
        let printed = error.print().is_ok_and(|()| std::io::stdout().flush().is_ok());
        return ExitCode::from(if error.use_stderr() { 2 } else { u8::from(!printed) });
    }
    fail(&Ui { json }, &Failure::arguments(error), 2)
}
