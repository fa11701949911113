//! What was learned, between the engine and flash.

use offshoot::Engine;
use offshoot::store::Store;
use offshoot::store::nor_flash::NorFlash;
use offshoot::wire::{ErrorCode, Failure, StoreReport};

/// Why nothing came back from flash.
pub(crate) fn nothing<F: NorFlash>(store: &Option<Store<F>>) -> Failure {
    let code = if store.is_some() { ErrorCode::NothingStored } else { ErrorCode::NoStore };
    Failure::new(code, 0)
}

/// What a store says, in the protocol's words.
fn of_store<E>(error: offshoot::store::Error<E>) -> Failure {
    match error {
        offshoot::store::Error::TooLarge { capacity, .. } => Failure::new(ErrorCode::StoreTooSmall, capacity),
        offshoot::store::Error::Length { .. } => Failure::new(ErrorCode::NothingStored, 0),
        _ => Failure::new(ErrorCode::StoreFault, 0),
    }
}

/// Writes what was learned to flash.
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

/// Brings back what was saved with this model. What fails leaves the weights of the file, but for a flash that holds nothing of
/// this model.
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

/// Goes back to the weights of the file, in RAM and, if wanted, in flash.
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
