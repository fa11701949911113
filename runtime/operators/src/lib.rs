//! Operators: one file per family. [`Operator`] is everything there is to know of one: its rules, what it writes, how it runs,
//! and what it costs. The compiler asks for all of it; there are no defaults.
//!
//! [`check`] is called once a record, when a file is opened; it may assume nothing. [`run`] is called on checked records only,
//! and still panics on none: its views of memory are checked again.
//!
//! An operator that is not built (cargo features `op-…`) or a float form without the feature `f32` is not linked:
//! the `cfg!` in its arm is a constant.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

mod blocked;

mod coded;
mod conv;
mod drivers;
mod elementwise;
mod linear;
mod matmul;
mod movement;
mod nested;
mod norm;
mod operator;
mod packed;
mod planar;
mod pool;
mod quantize;
mod recurrent;
mod reduce;
mod resize;
mod shape;
mod sparse;
mod stage;
mod weights;
mod winograd;

pub use conv::run_conv2d_with;
pub use offshoot_base::{Limits, Memory, Span};
pub use operator::{InPlace, Operator};
pub use recurrent::{initial_state, recurrent_tensors};
pub use weights::check_front;

use offshoot_base::Rule;
use offshoot_format::record::{DType, Record};

/// Calls a method of the operator that the record belongs to, if that operator is built.
macro_rules! dispatch {
    ($record:expr, $r:ident => $call:expr, else $other:expr) => {
        match $record {
            Record::Conv2d($r) if cfg!(feature = "op-conv2d") => $call,
            Record::Depthwise($r) if cfg!(feature = "op-depthwise") => $call,
            Record::ConvTranspose($r) if cfg!(feature = "op-conv-transpose") => $call,
            Record::FullyConnected($r) if cfg!(feature = "op-fully-connected") => $call,
            Record::MatMul($r) if cfg!(feature = "op-matmul") => $call,
            Record::Pool($r) if cfg!(feature = "op-pool") => $call,
            Record::Binary($r) if cfg!(feature = "op-binary") => $call,
            Record::Unary($r) if cfg!(feature = "op-unary") => $call,
            Record::Lut($r) if cfg!(feature = "op-lut") => $call,
            Record::PRelu($r) if cfg!(feature = "op-prelu") => $call,
            Record::Requantize($r) if cfg!(feature = "op-requantize") => $call,
            Record::Softmax($r) if cfg!(feature = "op-softmax") => $call,
            Record::LayerNorm($r) if cfg!(feature = "op-layer-norm") => $call,
            Record::Copy($r) if cfg!(feature = "op-copy") => $call,
            Record::Fill($r) if cfg!(feature = "op-fill") => $call,
            Record::Pad($r) if cfg!(feature = "op-pad") => $call,
            Record::Constant($r) if cfg!(feature = "op-constant") => $call,
            Record::Resize($r) if cfg!(feature = "op-resize") => $call,
            Record::Reduce($r) if cfg!(feature = "op-reduce") => $call,
            Record::ArgMax($r) if cfg!(feature = "op-argmax") => $call,
            Record::Quantize($r) if cfg!(feature = "op-quantize") => $call,
            Record::Dequantize($r) if cfg!(feature = "op-dequantize") => $call,
            Record::ConvBlocked($r) if cfg!(feature = "op-conv-blocked") => $call,
            Record::DepthwisePlanar($r) if cfg!(feature = "op-depthwise-planar") => $call,
            Record::ConvWinograd($r) if cfg!(feature = "op-conv-winograd") => $call,
            Record::FullyConnectedCoded($r) if cfg!(feature = "op-fully-connected-coded") => $call,
            Record::ConvPacked($r) if cfg!(feature = "op-conv-packed") => $call,
            Record::ConvLinear($r) if cfg!(feature = "op-conv-linear") => $call,
            Record::DepthwiseLinear($r) if cfg!(feature = "op-depthwise-linear") => $call,
            Record::Stage($r) if cfg!(feature = "op-stage") => $call,
            Record::Recurrent($r) if cfg!(feature = "op-recurrent") => $call,
            Record::ConvNested($r) if cfg!(feature = "op-conv-nested") => $call,
            Record::DepthwiseNested($r) if cfg!(feature = "op-depthwise-nested") => $call,
            Record::FullyConnectedSparse($r) if cfg!(feature = "op-fully-connected-sparse") => $call,
            Record::ConvSparse($r) if cfg!(feature = "op-conv-sparse") => $call,
            Record::RecurrentSparse($r) if cfg!(feature = "op-recurrent-sparse") => $call,
            _ => $other,
        }
    };
}

/// Most work that the operators of a file may do together in one run. Enough for a network four times ResNet-50, and an end to
/// what a hostile file can ask for.
pub const MAX_WORK: u64 = 1 << 34;

/// See [`Operator::check`].
///
/// # Errors
/// The rule that the record breaks.
pub fn check(record: &Record, limits: &Limits<'_>) -> Result<u64, Rule> {
    dispatch!(record, r => r.check(limits), else Err(Rule::Format))
}

/// See [`Operator::output`].
///
/// # Errors
/// The rule that the record breaks.
pub fn output(record: &Record) -> Result<Span, Rule> {
    dispatch!(record, r => r.output(), else Err(Rule::Format))
}

/// See [`Operator::run`].
///
/// # Errors
/// None for a record that [`check`] takes.
pub fn run(record: &Record, memory: &mut Memory<'_>) -> Result<(), Rule> {
    dispatch!(record, r => r.run(memory), else Err(Rule::Format))
}

/// See [`Operator::output_dtype`]; int8 for an operator that is not built.
pub fn output_dtype(record: &Record) -> DType {
    dispatch!(record, r => r.output_dtype(), else DType::I8)
}

/// See [`Operator::macs`].
pub fn macs(record: &Record) -> u64 {
    dispatch!(record, r => r.macs(), else 0)
}

/// See [`Operator::weights`].
pub fn weights(record: &Record) -> u64 {
    dispatch!(record, r => r.weights(), else 0)
}

/// See [`Operator::scratch`].
///
/// # Errors
/// The rule that the record breaks.
pub fn scratch(record: &Record, blobs: &[u8]) -> Result<u32, Rule> {
    dispatch!(record, r => r.scratch(blobs), else Err(Rule::Format))
}

/// See [`Operator::in_place`].
pub fn in_place(record: &Record, blobs: &[u8]) -> InPlace {
    dispatch!(record, r => r.in_place(blobs), else InPlace::Apart)
}

/// The operators of a stage, in order; of any other record, itself.
pub fn members(record: &Record, blobs: &[u8]) -> impl Iterator<Item = Record> {
    let (own, stage) = match record {
        Record::Stage(stage) if cfg!(feature = "op-stage") => {
            (None, stage::Plan::of(stage, blobs).ok().map(|plan| plan.records()))
        }
        other => (Some(*other), None),
    };
    own.into_iter().chain(stage.into_iter().flatten())
}
