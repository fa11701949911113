//! Timers as instruction counters, under `qemu -icount`: an instruction takes `2^shift` ns of the board's time.
//!
//! An instruction takes longer than a tick, so the ticks since a restart give the number of instructions exactly. A
//! difference of two readings alone would not (two instructions are 3 or 4 ticks at 25 MHz). On real hardware these
//! timers count time, so this firmware is for the emulator only.

use offshoot_app::{Clock, CountUnit};

/// Reads a register, and records the address of the reading instruction for the host in a section that is not loaded.
macro_rules! read_marked {
    ($register:expr) => {{
        let value;
        // SAFETY: reads a timer register, which has no effect on memory. Nothing is moved across it.
        unsafe {
            core::arch::asm!(
                "2: ldr {value}, [{register}]",
                ".pushsection .offshoot.marks, \"\", %progbits",
                ".4byte 2b",
                ".popsection",
                register = in(reg) $register,
                value = out(reg) value,
                options(nostack, preserves_flags),
            );
        }
        value
    }};
}

/// CMSDK APB timer 0 (Arm DDI 0479, section 4.1) at the address `BASE`; `TICKS` ticks are `INSTRUCTIONS` instructions.
/// It counts down from [`u32::MAX`].
#[derive(Debug)]
pub(crate) struct CmsdkTimer<const BASE: usize, const TICKS: u64, const INSTRUCTIONS: u64>(());

#[allow(dead_code, reason = "one of the timers, by image")]
impl<const BASE: usize, const TICKS: u64, const INSTRUCTIONS: u64> CmsdkTimer<BASE, TICKS, INSTRUCTIONS> {
    const CTRL: *mut u32 = BASE as *mut u32;
    const VALUE: *mut u32 = (BASE + 0x4) as *mut u32;
    const RELOAD: *mut u32 = (BASE + 0x8) as *mut u32;

    /// Starts the board's timer 0, which nothing else may use.
    pub(crate) fn start() -> Self {
        Self(())
    }

    /// Number of instructions from the restart to a reading.
    fn instructions(value: u32) -> u32 {
        // Fits: there are fewer instructions than ticks.
        (u64::from(u32::MAX - value) * INSTRUCTIONS / TICKS) as u32
    }
}

impl<const BASE: usize, const TICKS: u64, const INSTRUCTIONS: u64> Clock
    for CmsdkTimer<BASE, TICKS, INSTRUCTIONS>
{
    const UNIT: CountUnit = CountUnit::Instructions;

    #[inline(always)]
    fn restart(&mut self) {
        // SAFETY: registers of timer 0, which only this type uses and which has no effect on memory.
        unsafe {
            Self::CTRL.write_volatile(0);
            Self::RELOAD.write_volatile(u32::MAX);
            Self::VALUE.write_volatile(u32::MAX);
            Self::CTRL.write_volatile(1);
        }
    }

    #[inline(always)]
    fn now(&self) -> u32 {
        read_marked!(Self::VALUE)
    }

    fn between(&self, start: u32, end: u32) -> u32 {
        Self::instructions(end).wrapping_sub(Self::instructions(start))
    }
}

/// The SSE-300's system counter (Arm 101773, system timestamp counter) through its secure control frame. It counts up
/// at 32 MHz. Under `-icount shift=5`, 32 ns per instruction, 128 ticks are 125 instructions.
#[cfg(feature = "an547")]
#[derive(Debug)]
pub(crate) struct SystemCounter(());

#[cfg(feature = "an547")]
impl SystemCounter {
    const CONTROL: *mut u32 = 0x5810_0000 as *mut u32;
    const LOW: *mut u32 = 0x5810_0008 as *mut u32;
    const HIGH: *mut u32 = 0x5810_000C as *mut u32;

    /// Starts the counter, which nothing else may use.
    pub(crate) fn start() -> Self {
        Self(())
    }

    fn instructions(value: u32) -> u32 {
        // Fits: there are fewer instructions than ticks. A tick counts when it ends, so the instruction that began in
        // it counts.
        (u64::from(value) * 125).div_ceil(128) as u32
    }
}

#[cfg(feature = "an547")]
impl Clock for SystemCounter {
    const UNIT: CountUnit = CountUnit::Instructions;

    #[inline(always)]
    fn restart(&mut self) {
        // SAFETY: registers of a counter that only this type uses and that has no effect on memory. It takes a value
        // only while stopped.
        unsafe {
            Self::CONTROL.write_volatile(0);
            Self::LOW.write_volatile(0);
            Self::HIGH.write_volatile(0);
            Self::CONTROL.write_volatile(1);
        }
    }

    #[inline(always)]
    fn now(&self) -> u32 {
        read_marked!(Self::LOW)
    }

    fn between(&self, start: u32, end: u32) -> u32 {
        Self::instructions(end).wrapping_sub(Self::instructions(start))
    }
}
