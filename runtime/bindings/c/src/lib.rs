//! The runtime for C and C++: the header is `include/offshoot.h`, the guide `docs/src/c.md`.
//!
//! One opaque object, in memory of the caller, is a network and the arena that it works in. Nothing here allocates, and there is no
//! global state.
//!
//! # Contract of every function
//! - **A status, never a crash.** Null and misaligned pointers, lengths that do not fit, memory that overlaps, damaged files and calls on
//!   an object that is not open give a status. No panic crosses the border: on a host it becomes [`status::Status::Bug`] and closes the
//!   object; without an operating system it stops in an endless loop, where a watchdog resets the device.
//! - **What the caller promises.** A pointer that is neither null nor misaligned points to as many valid bytes as the call says. An object
//!   is zeroed before its first use (a `static` is). Model and arena stay where they are, and the model's bytes unchanged, until the
//!   object is closed or opened anew.
//! - **Threads.** Different objects, with different arenas, may be used by different threads at once. One object serves one thread at a
//!   time; objects may share a model.
//! - **Interface.** [`object::ABI_VERSION`] rises when a function or structure changes; functions are added without.

#![cfg_attr(target_os = "none", no_std)]

mod border;
pub mod info;
pub mod learn;
pub mod object;
pub mod run;
pub mod status;
pub mod tensor;

/// A bug in the runtime would end here, and the watchdog resets the device.
#[cfg(all(target_os = "none", feature = "panic-handler"))]
#[panic_handler]
fn stop(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {
        core::hint::spin_loop();
    }
}

#[cfg(test)]
mod tests;
