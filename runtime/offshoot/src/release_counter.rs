//! The least release of a model that a device accepts, in flash.

use core::ops::Range;

use offshoot_store::nor_flash::NorFlash;
use offshoot_store::{Error, Store};

/// Digest of its records, which no CRC-32 of a model is likely to be: a store of weights in the same range is not taken for a counter.
const DIGEST: u32 = u32::from_le_bytes(*b"OfCn");

/// A number in a range of flash that only rises: the least release of a model that the device still accepts
/// (`Trust::release` of the feature `signed`).
///
/// It is a [`Store`] of four bytes. If power is cut while it rises, it is the old number or the new one. Two pages are enough; with three, one may wear out. A number that
/// the flash no longer gives back whole counts as the one before it: the counter holds against who can send files, not against who can
/// write to the flash itself.
#[derive(Debug)]
pub struct ReleaseCounter<F> {
    store: Store<F>,
    value: u32,
}

impl<F: NorFlash> ReleaseCounter<F> {
    /// Opens the counter in this range of flash, which nothing else uses. A new range counts from 0.
    ///
    /// # Errors
    /// As [`Store::open`]. Do not take it for 0 then: refuse models until the flash can be read.
    pub fn open(flash: F, range: Range<u32>) -> Result<Self, Error<F::Error>> {
        let mut store = Store::open(flash, range)?;
        let mut bytes = [0; 4];
        let found = store.load(DIGEST, &mut bytes)?;
        Ok(Self { store, value: found.map_or(0, |_| u32::from_le_bytes(bytes)) })
    }

    /// The number.
    pub fn value(&self) -> u32 {
        self.value
    }

    /// Raises the number. One that is not larger changes nothing, also in flash.
    ///
    /// # Errors
    /// [`Error::Worn`] or [`Error::Flash`]: the number is the old one.
    pub fn raise(&mut self, value: u32) -> Result<(), Error<F::Error>> {
        if value > self.value {
            self.store.save(DIGEST, &[&value.to_le_bytes()])?;
            self.value = value;
        }
        Ok(())
    }

    /// Returns the flash.
    pub fn release(self) -> F {
        self.store.release()
    }
}
