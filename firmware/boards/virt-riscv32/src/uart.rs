//! The board's UART, an NS16550A. The core sleeps until an interrupt is pending at the interrupt controller (PLIC;
//! RISC-V Platform-Level Interrupt Controller Specification 1.0). Interrupts stay masked; the read loop claims and
//! completes them.

use core::convert::Infallible;
use embedded_io::{ErrorType, Read, Write};

const UART: usize = 0x1000_0000;
/// Receive and transmit; interrupt enable; FIFO control; line status.
const DATA: usize = UART;
const INTERRUPT: usize = UART + 1;
const FIFO: usize = UART + 2;
const STATUS: usize = UART + 5;
const FIFO_ON: u8 = 1;
const RX_INTERRUPT: u8 = 1;
const RX_READY: u8 = 1;
const TX_EMPTY: u8 = 0x20;

const PLIC: usize = 0x0C00_0000;
/// Number of the UART's interrupt.
const IRQ: usize = 10;
const PRIORITY: *mut u32 = (PLIC + 4 * IRQ) as *mut u32;
/// For the first core's machine mode.
const ENABLED: *mut u32 = (PLIC + 0x2000) as *mut u32;
const THRESHOLD: *mut u32 = (PLIC + 0x20_0000) as *mut u32;
const CLAIM: *mut u32 = (PLIC + 0x20_0004) as *mut u32;
/// `mie.MEIE`: external interrupts end a sleep.
const EXTERNAL: usize = 1 << 11;

fn read(register: usize) -> u8 {
    // SAFETY: a register of the UART; reads have no effect on memory.
    unsafe { (register as *const u8).read_volatile() }
}

fn write(register: usize, value: u8) {
    // SAFETY: as in `read`; the UART does not touch memory either.
    unsafe { (register as *mut u8).write_volatile(value) };
}

/// The line to the host.
#[derive(Debug)]
pub(crate) struct Uart(());

impl Uart {
    /// Enables the UART.
    pub(crate) fn start() -> Self {
        write(FIFO, FIFO_ON);
        write(INTERRUPT, RX_INTERRUPT);
        // SAFETY: registers of the interrupt controller, which nothing else uses. `mstatus.MIE` stays 0, as riscv-rt
        // leaves it, so no handler runs.
        unsafe {
            PRIORITY.write_volatile(1);
            ENABLED.write_volatile(1 << IRQ);
            THRESHOLD.write_volatile(0);
            core::arch::asm!("csrs mie, {0}", in(reg) EXTERNAL, options(nomem, nostack));
        }
        Self(())
    }
}

impl ErrorType for Uart {
    type Error = Infallible;
}

impl Read for Uart {
    /// Sleeps until there is at least one byte.
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Infallible> {
        Ok(offshoot_boards::read_waiting(
            buffer,
            || (read(STATUS) & RX_READY != 0).then(|| read(DATA)),
            // SAFETY: claims and completes an interrupt, as the controller requires; the bytes are read next.
            || unsafe { CLAIM.write_volatile(CLAIM.read_volatile()) },
        ))
    }
}

impl Write for Uart {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
        for &byte in bytes {
            while read(STATUS) & TX_EMPTY == 0 {}
            write(DATA, byte);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}
