//! Learned state to flash and back.

use super::inference::Engine;
use offshoot_base::Error;
use offshoot_store::nor_flash::NorFlash;
use offshoot_store::{self as store, Store};

/// Why what was learned could not be saved or restored. `E` is the flash's own error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum KeepError<E> {
    /// The engine does not learn, or cannot take what flash holds.
    Engine(Error),
    /// The store failed.
    Store(store::Error<E>),
    /// What flash holds was saved by another device, for another model, or was changed.
    #[cfg(feature = "signed")]
    Seal,
}

impl<E> From<Error> for KeepError<E> {
    fn from(error: Error) -> Self {
        Self::Engine(error)
    }
}

impl<E> From<store::Error<E>> for KeepError<E> {
    fn from(error: store::Error<E>) -> Self {
        Self::Store(error)
    }
}

impl<E: core::fmt::Debug> core::fmt::Display for KeepError<E> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Engine(error) => error.fmt(f),
            Self::Store(error) => error.fmt(f),
            #[cfg(feature = "signed")]
            Self::Seal => f.write_str("the learned weights in flash are not those of this device and model"),
        }
    }
}

impl<E: core::fmt::Debug> core::error::Error for KeepError<E> {}

#[cfg(not(feature = "signed"))]
impl Engine<'_, '_> {
    /// Saves everything that was learned; returns the number of the save. `model_digest` tells models apart: the CRC-32 of
    /// the file. If power is cut at any moment, flash holds this save or the one before.
    ///
    /// # Errors
    /// [`Error::NotLearning`]; the store's errors.
    pub fn save<F: NorFlash>(
        &self,
        store: &mut Store<F>,
        model_digest: u32,
    ) -> Result<u32, KeepError<F::Error>> {
        let learned = self.learned().ok_or(Error::NotLearning)?;
        Ok(store.save(model_digest, &[learned])?)
    }

    /// Restores what [`Self::save`] saved, so that learning goes on with the same bits as without a break; returns the
    /// number of the save. `None` if flash holds nothing for this model; the engine is then as after [`Self::forget`].
    ///
    /// # Errors
    /// As [`Self::restore`]; the store's errors. The engine is then as after [`Self::forget`].
    pub fn restore_from<F: NorFlash>(
        &mut self,
        store: &mut Store<F>,
        model_digest: u32,
    ) -> Result<Option<u32>, KeepError<F::Error>> {
        let mut found = None;
        self.restore_with(|own| {
            found = store.load(model_digest, own)?;
            Ok::<(), KeepError<F::Error>>(())
        })?;
        if found.is_none() {
            self.forget()?;
        }
        Ok(found)
    }
}

/// With the feature `signed`, learned weights are bound to their model by its SHA-256, and to the device by its key.
#[cfg(feature = "signed")]
impl Engine<'_, '_> {
    /// Saves everything that was learned, and its tag; returns the number of the save. If power is cut at any moment, flash holds
    /// this save or the one before.
    ///
    /// # Errors
    /// [`Error::NotLearning`]; the store's errors.
    pub fn save<F: NorFlash>(
        &self,
        store: &mut Store<F>,
        seal: &offshoot_sign::StateSeal,
    ) -> Result<u32, KeepError<F::Error>> {
        let learned = self.learned().ok_or(Error::NotLearning)?;
        Ok(store.save(short(seal), &[learned, &seal.tag(learned)])?)
    }

    /// Restores what [`Self::save`] saved, so that learning goes on with the same bits as without a break; returns the
    /// number of the save. `None` if flash holds nothing for this model; the engine is then as after [`Self::forget`].
    ///
    /// # Errors
    /// As [`Self::restore`]; the store's errors; [`KeepError::Seal`]. The engine is then as after [`Self::forget`].
    pub fn restore_from<F: NorFlash>(
        &mut self,
        store: &mut Store<F>,
        seal: &offshoot_sign::StateSeal,
    ) -> Result<Option<u32>, KeepError<F::Error>> {
        let mut found = None;
        self.restore_with(|own| {
            let mut tag = [0; offshoot_sign::TAG_LEN];
            found = store.load_pieces(short(seal), &mut [&mut *own, &mut tag])?;
            match found.is_none() || seal.holds(own, &tag) {
                true => Ok(()),
                false => Err(KeepError::Seal),
            }
        })?;
        if found.is_none() {
            self.forget()?;
        }
        Ok(found)
    }
}

/// Tells records of models apart before their tags are looked at.
#[cfg(feature = "signed")]
fn short(seal: &offshoot_sign::StateSeal) -> u32 {
    let [a, b, c, d, ..] = *seal.model();
    u32::from_le_bytes([a, b, c, d])
}
