//! AN385 (Cortex-M3), AN386 (M4), AN500 (M7). For this program they differ only in the core, so it asks the core which
//! one it is.

pub(crate) type Counter = crate::timer::CmsdkTimer<0x4000_0000, 8, 5>;

/// The model slot: the part of the lower SRAM that memory/an38x.x leaves free.
pub(crate) const MODEL_FLASH: (usize, usize) = (0x0010_0000, 3 << 20);
/// The line to the host, and its interrupts.
pub(crate) const UART0: usize = 0x4000_4000;
pub(crate) const UART0_IRQS: [i16; 1] = [0];
/// The line for log messages.
#[cfg(feature = "defmt")]
pub(crate) const UART1: usize = 0x4000_5000;

/// Name of the board, from the core's part number (CPUID register, Armv7-M B3.2.3).
pub(crate) fn board() -> &'static str {
    const CPUID: *const u32 = 0xE000_ED00 as *const u32;
    // SAFETY: a read-only register that every Armv7-M core has.
    match (unsafe { CPUID.read_volatile() } >> 4) & 0xFFF {
        0xC23 => "qemu:cortex-m3",
        0xC24 => "qemu:cortex-m4",
        0xC27 => "qemu:cortex-m7",
        _ => "mps2",
    }
}
