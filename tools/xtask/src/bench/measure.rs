//! Measures one network on one board.

use std::collections::BTreeMap;

use anyhow::Result;
use offshoot_cli::batch;
use offshoot_cli::commands::compile::Prefer;
use offshoot_cli::commands::{parse_target, profile};
use offshoot_cli::failure::Kind;
use offshoot_cli::files::OffFile;

use super::figures::Row;
use super::networks::{Network, preference};

/// Result of a measurement.
#[derive(Clone, Debug)]
pub enum Measured {
    /// Figures.
    Row(Row),
    /// The network does not fit the board, with the reason.
    DoesNotFit(String),
}

/// Profiles a run on zeros, since the cost does not depend on the data. Modelled cycles need a second run.
///
/// # Errors
/// The board cannot be started or does not answer.
pub fn measure(
    network: &Network,
    prefer: Prefer,
    off: &OffFile,
    target: &str,
    cycles: bool,
) -> Result<Measured> {
    let inputs = profile::zeros(off)?;
    let mut device = batch::connect(&parse_target(target)?)?;
    let profile = if cycles { profile::profile_with_cycles } else { profile::profile };
    let report = match profile(device.as_mut(), off, &inputs, target, None) {
        Err(failure) if failure.kind == Kind::Budget => return Ok(Measured::DoesNotFit(failure.message)),
        report => report?,
    };
    if let (true, None, Some(why)) = (cycles, report.cycles_modelled, &report.cycles_note) {
        eprintln!("{why}");
    }
    let mut kinds = BTreeMap::new();
    for operator in &report.operators {
        *kinds.entry(operator.kind.clone()).or_default() += operator.instructions.unwrap_or_default();
    }
    Ok(Measured::Row(Row {
        network: network.name.to_owned(),
        prefer: preference(prefer).to_owned(),
        target: target.to_owned(),
        macs: report.operators.iter().map(|o| o.macs).sum(),
        instructions: report.instructions.unwrap_or_default(),
        cycles_modelled: report.cycles_modelled,
        flash_waits_modelled: report.flash_waits_modelled,
        arena_bytes: report.arena_bytes,
        stack_bytes: report.stack_bytes.unwrap_or_default(),
        model_bytes: report.model_bytes,
        code_bytes: report.code_bytes.unwrap_or_default(),
        kinds,
    }))
}
