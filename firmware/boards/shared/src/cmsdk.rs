//! CMSDK APB UART (Arm DDI 0479, section 4.3) of Arm's own boards, with reception by interrupt.

use crate::Queue;
use core::convert::Infallible;
use embedded_io::{ErrorType, Read, Write};
use offshoot_app::FRAME_MAX;

const DATA: usize = 0x0;
const STATE: usize = 0x4;
const CTRL: usize = 0x8;
const INT_CLEAR: usize = 0xC;
const BAUD_DIVIDER: usize = 0x10;

const STATE_TX_FULL: u32 = 1;
const STATE_RX_FULL: u32 = 2;
const CTRL_TX: u32 = 1;
const CTRL_TX_RX: u32 = 3;
const CTRL_RX_INTERRUPT: u32 = 8;
const INT_RX: u32 = 2;
/// The smallest divisor that the hardware allows, for the highest speed.
const FASTEST: u32 = 16;

/// Registers of one UART.
#[derive(Clone, Copy, Debug)]
pub struct Registers(usize);

impl Registers {
    /// The registers of the UART at address `base`.
    ///
    /// # Safety
    /// There is a UART of this kind at the address.
    pub const unsafe fn at(base: usize) -> Self {
        Self(base)
    }

    fn read(self, register: usize) -> u32 {
        // SAFETY: the caller of `at` guarantees a UART there; reads have no effect on memory.
        unsafe { ((self.0 + register) as *const u32).read_volatile() }
    }

    fn write(self, register: usize, value: u32) {
        // SAFETY: as in `read`; the UART does not touch memory either.
        unsafe { ((self.0 + register) as *mut u32).write_volatile(value) };
    }

    /// Enables it for sending only.
    pub fn start_writing(self) {
        self.write(BAUD_DIVIDER, FASTEST);
        self.write(CTRL, CTRL_TX);
    }

    /// Sends bytes; waits until the last is in the transmit buffer.
    pub fn send(self, bytes: &[u8]) {
        for &byte in bytes {
            while self.read(STATE) & STATE_TX_FULL != 0 {}
            self.write(DATA, byte.into());
        }
    }
}

/// A UART with an interrupt that queues received bytes.
#[derive(Debug)]
pub struct Uart {
    registers: Registers,
    received: Queue<FRAME_MAX>,
}

impl Uart {
    /// A UART that is not enabled.
    pub const fn new(registers: Registers) -> Self {
        Self { registers, received: Queue::new() }
    }

    /// Enables it. From then on, its interrupt must call [`Self::on_receive`]. `irqs` are the candidates for the
    /// receive interrupt, which differs between boards and their emulators.
    pub fn start(&'static self, irqs: &[i16]) -> Line {
        self.registers.write(BAUD_DIVIDER, FASTEST);
        self.registers.write(CTRL, CTRL_TX_RX | CTRL_RX_INTERRUPT);
        // NVIC interrupt set-enable registers (Armv7-M, B3.4.4).
        const NVIC_ISER: *mut u32 = 0xE000_E100 as *mut u32;
        for &irq in irqs {
            let (register, bit) = (irq as usize / 32, irq as usize % 32);
            // SAFETY: enables an interrupt, which has a handler (all have one) and does not break critical sections,
            // because they mask all interrupts.
            unsafe { NVIC_ISER.add(register).write_volatile(1 << bit) };
        }
        Line(self)
    }

    /// Queues received bytes.
    pub fn on_receive(&self) {
        // Cleared first, so that later bytes raise it again.
        self.registers.write(INT_CLEAR, INT_RX);
        self.received.fill(|| {
            let some = self.registers.read(STATE) & STATE_RX_FULL != 0;
            some.then(|| self.registers.read(DATA) as u8)
        });
    }
}

/// An enabled UART.
#[derive(Debug)]
pub struct Line(&'static Uart);

impl ErrorType for Line {
    type Error = Infallible;
}

impl Read for Line {
    /// Sleeps until there is at least one byte.
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Infallible> {
        Ok(self.0.received.read(buffer))
    }
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
        self.0.registers.send(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}
