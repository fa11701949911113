//! nRF51's UART (nRF51 Series Reference Manual, chapter 29), which buffers six bytes. The core sleeps until its
//! interrupt is pending. Interrupts stay masked; the read loop takes the received bytes.

use core::convert::Infallible;
use embedded_io::{ErrorType, Read, Write};

const BASE: usize = 0x4000_2000;
const START_RX: usize = 0x000;
const START_TX: usize = 0x008;
const RX_READY: usize = 0x108;
const TX_READY: usize = 0x11C;
const INTERRUPT_SET: usize = 0x304;
const ENABLE: usize = 0x500;
const PIN_TX: usize = 0x50C;
const PIN_RX: usize = 0x514;
const RX: usize = 0x518;
const TX: usize = 0x51C;
const BAUD: usize = 0x524;

const ENABLED: u32 = 4;
const RX_READY_INTERRUPT: u32 = 1 << 2;
/// 115,200 baud.
const BAUD_115200: u32 = 0x01D7_E000;
/// Pins of the micro:bit's USB interface.
const PINS: [u32; 2] = [24, 25];
/// Number of the UART's interrupt.
const IRQ: u32 = 2;

/// NVIC interrupt set-enable and clear-pending registers (Armv6-M, B3.4).
const NVIC_SET_ENABLE: *mut u32 = 0xE000_E100 as *mut u32;
const NVIC_CLEAR_PENDING: *mut u32 = 0xE000_E280 as *mut u32;

fn read(register: usize) -> u32 {
    // SAFETY: a register of the UART; reads have no effect on memory.
    unsafe { ((BASE + register) as *const u32).read_volatile() }
}

fn write(register: usize, value: u32) {
    // SAFETY: as in `read`; the UART does not touch memory either.
    unsafe { ((BASE + register) as *mut u32).write_volatile(value) };
}

/// The line to the host.
#[derive(Debug)]
pub(crate) struct Uart(());

impl Uart {
    /// Enables the UART.
    pub(crate) fn start() -> Self {
        write(PIN_TX, PINS[0]);
        write(PIN_RX, PINS[1]);
        write(BAUD, BAUD_115200);
        write(ENABLE, ENABLED);
        write(INTERRUPT_SET, RX_READY_INTERRUPT);
        write(START_RX, 1);
        write(START_TX, 1);
        cortex_m::interrupt::disable();
        // SAFETY: enables an interrupt; all are masked, so no handler runs.
        unsafe { NVIC_SET_ENABLE.write_volatile(1 << IRQ) };
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
            || {
                let some = read(RX_READY) != 0;
                some.then(|| {
                    // Cleared first, so that another byte raises it again.
                    write(RX_READY, 0);
                    read(RX) as u8
                })
            },
            // SAFETY: the cause of the interrupt is checked next.
            || unsafe { NVIC_CLEAR_PENDING.write_volatile(1 << IRQ) },
        ))
    }
}

impl Write for Uart {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
        for &byte in bytes {
            write(TX_READY, 0);
            write(TX, byte.into());
            while read(TX_READY) == 0 {}
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}
