//! The opaque object: how it is opened and closed, and how a call reaches the engine in it.

use core::mem::MaybeUninit;

use crate::border::{Region, check, guarded, slice, slice_mut};
use crate::status::{Failure, Status};
use offshoot::learning::TrainState;
use offshoot::{Engine, Error, Model};

/// Version of this interface. It rises when a function or a structure changes.
pub const OFFSHOOT_ABI_VERSION: u32 = 1;

/// Alignment of model and arena, in bytes.
pub const OFFSHOOT_ALIGNMENT: usize = 16;

/// Words of an object.
pub const OFFSHOOT_OBJECT_WORDS: usize = 64;

/// A network and its arena. What is in it is the library's own. Zero it before the first use; do not copy or move it while it is open.
#[repr(C)]
#[derive(Debug)]
pub struct Offshoot {
    /// Not for the caller.
    pub words: [u64; OFFSHOOT_OBJECT_WORDS],
}

/// What an object holds.
#[repr(C)]
struct Object {
    mark: u32,
    /// The number that goes with the last status.
    detail: u32,
    /// Initialised if the mark says so.
    open: MaybeUninit<Open>,
}

const _: () =
    assert!(size_of::<Object>() <= size_of::<Offshoot>() && align_of::<Object>() <= align_of::<Offshoot>());

/// Mark of an open object. Every other number stands for one that is not open, so that zeros do.
const OPEN: u32 = 0x4f46_4621;

/// An open network.
pub(crate) struct Open {
    pub(crate) model: Model<'static>,
    arena: *mut u8,
    arena_bytes: usize,
    state: Option<TrainState>,
}

impl Open {
    /// Lets the engine work in the arena. Between calls there is no engine, so that the caller may use the arena's inputs and outputs.
    pub(crate) fn engaged<R>(
        &mut self,
        work: impl FnOnce(&mut Engine<'static, '_>) -> Result<R, Failure>,
    ) -> Result<R, Failure> {
        // SAFETY: `open` checked the arena; the caller keeps it where it is and uses it only between calls.
        let arena = unsafe { slice_mut(self.arena, self.arena_bytes) }?;
        let mut engine = match self.state {
            Some(state) => Engine::resumed(self.model, arena, state)?,
            None => Engine::continued(self.model, arena)?,
        };
        let result = work(&mut engine);
        self.state = engine.state();
        result
    }

    /// The arena's bytes at `offset`, which a validated model or the engine named.
    pub(crate) fn at(&self, offset: usize) -> *mut u8 {
        self.arena.wrapping_add(offset)
    }

    /// Where the arena lies.
    pub(crate) fn region(&self) -> Region {
        Region::of(self.arena.cast_const(), self.arena_bytes)
    }

    /// Switches to another network of the file. Recurrent layers that keep their state restart.
    pub(crate) fn select(&mut self, index: usize) -> Result<(), Failure> {
        let current = self.model.network_index();
        let first = self.model.network(0)?;
        let chosen = self.model.network(index)?;
        if index == current {
            return Ok(());
        }
        if self.state.is_some() {
            return Err(Error::Learning.into());
        }
        // An engine of the first network has the whole arena.
        self.model = first;
        let switched = self.engaged(|engine| {
            engine.select(current)?;
            Ok(engine.select(index)?)
        });
        self.model = chosen;
        switched
    }
}

/// Does `work` on an open object, and keeps the detail of its failure.
///
/// # Safety
/// If `network` is neither null nor misaligned, it is an object that was zeroed or opened, and no other thread uses it now.
pub(crate) unsafe fn with(
    network: *mut Offshoot,
    work: impl FnOnce(&mut Open) -> Result<(), Failure>,
) -> Status {
    if let Err(status) = check(network, 1) {
        return status;
    }
    // SAFETY: checked above; any bytes are an `Object`, since what needs more is `MaybeUninit`.
    let object = unsafe { &mut *network.cast::<Object>() };
    object.detail = 0;
    if object.mark != OPEN {
        return Status::NotOpen;
    }
    // A call from within (a watcher's) finds the object closed; so does every call after a panic.
    object.mark = 0;
    // SAFETY: the mark says that it is initialised.
    let open = unsafe { object.open.assume_init_mut() };
    let result = guarded(|| work(open));
    let failure = result.err().unwrap_or(Status::Ok.into());
    if failure.status != Status::Bug {
        object.mark = OPEN;
    }
    object.detail = failure.detail;
    failure.status
}

/// Opens a model, for inference or for learning too.
///
/// # Safety
/// As [`offshoot_open`].
unsafe fn open(
    network: *mut Offshoot,
    model: *const u8,
    model_bytes: usize,
    arena: *mut u8,
    arena_bytes: usize,
    learns: bool,
) -> Status {
    if let Err(status) = check(network, 1) {
        return status;
    }
    let regions = [
        Region::of(network.cast_const(), 1),
        Region::of(model, model_bytes),
        Region::of(arena.cast_const(), arena_bytes),
    ];
    let result = guarded(|| {
        if model.is_null() || arena.is_null() {
            return Err(Status::NullPointer.into());
        }
        check(arena, arena_bytes)?;
        // SAFETY: the caller vouches for the model's bytes, and that they stay.
        let file: &'static [u8] = unsafe { slice(model, model_bytes) }?;
        regions[0].apart(regions[1])?;
        regions[0].apart(regions[2])?;
        regions[1].apart(regions[2])?;
        let model = Model::open(file)?;
        // SAFETY: as for the model; it overlaps neither model nor object.
        let memory = unsafe { slice_mut(arena, arena_bytes) }?;
        let engine = if learns { Engine::learning(model, memory)? } else { Engine::new(model, memory)? };
        let state = engine.state();
        Ok(Open { model, arena, arena_bytes, state })
    });
    // SAFETY: checked above; any bytes are an `Object`.
    let object = unsafe { &mut *network.cast::<Object>() };
    match result {
        Ok(open) => {
            object.open.write(open);
            (object.mark, object.detail) = (OPEN, 0);
            Status::Ok
        }
        Err(failure) => {
            (object.mark, object.detail) = (0, failure.detail);
            failure.status
        }
    }
}

/// Opens a model for inference: validates the whole file, and clears the arena. An object that was open is closed first.
///
/// `model` and `arena` begin at a multiple of 16. `offshoot_inspect` says how large the arena must be.
///
/// # Safety
/// `network` was zeroed before its first use. Model and arena stay where they are, and nobody changes the model, until the object is
/// closed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn offshoot_open(
    network: *mut Offshoot,
    model: *const u8,
    model_bytes: usize,
    arena: *mut u8,
    arena_bytes: usize,
) -> Status {
    // SAFETY: the caller vouches for it.
    unsafe { open(network, model, model_bytes, arena, arena_bytes, false) }
}

/// As `offshoot_open`, for a model with a learning plan: runs and train steps in one arena, of `learning_arena_bytes`.
///
/// # Safety
/// As `offshoot_open`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn offshoot_open_learning(
    network: *mut Offshoot,
    model: *const u8,
    model_bytes: usize,
    arena: *mut u8,
    arena_bytes: usize,
) -> Status {
    // SAFETY: the caller vouches for it.
    unsafe { open(network, model, model_bytes, arena, arena_bytes, true) }
}

/// Closes an object. Its memory, model and arena are the caller's again. Closing what is not open does nothing.
///
/// # Safety
/// As for every call: a pointer that is neither null nor misaligned is an object.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn offshoot_close(network: *mut Offshoot) -> Status {
    if let Err(status) = check(network, 1) {
        return status;
    }
    // SAFETY: checked above; any bytes are an `Object`. Nothing in it needs dropping.
    let object = unsafe { &mut *network.cast::<Object>() };
    (object.mark, object.detail) = (0, 0);
    Status::Ok
}

/// The number that goes with the status of the last call on this object, as the status says; else 0.
///
/// # Safety
/// As for every call: a pointer that is neither null nor misaligned is an object.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn offshoot_detail(network: *const Offshoot) -> u32 {
    if check(network, 1).is_err() {
        return 0;
    }
    // SAFETY: checked above; any bytes are an `Object`.
    unsafe { (*network.cast::<Object>()).detail }
}

/// Bytes of an object: at most `sizeof(offshoot)`, for a caller that does not see the header's structure.
#[unsafe(no_mangle)]
pub extern "C" fn offshoot_size() -> usize {
    size_of::<Offshoot>()
}

/// Alignment of an object, in bytes.
#[unsafe(no_mangle)]
pub extern "C" fn offshoot_align() -> usize {
    align_of::<Offshoot>()
}
