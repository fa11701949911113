//! Versions, and what a model needs before anything is allocated.

use core::ffi::{CStr, c_char};

use crate::border::{Region, guarded, slice, write};
use crate::object::OFFSHOOT_ABI_VERSION;
use crate::status::Status;
use offshoot::Model;

/// What a model is and needs.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ModelInfo {
    /// Bytes of the file.
    pub file_bytes: u32,
    /// Bytes of arena for inference, for every network of the file.
    pub arena_bytes: u32,
    /// Bytes of arena for learning, inference included; 0 if nothing learns.
    pub learning_arena_bytes: u32,
    /// Bytes of what is learned, which `offshoot_save` writes; 0 if nothing learns.
    pub learned_bytes: u32,
    /// Number of classes that a label may name; 0 if nothing learns.
    pub classes: u32,
    /// Number of inputs of the first network.
    pub inputs: u32,
    /// Number of outputs of the first network.
    pub outputs: u32,
    /// Number of networks in the file: 1, and the sub-networks that share its weights.
    pub networks: u32,
    /// 1 if a run depends on earlier runs, else 0.
    pub keeps_state: u32,
}

/// Validates a file and says what it needs. Allocates nothing and keeps nothing.
///
/// # Safety
/// `model` points to `model_bytes` bytes, `info` to memory for the result.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn offshoot_inspect(
    model: *const u8,
    model_bytes: usize,
    info: *mut ModelInfo,
) -> Status {
    let result = guarded(|| {
        if model.is_null() || info.is_null() {
            return Err(Status::NullPointer.into());
        }
        // SAFETY: the caller vouches for it.
        let file = unsafe { slice(model, model_bytes) }?;
        Region::of(model, model_bytes).apart(Region::of(info.cast_const(), 1))?;
        let found = describe(&Model::open(file)?);
        // SAFETY: the caller vouches for it.
        Ok(unsafe { write(info, found) }?)
    });
    result.map_or_else(|failure| failure.status, |()| Status::Ok)
}

fn describe(model: &Model<'_>) -> ModelInfo {
    let learning = model.learning();
    // All lengths lie within an arena or a file, which have fewer than 2^32 bytes.
    ModelInfo {
        file_bytes: model.file_len(),
        arena_bytes: model.arena_bytes(),
        learning_arena_bytes: model.train_arena_bytes().unwrap_or(0),
        learned_bytes: learning.as_ref().map_or(0, |l| l.learned_bytes() as u32),
        classes: learning.as_ref().map_or(0, |l| l.classes().into()),
        inputs: model.input_count() as u32,
        outputs: model.output_count() as u32,
        networks: model.network_count() as u32,
        keeps_state: model.keeps_state().into(),
    }
}

/// Version of the interface that the library has. A program compares it with `OFFSHOOT_ABI_VERSION` of its header.
#[unsafe(no_mangle)]
pub extern "C" fn offshoot_abi_version() -> u32 {
    OFFSHOOT_ABI_VERSION
}

/// Version of the library, such as "0.1.0".
#[unsafe(no_mangle)]
pub extern "C" fn offshoot_version() -> *const c_char {
    const VERSION: &CStr =
        match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
            Ok(version) => version,
            Err(_) => c"",
        };
    VERSION.as_ptr()
}

/// Version of the `.off` format that the library reads.
#[unsafe(no_mangle)]
pub extern "C" fn offshoot_format_version() -> u32 {
    offshoot::base::FORMAT_VERSION.into()
}

/// CRC-32 (IEEE) of bytes: to save with what was learned, and to tell models apart. Writes to `crc`.
///
/// # Safety
/// `data` points to `bytes` bytes, `crc` to memory for the result.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn offshoot_crc32(data: *const u8, bytes: usize, crc: *mut u32) -> Status {
    // SAFETY: the caller vouches for it.
    let result = unsafe { slice(data, bytes) }.map(offshoot::wire::crc32);
    // SAFETY: as above.
    result.and_then(|value| unsafe { write(crc, value) }).err().unwrap_or(Status::Ok)
}
