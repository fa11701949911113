//! Board-independent firmware: serves [`offshoot::wire`] over any [`embedded_io`] serial line.
//!
//! A board fills in [`Device`] and calls [`serve`]. Nothing here knows a register, and all of it runs on the host
//! too, where it is tested against the host's side of the protocol.

#![no_std]
#![forbid(unsafe_code)]

mod keep;
mod link;
mod log;
mod observe;
mod serve;

pub use serve::{Device, serve};

pub use offshoot::store::{RamFlash, Store};
pub use offshoot::wire::{CountUnit, FRAME_MAX};

/// Counts what running costs.
pub trait Clock {
    /// What it counts.
    const UNIT: CountUnit;

    /// Starts from zero. Counts may wrap only later than any run lasts.
    fn restart(&mut self);

    /// The time since the restart, in whatever the hardware gives; as cheap as can be, because what is measured
    /// lies between two of these.
    fn now(&self) -> u32;

    /// The count that lies between two readings, in [`Self::UNIT`].
    fn between(&self, start: u32, end: u32) -> u32;
}

/// Measures how deep the stack grows.
pub trait StackGauge {
    /// Marks all stack below the caller as unused; gives the depth of the caller, bytes from the stack's top.
    fn paint(&mut self) -> u32;

    /// Greatest depth since the last [`Self::paint`], bytes from the stack's top.
    fn deepest(&self) -> u32;

    /// Bytes of the stack if all were used since the last [`Self::paint`]: then more than there are may have been.
    fn exhausted(&self) -> Option<u32> {
        None
    }
}

/// For boards that cannot look at their stack: always 0.
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
