//! Memory of the module for its caller: model, arena, object and buffers.

use std::alloc::{Layout, alloc_zeroed, dealloc};

/// Alignment of all memory: what model and arena need.
const ALIGNMENT: usize = offshoot_c::object::OFFSHOOT_ALIGNMENT;

/// Zeroed memory at a multiple of 16; null if there is not so much, or for no bytes.
///
/// The memory of the module may grow and move: views of JavaScript are made anew after every call.
#[unsafe(no_mangle)]
pub extern "C" fn offshoot_allocate(bytes: usize) -> *mut u8 {
    match Layout::from_size_align(bytes, ALIGNMENT) {
        // SAFETY: the layout has a size.
        Ok(layout) if bytes > 0 => unsafe { alloc_zeroed(layout) },
        _ => std::ptr::null_mut(),
    }
}

/// Frees memory of [`offshoot_allocate`]. Null is nothing to free.
///
/// # Safety
/// `memory` is null, or came from [`offshoot_allocate`] with the same number of bytes and was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn offshoot_free(memory: *mut u8, bytes: usize) {
    if let (false, Ok(layout)) = (memory.is_null(), Layout::from_size_align(bytes, ALIGNMENT)) {
        // SAFETY: the caller vouches for both.
        unsafe { dealloc(memory, layout) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_aligned_and_zeroed() {
        for bytes in [1, 15, 16, 4097] {
            let memory = offshoot_allocate(bytes);
            assert_eq!(memory.addr() % ALIGNMENT, 0);
            // SAFETY: so many bytes were allocated.
            unsafe {
                assert!(std::slice::from_raw_parts(memory, bytes).iter().all(|&b| b == 0));
                offshoot_free(memory, bytes);
            }
        }
        assert!(offshoot_allocate(0).is_null());
        assert!(offshoot_allocate(usize::MAX).is_null());
        // SAFETY: nothing to free.
        unsafe { offshoot_free(std::ptr::null_mut(), 16) };
    }
}
