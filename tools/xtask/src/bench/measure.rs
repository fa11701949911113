//! One network on one board.

use std::collections::BTreeMap;

use anyhow::Result;
use offshoot_cli::batch;
use offshoot_cli::commands::compile::Prefer;
use offshoot_cli::commands::{parse_target, profile};
use offshoot_cli::files::OffFile;

use super::figures::Row;
use super::networks::{Network, preference};

/// Profiles a run on zeros: work does not depend on the data.
///
/// # Errors
/// The board cannot be started or does not answer.
pub fn measure(network: &Network, prefer: Prefer, off: &OffFile, target: &str) -> Result<Row> {
    let inputs = profile::zeros(off)?;
    let mut device = batch::connect(&parse_target(target)?)?;
    let report = profile::profile(device.as_mut(), off, &inputs, target, None)?;
    let mut kinds = BTreeMap::new();
    for operator in &report.operators {
        *kinds.entry(operator.kind.clone()).or_default() += operator.instructions.unwrap_or_default();
    }
    Ok(Row {
        network: network.name.to_owned(),
        prefer: preference(prefer).to_owned(),
        target: target.to_owned(),
        macs: report.operators.iter().map(|o| o.macs).sum(),
        instructions: report.instructions.unwrap_or_default(),
        cycles_modelled: report.cycles_modelled,
        arena_bytes: report.arena_bytes,
        stack_bytes: report.stack_bytes.unwrap_or_default(),
        model_bytes: report.model_bytes,
        code_bytes: report.code_bytes.unwrap_or_default(),
        kinds,
    })
}
