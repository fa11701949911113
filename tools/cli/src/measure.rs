//! Measures a compiled network: bytes, operations, instructions on an emulated board, accuracy.

use offshoot_compress::quantize::device_accuracy;
use offshoot_ir::Graph;
use offshoot_report::table::thousands;
use offshoot_target::Target;
use offshoot_train::Dataset;
use serde::Serialize;

use crate::batch;
use crate::commands::{compile, profile};
use crate::failure::{Context, Kind, Result};
use crate::files::OffFile;

/// Measurements of one network.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Measured {
    /// Bytes of the `.off` file.
    pub flash: u64,
    /// Bytes of its arena.
    pub ram: u64,
    /// Multiply-accumulates of a run.
    pub macs: u64,
    /// Instructions of a run, if the target counts them.
    pub instructions: Option<u64>,
    /// Accuracy as the device computes it, from 0 to 1.
    pub accuracy: f64,
}

impl Measured {
    /// Cells of a table: flash, RAM, MACs, instructions, accuracy in percent.
    pub fn cells(&self) -> [String; 5] {
        [
            thousands(self.flash),
            thousands(self.ram),
            thousands(self.macs),
            self.instructions.map_or("-".into(), thousands),
            format!("{:.2}", 100.0 * self.accuracy),
        ]
    }
}

/// Headings of [`Measured::cells`].
pub const TITLES: [&str; 5] = ["flash", "RAM", "MACs", "instructions", "accuracy, %"];

/// Measures the accuracy of a compiled network on `data`, and counts the instructions of one run on `target`.
///
/// # Errors
/// The device does not answer, or the data do not fit the network.
pub fn measure(made: &compile::Made, data: &Dataset, target: Option<(&str, &Target)>) -> Result<Measured> {
    let instructions = match target {
        Some((name, target)) => {
            let file = OffFile::from_bytes(&made.compiled.bytes);
            let mut device = batch::connect(target)?;
            profile::profile(device.as_mut(), &file, &profile::zeros(&file)?, name, None)?.instructions
        }
        None => None,
    };
    let accuracy = accuracy(&made.graph, data)?;
    let r = &made.compiled.report;
    Ok(Measured { flash: r.model_bytes, ram: r.arena_bytes, macs: r.macs, instructions, accuracy })
}

fn accuracy(quantized: &Graph, data: &Dataset) -> Result<f64> {
    device_accuracy(quantized, data)
        .or_fail(Kind::Mismatch, "give data of the kind that the network was trained on")
}
