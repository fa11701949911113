//! Clocks, cores and flash of chips, from their manufacturers' documents.

/// What the manufacturer's documents say about a series of chips.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// What the names of the series begin with, in capitals.
    pub series: &'static str,
    /// Its first core.
    pub core: &'static str,
    /// Highest clock of the core, Hz.
    pub clock_hz: u32,
    /// Wait states of the flash at that clock and 2.7 to 3.6 V; `None` if code runs from a cache in front of external
    /// flash, or the manufacturer does not say.
    pub wait_states: Option<u64>,
    /// Where these numbers stand.
    pub source: &'static str,
}

const fn facts(
    series: &'static str,
    core: &'static str,
    mhz: u32,
    wait_states: Option<u64>,
    source: &'static str,
) -> Facts {
    Facts { series, core, clock_hz: mhz * 1_000_000, wait_states, source }
}

/// The known series. Of two that a name begins with, the longer stands first.
pub static FACTS: &[Facts] = &[
    facts("STM32F103", "Cortex-M3", 72, Some(2), "DS5319, Features; PM0075, 3.1 (48 to 72 MHz)"),
    facts("STM32F401", "Cortex-M4F", 84, Some(2), "DS10086, Features; RM0368, Table 6"),
    facts("STM32F405", "Cortex-M4F", 168, Some(5), "DS8626, Features; RM0090, Table 10"),
    facts("STM32F407", "Cortex-M4F", 168, Some(5), "DS8626, Features; RM0090, Table 10"),
    facts("STM32F411", "Cortex-M4F", 100, Some(3), "DS10314, Features; RM0383, Table 5"),
    facts("STM32F446", "Cortex-M4F", 180, Some(5), "DS10693, Features; RM0390, Table 5"),
    facts("STM32F746", "Cortex-M7", 216, Some(7), "DS10916, Features; RM0385, Table 5"),
    facts("STM32G071", "Cortex-M0+", 64, Some(2), "DS12232, Features; RM0444, 3.3.4"),
    facts("STM32H743", "Cortex-M7", 480, None, "DS12110, Features"),
    facts("STM32L476", "Cortex-M4F", 80, Some(4), "DS10198, Features; RM0351, 3.3.3"),
    facts("STM32L4R5", "Cortex-M4F", 120, Some(5), "DS12023, Features; RM0432, 3.3.3"),
    facts("STM32U585", "Cortex-M33", 160, Some(4), "DS13086, Features; RM0456, 7.3.3"),
    facts("NRF51822", "Cortex-M0", 16, None, "nRF51822 Product Specification, 1"),
    facts("NRF52832", "Cortex-M4F", 64, None, "nRF52832 Product Specification, CPU"),
    facts("NRF52840", "Cortex-M4F", 64, None, "nRF52840 Product Specification, CPU"),
    facts("NRF5340", "Cortex-M33", 128, None, "nRF5340 Product Specification, Application core"),
    facts(
        "RP2040",
        "Cortex-M0+",
        133,
        None,
        "RP2040 Datasheet, 1 (flash is external, behind 16 kB of cache)",
    ),
    facts(
        "RP235X",
        "Cortex-M33",
        150,
        None,
        "RP2350 Datasheet, 1 (flash is external, behind 16 kB of cache)",
    ),
    facts("ESP32C3", "RV32IMAC", 160, None, "ESP32-C3 Series Datasheet, Features (flash is external)"),
    facts("ESP32C6", "RV32IMAC", 160, None, "ESP32-C6 Series Datasheet, Features (flash is external)"),
];
