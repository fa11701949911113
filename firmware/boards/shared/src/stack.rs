//! Greatest stack depth by painting: unused stack is filled with a pattern, and what no longer has it was used.

use offshoot_app::StackGauge;

/// Fills unused stack. A used word that happens to hold it is taken for unused: at the edge of the used region that
/// makes the figure four bytes too small, with a chance of one in four thousand million.
const PAINT: u32 = 0x5AFE_57AC;

/// Bytes below the stack pointer that painting leaves alone, because its own registers may be saved there: what uses
/// less than this is reported as this.
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
    /// The stack as the linker laid it out. Take it once, and only where that stack is in use.
    pub fn of_linker() -> Self {
        // Only the addresses mean something.
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
            // SAFETY: [bottom, pointer - MARGIN) is RAM that the linker gave to the stack and to nothing else, and no
            // live frame lies there: the stack grows down, and this function, not inlined, saves no more than eight
            // registers and calls nothing. Interrupt handlers return before it goes on.
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
