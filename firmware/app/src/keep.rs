//! Moves learned weights between the engine and flash.

use crate::guard::Binding;
use offshoot::Engine;
use offshoot::engine::KeepError;
use offshoot::store::Store;
use offshoot::store::nor_flash::NorFlash;
use offshoot::wire::{ErrorCode, Failure, StoreReport};

/// Failure for a store that has nothing for this model, or for a board without a store.
pub(crate) fn nothing<F: NorFlash>(store: &Option<Store<F>>) -> Failure {
    let code = if store.is_some() { ErrorCode::NothingStored } else { ErrorCode::NoStore };
    Failure::new(code, 0)
}

/// Maps a store's error to the protocol's.
fn of_store<E>(error: offshoot::store::Error<E>) -> Failure {
    match error {
        offshoot::store::Error::TooLarge { capacity, .. } => Failure::new(ErrorCode::StoreTooSmall, capacity),
        offshoot::store::Error::Length { .. } => Failure::new(ErrorCode::NothingStored, 0),
        _ => Failure::new(ErrorCode::StoreFault, 0),
    }
}

/// Saves the learned weights to flash.
pub(crate) fn save<F: NorFlash>(
    engine: &Engine<'_, '_>,
    store: &mut Option<Store<F>>,
    binding: &Binding,
) -> Result<StoreReport, Failure> {
    let store = engine.learned().map(|_| store.as_mut());
    let store = store.ok_or(Failure::new(ErrorCode::NotLearning, 0))?;
    let store = store.ok_or(Failure::new(ErrorCode::NoStore, 0))?;
    #[cfg(not(feature = "signed"))]
    let binding = *binding;
    #[cfg(feature = "signed")]
    let binding = &binding.seal;
    let generation = engine.save(store, binding).map_err(of_engine)?;
    Ok(StoreReport { generation, capacity: store.capacity() })
}

/// Restores what was saved with this model. If loading fails, also because flash holds nothing for this model, the
/// engine has the weights of the file. Without a store, nothing changes.
pub(crate) fn restore<F: NorFlash>(
    engine: &mut Engine<'_, '_>,
    store: &mut Option<Store<F>>,
    binding: &Binding,
) -> Result<StoreReport, Failure> {
    let store = store.as_mut().ok_or(Failure::new(ErrorCode::NoStore, 0))?;
    #[cfg(not(feature = "signed"))]
    let binding = *binding;
    #[cfg(feature = "signed")]
    let binding = &binding.seal;
    let found = engine.restore_from(store, binding).map_err(of_engine)?;
    let generation = found.ok_or(Failure::new(ErrorCode::NothingStored, 0))?;
    Ok(StoreReport { generation, capacity: store.capacity() })
}

/// Maps an error of saving or restoring to the protocol's.
fn of_engine<E>(error: KeepError<E>) -> Failure {
    match error {
        KeepError::Engine(error) => error.into(),
        KeepError::Store(error) => of_store(error),
        #[cfg(feature = "signed")]
        KeepError::Seal => Failure::new(ErrorCode::Seal, 0),
    }
}

/// Restores the weights of the file in RAM and, if requested, erases those in flash.
pub(crate) fn forget<F: NorFlash>(
    engine: &mut Engine<'_, '_>,
    store: &mut Option<Store<F>>,
    flash: bool,
) -> Result<(), Failure> {
    if flash {
        let store = store.as_mut().ok_or(Failure::new(ErrorCode::NoStore, 0))?;
        store.factory_reset().map_err(of_store)?;
    }
    match engine.state() {
        Some(_) => Ok(engine.forget()?),
        None if flash => Ok(()),
        None => Err(Failure::new(ErrorCode::NotLearning, 0)),
    }
}
