//! nRF51's timer 0 (nRF51 Series Reference Manual, chapter 19) as an instruction counter, under `qemu -icount shift=6`:
//! an instruction takes 64 ns and the timer runs at 16 MHz, so 128 ticks are 125 instructions. The emulated core has no
//! SysTick.
//!
//! An instruction takes longer than a tick, so the ticks since a restart give the number of instructions exactly. On
//! real hardware the timer counts time, so this firmware is for the emulator only.

use offshoot_app::{Clock, CountUnit};

const BASE: usize = 0x4000_8000;
const START: *mut u32 = BASE as *mut u32;
const STOP: *mut u32 = (BASE + 0x004) as *mut u32;
const CLEAR: *mut u32 = (BASE + 0x00C) as *mut u32;
const BIT_MODE: *mut u32 = (BASE + 0x508) as *mut u32;
const PRESCALER: *mut u32 = (BASE + 0x510) as *mut u32;
/// The task that copies the count to a register, and that register.
const CAPTURE: usize = BASE + 0x040;
const CAPTURED: usize = BASE + 0x540;
const BITS_32: u32 = 3;

/// The timer, with 32 bits.
#[derive(Debug)]
pub(crate) struct InstructionTimer(());

impl InstructionTimer {
    /// Starts timer 0, which nothing else may use.
    pub(crate) fn start() -> Self {
        // SAFETY: registers of timer 0, which only this type uses and which has no effect on memory.
        unsafe {
            STOP.write_volatile(1);
            BIT_MODE.write_volatile(BITS_32);
            PRESCALER.write_volatile(0);
        }
        Self(())
    }
}

impl Clock for InstructionTimer {
    const UNIT: CountUnit = CountUnit::Instructions;

    #[inline(always)]
    fn restart(&mut self) {
        // SAFETY: as in `start`.
        unsafe {
            STOP.write_volatile(1);
            CLEAR.write_volatile(1);
            START.write_volatile(1);
        }
    }

    #[inline(always)]
    fn now(&self) -> u32 {
        let value;
        // SAFETY: captures the count and reads it from registers as in `start`. Nothing is moved across it.
        unsafe {
            core::arch::asm!(
                "2: str {one}, [{capture}]",
                // Records the address of the reading instruction for the host, in a section that is not loaded.
                ".pushsection .offshoot.marks, \"\", %progbits",
                ".4byte 2b",
                ".popsection",
                "ldr {value}, [{register}]",
                one = in(reg) 1,
                capture = in(reg) CAPTURE,
                register = in(reg) CAPTURED,
                value = lateout(reg) value,
                options(nostack, preserves_flags),
            );
        }
        value
    }

    fn between(&self, start: u32, end: u32) -> u32 {
        instructions(end).wrapping_sub(instructions(start))
    }
}

/// Number of instructions from the restart to a reading.
fn instructions(value: u32) -> u32 {
    // Fits: there are fewer instructions than ticks. A tick counts when it ends, so the instruction that began in it
    // counts.
    (u64::from(value) * 125).div_ceil(128) as u32
}
