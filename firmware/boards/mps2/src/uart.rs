//! CMSDK APB UART (Arm DDI 0479, section 4.3): received bytes by interrupt into a queue, so that the core can sleep.

use core::cell::RefCell;
use core::convert::Infallible;
use critical_section::Mutex;
use embedded_io::{ErrorType, Read, Write};
use heapless::Deque;
use offshoot_app::FRAME_MAX;

const DATA: usize = 0x0;
const STATE: usize = 0x4;
const CTRL: usize = 0x8;
const INT_CLEAR: usize = 0xC;
const BAUD_DIVIDER: usize = 0x10;

const STATE_TX_FULL: u32 = 1;
const STATE_RX_FULL: u32 = 2;
const CTRL_TX_RX: u32 = 3;
const CTRL_RX_INTERRUPT: u32 = 8;
const INT_RX: u32 = 2;
/// The smallest that the hardware allows: as fast as can be.
const FASTEST: u32 = 16;

/// Number of UART0's receive interrupt.
pub(crate) const UART0_RX_IRQ: i16 = 0;

/// Registers of one UART.
#[derive(Clone, Copy)]
struct Registers(usize);

const UART0: Registers = Registers(0x4000_4000);
#[cfg(feature = "defmt")]
const UART1: Registers = Registers(0x4000_5000);

impl Registers {
    fn read(self, register: usize) -> u32 {
        // SAFETY: base and offset are those of a UART of this board; reads have no effect on memory.
        unsafe { ((self.0 + register) as *const u32).read_volatile() }
    }

    fn write(self, register: usize, value: u32) {
        // SAFETY: as in `read`; the UART does not touch memory either.
        unsafe { ((self.0 + register) as *mut u32).write_volatile(value) };
    }

    fn send(self, byte: u8) {
        while self.read(STATE) & STATE_TX_FULL != 0 {}
        self.write(DATA, byte.into());
    }
}

/// What came in and was not read yet. The host waits for each answer, so one frame is the most there can be.
static RECEIVED: Mutex<RefCell<Deque<u8, FRAME_MAX>>> = Mutex::new(RefCell::new(Deque::new()));

/// To be called on [`UART0_RX_IRQ`].
pub(crate) fn on_receive() {
    critical_section::with(|section| {
        let mut received = RECEIVED.borrow_ref_mut(section);
        // Cleared first: what comes from now on raises it again.
        UART0.write(INT_CLEAR, INT_RX);
        while UART0.read(STATE) & STATE_RX_FULL != 0 {
            // A byte too many is lost; the frame's checksum tells.
            let _ = received.push_back(UART0.read(DATA) as u8);
        }
    });
}

/// UART0: the line to the host.
#[derive(Debug)]
pub(crate) struct Uart0(());

impl Uart0 {
    /// Switches it on.
    pub(crate) fn start() -> Self {
        UART0.write(BAUD_DIVIDER, FASTEST);
        UART0.write(CTRL, CTRL_TX_RX | CTRL_RX_INTERRUPT);
        // NVIC interrupt set-enable register 0 (Armv7-M, B3.4.4).
        const NVIC_ISER0: *mut u32 = 0xE000_E100 as *mut u32;
        // SAFETY: enables one interrupt, whose handler exists, and which breaks no critical section: those mask all.
        unsafe { NVIC_ISER0.write_volatile(1 << UART0_RX_IRQ) };
        Self(())
    }
}

impl ErrorType for Uart0 {
    type Error = Infallible;
}

impl Read for Uart0 {
    /// Sleeps until there is at least one byte.
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Infallible> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            let len = critical_section::with(|section| {
                let mut received = RECEIVED.borrow_ref_mut(section);
                let mut len = 0;
                while len < buffer.len() {
                    let Some(byte) = received.pop_front() else { break };
                    buffer[len] = byte;
                    len += 1;
                }
                if len == 0 {
                    // Interrupts are masked, but a pending one ends the sleep: none is missed in between.
                    cortex_m::asm::wfi();
                }
                len
            });
            if len > 0 {
                return Ok(len);
            }
        }
    }
}

impl Write for Uart0 {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
        bytes.iter().for_each(|&byte| UART0.send(byte));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

/// Switches on UART1, the line for log messages.
#[cfg(feature = "defmt")]
pub(crate) fn start_log() {
    UART1.write(BAUD_DIVIDER, FASTEST);
    UART1.write(CTRL, 1);
}

/// Sends bytes on UART1.
#[cfg(feature = "defmt")]
pub(crate) fn log(bytes: &[u8]) {
    bytes.iter().for_each(|&byte| UART1.send(byte));
}
