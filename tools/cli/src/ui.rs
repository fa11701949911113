//! Output: progress on stderr; results on stdout, as text or as JSON.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle, WeakProgressBar};
use serde::Serialize;

use crate::failure::{Context, Failure, Kind, Result};
use crate::watch;

/// A command's result: JSON for scripts, text for people.
pub trait Outcome: Serialize {
    /// Tables and sentences for a terminal.
    fn render(&self) -> String;
}

/// Prints a line on stdout; on stderr if a file went to stdout (`-o /dev/stdout`), so that it stays whole.
///
/// # Errors
/// Stdout cannot be written, because the disk is full for instance. A reader that stopped reading
/// (`offshoot … | head`) is not an error.
pub fn print(text: &str) -> Result<()> {
    if offshoot_report::wrote_to_stdout() {
        eprintln!("{text}");
        return Ok(());
    }
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
    /// A progress bar on stderr; hidden with `--json`. When stderr is not a terminal, a line every ten seconds says what is
    /// being done, how far it is, and how long it will take.
    pub fn progress(&self, what: &str, total: u64) -> ProgressBar {
        let terminal = std::io::stderr().is_terminal();
        let target = if self.json || !terminal {
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
        watch::current().part(bar.downgrade());
        if !self.json && !terminal {
            let watched = bar.downgrade();
            std::thread::spawn(move || say_progress(&watched, EVERY, &mut |line| eprintln!("{line}")));
        }
        bar
    }

    /// Prints a line about progress on stderr, unless the output is JSON. A watch gets it in any case.
    pub fn note(&self, text: &str) {
        watch::current().note(text);
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

/// Time between two lines of progress where there is no terminal.
const EVERY: Duration = Duration::from_secs(10);

/// Says how far `bar` is until it is finished or dropped; nothing if that is sooner than `every`.
fn say_progress(bar: &WeakProgressBar, every: Duration, say: &mut dyn FnMut(&str)) {
    let start = Instant::now();
    let (mut part, mut since): (Option<(String, u64)>, _) = (None, start);
    loop {
        std::thread::sleep(every);
        let Some(bar) = bar.upgrade().filter(|bar| !bar.is_finished()) else { return };
        let (done, total) = (bar.position(), bar.length().unwrap_or(0));
        // A command has several parts: each begins anew, and so does the time that it takes.
        let now = (bar.message(), total);
        if part.as_ref() != Some(&now) {
            (part, since) = (Some(now), Instant::now().checked_sub(every).unwrap_or(start));
        }
        say(&line(&bar.message(), done, total, since.elapsed(), start.elapsed()));
    }
}

/// One line of progress.
fn line(what: &str, done: u64, total: u64, part: Duration, whole: Duration) -> String {
    let clock = |d: Duration| match d.as_secs() {
        s @ 0..60 => format!("{s} s"),
        s @ 60..3600 => format!("{} min {:02} s", s / 60, s % 60),
        s => format!("{} h {:02} min", s / 3600, s / 60 % 60),
    };
    if total == 0 {
        return format!("{what}, {} so far", clock(whole));
    }
    let left = match done {
        0 => String::new(),
        done => {
            let rest = part.mul_f64(total.saturating_sub(done) as f64 / done as f64);
            format!(", about {} left", clock(rest))
        }
    };
    format!("{what}: {done} of {total}, {} so far{left}", clock(whole))
}

/// A progress bar that `offshoot_compress` drives.
#[derive(Debug)]
pub struct Bar(pub ProgressBar);

impl offshoot_compress::prune::Progress for Bar {
    fn tick(&mut self, what: &str, done: usize, total: usize) {
        watch::stop_if_cancelled();
        self.0.set_message(what.to_owned());
        self.0.set_length(total as u64);
        self.0.set_position(done as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_said_in_lines() {
        let seconds = Duration::from_secs;
        let text = line("fine-tuning", 25, 100, seconds(30), seconds(100));
        assert_eq!(text, "fine-tuning: 25 of 100, 1 min 40 s so far, about 1 min 30 s left");
        assert_eq!(line("scoring", 0, 0, seconds(1), seconds(7300)), "scoring, 2 h 01 min so far");

        let bar = ProgressBar::with_draw_target(Some(8), ProgressDrawTarget::hidden());
        bar.set_message("evaluating");
        bar.set_position(2);
        let mut lines = Vec::new();
        let (weak, ends) = (bar.downgrade(), bar.clone());
        say_progress(&weak, Duration::from_millis(1), &mut |line| {
            lines.push(line.to_owned());
            ends.finish();
        });
        assert!(lines.len() == 1 && lines[0].starts_with("evaluating: 2 of 8"), "{lines:?}");
    }
}
