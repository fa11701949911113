//! Chips by name: memory from probe-rs' target descriptions, clocks and flash from data sheets.
//!
//! A chip is a target ([`Target::Chip`](crate::Target::Chip)): its memory limits what compiles for it, and the emulated
//! board with the same core ([`Architecture::board`]) stands in for it. Bits and instructions are those of the chip;
//! cycles are modelled.

mod facts;

use std::sync::OnceLock;

use crate::{BOARDS, Board};
pub use facts::{FACTS, Facts};

/// `name, architecture, flash, RAM` of each chip; written by `cargo xtask chips`.
const TABLE: &str = include_str!("chip/chips.tsv");

/// Bytes of flash that a description can claim. Larger regions are windows onto external memory of any size.
pub const LARGEST_FLASH: u64 = 16 << 20;

/// The instruction set of a chip's first core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    /// Cortex-M0, M0+.
    ArmV6M,
    /// Cortex-M3.
    ArmV7M,
    /// Cortex-M4, M7.
    ArmV7EM,
    /// Cortex-M23, M33, M55, M85.
    ArmV8M,
    /// 32-bit RISC-V.
    RiscV32,
}

impl Architecture {
    const ALL: [(Self, &'static str, &'static str); 5] = [
        (Self::ArmV6M, "armv6m", "qemu:cortex-m0"),
        (Self::ArmV7M, "armv7m", "qemu:cortex-m3"),
        (Self::ArmV7EM, "armv7em", "qemu:cortex-m4"),
        (Self::ArmV8M, "armv8m", "qemu:cortex-m33"),
        (Self::RiscV32, "riscv", "qemu:riscv32"),
    ];

    fn entry(self) -> &'static (Self, &'static str, &'static str) {
        Self::ALL.iter().find(|(a, ..)| *a == self).unwrap_or(&Self::ALL[0])
    }

    /// The architecture with this name in probe-rs' descriptions.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, n, _)| *n == name).map(|(a, ..)| *a)
    }

    /// Its name in probe-rs' descriptions.
    pub fn name(self) -> &'static str {
        self.entry().1
    }
}

/// A chip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chip {
    /// Name in probe-rs' descriptions.
    pub name: &'static str,
    /// Instruction set of the first core.
    pub architecture: Architecture,
    /// Bytes of the largest contiguous flash.
    pub flash_bytes: u64,
    /// Bytes of the largest contiguous RAM that the first core sees.
    pub ram_bytes: u64,
}

impl Chip {
    /// The emulated board with the same core, which stands in for the chip. Cortex-M7 chips have a board of their own
    /// only if [`FACTS`] names the core, since descriptions do not tell M4 and M7 apart.
    pub fn board(&self) -> &'static Board {
        let named = self.facts().and_then(|f| BOARDS.iter().find(|b| b.core.name == f.core));
        // Cortex-M23 is the only core of Armv8-M without DSP; it executes the instructions of the M0.
        let name = if self.has_cortex_m23() { "qemu:cortex-m0" } else { self.architecture.entry().2 };
        named.or_else(|| BOARDS.iter().find(|b| b.name == name)).unwrap_or(&BOARDS[0])
    }

    /// Series with the Cortex-M23, which probe-rs describes as Armv8-M like the M33.
    fn has_cortex_m23(&self) -> bool {
        let series = ["GD32E23", "R7FA0", "R7FA2"];
        self.architecture == Architecture::ArmV8M && series.iter().any(|s| self.name.starts_with(s))
    }

    /// Clock and flash from its data sheet, if it is in the table.
    pub fn facts(&self) -> Option<&'static Facts> {
        let name = self.name.to_ascii_uppercase();
        // ESP32-C61 is no ESP32-C6; and entries with a suffix may be another core of the same chip.
        let of = |f: &&Facts| {
            let rest = name.strip_prefix(f.series)?;
            let other_core = rest == "_LP" || rest == "_RISCV";
            (!rest.starts_with(|c: char| c.is_ascii_digit()) && !other_core).then_some(())
        };
        FACTS.iter().find(|f| of(f).is_some())
    }

    /// Whether the flash is a window onto external memory, whose size depends on the board.
    pub fn flash_is_external(&self) -> bool {
        self.flash_bytes >= LARGEST_FLASH
    }
}

/// All chips, by name.
pub fn chips() -> &'static [Chip] {
    static CHIPS: OnceLock<Vec<Chip>> = OnceLock::new();
    CHIPS.get_or_init(|| TABLE.lines().filter_map(row).collect())
}

fn row(line: &'static str) -> Option<Chip> {
    let mut fields = line.split('\t');
    let (name, architecture) = (fields.next()?, Architecture::parse(fields.next()?)?);
    let (flash_bytes, ram_bytes) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(Chip { name, architecture, flash_bytes, ram_bytes })
}

/// What a name may mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// This chip.
    One(&'static Chip),
    /// Several chips with different memories.
    Several(Vec<&'static Chip>),
    /// No chip.
    None,
}

/// Finds a chip by its name, or by an order code, which has letters for the package after the name. Case does not matter.
pub fn find(name: &str) -> Found {
    let wanted = name.to_ascii_uppercase();
    if wanted.len() < 5 {
        return Found::None;
    }
    let upper = |c: &Chip| c.name.to_ascii_uppercase();
    if let Some(chip) = chips().iter().find(|c| upper(c) == wanted) {
        return Found::One(chip);
    }
    let begins: Vec<_> = chips().iter().filter(|c| upper(c).starts_with(&wanted)).collect();
    if let [first, rest @ ..] = begins.as_slice() {
        let equal = |c: &&Chip| (c.architecture, c.flash_bytes, c.ram_bytes) == facts_of(first);
        return if rest.iter().all(equal) { Found::One(first) } else { Found::Several(begins) };
    }
    let prefixes = chips().iter().filter(|c| wanted.starts_with(&upper(c)));
    prefixes.max_by_key(|c| c.name.len()).map_or(Found::None, Found::One)
}

fn facts_of(chip: &Chip) -> (Architecture, u64, u64) {
    (chip.architecture, chip.flash_bytes, chip.ram_bytes)
}

/// Chips whose name contains `text`; case does not matter.
pub fn search(text: &str) -> Vec<&'static Chip> {
    let wanted = text.to_ascii_uppercase();
    chips().iter().filter(|c| c.name.to_ascii_uppercase().contains(&wanted)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: &str) -> &'static Chip {
        match find(name) {
            Found::One(chip) => chip,
            other => panic!("{name}: {other:?}"),
        }
    }

    #[test]
    fn chips_are_found_by_name_order_code_and_beginning() {
        for name in ["STM32F411RE", "stm32f411re", "stm32f411retx", "STM32F411RET6"] {
            let chip = one(name);
            assert_eq!((chip.name, chip.flash_bytes, chip.ram_bytes), ("STM32F411RE", 512 << 10, 128 << 10));
        }
        assert_eq!(one("nrf52840").ram_bytes, 256 << 10);
        assert_eq!(one("esp32c3").architecture, Architecture::RiscV32);
        assert!(one("rp2040").flash_is_external());
        assert!(matches!(find("stm32f4"), Found::Several(many) if many.len() > 100));
        for name in ["", "stm", "pentium4", "cortex-m4"] {
            assert_eq!(find(name), Found::None, "{name}");
        }
    }

    #[test]
    fn every_row_is_read() {
        let rows = TABLE.lines().filter(|l| !l.starts_with('#')).count();
        assert_eq!(chips().len(), rows);
        assert!(rows > 3000, "{rows}");
    }

    #[test]
    fn the_board_has_the_core_of_the_chip() {
        let core = |name| one(name).board().core.name;
        assert_eq!(core("stm32f405rg"), "Cortex-M4F");
        assert_eq!(core("stm32h743zi"), "Cortex-M7");
        assert_eq!(core("stm32f103c8"), "Cortex-M3");
        assert_eq!(core("stm32u585ci"), "Cortex-M33");
        assert_eq!(core("gd32e230c8"), "Cortex-M0");
        assert_eq!(core("esp32c6"), "RV32IMAC");
        assert_eq!(core("rp235x"), "Cortex-M33");
        assert_eq!(core("rp235x_riscv"), "RV32IMAC");
    }

    #[test]
    fn facts_are_those_of_the_chip_and_its_first_core() {
        assert!(one("esp32c6").facts().is_some() && one("nrf5340_xxaa").facts().is_some());
        for other in ["esp32c61", "esp32c6_lp", "rp235x_riscv", "STM32F030C6"] {
            assert_eq!(one(other).facts(), None, "{other}");
        }
    }

    #[test]
    fn every_series_with_facts_has_chips() {
        for facts in FACTS {
            assert!(chips().iter().any(|c| c.facts() == Some(facts)), "{}", facts.series);
            assert!(facts.clock_hz >= 1_000_000 && !facts.source.is_empty());
        }
    }
}
