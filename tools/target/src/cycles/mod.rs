//! Modelled cycles: the instructions that the emulator executed, weighted by the core's timings.
//!
//! A plugin of the emulator ([`plugin`]) counts how often each instruction ran, each branch was taken, and flash was
//! read past the caches. [`decode`] classifies the instructions in the firmware's bytes, and [`cores`] has the timings
//! of each class. [`ERROR`] states the error of the model.

pub mod cores;
pub mod decode;
pub mod plugin;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use object::{Object, ObjectSection, SectionKind};

use crate::TargetError;
use cores::Timings;
use decode::{Class, decode};
use plugin::Interval;

/// Known error of the model.
pub const ERROR: &str = "modelled, not measured on a board. A pipeline refill counts as 2 cycles (Arm says 1 to \
 3); flash waits are those \
    of an STM32L4R5 at 120 MHz (M4), about a third too many where published figures allow a comparison (README); \
    for the \
    M7 the figure is a lower bound";

/// A published measurement, and the model's figure for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct KnownPoint {
    /// What was measured, and who published it.
    pub what: &'static str,
    /// Cycles measured on the board.
    pub published_cycles: u64,
    /// Modelled cycles.
    pub modelled_cycles: u64,
}

impl KnownPoint {
    /// Excess of the modelled over the published cycles, percent.
    pub fn percent(&self) -> f64 {
        100.0 * (self.modelled_cycles as f64 / self.published_cycles as f64 - 1.0)
    }
}

/// Published measurements for the core with this name that isolate one term of the model. Published totals are from
/// other programs, so they do not test the model.
pub fn known(core: &str) -> &'static [KnownPoint] {
    const M4: [KnownPoint; 1] = [KnownPoint {
        what: "waits for 264 kB of weights in flash, read once (MLPerf Tiny AD; Bosch HALE v1.3, NUCLEO-L4R5ZI, \
            weights in flash less weights in RAM)",
        published_cycles: 130_000,
        modelled_cycles: 170_000,
    }];
    if core == "Cortex-M4F" { &M4 } else { &[] }
}

/// The instructions of a firmware.
#[derive(Debug)]
pub struct Program {
    sections: BTreeMap<u64, Vec<u8>>,
    /// Addresses of the instructions that read the timer.
    pub marks: Vec<u32>,
}

/// Section of a firmware that lists where it reads the timer.
const MARKS: &str = ".offshoot.marks";

impl Program {
    /// Reads the code of an ELF file.
    ///
    /// # Errors
    /// [`TargetError::Elf`] if it is not an ELF file.
    pub fn read(path: &Path) -> Result<Self, TargetError> {
        let data = fs::read(path).map_err(TargetError::io(path.display().to_string()))?;
        let error = |e: object::Error| TargetError::Elf { path: path.into(), reason: e.to_string() };
        let elf = object::File::parse(&*data).map_err(error)?;
        let text = elf.sections().filter(|s| s.kind() == SectionKind::Text);
        let sections = text.map(|s| Ok((s.address(), s.data().map_err(error)?.to_vec())));
        let sections = sections.collect::<Result<_, TargetError>>()?;
        let marks =
            elf.section_by_name(MARKS).map(|s| s.data().map_err(error)).transpose()?.unwrap_or_default();
        let marks =
            marks.chunks_exact(4).map(|w| u32::from_le_bytes([w[0], w[1], w[2], w[3]]) & !1).collect();
        Ok(Self { sections, marks })
    }

    fn half(&self, address: u64) -> Option<u16> {
        let (start, bytes) = self.sections.range(..=address).next_back()?;
        let at = usize::try_from(address - start).ok()?;
        Some(u16::from_le_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]))
    }
}

/// An executed instruction.
struct Ran {
    class: Class,
    count: u64,
    taken: u64,
    /// Address after it.
    end: u64,
    address: u64,
}

/// Cycles of a part of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cycles {
    /// Cycles in which the core executes.
    pub core: u64,
    /// Cycles of waiting for flash.
    pub waits: u64,
}

impl Cycles {
    /// All cycles.
    pub fn total(&self) -> u64 {
        self.core + self.waits
    }
}

/// Modelled cycles of an interval.
pub fn cycles(program: &Program, timings: &Timings, interval: &Interval) -> Cycles {
    let ran: Vec<Ran> = interval
        .executed
        .iter()
        .filter_map(|e| {
            let instruction =
                decode(program.half(e.address)?, program.half(e.address + 2).unwrap_or_default());
            let end = e.address + u64::from(instruction.size);
            Some(Ran { class: instruction.class, count: e.count, taken: e.taken, end, address: e.address })
        })
        .collect();
    let (all, sequential) = (interval.code_misses, interval.sequential_misses);
    let waits = (all.saturating_sub(sequential) + interval.data_misses) * timings.wait_states
        + sequential * timings.prefetched;
    let mut total = 0;
    let mut paired = false;
    for (i, this) in ran.iter().enumerate() {
        let next = ran.get(i + 1).filter(|next| next.address == this.end);
        let class = next.map(|n| n.class);
        total += this.count * timings.cycles(this.class, class);
        if matches!(this.class, Class::Branch | Class::LoadBranch { .. } | Class::TableBranch) {
            total += this.taken * timings.refill;
        }
        // The second instruction of a pair cannot be the first of another.
        let partner =
            next.filter(|n| !paired && this.class != Class::Branch && timings.pairs(this.class, n.class));
        paired = partner.is_some();
        if let Some(next) = partner {
            total -= this.count.min(next.count);
        }
    }
    Cycles { core: total, waits }
}

#[cfg(test)]
mod tests {
    use super::*;
    use plugin::Executed;

    /// `ldr r0, [r1]; ldr r2, [r3]; adds r0, r2; bne`, from address 0.
    fn looped() -> (Program, Interval) {
        let halves: [u16; 4] = [0x6808, 0x681A, 0x1880, 0xD1FB];
        let bytes = halves.iter().flat_map(|h| h.to_le_bytes()).collect();
        let executed =
            (0..4).map(|i| Executed { address: 2 * i, count: 10, taken: if i == 3 { 9 } else { 0 } });
        let interval =
            Interval { code_misses: 2, sequential_misses: 1, data_misses: 2, executed: executed.collect() };
        (Program { sections: BTreeMap::from([(0, bytes)]), marks: vec![] }, interval)
    }

    #[test]
    fn cycles_of_a_loop_by_hand() {
        let (program, interval) = looped();
        let of = |core: &str| cycles(&program, Timings::of(core).unwrap(), &interval).total();
        // Loads 1 + 2, sum 1, branch 1, nine refills of 2, three waits of 5 and one of 3.
        assert_eq!(of("Cortex-M4F"), 10 * 5 + 9 * 2 + 3 * 5 + 3);
        assert_eq!(of("Cortex-M3"), 10 * 5 + 9 * 2);
        assert_eq!(of("Cortex-M0+"), 10 * 6 + 9);
        // Load; load and sum; branch.
        assert_eq!(of("Cortex-M7"), 10 * 3);
        assert_eq!(Timings::of("Cortex-A0"), None);
    }

    #[test]
    fn bounds_hold_the_model_between_them() {
        let (program, interval) = looped();
        for timings in &cores::CORES {
            let of = |t: &Timings| cycles(&program, t, &interval).total();
            let (fast, slow) = timings.bounds();
            assert!(of(&fast) <= of(timings) && of(timings) <= of(&slow), "{}", timings.core);
            assert!(of(&timings.with_wait_states(0)) <= of(&timings.with_wait_states(7)), "{}", timings.core);
        }
    }
}
