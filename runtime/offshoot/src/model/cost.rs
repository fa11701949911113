//! Cost and output of a record: [`offshoot_operators`] under the names that the host tools use.

use offshoot_format::record::{ConvTiled, FusedRows, Record};
use offshoot_operators as operators;
pub use offshoot_operators::{InPlace, macs, members, output_dtype, weights};

/// Arena offset and length in bytes of the record's output; `None` for a record that breaks a rule.
pub fn output(record: &Record) -> Option<(u32, u32)> {
    operators::output(record).ok().map(|span| (span.start as u32, span.len as u32))
}

/// Bytes of arena that the record needs besides its input and output; `None` for a record that breaks a rule.
pub fn scratch(record: &Record) -> Option<u32> {
    operators::scratch(record, &[]).ok()
}

/// Bytes of the input of a tiled convolution.
pub fn input_bytes(r: &ConvTiled) -> u64 {
    u64::from(r.n) * u64::from(r.h) * u64::from(r.w) * u64::from(r.c)
}

/// How far the output may overlap the input.
pub fn lag(record: &Record) -> InPlace {
    operators::in_place(record, &[])
}

/// Bytes of arena that fused row tiles need, and how far their output may overlap their input; `None` if the record
/// breaks a rule.
pub fn stage(stage: &FusedRows, blobs: &[u8]) -> Option<(u32, InPlace)> {
    let record = Record::FusedRows(*stage);
    Some((operators::scratch(&record, blobs).ok()?, operators::in_place(&record, blobs)))
}
