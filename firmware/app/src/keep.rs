//! Moves learned weights between the engine and flash.

use offshoot::Engine;
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
    digest: u32,
) -> Result<StoreReport, Failure> {
    let learned = engine.learned().ok_or(Failure::new(ErrorCode::NotLearning, 0))?;
    let store = store.as_mut().ok_or(Failure::new(ErrorCode::NoStore, 0))?;
    let generation = store.save(digest, &[learned]).map_err(of_store)?;
    Ok(StoreReport { generation, capacity: store.capacity() })
}

/// Restores what was saved with this model. If loading fails, also because flash holds nothing for this model, the
/// engine has the weights of the file. Without a store, nothing changes.
pub(crate) fn restore<F: NorFlash>(
    engine: &mut Engine<'_, '_>,
    store: &mut Option<Store<F>>,
    digest: u32,
) -> Result<StoreReport, Failure> {
    let store = store.as_mut().ok_or(Failure::new(ErrorCode::NoStore, 0))?;
    let mut generation = 0;
    engine.restore_with(|own| {
        let found = store.load(digest, own).map_err(of_store)?;
        generation = found.ok_or(Failure::new(ErrorCode::NothingStored, 0))?;
        Ok::<(), Failure>(())
    })?;
    Ok(StoreReport { generation, capacity: store.capacity() })
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
