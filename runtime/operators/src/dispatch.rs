//! Dispatch from a record to its operator, for every kind but fused row tiles, whose members are dispatched here.

use crate::operator::{InPlace, Operator};
use offshoot_base::{Limits, Memory, Rule, Span};
use offshoot_format::record::{DType, Record};

/// Calls a method of the record's operator if that operator is built.
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
            Record::ConvTiled($r) if cfg!(feature = "op-conv-tiled") => $call,
            Record::DepthwisePlanar($r) if cfg!(feature = "op-depthwise-planar") => $call,
            Record::ConvRowMajor($r) if cfg!(feature = "op-conv-row-major") => $call,
            Record::ConvWinograd($r) if cfg!(feature = "op-conv-winograd") => $call,
            Record::FullyConnectedHuffman($r) if cfg!(feature = "op-fully-connected-huffman") => $call,
            Record::ConvPacked($r) if cfg!(feature = "op-conv-packed") => $call,
            Record::ConvSingleMultiply($r) if cfg!(feature = "op-conv-single-multiply") => $call,
            Record::DepthwiseSingleMultiply($r) if cfg!(feature = "op-depthwise-single-multiply") => $call,
            Record::Recurrent($r) if cfg!(feature = "op-recurrent") => $call,
            Record::ConvWeightShared($r) if cfg!(feature = "op-conv-weight-shared") => $call,
            Record::DepthwiseWeightShared($r) if cfg!(feature = "op-depthwise-weight-shared") => $call,
            Record::FullyConnectedSparse($r) if cfg!(feature = "op-fully-connected-sparse") => $call,
            Record::ConvSparse($r) if cfg!(feature = "op-conv-sparse") => $call,
            Record::RecurrentSparse($r) if cfg!(feature = "op-recurrent-sparse") => $call,
            Record::History($r) if cfg!(feature = "op-history") => $call,
            Record::Gather($r) if cfg!(feature = "op-gather") => $call,
            Record::Scatter($r) if cfg!(feature = "op-scatter") => $call,
            Record::TopK($r) if cfg!(feature = "op-top-k") => $call,
            Record::Cast($r) if cfg!(feature = "op-cast") => $call,
            Record::GridSample($r) if cfg!(feature = "op-grid-sample") => $call,
            Record::ConvWeightOnly($r) if cfg!(feature = "op-conv-weight-only") => $call,
            Record::Elementary($r) if cfg!(feature = "op-elementary") => $call,
            Record::BinaryMath($r) if cfg!(feature = "op-binary-math") => $call,
            #[cfg(feature = "op-branch")]
            Record::Branch($r) => $call,
            #[cfg(feature = "int16")]
            Record::ConvInt16($r) if cfg!(feature = "op-conv-int16") => $call,
            #[cfg(feature = "int16")]
            Record::BinaryInt16($r) if cfg!(feature = "op-binary-int16") => $call,
            #[cfg(feature = "int16")]
            Record::PoolInt16($r) if cfg!(feature = "op-pool-int16") => $call,
            #[cfg(feature = "int16")]
            Record::SoftmaxInt16($r) if cfg!(feature = "op-softmax-int16") => $call,
            #[cfg(feature = "int16")]
            Record::SigmoidInt16($r) if cfg!(feature = "op-sigmoid-int16") => $call,
            #[cfg(feature = "int16")]
            Record::LutInt16($r) if cfg!(feature = "op-lut-int16") => $call,
            #[cfg(feature = "int16")]
            Record::RequantizeInt16($r) if cfg!(feature = "op-requantize-int16") => $call,
            #[cfg(feature = "int16")]
            Record::QuantizeInt16($r) if cfg!(feature = "op-quantize-int16") => $call,
            #[cfg(feature = "int16")]
            Record::DequantizeInt16($r) if cfg!(feature = "op-dequantize-int16") => $call,
            #[cfg(feature = "int16")]
            Record::ReduceInt16($r) if cfg!(feature = "op-reduce-int16") => $call,
            #[cfg(feature = "op-spectrum")]
            Record::Spectrum($r) => $call,
            #[cfg(feature = "op-fully-connected-banded")]
            Record::FullyConnectedBanded($r) => $call,
            #[cfg(feature = "op-micro-frontend")]
            Record::MicroFrontend($r) => $call,
            // Kinds that are not built are listed, so that a new record without an arm above does not compile.
            Record::Conv2d(_)
            | Record::Depthwise(_)
            | Record::ConvTranspose(_)
            | Record::FullyConnected(_)
            | Record::MatMul(_)
            | Record::Pool(_)
            | Record::Binary(_)
            | Record::Unary(_)
            | Record::Lut(_)
            | Record::PRelu(_)
            | Record::Requantize(_)
            | Record::Softmax(_)
            | Record::LayerNorm(_)
            | Record::Copy(_)
            | Record::Fill(_)
            | Record::Pad(_)
            | Record::Constant(_)
            | Record::Resize(_)
            | Record::Reduce(_)
            | Record::ArgMax(_)
            | Record::Quantize(_)
            | Record::Dequantize(_)
            | Record::ConvTiled(_)
            | Record::DepthwisePlanar(_)
            | Record::ConvRowMajor(_)
            | Record::ConvWinograd(_)
            | Record::FullyConnectedHuffman(_)
            | Record::ConvPacked(_)
            | Record::ConvSingleMultiply(_)
            | Record::DepthwiseSingleMultiply(_)
            | Record::Recurrent(_)
            | Record::ConvWeightShared(_)
            | Record::DepthwiseWeightShared(_)
            | Record::FullyConnectedSparse(_)
            | Record::ConvSparse(_)
            | Record::RecurrentSparse(_)
            | Record::History(_)
            | Record::Gather(_)
            | Record::Scatter(_)
            | Record::TopK(_)
            | Record::Cast(_)
            | Record::GridSample(_)
            | Record::ConvWeightOnly(_)
            | Record::Elementary(_)
            | Record::BinaryMath(_)
            | Record::FusedRows(_) => $other,
            #[cfg(feature = "int16")]
            Record::ConvInt16(_)
            | Record::BinaryInt16(_)
            | Record::PoolInt16(_)
            | Record::SoftmaxInt16(_)
            | Record::SigmoidInt16(_)
            | Record::LutInt16(_)
            | Record::RequantizeInt16(_)
            | Record::QuantizeInt16(_)
            | Record::DequantizeInt16(_)
            | Record::ReduceInt16(_) => $other,
            // Some are part of the enum only if they are built, unless another crate asks for them.
            #[cfg(not(all(
                feature = "op-branch",
                feature = "int16",
                feature = "op-spectrum",
                feature = "op-fully-connected-banded",
                feature = "op-micro-frontend"
            )))]
            #[allow(unreachable_patterns)]
            _ => $other,
        }
    };
}

/// See [`Operator::check`].
///
/// # Errors
/// The rule that the record breaks.
pub(crate) fn check(record: &Record, limits: &Limits<'_>) -> Result<u64, Rule> {
    dispatch!(record, r => r.check(limits), else Err(Rule::Format))
}

/// See [`Operator::output`].
///
/// # Errors
/// The rule that the record breaks.
pub(crate) fn output(record: &Record) -> Result<Span, Rule> {
    dispatch!(record, r => r.output(), else Err(Rule::Format))
}

/// See [`Operator::run`].
///
/// # Errors
/// None for a record that [`check`] accepts.
pub(crate) fn run(record: &Record, memory: &mut Memory<'_>) -> Result<(), Rule> {
    dispatch!(record, r => r.run(memory), else Err(Rule::Format))
}

/// See [`Operator::output_dtype`]; int8 for an operator that is not built.
pub(crate) fn output_dtype(record: &Record) -> DType {
    dispatch!(record, r => r.output_dtype(), else DType::I8)
}

/// See [`Operator::macs`].
pub(crate) fn macs(record: &Record) -> u64 {
    dispatch!(record, r => r.macs(), else 0)
}

/// See [`Operator::weights`].
pub(crate) fn weights(record: &Record) -> u64 {
    dispatch!(record, r => r.weights(), else 0)
}

/// See [`Operator::scratch`].
///
/// # Errors
/// The rule that the record breaks.
pub(crate) fn scratch(record: &Record, blobs: &[u8]) -> Result<u32, Rule> {
    dispatch!(record, r => r.scratch(blobs), else Err(Rule::Format))
}

/// See [`Operator::in_place`].
pub(crate) fn in_place(record: &Record, blobs: &[u8]) -> InPlace {
    dispatch!(record, r => r.in_place(blobs), else InPlace::Apart)
}
