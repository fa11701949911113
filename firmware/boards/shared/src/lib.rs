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

/// Bytes with the alignment that the runtime requires of models and arenas.
#[derive(Debug)]
#[repr(C, align(16))]
pub struct Aligned<const N: usize>(pub [u8; N]);

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
