//! What a record says about its own cost and output: for reports on the host, never needed to run.

use crate::format::codec::Record;
use crate::format::record::{
    BinaryArith, DType, MatMulArith, PReluArith, ReduceArith, SoftmaxArith, Stage, Window,
};
use crate::format::sparse::SparseRepr;
use crate::ops;

/// Multiply-accumulates of one run, the usual definition: only convolutions, fully connected layers and matrix products
/// have any; windows are counted in full, padding included, sparse weights as they are stored.
pub fn macs(record: &Record) -> u64 {
    let outputs =
        |dtype: DType| output(record).map_or(0, |(_, bytes)| u64::from(bytes) / dtype.size() as u64);
    let area = |window| {
        let window = Window::from(window);
        u64::from(window.kernel[0]) * u64::from(window.kernel[1])
    };
    match record {
        Record::Conv2d(r) => outputs(r.arith.dtype()) * area(r.window) * u64::from(r.c / r.groups.max(1)),
        Record::Depthwise(r) => outputs(r.arith.dtype()) * area(r.window),
        Record::ConvTranspose(r) => {
            let inputs = u64::from(r.n) * u64::from(r.h) * u64::from(r.w) * u64::from(r.c);
            inputs * area(r.window) * u64::from(r.out_c / r.groups.max(1))
        }
        Record::ConvBlocked(r) => outputs(DType::I8) * area(r.window) * u64::from(r.c),
        Record::ConvPacked(r) => outputs(DType::I8) * area(r.window) * u64::from(r.c),
        Record::ConvLinear(r) => outputs(DType::I8) * area(r.window) * u64::from(r.c),
        Record::DepthwiseLinear(r) => outputs(DType::I8) * area(r.window),
        Record::ConvNested(r) => outputs(DType::I8) * area(r.window) * u64::from(r.c),
        Record::DepthwiseNested(r) => outputs(DType::I8) * area(r.window),
        Record::DepthwisePlanar(r) => outputs(DType::I8) * area(r.window),
        Record::ConvWinograd(r) => outputs(DType::I8) * area(r.window) * u64::from(r.c),
        Record::FullyConnected(r) => u64::from(r.rows) * u64::from(r.in_c) * u64::from(r.out_c),
        Record::FullyConnectedCoded(r) => u64::from(r.in_c) * u64::from(r.out_c),
        Record::FullyConnectedSparse(r) => u64::from(r.rows) * r.matrix.weights(),
        Record::ConvSparse(r) => outputs(DType::I8) / u64::from(r.out_c.max(1)) * r.matrix.weights(),
        Record::MatMul(r) => u64::from(r.batch) * u64::from(r.m) * u64::from(r.k) * u64::from(r.n),
        Record::Recurrent(r) => u64::from(r.steps) * weights(record),
        Record::RecurrentSparse(r) => u64::from(r.layer.steps) * weights(record),
        _ => 0,
    }
}

/// Number of weights (biases not counted); of sparse ones those that are stored.
pub fn weights(record: &Record) -> u64 {
    let area = |window| {
        let window = Window::from(window);
        u64::from(window.kernel[0]) * u64::from(window.kernel[1])
    };
    match record {
        Record::Conv2d(r) => u64::from(r.out_c) * area(r.window) * u64::from(r.c / r.groups.max(1)),
        Record::Depthwise(r) => u64::from(r.c) * u64::from(r.multiplier) * area(r.window),
        Record::ConvTranspose(r) => u64::from(r.out_c) * area(r.window) * u64::from(r.c / r.groups.max(1)),
        Record::ConvBlocked(r) => u64::from(r.out_c) * area(r.window) * u64::from(r.c),
        Record::ConvPacked(r) => weights(&Record::ConvBlocked(r.conv())),
        Record::ConvLinear(r) => weights(&Record::ConvBlocked(r.conv())),
        Record::DepthwiseLinear(r) => u64::from(r.c) * area(r.window),
        Record::ConvNested(r) => weights(&Record::ConvBlocked(r.conv())),
        Record::DepthwiseNested(r) => u64::from(r.c) * area(r.window),
        Record::DepthwisePlanar(r) => u64::from(r.c) * area(r.window),
        Record::ConvWinograd(r) => u64::from(r.out_c) * area(r.window) * u64::from(r.c),
        Record::FullyConnected(r) => u64::from(r.in_c) * u64::from(r.out_c),
        Record::FullyConnectedCoded(r) => u64::from(r.in_c) * u64::from(r.out_c),
        Record::Recurrent(r) => {
            r.kind.gates() as u64 * u64::from(r.units) * (u64::from(r.inputs) + u64::from(r.units))
        }
        Record::FullyConnectedSparse(r) => r.matrix.weights(),
        Record::ConvSparse(r) => r.matrix.weights(),
        Record::RecurrentSparse(r) => {
            let rows = r.layer.kind.gates() as u64 * u64::from(r.layer.units);
            let stored = |matrix: Option<SparseRepr>, columns: u16| {
                matrix.map_or(rows * u64::from(columns), |matrix| matrix.weights())
            };
            stored(r.input, r.layer.inputs) + stored(r.state, r.layer.units)
        }
        Record::PRelu(r) => u64::from(r.c),
        Record::LayerNorm(r) => u64::from(r.depth),
        _ => 0,
    }
}

/// Arena offset and length in bytes of what the record writes; `None` for a record that breaks its rules.
pub fn output(record: &Record) -> Option<(u32, u32)> {
    let span = ops::output(record).ok()?;
    Some((u32::try_from(span.start).ok()?, u32::try_from(span.len).ok()?))
}

/// Bytes of arena that the record needs beside its input and output; `None` for a record that breaks its rules.
pub fn scratch(record: &Record) -> Option<u32> {
    let span = match record {
        Record::ConvBlocked(r) => match r.lanes(&r.layout().ok()?.0).ok()? {
            Some(span) => span,
            None => return Some(0),
        },
        Record::DepthwisePlanar(r) => r.planes(&r.layout().ok()?.0).ok()?,
        Record::ConvLinear(r) => {
            let (lanes, panel) = r.spans(&r.layout().ok()?.0).ok()?;
            return u32::try_from(lanes.len + panel.map_or(0, |panel| panel.len)).ok();
        }
        Record::DepthwiseLinear(r) => r.planar().planes(&r.layout().ok()?.0).ok()?,
        Record::DepthwiseNested(r) => return scratch(&Record::DepthwisePlanar(r.planar())),
        Record::ConvNested(r) => {
            let g = r.conv().layout().ok()?.0;
            let panel = r.panel(&g).ok()?;
            let lanes = r.conv().lanes(&g).ok()?.map_or(0, |lanes| lanes.len.next_multiple_of(4));
            return u32::try_from(lanes + panel.len).ok();
        }
        Record::ConvWinograd(r) => r.layout().and_then(|_| r.lanes()).ok()?,
        Record::FullyConnectedCoded(r) => r.table().ok()?,
        Record::Recurrent(r) => return u32::try_from(4 * r.room().words()).ok(),
        Record::RecurrentSparse(r) => return scratch(&Record::Recurrent(r.layer)),
        Record::ConvSparse(r) => r.column().ok()?,
        Record::ConvPacked(r) => {
            let g = r.layout().ok()?.0;
            let [table, panel] = r.panel(&g).ok()?;
            let lanes = r.conv().lanes(&g).ok()?.map_or(0, |lanes| lanes.len.next_multiple_of(4));
            return u32::try_from(lanes + table.len + panel.len).ok();
        }
        _ => return Some(0),
    };
    u32::try_from(span.len).ok()
}

/// Bytes of the input of a blocked convolution.
pub fn input_bytes(r: &crate::format::record::ConvBlocked) -> u64 {
    u64::from(r.n) * u64::from(r.h) * u64::from(r.w) * u64::from(r.c)
}

/// How far the output of a record may lie over its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lag {
    /// Not at all.
    Apart,
    /// In the same place.
    Same,
    /// At least `below` bytes before it if computed forwards, `above` bytes after it if backwards.
    Shifted {
        /// Bytes.
        below: u64,
        /// Bytes.
        above: u64,
    },
}

/// How far the output may lie over the input, of the records that may overwrite it while they consume it.
pub fn lag(record: &Record) -> Lag {
    let shifted =
        |lag: Option<(u64, u64)>| lag.map_or(Lag::Apart, |(below, above)| Lag::Shifted { below, above });
    match record {
        Record::ConvBlocked(r) => {
            let geometry = r.layout().ok().map(|(g, _)| g).filter(|g| !g.vector);
            shifted(geometry.and_then(|g| g.lag(r)))
        }
        Record::ConvLinear(r) => shifted(r.layout().ok().and_then(|(g, _)| g.lag(&r.conv()))),
        Record::DepthwiseLinear(r) if r.layout().is_ok_and(|(g, _)| g.in_place(&r.planar())) => Lag::Same,
        Record::ConvPacked(r) if r.one_panel() => lag(&Record::ConvBlocked(r.conv())),
        Record::ConvNested(r) if r.one_panel() => lag(&Record::ConvBlocked(r.conv())),
        Record::DepthwiseNested(r) => lag(&Record::DepthwisePlanar(r.planar())),
        Record::DepthwisePlanar(r) if r.layout().is_ok_and(|(g, _)| g.in_place(r)) => Lag::Same,
        _ => Lag::Apart,
    }
}

/// The operators of a stage, in order; of any other record, itself.
pub fn members(record: &Record, blobs: &[u8]) -> impl Iterator<Item = Record> {
    let (own, stage) = match record {
        Record::Stage(stage) if cfg!(feature = "op-stage") => {
            (None, ops::StagePlan::of(stage, blobs).ok().map(|plan| plan.records()))
        }
        other => (Some(*other), None),
    };
    own.into_iter().chain(stage.into_iter().flatten())
}

/// Bytes of arena that a stage needs beside its input and output, and the bytes by which its output must at least begin
/// before its input. `None` for a stage that breaks its rules.
pub fn stage(stage: &Stage, blobs: &[u8]) -> Option<(u32, Lag)> {
    let (bytes, below) = ops::StagePlan::of(stage, blobs).and_then(|plan| plan.needs()).ok()?;
    Some((bytes, Lag::Shifted { below, above: u64::MAX }))
}

/// Element type of what the record writes. Movements of one-byte elements are int8, of four-byte ones float32.
pub fn output_dtype(record: &Record) -> DType {
    let sized = |size: u8| if size == 1 { DType::I8 } else { DType::F32 };
    match record {
        Record::Conv2d(r) => r.arith.dtype(),
        Record::Depthwise(r) => r.arith.dtype(),
        Record::ConvTranspose(r) => r.arith.dtype(),
        Record::FullyConnected(r) => r.arith.dtype(),
        Record::MatMul(r) => {
            if matches!(r.arith, MatMulArith::F32) {
                DType::F32
            } else {
                DType::I8
            }
        }
        Record::Pool(r) => r.arith.dtype(),
        Record::Binary(r) => {
            if matches!(r.arith, BinaryArith::F32 { .. }) {
                DType::F32
            } else {
                DType::I8
            }
        }
        Record::PRelu(r) => {
            if matches!(r.arith, PReluArith::F32) {
                DType::F32
            } else {
                DType::I8
            }
        }
        Record::Softmax(r) => {
            if matches!(r.arith, SoftmaxArith::F32) {
                DType::F32
            } else {
                DType::I8
            }
        }
        Record::Reduce(r) => {
            if matches!(r.arith, ReduceArith::F32) {
                DType::F32
            } else {
                DType::I8
            }
        }
        Record::Copy(r) => sized(r.size),
        Record::Fill(r) => sized(r.size),
        Record::Pad(r) => sized(r.size),
        Record::Resize(r) => r.dtype,
        Record::Recurrent(r) => r.arith.dtype(),
        Record::ArgMax(_) => DType::I32,
        Record::Unary(_) | Record::LayerNorm(_) | Record::Dequantize(_) => DType::F32,
        Record::ConvBlocked(_) | Record::DepthwisePlanar(_) | Record::ConvWinograd(_) => DType::I8,
        Record::FullyConnectedCoded(_) | Record::ConvPacked(_) => DType::I8,
        Record::ConvLinear(_) | Record::DepthwiseLinear(_) | Record::Stage(_) => DType::I8,
        Record::ConvNested(_) | Record::DepthwiseNested(_) => DType::I8,
        Record::FullyConnectedSparse(_) | Record::ConvSparse(_) | Record::RecurrentSparse(_) => DType::I8,
        Record::Lut(_) | Record::Quantize(_) | Record::Requantize(_) | Record::Constant(_) => DType::I8,
    }
}
