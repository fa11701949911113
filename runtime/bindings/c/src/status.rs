//! Status codes and their texts.

use core::ffi::{CStr, c_char};
use offshoot::Error;

/// What a call came to. New codes may be added; the number of a code does not change.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// The call did what it says.
    Ok = 0,
    /// A pointer is null.
    NullPointer = 1,
    /// A pointer is not aligned: model and arena to 16 bytes, others to their type.
    Alignment = 2,
    /// So many elements do not fit the address space.
    TooLong = 3,
    /// Memory overlaps that must not: object, model, arena, and the buffers of the caller.
    Overlap = 4,
    /// The object is not open, was not zeroed before its first use, or a call on it has not returned.
    NotOpen = 5,
    /// The buffer is too small. The detail is the number of bytes needed.
    BufferTooSmall = 6,
    /// The bytes are no `.off` file.
    NotOff = 10,
    /// This release does not read the file's format version. The detail is that version.
    Version = 11,
    /// The file, or what was learned, has another length than it should.
    Length = 12,
    /// The checksum does not match: the file is damaged.
    Checksum = 13,
    /// The library was built without features that the file needs. The detail is their mask.
    Requires = 14,
    /// The description of an input or output is invalid. The detail is its index.
    Io = 15,
    /// The library does not know an operator, or was built without it. The detail is the operator's index.
    UnknownOperator = 16,
    /// The record of an operator cannot be decoded. The detail is the operator's index.
    Record = 17,
    /// An operator breaks a rule of its kind. The detail is the operator's index.
    Invalid = 18,
    /// The arena is too small. The detail is the number of bytes needed.
    ArenaTooSmall = 20,
    /// The network has no such input or output.
    NoSuchTensor = 21,
    /// The input or output has another element type.
    TensorType = 22,
    /// The input or output has another number of elements. The detail is that number.
    TensorLength = 23,
    /// The file has no such network. The detail is the number of networks.
    NoSuchNetwork = 24,
    /// A learning record breaks a rule, or what was learned does not fit it. The detail is its index, 255 for what all share.
    Learn = 30,
    /// The model has no learning records, or was opened for inference only.
    NotLearning = 31,
    /// The call is not possible while the model learns.
    Learning = 32,
    /// The model has no such class. The detail is the number of classes.
    Label = 33,
    /// A bug in the runtime. The object is closed.
    Bug = 99,
}

impl Status {
    /// All of them.
    ///
    /// cbindgen:ignore
    pub(crate) const ALL: [Self; 26] = [
        Self::Ok,
        Self::NullPointer,
        Self::Alignment,
        Self::TooLong,
        Self::Overlap,
        Self::NotOpen,
        Self::BufferTooSmall,
        Self::NotOff,
        Self::Version,
        Self::Length,
        Self::Checksum,
        Self::Requires,
        Self::Io,
        Self::UnknownOperator,
        Self::Record,
        Self::Invalid,
        Self::ArenaTooSmall,
        Self::NoSuchTensor,
        Self::TensorType,
        Self::TensorLength,
        Self::NoSuchNetwork,
        Self::Learn,
        Self::NotLearning,
        Self::Learning,
        Self::Label,
        Self::Bug,
    ];

    /// What it means, and a way out.
    pub fn message(self) -> &'static CStr {
        match self {
            Self::Ok => c"ok",
            Self::NullPointer => c"a pointer is null",
            Self::Alignment => c"a pointer is not aligned: model and arena to 16 bytes, others to their type",
            Self::TooLong => c"so many elements do not fit the address space",
            Self::Overlap => c"object, model, arena, or buffer overlap",
            Self::NotOpen => c"the object is not open: zero it once, then call offshoot_open",
            Self::BufferTooSmall => c"the buffer is too small: offshoot_detail has the bytes needed",
            Self::NotOff => c"not an .off file, or a signed one: this library opens unsigned files that `offshoot compile` makes",
            Self::Version => c"this release does not read the file's format version: compile the model again",
            Self::Length => c"the file or what was learned is truncated or too long",
            Self::Checksum => c"checksum mismatch: the file is damaged",
            Self::Requires => c"the library was built without features that the file needs: `runtime_features` of `offshoot inspect --json`",
            Self::Io => c"the description of an input or output is invalid",
            Self::UnknownOperator => c"an operator is unknown, or the library was built without it",
            Self::Record => c"the record of an operator cannot be decoded",
            Self::Invalid => c"an operator breaks a rule of its kind",
            Self::ArenaTooSmall => c"the arena is too small: offshoot_detail has the bytes needed",
            Self::NoSuchTensor => c"no such input or output: offshoot_info says how many there are",
            Self::TensorType => c"the input or output has another element type",
            Self::TensorLength => {
                c"the input or output has another number of elements: offshoot_detail has it"
            }
            Self::NoSuchNetwork => c"the file has no such network",
            Self::Learn => c"a learning record breaks a rule, or what was learned does not fit it",
            Self::NotLearning => c"the model does not learn: compile it with `--learn PLAN`, and open it for learning",
            Self::Learning => c"not possible while the model learns: open the object for inference",
            Self::Label => c"the model has no such class",
            Self::Bug => c"a bug in the runtime",
        }
    }
}

/// A failed call: its status, and the number that goes with it, or 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) status: Status,
    pub(crate) detail: u32,
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self { status, detail: 0 }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let (status, detail) = match error {
            Error::NotOff => (Status::NotOff, 0),
            Error::Version(version) => (Status::Version, version.into()),
            Error::Length => (Status::Length, 0),
            Error::Checksum => (Status::Checksum, 0),
            Error::Alignment => (Status::Alignment, 0),
            Error::Requires(mask) => (Status::Requires, mask.into()),
            Error::Io(index) => (Status::Io, index.into()),
            Error::UnknownOperator { op } => (Status::UnknownOperator, op.into()),
            Error::Record { op } => (Status::Record, op.into()),
            Error::Invalid { op, .. } => (Status::Invalid, op.into()),
            Error::ArenaTooSmall { needed, .. } => (Status::ArenaTooSmall, needed),
            Error::LearnedLength { needed, .. } => (Status::Length, needed),
            Error::NoSuchBlocks { .. } | Error::NoSuchTensor => (Status::NoSuchTensor, 0),
            Error::TensorType => (Status::TensorType, 0),
            Error::TensorLength { needed, .. } => (Status::TensorLength, needed),
            Error::NoSuchNetwork { networks } => (Status::NoSuchNetwork, networks.into()),
            Error::Learn { layer, .. } => (Status::Learn, layer.into()),
            Error::NotLearning => (Status::NotLearning, 0),
            Error::Learning => (Status::Learning, 0),
            Error::Label { classes } => (Status::Label, classes.into()),
            // An error that was added to the runtime and not here.
            _ => (Status::Bug, 0),
        };
        Self { status, detail }
    }
}

/// What a status means, as a text that is never null and never freed. A number that is no status has a text too.
#[unsafe(no_mangle)]
pub extern "C" fn offshoot_message(status: i32) -> *const c_char {
    let known = Status::ALL.iter().find(|s| **s as i32 == status);
    known.map_or(c"unknown status", |s| s.message()).as_ptr()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_a_number_and_a_text_of_its_own() {
        for (i, a) in Status::ALL.iter().enumerate() {
            // SAFETY: messages are C strings that live for ever.
            let text = unsafe { CStr::from_ptr(offshoot_message(*a as i32)) };
            assert_eq!(text, a.message());
            for b in &Status::ALL[i + 1..] {
                assert!(*a as i32 != *b as i32 && a.message() != b.message());
            }
        }
        for other in [-1, 7, 98, 100, i32::MAX, i32::MIN] {
            // SAFETY: as above.
            assert_eq!(unsafe { CStr::from_ptr(offshoot_message(other)) }, c"unknown status");
        }
    }
}
