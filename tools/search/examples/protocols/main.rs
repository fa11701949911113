//! What the search reaches, by the protocols of its issue: `cargo run --release -p offshoot-search --example protocols -- OUT
//! digits|cifar STEP…`. Steps: `train`, `search`, `strategies`, `joint`, `nested`, `latency`, `print`. Everything is kept
//! in OUT and continued from there; data come from `$OFFSHOOT_DATA`, else `../shared/data`.

mod comparison;
mod found;
mod latency;
mod nested;
mod task;

use std::path::PathBuf;
use std::process::ExitCode;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [out, name, steps @ ..] = arguments.as_slice() else {
        eprintln!("protocols OUT digits|cifar STEP…");
        return ExitCode::from(2);
    };
    match run(PathBuf::from(out).join(name), name, steps) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}

fn run(out: PathBuf, name: &str, steps: &[String]) -> Result<()> {
    std::fs::create_dir_all(&out)?;
    let task = task::Task::read(name, out)?;
    for step in steps {
        match step.as_str() {
            "train" => {
                task.reference()?;
                task.elastic()?;
            }
            "search" => found::run(&task)?,
            "strategies" => comparison::strategies(&task)?,
            "joint" => comparison::joint(&task)?,
            "nested" => nested::run(&task)?,
            "latency" => latency::run(&task)?,
            other => return Err(format!("no step `{other}`").into()),
        }
    }
    Ok(())
}
