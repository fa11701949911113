//! What the operators of a file are, and where they write: for pictures of the arena and tables of times.

use std::slice;

use offshoot::{Model, operators};
use offshoot_c::info::{ModelInfo, offshoot_inspect};
use offshoot_c::status::Status;

/// An operator of a network.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Operator {
    /// Multiply-accumulates of a run.
    pub macs: f64,
    /// Number of weights, without biases.
    pub weights: f64,
    /// The name of its kind, in UTF-8; it stays for the life of the module.
    pub kind: *const u8,
    /// Bytes of the name.
    pub kind_bytes: u32,
    /// Where in the arena the output lies.
    pub offset: u32,
    /// Bytes of the output.
    pub bytes: u32,
    /// Bytes of arena that the operator needs besides its input and output.
    pub scratch_bytes: u32,
}

/// Describes the operators of the first network of a file, in order. `operators` has room for `capacity` of them; `count`, which may be
/// null, becomes their number, whether they have room or not.
///
/// Fails as `offshoot_inspect` does, and with [`Status::BufferTooSmall`].
///
/// # Safety
/// `model` points to `model_bytes` bytes at a multiple of 16, `operators` to memory for `capacity` operators, `count` to memory for a number
/// or nowhere.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn offshoot_operators(
    model: *const u8,
    model_bytes: usize,
    operators: *mut Operator,
    capacity: usize,
    count: *mut u32,
) -> Status {
    if operators.is_null() && capacity > 0 {
        return Status::NullPointer;
    }
    if !operators.is_aligned() || !count.is_aligned() {
        return Status::Alignment;
    }
    // SAFETY: the caller vouches for the file; it is checked, and the result has memory.
    let status = unsafe { offshoot_inspect(model, model_bytes, &mut ModelInfo::default()) };
    if status != Status::Ok {
        return status;
    }
    // SAFETY: as above; the pointer was not null.
    let Ok(model) = Model::open(unsafe { slice::from_raw_parts(model, model_bytes) }) else {
        return Status::Bug;
    };
    if !count.is_null() {
        // SAFETY: the caller vouches for it.
        unsafe { count.write(model.op_count().into()) };
    }
    if usize::from(model.op_count()) > capacity {
        return Status::BufferTooSmall;
    }
    for (i, operator) in described(&model).enumerate() {
        // SAFETY: there are no more than the capacity.
        unsafe { operators.add(i).write(operator) };
    }
    Status::Ok
}

fn described<'m>(model: &Model<'m>) -> impl Iterator<Item = Operator> + use<'m> {
    let blobs = model.blobs();
    model.ops().map(move |(info, _, record)| {
        // A model that opened has no record that breaks a rule.
        let output = operators::output(&record).map_or((0, 0), |span| (span.start, span.len));
        let kind = info.tag.name();
        let members = || operators::members(&record, blobs);
        Operator {
            macs: members().map(|m| operators::macs(&m) as f64).sum(),
            weights: members().map(|m| operators::weights(&m) as f64).sum(),
            kind: kind.as_ptr(),
            kind_bytes: kind.len() as u32,
            offset: output.0 as u32,
            bytes: output.1 as u32,
            scratch_bytes: operators::scratch(&record, blobs).unwrap_or(0),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use offshoot::AlignedBytes;

    #[test]
    fn operators_are_those_of_the_file() {
        let file = AlignedBytes::copy_of(include_bytes!("../../../offshoot/examples/data/vibration.off"));
        let mut count = 0;
        // SAFETY: a file, no room, and memory for the number.
        let status =
            unsafe { offshoot_operators(file.as_ptr(), file.len(), std::ptr::dangling_mut(), 0, &mut count) };
        assert_eq!(status, Status::BufferTooSmall);
        let mut found = Vec::with_capacity(count as usize);
        // SAFETY: a file, and memory for as many as there are.
        let status = unsafe {
            let status = offshoot_operators(
                file.as_ptr(),
                file.len(),
                found.as_mut_ptr(),
                count as usize,
                std::ptr::null_mut(),
            );
            found.set_len(count as usize);
            status
        };
        assert_eq!(status, Status::Ok);
        let model = Model::open(&file).unwrap();
        assert!(found.iter().all(|o| u64::from(o.offset) + u64::from(o.bytes) <= model.arena_bytes().into()));
        assert!(found.iter().any(|o| o.macs > 0.0 && o.weights > 0.0));
    }

    #[test]
    fn damaged_files_and_null_pointers_have_a_status() {
        let nothing = std::ptr::null_mut();
        let bytes = AlignedBytes::zeroed(64);
        // SAFETY: null, then a slice.
        unsafe {
            assert_eq!(
                offshoot_operators(std::ptr::null(), 0, nothing, 0, std::ptr::null_mut()),
                Status::NullPointer
            );
            let status = offshoot_operators(bytes.as_ptr(), bytes.len(), nothing, 0, std::ptr::null_mut());
            assert_eq!(status, Status::NotOff);
        }
    }
}
