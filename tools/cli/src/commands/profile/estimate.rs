//! The time of a run on a chip, from modelled cycles and the chip's clock.

use offshoot_report::Table;
use offshoot_report::table::thousands;
use offshoot_target::{Chip, Profile};
use serde::Serialize;

/// Time of a run on a chip.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// The chip.
    pub chip: String,
    /// Its first core; null if its documents are not in the table.
    pub core: Option<String>,
    /// Highest clock of the core, Hz; null if its documents are not in the table.
    pub clock_hz: Option<u32>,
    /// Fewest cycles.
    pub cycles_low: u64,
    /// Most cycles.
    pub cycles_high: u64,
    /// Milliseconds at the highest clock, with the fewest cycles.
    pub milliseconds_low: Option<f64>,
    /// Milliseconds at the highest clock, with the most cycles.
    pub milliseconds_high: Option<f64>,
    /// What lies between the two.
    pub band: String,
    /// Where the clock and the wait states stand.
    pub source: Option<String>,
}

/// Cycles of an instruction at most, for cores without a timing model.
const MOST_CYCLES: u64 = 2;

impl Estimate {
    /// The time of the profiled run on `chip`; none if the profile counts nothing.
    pub fn new(chip: &Chip, measured: &Profile) -> Option<Self> {
        let facts = chip.facts();
        let (low, high, band) = match (measured.cycles_range, measured.instructions) {
            (Some((low, high)), _) => {
                let waits = match facts.and_then(|f| f.wait_states) {
                    Some(states) => {
                        format!("waits for flash from none to {states} cycles for each miss of the caches")
                    }
                    None => "no waits for flash, which may be slower on this chip".into(),
                };
                let refills = if facts.is_some_and(|f| f.core == "Cortex-M7") {
                    "from two instructions a cycle wherever that may be to one at a time: Arm publishes no timings"
                } else if low == high {
                    "the core's manual gives the cycles of every instruction"
                } else {
                    "pipeline refills of 1 to 3 cycles where the core's manual leaves them open"
                };
                (low, high, format!("{refills}; {waits}"))
            }
            (None, Some(n)) => {
                let band =
                    "one to two cycles an instruction: there is no timing model of this core".to_owned();
                (n, MOST_CYCLES * n, band)
            }
            (None, None) => return None,
        };
        let milliseconds = |cycles: u64| facts.map(|f| 1e3 * cycles as f64 / f64::from(f.clock_hz));
        Some(Self {
            chip: chip.name.to_owned(),
            core: facts.map(|f| f.core.to_owned()),
            clock_hz: facts.map(|f| f.clock_hz),
            cycles_low: low,
            cycles_high: high,
            milliseconds_low: milliseconds(low),
            milliseconds_high: milliseconds(high),
            band,
            source: facts.map(|f| f.source.to_owned()),
        })
    }

    /// Adds its rows to a table of facts.
    pub fn rows(&self, table: &mut Table) {
        table.row(["cycles, from", &thousands(self.cycles_low)]);
        table.row(["        to", &thousands(self.cycles_high)]);
        if let (Some(low), Some(high), Some(clock)) =
            (self.milliseconds_low, self.milliseconds_high, self.clock_hz)
        {
            let mhz = f64::from(clock) / 1e6;
            table.row([format!("milliseconds at {mhz} MHz"), format!("{low:.3} to {high:.3}")]);
        }
    }

    /// What the numbers rest on.
    pub fn note(&self) -> String {
        let clock = match &self.source {
            Some(source) => format!("clock and flash: {source}"),
            None => format!("no clock of {} is in the table: divide the cycles by yours", self.chip),
        };
        format!("time on {}: {}; {clock}", self.chip, self.band)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use offshoot_target::chip::{Found, find};

    fn profile(instructions: u64, cycles_range: Option<(u64, u64)>) -> Profile {
        Profile {
            target: String::new(),
            instructions: Some(instructions),
            cycles: None,
            cycles_range,
            flash_waits: None,
            nanoseconds: None,
            operators: vec![],
            arena_bytes: 0,
            stack_bytes: None,
            code_bytes: None,
            model_bytes: 0,
        }
    }

    fn chip(name: &str) -> &'static Chip {
        let Found::One(chip) = find(name) else { panic!("{name}") };
        chip
    }

    #[test]
    fn cycles_become_milliseconds_at_the_chip_s_clock() {
        let estimate = Estimate::new(chip("stm32f411re"), &profile(90, Some((100_000, 150_000)))).unwrap();
        assert_eq!((estimate.milliseconds_low, estimate.milliseconds_high), (Some(1.0), Some(1.5)));
        assert!(estimate.note().contains("DS10314"));
    }

    #[test]
    fn cores_without_timings_get_a_wide_band() {
        let estimate = Estimate::new(chip("esp32c3"), &profile(160_000, None)).unwrap();
        assert_eq!((estimate.milliseconds_low, estimate.milliseconds_high), (Some(1.0), Some(2.0)));
    }

    #[test]
    fn without_a_clock_there_are_cycles_only() {
        let estimate = Estimate::new(chip("STM32F030C6"), &profile(90, Some((100, 150)))).unwrap();
        assert_eq!((estimate.milliseconds_low, estimate.cycles_high), (None, 150));
        assert!(estimate.note().contains("divide"));
    }
}
