//! CMSDK APB timer 0 (Arm DDI 0479, section 4.1) as a counter of instructions.
//!
//! Under `qemu -icount shift=6` an instruction takes 64 ns of the board's time, and the timer counts 25 MHz: 8 ticks are
//! 5 instructions. From its restart on, every instruction moves the timer by more than one tick, so the tick tells the
//! instruction exactly; a difference of ticks alone would not (two instructions are 3 or 4 ticks).
//! On the real board it counts time, which is not what it says: this is the emulator's firmware.

use offshoot_app::{Clock, CountUnit};

const BASE: usize = 0x4000_0000;
const CTRL: *mut u32 = BASE as *mut u32;
const VALUE: *mut u32 = (BASE + 0x4) as *mut u32;
const RELOAD: *mut u32 = (BASE + 0x8) as *mut u32;

/// The timer. It counts down from [`u32::MAX`] and wraps after 2,684,354,559 instructions.
#[derive(Debug)]
pub(crate) struct InstructionTimer(());

impl InstructionTimer {
    /// The board's timer 0, which nothing else may use.
    pub(crate) fn start() -> Self {
        Self(())
    }
}

impl Clock for InstructionTimer {
    const UNIT: CountUnit = CountUnit::Instructions;

    #[inline(always)]
    fn restart(&mut self) {
        // SAFETY: registers of timer 0, which only this type uses, and which has no effect on memory.
        unsafe {
            CTRL.write_volatile(0);
            RELOAD.write_volatile(u32::MAX);
            VALUE.write_volatile(u32::MAX);
            CTRL.write_volatile(1);
        }
    }

    #[inline(always)]
    fn now(&self) -> u32 {
        let value;
        // SAFETY: a read of a register, as in `restart`. Nothing moves across it.
        unsafe {
            core::arch::asm!(
                "2: ldr {value}, [{register}]",
                // Tells the host where the readings are, in a section that is not loaded.
                ".pushsection .offshoot.marks, \"\", %progbits",
                ".4byte 2b",
                ".popsection",
                register = in(reg) VALUE,
                value = out(reg) value,
                options(nostack, preserves_flags),
            );
        }
        value
    }

    fn between(&self, start: u32, end: u32) -> u32 {
        instructions(end).wrapping_sub(instructions(start))
    }
}

/// Instructions from the restart to a reading.
fn instructions(value: u32) -> u32 {
    let ticks = u64::from(u32::MAX - value);
    // At most 5/8 of `u32::MAX`.
    (ticks * 5 / 8) as u32
}
