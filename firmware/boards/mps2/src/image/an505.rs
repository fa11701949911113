//! AN505 (Cortex-M33), with secure addresses only (Arm DAI 0505, 3.4): the program stays in the core's reset state.

/// 20 MHz. Under `-icount shift=6`, 64 ns per instruction, 32 ticks are 25 instructions.
pub(crate) type Counter = crate::timer::CmsdkTimer<0x5000_0000, 32, 25>;

/// The model slot: the part of SSRAM 1 that memory/an505.x leaves free.
pub(crate) const MODEL_FLASH: (usize, usize) = (0x1010_0000, 3 << 20);
/// The line to the host, and its interrupts for reception and transmission, whose order differs between emulators.
pub(crate) const UART0: usize = 0x5020_0000;
pub(crate) const UART0_IRQS: [i16; 2] = [32, 33];
/// The line for log messages.
#[cfg(feature = "defmt")]
pub(crate) const UART1: usize = 0x5020_1000;

/// Name of the board.
pub(crate) fn board() -> &'static str {
    "qemu:cortex-m33"
}
