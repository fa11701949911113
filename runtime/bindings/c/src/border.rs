//! Pointers and lengths of the caller, and panics: what must be checked before Rust may touch it.

use crate::status::{Failure, Status};

/// Checks that `count` elements may lie at `pointer`: not null, aligned, within the address space. No elements may lie anywhere.
pub(crate) fn check<T>(pointer: *const T, count: usize) -> Result<(), Status> {
    if count == 0 {
        return Ok(());
    }
    if pointer.is_null() {
        return Err(Status::NullPointer);
    }
    if !pointer.is_aligned() {
        return Err(Status::Alignment);
    }
    let bytes = count.checked_mul(size_of::<T>()).filter(|bytes| isize::try_from(*bytes).is_ok());
    bytes.and_then(|bytes| pointer.addr().checked_add(bytes)).map(|_| ()).ok_or(Status::TooLong)
}

/// The caller's elements to read.
///
/// # Safety
/// If `pointer` is neither null nor misaligned, `count` initialised elements lie there, and nothing writes to them for the life of the
/// slice.
pub(crate) unsafe fn slice<'a, T>(pointer: *const T, count: usize) -> Result<&'a [T], Status> {
    check(pointer, count)?;
    if count == 0 {
        return Ok(&[]);
    }
    // SAFETY: checked above; the caller vouches for the rest.
    Ok(unsafe { core::slice::from_raw_parts(pointer, count) })
}

/// The caller's elements to write.
///
/// # Safety
/// As [`slice`]; nothing else reads or writes them either.
pub(crate) unsafe fn slice_mut<'a, T>(pointer: *mut T, count: usize) -> Result<&'a mut [T], Status> {
    check(pointer, count)?;
    if count == 0 {
        return Ok(&mut []);
    }
    // SAFETY: checked above; the caller vouches for the rest.
    Ok(unsafe { core::slice::from_raw_parts_mut(pointer, count) })
}

/// Writes a result of a call.
///
/// # Safety
/// If `to` is neither null nor misaligned, memory for a `T` lies there.
pub(crate) unsafe fn write<T>(to: *mut T, value: T) -> Result<(), Status> {
    check(to, 1)?;
    // SAFETY: checked above; the caller vouches for the rest.
    unsafe { to.write(value) };
    Ok(())
}

/// As [`write`], but null leaves the result out.
///
/// # Safety
/// As [`write`].
pub(crate) unsafe fn write_if_wanted<T>(to: *mut T, value: T) -> Result<(), Status> {
    if to.is_null() {
        return Ok(());
    }
    // SAFETY: the caller vouches for it.
    unsafe { write(to, value) }
}

/// A range of addresses.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Region {
    start: usize,
    bytes: usize,
}

impl Region {
    /// Where `count` elements lie that [`check`] has passed.
    pub(crate) fn of<T>(pointer: *const T, count: usize) -> Self {
        Self { start: pointer.addr(), bytes: count.saturating_mul(size_of::<T>()) }
    }

    /// An error if both have a byte in common.
    pub(crate) fn apart(self, other: Self) -> Result<(), Status> {
        let ends = |r: Self| r.start.saturating_add(r.bytes);
        let meet = self.bytes > 0 && other.bytes > 0 && self.start < ends(other) && other.start < ends(self);
        if meet { Err(Status::Overlap) } else { Ok(()) }
    }
}

/// Does the work; a panic of a host's program ends here.
#[cfg(not(target_os = "none"))]
pub(crate) fn guarded<R>(work: impl FnOnce() -> Result<R, Failure>) -> Result<R, Failure> {
    // After a panic the object is closed, so nothing sees what it left.
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).unwrap_or_else(|_| Err(Status::Bug.into()))
}

/// Does the work; without an operating system there is no way back from a panic.
#[cfg(target_os = "none")]
pub(crate) fn guarded<R>(work: impl FnOnce() -> Result<R, Failure>) -> Result<R, Failure> {
    work()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers_and_lengths_are_checked() {
        let words = [0u32; 4];
        let at = words.as_ptr();
        assert_eq!(check(at, 4), Ok(()));
        assert_eq!(check(core::ptr::null::<u32>(), 0), Ok(()));
        assert_eq!(check(core::ptr::null::<u32>(), 1), Err(Status::NullPointer));
        assert_eq!(check(at.wrapping_byte_add(1), 1), Err(Status::Alignment));
        for count in [usize::MAX, usize::MAX / 4, usize::MAX / 8 + 1] {
            assert_eq!(check(at, count), Err(Status::TooLong), "{count}");
        }
        assert_eq!(check(core::ptr::without_provenance::<u8>(usize::MAX - 1), 2), Err(Status::TooLong));
    }

    #[test]
    fn regions_meet_where_they_share_a_byte() {
        let region = |start, bytes| Region { start, bytes };
        assert_eq!(region(0, 4).apart(region(4, 4)), Ok(()));
        assert_eq!(region(0, 5).apart(region(4, 4)), Err(Status::Overlap));
        assert_eq!(region(4, 1).apart(region(0, 16)), Err(Status::Overlap));
        assert_eq!(region(4, 0).apart(region(0, 16)), Ok(()));
        assert_eq!(region(usize::MAX - 1, 9).apart(region(0, 9)), Ok(()));
    }

    #[test]
    fn a_panic_becomes_a_status() {
        let panicked = guarded(|| -> Result<(), Failure> { panic!("seen in the log of the test") });
        assert_eq!(panicked, Err(Status::Bug.into()));
    }
}
