//! Talking to people: progress on stderr, results on stdout, JSON when asked for.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

/// A command's result: JSON for scripts, text for people.
pub trait Outcome: Serialize {
    /// Tables and sentences for a terminal.
    fn render(&self) -> String;
}

/// A line on stdout. A reader that went away (`offshoot … | head`) is no error.
pub fn print(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// How to talk.
#[derive(Clone, Copy, Debug)]
pub struct Ui {
    /// Print one JSON object and nothing else.
    pub json: bool,
}

impl Ui {
    /// A progress bar on stderr; silent with `--json` and when stderr is no terminal.
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

    /// A line for people about what is going on.
    pub fn note(&self, text: &str) {
        if !self.json {
            eprintln!("{text}");
        }
    }

    /// Prints the result.
    pub fn show(&self, outcome: &impl Outcome) {
        if self.json {
            match serde_json::to_string(outcome) {
                Ok(text) => print(&text),
                Err(e) => eprintln!("error: result cannot be written as JSON: {e}"),
            }
        } else {
            print(outcome.render().trim_end());
        }
    }
}

/// A progress bar for what `offshoot_compress` does.
#[derive(Debug)]
pub struct Bar(pub ProgressBar);

impl offshoot_compress::prune::Progress for Bar {
    fn tick(&mut self, what: &str, done: usize, total: usize) {
        self.0.set_message(what.to_owned());
        self.0.set_length(total as u64);
        self.0.set_position(done as u64);
    }
}
