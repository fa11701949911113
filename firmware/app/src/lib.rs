//! Board-independent firmware: serves [`offshoot::wire`] over any [`embedded_io`] serial line.
//!
//! A board fills in [`Device`] and calls [`serve`]. Nothing here depends on registers, so all of it also runs on the
//! host, where it is tested against the host's side of the protocol.

#![no_std]
#![forbid(unsafe_code)]

mod guard;
mod keep;
mod link;
mod log;
mod observe;
mod serve;

#[cfg(feature = "signed")]
pub use guard::{Guard, Releases};
pub use serve::{Device, serve};

pub use offshoot::Arena;
pub use offshoot::store::{RamFlash, Store};
pub use offshoot::wire::{CountUnit, FRAME_MAX};

/// Counts the cost of a run.
pub trait Clock {
    /// Unit of the counts.
    const UNIT: CountUnit;

    /// Restarts the count at zero. It may wrap only after the longest run.
    fn restart(&mut self);

    /// Count since the restart, in the hardware's own unit. As cheap as possible, because the measured code lies
    /// between two readings.
    fn now(&self) -> u32;

    /// Count between two readings, in [`Self::UNIT`].
    fn between(&self, start: u32, end: u32) -> u32;
}

/// Measures how deep the stack grows.
pub trait StackGauge {
    /// Marks all stack below the caller as unused; returns the depth of the caller in bytes from the top of the stack.
    fn paint(&mut self) -> u32;

    /// Greatest depth since the last [`Self::paint`], in bytes from the top of the stack.
    fn deepest(&self) -> u32;

    /// The size of the stack in bytes if all of it was used since the last [`Self::paint`]: it may then have
    /// overflowed.
    fn exhausted(&self) -> Option<u32> {
        None
    }
}

/// For boards that cannot measure their stack: always 0.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoStackGauge;

impl StackGauge for NoStackGauge {
    fn paint(&mut self) -> u32 {
        0
    }

    fn deepest(&self) -> u32 {
        0
    }
}
