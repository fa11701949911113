//! Operators, one file per family. The trait [`Operator`] states everything about an operator: its rules, its output,
//! how it runs, and its cost. It has no defaults, so the compiler enforces completeness.
//!
//! [`check`] runs once per record, when a file is opened, and assumes nothing. [`run`] is for checked records. It
//! panics on no record, because the views of memory are checked again.
//!
//! An operator that is not built (cargo features `op-…`), or a float form without the feature `f32`, is not linked: the
//! `cfg!` in its arm is a constant.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

mod tiled;

#[cfg(feature = "op-fully-connected-banded")]
mod banded;
#[cfg(feature = "op-branch")]
mod branch;
mod conv;
mod dispatch;
mod drivers;
mod elementary;
mod elementwise;
mod fused_rows;
mod grid_sample;
mod history;
mod huffman;
mod indexed;
#[cfg(feature = "int16")]
mod int16;
mod matmul;
#[cfg(feature = "op-micro-frontend")]
mod micro_frontend;
mod movement;
mod nested;
mod norm;
mod operator;
mod packed;
pub mod parts;
mod planar;
mod pool;
mod quantize;
mod recurrent;
mod reduce;
mod resize;
mod row_major;
mod rows;
mod shape;
mod single_multiply;
mod sparse;
#[cfg(feature = "op-spectrum")]
mod spectrum;
mod weight_only;
mod weights;
mod winograd;

#[cfg(feature = "op-branch")]
pub use branch::passed_over;
pub use conv::run_conv2d_with;
use offshoot_base::{Limits, Memory, Rule, Span};
pub use operator::{InPlace, MAX_WORK, Operator};
pub use recurrent::{initial_state, recurrent_tensors};
pub use weights::check_parameters;

use offshoot_format::record::{DType, Record};

/// See [`Operator::check`].
///
/// # Errors
/// The rule that the record breaks.
pub fn check(record: &Record, limits: &Limits<'_>) -> Result<u64, Rule> {
    match record {
        Record::FusedRows(r) if cfg!(feature = "op-fused-rows") => r.check(limits),
        _ => dispatch::check(record, limits),
    }
}

/// See [`Operator::output`].
///
/// # Errors
/// The rule that the record breaks.
pub fn output(record: &Record) -> Result<Span, Rule> {
    match record {
        Record::FusedRows(r) if cfg!(feature = "op-fused-rows") => r.output(),
        _ => dispatch::output(record),
    }
}

/// See [`Operator::run`].
///
/// # Errors
/// None for a record that [`check`] accepts.
pub fn run(record: &Record, memory: &mut Memory<'_>) -> Result<(), Rule> {
    match record {
        Record::FusedRows(r) if cfg!(feature = "op-fused-rows") => r.run(memory),
        _ => dispatch::run(record, memory),
    }
}

/// See [`Operator::output_dtype`]; int8 for an operator that is not built.
pub fn output_dtype(record: &Record) -> DType {
    match record {
        Record::FusedRows(r) if cfg!(feature = "op-fused-rows") => r.output_dtype(),
        _ => dispatch::output_dtype(record),
    }
}

/// See [`Operator::macs`].
pub fn macs(record: &Record) -> u64 {
    match record {
        Record::FusedRows(r) if cfg!(feature = "op-fused-rows") => r.macs(),
        _ => dispatch::macs(record),
    }
}

/// See [`Operator::weights`].
pub fn weights(record: &Record) -> u64 {
    match record {
        Record::FusedRows(r) if cfg!(feature = "op-fused-rows") => r.weights(),
        _ => dispatch::weights(record),
    }
}

/// See [`Operator::scratch`].
///
/// # Errors
/// The rule that the record breaks.
pub fn scratch(record: &Record, blobs: &[u8]) -> Result<u32, Rule> {
    match record {
        Record::FusedRows(r) if cfg!(feature = "op-fused-rows") => r.scratch(blobs),
        _ => dispatch::scratch(record, blobs),
    }
}

/// See [`Operator::in_place`].
pub fn in_place(record: &Record, blobs: &[u8]) -> InPlace {
    match record {
        Record::FusedRows(r) if cfg!(feature = "op-fused-rows") => r.in_place(blobs),
        _ => dispatch::in_place(record, blobs),
    }
}

/// Visits the records that fused row tiles run, in order: a piece of a member each. Nothing for any other record.
///
/// # Errors
/// The rule that the record breaks.
pub fn pieces(record: &Record, blobs: &[u8], mut visit: impl FnMut(&Record)) -> Result<(), Rule> {
    match record {
        Record::FusedRows(r) if cfg!(feature = "op-fused-rows") => {
            let plan = fused_rows::Plan::of(r, blobs)?;
            plan.visit(
                0..plan.strips(),
                &mut (),
                |(), _, _, _| Ok(()),
                |(), piece| {
                    visit(piece);
                    Ok(())
                },
            )
        }
        _ => Ok(()),
    }
}

/// The operators of fused row tiles, in order. For any other record, the record itself.
pub fn members(record: &Record, blobs: &[u8]) -> impl Iterator<Item = Record> {
    let (own, members) = match record {
        Record::FusedRows(r) if cfg!(feature = "op-fused-rows") => {
            (None, fused_rows::Plan::of(r, blobs).ok().map(|plan| plan.records()))
        }
        other => (Some(*other), None),
    };
    own.into_iter().chain(members.into_iter().flatten())
}
