//! Measures the greatest stack depth by painting: unused stack is filled with a pattern, and words that no longer hold
//! it were used.

use offshoot_app::StackGauge;

/// Pattern of unused stack. A used word that happens to hold it counts as unused: at the edge of the used region, that
/// makes the result four bytes too small, with a probability of 2^-32.
const PAINT: u32 = 0x5AFE_57AC;

/// Bytes below the stack pointer that are not painted, because registers may be saved there. Uses of less than this are
/// reported as this.
const MARGIN: usize = 32;

/// The stack, which grows down from `top`.
#[derive(Debug)]
pub struct Stack {
    bottom: usize,
    top: usize,
}

unsafe extern "C" {
    // Defined by cortex-m-rt's or riscv-rt's link.x, or by a board's memory.x.
    static _stack_start: u32;
    static _stack_end: u32;
}

impl Stack {
    /// The stack as the linker placed it. Call this once, and only while that stack is in use.
    pub fn of_linker() -> Self {
        // Only the addresses are meaningful.
        Self { bottom: (&raw const _stack_end).addr(), top: (&raw const _stack_start).addr() }
    }
}

/// The stack pointer.
#[inline(always)]
fn pointer() -> usize {
    let pointer;
    // SAFETY: reads a register.
    unsafe {
        #[cfg(target_arch = "arm")]
        core::arch::asm!("mov {0}, sp", out(reg) pointer, options(nomem, nostack, preserves_flags));
        #[cfg(target_arch = "riscv32")]
        core::arch::asm!("mv {0}, sp", out(reg) pointer, options(nomem, nostack, preserves_flags));
    }
    pointer
}

impl StackGauge for Stack {
    #[inline(never)]
    fn paint(&mut self) -> u32 {
        let pointer = pointer();
        let mut address = self.bottom;
        while address < pointer.saturating_sub(MARGIN) {
            // SAFETY: [bottom, pointer - MARGIN) is RAM that the linker gave to the stack only, and no live frame lies
            // there: the stack grows down, and this function is not inlined, saves at most eight registers and calls
            // nothing. Interrupt handlers return before it continues.
            unsafe { (address as *mut u32).write_volatile(PAINT) };
            address += 4;
        }
        (self.top - pointer) as u32
    }

    #[inline(never)]
    fn deepest(&self) -> u32 {
        let mut address = self.bottom;
        // SAFETY: as in `paint`; reading stops at the top of the stack at the latest.
        while address < self.top && unsafe { (address as *const u32).read_volatile() } == PAINT {
            address += 4;
        }
        (self.top - address) as u32
    }

    fn exhausted(&self) -> Option<u32> {
        let size = (self.top - self.bottom) as u32;
        (self.deepest() == size).then_some(size)
    }
}
