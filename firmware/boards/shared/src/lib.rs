//! What boards share.

#![no_std]

#[cfg(feature = "queue")]
pub mod cmsdk;
#[cfg(feature = "queue")]
mod queue;
mod stack;

#[cfg(feature = "queue")]
pub use queue::Queue;
pub use stack::Stack;

/// Bytes aligned as the runtime wants models and arenas.
#[derive(Debug)]
#[repr(C, align(16))]
pub struct Aligned<const N: usize>(pub [u8; N]);

/// Sleeps until there is an interrupt, pending ones that are masked included.
#[inline(always)]
pub fn sleep() {
    // SAFETY: both architectures name this instruction the same, and it changes neither memory nor registers.
    unsafe { core::arch::asm!("wfi", options(nomem, nostack, preserves_flags)) };
}

/// For a panic handler: nothing more happens.
pub fn rest() -> ! {
    loop {
        sleep();
    }
}

/// Puts the hash of the sources, which the build script has from `build_board.rs`, into a section of the ELF file that is
/// not loaded: the host tool reads it.
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
