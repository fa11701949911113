//! `offshoot target`: lists the known targets, or probes which of them answer.

use offshoot_report::Table;
use offshoot_report::table::thousands;
use offshoot_target::{BOARDS, Chip, chip};
use serde::Serialize;

use super::parse_target;
use crate::batch;
use crate::failure::{Context, Failure, Kind, Result};
use crate::ui::{Outcome, Ui};

/// Arguments of `target`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Verb {
    /// List the known targets with their core, flash and RAM.
    List {
        /// List the chips whose name contains this text, such as stm32f4.
        #[arg(long, value_name = "TEXT")]
        search: Option<String>,
    },
    /// Try which targets answer now.
    Probe,
}

/// One target.
#[derive(Clone, Debug, Serialize)]
pub struct Entry {
    /// Name for `--target`.
    pub name: String,
    /// What it is.
    pub description: String,
    /// Core; none if it is not known before connecting.
    pub core: Option<String>,
    /// Bytes of flash for a model file.
    pub flash_bytes: Option<u64>,
    /// Bytes of RAM for a model's arena.
    pub ram_bytes: Option<u64>,
    /// `probe` only: whether it answers.
    pub answers: Option<bool>,
    /// `probe` only: the board's name, or why it does not answer.
    pub detail: Option<String>,
}

/// Known targets.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// All of them.
    pub targets: Vec<Entry>,
}

impl Outcome for Report {
    fn render(&self) -> String {
        let probed = self.targets.iter().any(|t| t.answers.is_some());
        let mut table = Table::new([
            "target",
            "core",
            "model (flash)",
            "arena (RAM)",
            if probed { "answers" } else { "description" },
        ]);
        let bytes = |b: Option<u64>| b.map_or("-".into(), thousands);
        for t in &self.targets {
            let last = match (t.answers, &t.detail) {
                (Some(true), Some(d)) => format!("yes: {d}"),
                (Some(_), Some(d)) => format!("no: {}", d.lines().next().unwrap_or("")),
                _ => t.description.clone(),
            };
            let core = t.core.clone().unwrap_or("-".into());
            table.row([t.name.clone(), core, bytes(t.flash_bytes), bytes(t.ram_bytes), last]);
        }
        table.to_string()
    }
}

/// Lists or probes.
///
/// # Errors
/// None; a target that does not answer is a row of the table.
pub fn run(_ui: &Ui, args: &Args) -> Result<Report> {
    if let Verb::List { search: Some(text) } = &args.verb {
        return chips(text);
    }
    let mut targets = vec![entry("host", "this machine: the same runtime, on all cores")];
    for board in &BOARDS {
        targets.push(Entry {
            core: Some(board.core.name.to_owned()),
            flash_bytes: Some(u64::from(board.flash_bytes())),
            ram_bytes: Some(u64::from(board.ram_bytes)),
            ..entry(board.name, &format!("emulated board {} (QEMU), exact instruction counts", board.machine))
        });
    }
    if matches!(args.verb, Verb::List { .. }) {
        targets.push(entry(
            "serial:PORT",
            "a board with the firmware on a serial port (build offshoot with --features serial)",
        ));
        let count = chip::chips().len();
        targets.push(entry(
            "CHIP",
            &format!("one of {count} chips by name: --search shows them; the core is emulated"),
        ));
        return Ok(Report { targets });
    }
    for t in &mut targets {
        let answer = parse_target(&t.name)
            .and_then(|target| batch::connect(&target))
            .and_then(|mut device| device.info().or_fail(Kind::Device, batch::DEVICE_HELP));
        t.answers = Some(answer.is_ok());
        t.detail = Some(match answer {
            Ok(info) => info.board,
            Err(failure) => failure.message,
        });
    }
    Ok(Report { targets })
}

/// The chips whose name contains `text`.
fn chips(text: &str) -> Result<Report> {
    let targets: Vec<_> = chip::search(text).into_iter().map(chip_entry).collect();
    if targets.is_empty() {
        let message = format!("no chip's name contains `{text}`");
        return Err(Failure::new(
            Kind::Usage,
            message,
            "give a part of the order code, such as stm32f4 or nrf52",
        ));
    }
    Ok(Report { targets })
}

fn chip_entry(chip: &Chip) -> Entry {
    let description = match chip.facts() {
        Some(facts) => format!("{} MHz ({})", f64::from(facts.clock_hz) / 1e6, facts.source),
        None => format!("{}; no clock in the table", chip.architecture.name()),
    };
    Entry {
        core: Some(chip.facts().map_or(chip.architecture.name(), |f| f.core).to_owned()),
        // A window onto external flash says nothing about the flash that is there.
        flash_bytes: (!chip.flash_is_external()).then_some(chip.flash_bytes),
        ram_bytes: Some(chip.ram_bytes),
        ..entry(chip.name, &description)
    }
}

fn entry(name: &str, description: &str) -> Entry {
    Entry {
        name: name.to_owned(),
        description: description.to_owned(),
        core: None,
        flash_bytes: None,
        ram_bytes: None,
        answers: None,
        detail: None,
    }
}
