//! Operators: one file per family. Each says what it computes, which records it takes (`check`), where it
//! writes (`output`), and hands slices to a kernel (`run`).
//!
//! `check` is called once a record, by [`crate::graph::Model::open`]; it may assume nothing. `run` is called on
//! checked records only, and still panics on none: its views of memory are checked again.
//!
//! An operator that is not built (cargo features `op-…`) or a float form without the feature `f32` is not linked:
//! the `cfg!` in its arm is a constant.

mod blocked;
mod coded;
mod conv;
mod elementwise;
mod linear;
mod matmul;
mod movement;
mod nested;
mod norm;
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

pub(crate) use shape::{Limits, Span, blob, product, require, window_output};
pub(crate) use stage::Plan as StagePlan;
pub(crate) use weights::{Layout, check_front};

use crate::engine::Memory;
use crate::error::Rule;
use crate::format::record::Record;

/// What every operator has.
trait Operator {
    /// Holds the record against every rule; gives an upper bound of the steps a run takes.
    fn check(&self, limits: &Limits<'_>) -> Result<u64, Rule>;
    /// The arena bytes that a run writes, from the first to the last.
    fn output(&self) -> Result<Span, Rule>;
    /// Computes.
    fn run(&self, memory: &mut Memory<'_>) -> Result<(), Rule>;
}

/// Calls a method of whatever operator the record is of, if it is built.
macro_rules! dispatch {
    ($record:expr, $r:ident => $call:expr) => {
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
            _ => Err(Rule::Format),
        }
    };
}

/// See [`Operator::check`].
pub(crate) fn check(record: &Record, limits: &Limits<'_>) -> Result<u64, Rule> {
    dispatch!(record, r => r.check(limits))
}

/// See [`Operator::output`].
pub(crate) fn output(record: &Record) -> Result<Span, Rule> {
    dispatch!(record, r => r.output())
}

/// See [`Operator::run`].
pub(crate) fn run(record: &Record, memory: &mut Memory<'_>) -> Result<(), Rule> {
    dispatch!(record, r => r.run(memory))
}
