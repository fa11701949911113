//! The module of the page that learns: the runtime (`offshoot-wasm`), and changes of a `.off` file that the host's tools make, so that a page
//! gives away a file with what it learned. `runtime/bindings/wasm/package/offshoot.js` calls them where a module has them.
//!
//! Every call takes its file as it is in memory and returns bytes in memory of its own, which the caller frees with `offshoot_free`: the
//! changed file, or if the call fails, why, in UTF-8.

#![deny(unsafe_op_in_unsafe_fn)]

use std::ptr::{null_mut, slice_from_raw_parts_mut};
use std::slice;

use offshoot_c::status::Status;
use offshoot_export::{Error, relearn};
pub use offshoot_wasm as runtime;
use runtime::memory::offshoot_allocate;

/// Bytes that a call returns.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Bytes {
    /// Where they begin; null if there are none.
    pub data: *mut u8,
    /// How many they are.
    pub bytes: usize,
}

/// The file with everything that was learned as its start: see [`relearn::going_on`].
///
/// # Safety
/// `model` points to `model_bytes` bytes, `learned` to `learned_bytes`, `to` to memory for the result.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn offshoot_going_on(
    model: *const u8,
    model_bytes: usize,
    learned: *const u8,
    learned_bytes: usize,
    to: *mut Bytes,
) -> Status {
    // SAFETY: the caller vouches for all three.
    unsafe {
        changed(model, model_bytes, to, |off| {
            relearn::going_on(off, bytes(learned, learned_bytes).unwrap_or_default())
        })
    }
}

/// The file with what was learned, for inference alone: see [`relearn::inference_only`].
///
/// # Safety
/// As [`offshoot_going_on`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn offshoot_inference_only(
    model: *const u8,
    model_bytes: usize,
    learned: *const u8,
    learned_bytes: usize,
    to: *mut Bytes,
) -> Status {
    // SAFETY: the caller vouches for all three.
    unsafe {
        changed(model, model_bytes, to, |off| {
            relearn::inference_only(off, bytes(learned, learned_bytes).unwrap_or_default())
        })
    }
}

/// The file with room for `classes` more classes, which its classifier head learns: see [`relearn::with_new_classes`].
///
/// # Safety
/// `model` points to `model_bytes` bytes, `to` to memory for the result.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn offshoot_with_new_classes(
    model: *const u8,
    model_bytes: usize,
    classes: u32,
    to: *mut Bytes,
) -> Status {
    // SAFETY: the caller vouches for both.
    unsafe {
        changed(model, model_bytes, to, |off| {
            relearn::with_new_classes(off, u16::try_from(classes).unwrap_or(u16::MAX))
        })
    }
}

/// The caller's bytes; none if the pointer is null.
///
/// # Safety
/// A pointer that is not null points to `count` bytes.
unsafe fn bytes<'a>(data: *const u8, count: usize) -> Option<&'a [u8]> {
    // SAFETY: the caller vouches for it.
    (!data.is_null()).then(|| unsafe { slice::from_raw_parts(data, count) })
}

/// Writes the changed file to memory of its own, or why it cannot be.
///
/// # Safety
/// `model` points to `model_bytes` bytes, `to` to memory for the result.
unsafe fn changed(
    model: *const u8,
    model_bytes: usize,
    to: *mut Bytes,
    change: impl FnOnce(&[u8]) -> Result<Vec<u8>, Error>,
) -> Status {
    // SAFETY: the caller vouches for it.
    let Some(off) = (unsafe { bytes(model, model_bytes) }).filter(|_| !to.is_null()) else {
        return Status::NullPointer;
    };
    if !to.is_aligned() {
        return Status::Alignment;
    }
    let (status, result) = match change(off) {
        Ok(file) => (Status::Ok, file),
        Err(error) => (Status::Learn, error.to_string().into_bytes()),
    };
    let data = offshoot_allocate(result.len());
    if data.is_null() {
        // SAFETY: the caller vouches for it.
        unsafe { to.write(Bytes { data: null_mut(), bytes: 0 }) };
        return if result.is_empty() { status } else { Status::TooLong };
    }
    // SAFETY: so many bytes were allocated and are zeroed; the caller vouches for the result's memory.
    unsafe {
        (*slice_from_raw_parts_mut(data, result.len())).copy_from_slice(&result);
        to.write(Bytes { data, bytes: result.len() });
    }
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEARNS: &[u8] = include_bytes!("../../../runtime/offshoot/examples/data/vibration_learns.off");

    fn call(work: impl FnOnce(*mut Bytes) -> Status) -> (Status, Vec<u8>) {
        let mut result = Bytes { data: null_mut(), bytes: 0 };
        let status = work(&mut result);
        // SAFETY: what a call returns, or nothing.
        let copy = unsafe { bytes(result.data, result.bytes) }.map(<[u8]>::to_vec).unwrap_or_default();
        // SAFETY: as above.
        unsafe { runtime::memory::offshoot_free(result.data, result.bytes) };
        (status, copy)
    }

    #[test]
    fn a_change_is_that_of_the_tools() {
        let known = |classes| relearn::with_new_classes(LEARNS, classes).map_err(|e| e.to_string());
        // SAFETY: slices, and memory for the result.
        let (status, file) =
            call(|to| unsafe { offshoot_with_new_classes(LEARNS.as_ptr(), LEARNS.len(), 2, to) });
        match known(2) {
            Ok(expected) => assert_eq!((status, file), (Status::Ok, expected)),
            Err(text) => assert_eq!((status, String::from_utf8(file).unwrap()), (Status::Learn, text)),
        }
    }

    #[test]
    fn what_does_not_belong_to_the_file_is_refused_with_a_reason() {
        let learned = [1, 2, 3];
        // SAFETY: slices, and memory for the result.
        let (status, text) = call(|to| unsafe {
            offshoot_going_on(LEARNS.as_ptr(), LEARNS.len(), learned.as_ptr(), learned.len(), to)
        });
        assert_eq!(status, Status::Learn);
        assert!(String::from_utf8(text).unwrap().contains("another model"));
        // SAFETY: null is no file.
        let (status, _) = call(|to| unsafe {
            offshoot_inference_only(std::ptr::null(), 0, learned.as_ptr(), learned.len(), to)
        });
        assert_eq!(status, Status::NullPointer);
    }
}
