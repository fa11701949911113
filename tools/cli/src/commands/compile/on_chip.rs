//! What a compiled network takes of a chip: memory, and time on the emulated board with its core.

use offshoot_report::Table;
use offshoot_report::table::thousands;
use offshoot_target::{Chip, Target};
use serde::Serialize;

use crate::batch;
use crate::commands::profile::{self, Estimate};
use crate::failure::Result;
use crate::files::OffFile;

/// What a network takes of a chip. A network that does not fit is an error of `compile`.
#[derive(Clone, Debug, Serialize)]
pub struct OnChip {
    /// The chip.
    pub chip: String,
    /// Bytes of its largest contiguous flash.
    pub flash_bytes: u64,
    /// Whether that is a window onto external flash, whose size depends on the board.
    pub flash_is_external: bool,
    /// Bytes of flash beside the model: for the firmware.
    pub flash_left_bytes: u64,
    /// Bytes of its largest contiguous RAM.
    pub ram_bytes: u64,
    /// Bytes of RAM beside the arena: for stack and firmware.
    pub ram_left_bytes: u64,
    /// Deepest stack of a run in bytes, on the emulated core.
    pub stack_bytes: Option<u64>,
    /// Time of a run; null if it could not be counted.
    pub time: Option<Estimate>,
    /// Why it could not be counted.
    pub no_time: Option<String>,
}

impl OnChip {
    /// Counts a run on the emulated board with the chip's core. A missing emulator is no error.
    pub fn new(chip: &'static Chip, off: &[u8], arena_bytes: u64) -> Self {
        let counted = count(chip, off);
        let (stack_bytes, time, no_time) = match counted {
            Ok((stack, time)) => (stack, time, None),
            Err(failure) => (None, None, Some(failure.message)),
        };
        Self {
            chip: chip.name.to_owned(),
            flash_bytes: chip.flash_bytes,
            flash_is_external: chip.flash_is_external(),
            flash_left_bytes: chip.flash_bytes.saturating_sub(off.len() as u64),
            ram_bytes: chip.ram_bytes,
            ram_left_bytes: chip.ram_bytes.saturating_sub(arena_bytes),
            stack_bytes,
            time,
            no_time,
        }
    }

    /// The table for people.
    pub fn render(&self) -> String {
        let mut table = Table::new(["", self.chip.as_str()]);
        if self.flash_is_external {
            table.row(["flash", "external: as much as your board has"]);
        } else {
            table.row(["flash, bytes", &thousands(self.flash_bytes)]);
            table.row(["  left for the firmware", &thousands(self.flash_left_bytes)]);
        }
        table.row(["RAM, bytes", &thousands(self.ram_bytes)]);
        table.row(["  left for stack and firmware", &thousands(self.ram_left_bytes)]);
        if let Some(stack) = self.stack_bytes {
            table.row(["  stack of a run", &thousands(stack)]);
        }
        let note = match (&self.time, &self.no_time) {
            (Some(time), _) => {
                time.rows(&mut table);
                time.note()
            }
            (None, Some(why)) => format!("no time on {}: {why}", self.chip),
            (None, None) => String::new(),
        };
        let warning = match self.stack_bytes {
            Some(stack) if stack > self.ram_left_bytes => format!(
                "warning: the stack of a run takes {} bytes more than {} has beside the arena\n",
                thousands(stack - self.ram_left_bytes),
                self.chip
            ),
            _ => String::new(),
        };
        format!("{table}\n{note}\n{warning}")
    }
}

fn count(chip: &'static Chip, off: &[u8]) -> Result<(Option<u64>, Option<Estimate>)> {
    let file = OffFile::from_bytes(off);
    let mut device = batch::connect(&Target::Chip(chip))?;
    let inputs = profile::zeros(&file)?;
    let report = profile::profile_with_cycles(device.as_mut(), &file, &inputs, chip.name, None)?;
    Ok((report.stack_bytes, report.time_on_chip))
}
