//! AN547 (Cortex-M55), with secure addresses only (Arm DAI 0547): the program stays in the core's reset state.

pub(crate) type Counter = crate::timer::SystemCounter;

/// The model slot, in the FPGA's SRAM.
pub(crate) const MODEL_FLASH: (usize, usize) = (0x1100_0000, 2 << 20);
/// The line to the host, and its interrupts for reception and transmission, whose order differs between emulators.
pub(crate) const UART0: usize = 0x5930_3000;
pub(crate) const UART0_IRQS: [i16; 2] = [33, 34];
/// The line for log messages.
#[cfg(feature = "defmt")]
pub(crate) const UART1: usize = 0x5930_4000;

/// Name of the board.
pub(crate) fn board() -> &'static str {
    "qemu:cortex-m55"
}
