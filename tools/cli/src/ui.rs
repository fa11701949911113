//! Output: progress on stderr; results on stdout, as text or as JSON.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use crate::failure::{Context, Failure, Kind, Result};

/// A command's result: JSON for scripts, text for people.
pub trait Outcome: Serialize {
    /// Tables and sentences for a terminal.
    fn render(&self) -> String;
}

/// Prints a line on stdout.
///
/// # Errors
/// Stdout cannot be written, because the disk is full for instance. A reader that stopped reading
/// (`offshoot … | head`) is not an error.
pub fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            let message = format!("cannot write to standard output: {e}");
            Err(Failure::new(
                Kind::Io,
                message,
                "check the file or pipe that it goes to; the disk may be full",
            ))
        }
        _ => Ok(()),
    }
}

/// How results and progress are printed.
#[derive(Clone, Copy, Debug)]
pub struct Ui {
    /// Print one JSON object and nothing else.
    pub json: bool,
}

impl Ui {
    /// A progress bar on stderr; hidden with `--json` and when stderr is not a terminal.
    pub fn progress(&self, what: &str, total: u64) -> ProgressBar {
        let target = if self.json || !std::io::stderr().is_terminal() {
            ProgressDrawTarget::hidden()
        } else {
            ProgressDrawTarget::stderr_with_hz(8)
        };
        let bar = ProgressBar::with_draw_target(Some(total), target);
        let style = ProgressStyle::with_template("{msg:<24} {bar:32} {pos}/{len} {eta}")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.set_style(style);
        bar.set_message(what.to_owned());
        bar.enable_steady_tick(Duration::from_millis(250));
        bar
    }

    /// Prints a line about progress on stderr, unless the output is JSON.
    pub fn note(&self, text: &str) {
        if !self.json {
            eprintln!("{text}");
        }
    }

    /// Prints the result.
    ///
    /// # Errors
    /// As [`print()`]; also if the result cannot be serialised, which is a bug.
    pub fn show(&self, outcome: &impl Outcome) -> Result<()> {
        if self.json {
            let text = serde_json::to_string(outcome)
                .or_fail(Kind::Internal, "this is a bug in Offshoot: report it with this message")?;
            return print(&text);
        }
        print(outcome.render().trim_end())
    }
}

/// A progress bar that `offshoot_compress` drives.
#[derive(Debug)]
pub struct Bar(pub ProgressBar);

impl offshoot_compress::prune::Progress for Bar {
    fn tick(&mut self, what: &str, done: usize, total: usize) {
        self.0.set_message(what.to_owned());
        self.0.set_length(total as u64);
        self.0.set_position(done as u64);
    }
}
