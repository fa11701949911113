//! `minstret`: the number of retired instructions. Under `qemu -icount shift=0` it counts every one.

use offshoot_app::{Clock, CountUnit};

/// The low half of the counter, which wraps after 4,294,967,296 instructions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Retired;

impl Clock for Retired {
    const UNIT: CountUnit = CountUnit::Instructions;

    fn restart(&mut self) {}

    #[inline(always)]
    fn now(&self) -> u32 {
        let count;
        // SAFETY: reads a register. Nothing is moved across it.
        unsafe { core::arch::asm!("csrr {0}, minstret", out(reg) count, options(nostack, preserves_flags)) };
        count
    }

    fn between(&self, start: u32, end: u32) -> u32 {
        end.wrapping_sub(start)
    }
}
