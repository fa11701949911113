//! Code shared by the boards.

#![no_std]

#[cfg(feature = "queue")]
pub mod cmsdk;
#[cfg(feature = "queue")]
mod queue;
mod stack;

#[cfg(feature = "queue")]
pub use queue::Queue;
pub use stack::Stack;

/// Sleeps until an interrupt is pending, even if it is masked.
#[inline(always)]
pub fn sleep() {
    // SAFETY: the instruction has the same name on both architectures and changes neither memory nor registers.
    unsafe { core::arch::asm!("wfi", options(nomem, nostack, preserves_flags)) };
}

/// For panic handlers: halts.
pub fn rest() -> ! {
    loop {
        sleep();
    }
}

/// Stores the hash of the sources, which the build script gets from `build_board.rs`, in a section of the ELF file that
/// is not loaded. The host tool reads it.
#[macro_export]
macro_rules! mark_sources {
    () => {
        core::arch::global_asm!(concat!(
            ".pushsection .offshoot.sources, \"\", %progbits\n.ascii \"",
            env!("OFFSHOOT_SOURCES"),
            "\"\n.popsection"
        ));
    };
}

/// Reads the bytes that `next` has into `buffer` and returns their number; sleeps until there is at least one. `awake` runs after
/// every sleep and clears the interrupt that ended it.
pub fn read_waiting(
    buffer: &mut [u8],
    mut next: impl FnMut() -> Option<u8>,
    mut awake: impl FnMut(),
) -> usize {
    if buffer.is_empty() {
        return 0;
    }
    loop {
        let mut len = 0;
        while len < buffer.len() {
            let Some(byte) = next() else { break };
            buffer[len] = byte;
            len += 1;
        }
        if len > 0 {
            return len;
        }
        sleep();
        awake();
    }
}
