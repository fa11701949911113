//! Writes lowered operators and their memory plan as the bytes of a file.

use offshoot::format::codec::{self, GraphHead, OP_MAX, Record};
use offshoot::format::header::{HEADER_LEN, Header, seal};
use offshoot::format::nested::NestedHead;
use offshoot::format::record::{
    self, Arith, BinaryArith, BinaryKind, ConvTiled, IoRepr, MatMulArith, OpHeader, Operand, PoolArith,
    Traversal,
};
use offshoot::format::{ALIGNMENT, requires};
use offshoot::operators::{self, InPlace as RecordInPlace};
use offshoot::{AlignedBytes, Model};
use offshoot_ir::{Graph, Value, ValueId};
use offshoot_plan::{Buffer, BufferId, InPlace, Overlap, Plan, Problem, Step};

pub use crate::error::{Error, Result};
use crate::lowered::{Lowered, Operator};

/// Alignment of every tensor in the arena, so that tensors of any element type can be moved word by word.
const TENSOR_ALIGNMENT: u32 = 4;

/// The memory-planning problem of lowered operators. Buffers and steps keep their indices.
pub fn problem(lowered: &Lowered) -> Problem {
    let ids = |buffers: &[usize]| buffers.iter().map(|&b| BufferId(b)).collect();
    let step = |op: &Operator| {
        let write = BufferId(op.write);
        let mut reads: Vec<BufferId> = op.reads.iter().flatten().map(|&b| BufferId(b)).collect();
        reads.extend(op.keeps.iter().map(|&b| BufferId(b)).filter(|b| !op.reads.contains(&Some(b.0))));
        reads.dedup();
        let pair = |&b: &usize| InPlace { read: BufferId(b), write, overlap: Overlap::Exact };
        let mut in_place: Vec<InPlace> = op.in_place.iter().filter(|&&b| b != op.write).map(pair).collect();
        if let Some(b) = op.reads[0].filter(|&b| b != op.write) {
            let far = |bytes| u32::try_from(bytes).unwrap_or(u32::MAX);
            let overlap = match op.overlap {
                RecordInPlace::Apart => None,
                RecordInPlace::Same => Some(Overlap::Exact),
                RecordInPlace::Shifted { below, above } => {
                    Some(Overlap::Offset { below: far(below), above: far(above) })
                }
            };
            in_place.extend(overlap.map(|overlap| InPlace { read: BufferId(b), write, overlap }));
        }
        reads.extend(op.kept.map(BufferId));
        // The record of a branch writes nothing.
        let write = (!op.begins).then_some(write);
        let writes = [write, op.scratch.map(BufferId)].into_iter().flatten().collect();
        Step { reads, writes, in_place, branches: op.branches.clone(), begins: op.begins }
    };
    // State kept between runs is live throughout, like an input that is also an output.
    let kept = lowered.operators.iter().filter_map(|op| op.kept).map(BufferId);
    let kept: Vec<BufferId> = kept.collect();
    let with_kept = |ids: Vec<BufferId>| [ids, kept.clone()].concat();
    let buffer = |&bytes: &u32| Buffer { bytes, align: TENSOR_ALIGNMENT };
    Problem {
        buffers: lowered.buffers.iter().map(buffer).collect(),
        steps: lowered.operators.iter().map(step).collect(),
        inputs: with_kept(ids(&lowered.inputs)),
        outputs: with_kept(ids(&lowered.outputs)),
    }
}

/// Writes the file and lets the runtime validate it. `learning` are the learning records, which follow the operators. The
/// blob section moves from `lowered` to the file, so that a large network's weights are in memory once.
pub fn write(
    graph: &Graph,
    lowered: &mut Lowered,
    plan: &Plan,
    source_hash: u32,
    learning: Option<&[u8]>,
) -> Result<Vec<u8>> {
    let blobs = std::mem::take(&mut lowered.blobs).into_bytes();
    write_networks(&[Network { graph, lowered, plan, source_hash }], learning, blobs)
}

/// A network of a file, ready to be written.
#[derive(Clone, Copy, Debug)]
pub struct Network<'n> {
    /// The graph it was lowered from.
    pub graph: &'n Graph,
    /// Its operators.
    pub lowered: &'n Lowered,
    /// Memory plan of the operators.
    pub plan: &'n Plan,
    /// As [`crate::CompileOptions::source_hash`].
    pub source_hash: u32,
}

/// Checks a number against the format's limit.
fn count(what: &'static str, value: usize, limit: usize) -> Result<usize> {
    let error = Error::Format { what, value: value as u64, limit: limit as u64 };
    if value > limit { Err(error) } else { Ok(value) }
}

/// As [`write`], for networks that share weights with the first. `learning` are the first network's learning records,
/// `blobs` the blob section of all networks.
pub fn write_networks(networks: &[Network<'_>], learning: Option<&[u8]>, blobs: Vec<u8>) -> Result<Vec<u8>> {
    let Some(first) = networks.first() else {
        return Err(Error::Format { what: "the number of networks", value: 0, limit: 256 });
    };
    let (mut section, mut needs) = records(first)?;
    let further = &networks[1..];
    if !further.is_empty() {
        section.push(count("the number of further networks", further.len(), u8::MAX.into())? as u8);
        needs |= requires::NESTED;
    }
    for network in further {
        let (records, more) = records(network)?;
        let head = NestedHead {
            len: records.len() as u32,
            arena_bytes: network.plan.arena_bytes,
            arena_lower_bound: network.plan.lower_bound,
            source_hash: network.source_hash,
        };
        append(&mut section, |out| codec::encode(&head, out))?;
        section.extend(records);
        needs |= more;
    }
    if let Some(records) = learning {
        section.extend(records);
        needs |= requires::LEARNS;
    }
    let start = (HEADER_LEN + section.len()).next_multiple_of(ALIGNMENT);
    let length = count("the file length", start + blobs.len(), u32::MAX as usize)?;
    let arena = networks.iter().map(|n| n.plan.arena_bytes).max();
    let header = Header {
        requires: needs,
        file_len: length as u32,
        crc32: 0,
        arena_bytes: arena.unwrap_or(first.plan.arena_bytes),
        arena_lower_bound: first.plan.lower_bound,
        graph_len: section.len() as u32,
        source_hash: first.source_hash,
    };
    let mut head = Vec::with_capacity(start);
    head.extend(header.emit());
    head.extend(section);
    head.resize(start, 0);
    let (mut file, end) = (blobs, length - start);
    file.reserve_exact(start);
    file.resize(length, 0);
    file.copy_within(..end, start);
    file[..start].copy_from_slice(&head);
    seal(&mut file).ok_or(Error::Refused(offshoot::Error::Length))?;
    // The memory of a large file is aligned as it is; that of a small one may have to be copied.
    let opened = match file.as_ptr().addr().is_multiple_of(ALIGNMENT) {
        true => Model::open(&file).map(|_| ()),
        false => Model::open(AlignedBytes::copy_of(&file).bytes()).map(|_| ()),
    };
    opened.map_err(Error::Refused)?;
    Ok(file)
}

/// Encoded inputs, outputs and operators of a network for the graph section, and the header's flags that they require.
fn records(network: &Network<'_>) -> Result<(Vec<u8>, u16)> {
    let Network { graph, lowered, plan, .. } = *network;
    let head = GraphHead {
        inputs: count("the number of inputs", lowered.inputs.len(), u8::MAX.into())? as u8,
        outputs: count("the number of outputs", lowered.outputs.len(), u8::MAX.into())? as u8,
        ops: count("the number of operators", plan.order.len(), u16::MAX.into())? as u16,
    };
    let mut section = Vec::new();
    append(&mut section, |out| codec::encode(&head, out))?;
    for (ids, buffers) in [(&graph.inputs, &lowered.inputs), (&graph.outputs, &lowered.outputs)] {
        for (&v, &buffer) in ids.iter().zip(buffers) {
            let io = describe(graph, v, plan.offsets[buffer])?;
            append(&mut section, |out| codec::encode(&io, out))?;
        }
    }
    let mut needs = 0;
    // Backwards, because the record of a branch says how long those behind it are.
    let mut encoded: Vec<Vec<u8>> = Vec::new();
    let mut behind: Vec<&Operator> = Vec::new();
    for &step in plan.order.iter().rev() {
        let op = &lowered.operators[step];
        let at = |b: Option<usize>| b.map_or(0, |b| plan.offsets[b]);
        let mut record = relocated(&op.record, at(op.reads[0]), at(op.reads[1]), plan.offsets[op.write]);
        settle(&mut record, op, at(op.scratch));
        let kept = op.kept.map(|b| plan.offsets[b] / 4);
        if let Some(r) = record.recurrent_mut() {
            r.kept = kept;
        }
        if let Record::MicroFrontend(r) = &mut record {
            r.kept = kept;
        }
        if let Record::History(r) = &mut record {
            r.kept = kept.unwrap_or(0);
        }
        // A value index beyond 16 bits cannot be stored; the operator then completes no value.
        let origin = op.origin.and_then(|v| u16::try_from(v.0).ok()).unwrap_or(u16::MAX);
        let header = OpHeader { origin, scale: op.scale, zero_point: op.zero_point };
        if let (Record::Branch(branch), Some(begins)) = (&mut record, op.branches.last()) {
            let inside = behind.iter().rev().take_while(|op| op.branches.contains(begins)).count();
            let all = behind.iter().filter(|op| op.branches.contains(begins)).count();
            if inside != all {
                return Err(Error::Refused(offshoot::Error::Record { op: op_index(plan, step) }));
            }
            branch.ops = inside as u16;
            branch.bytes = encoded.iter().rev().take(inside).map(|bytes| bytes.len() as u32).sum();
        }
        let mut bytes = Vec::new();
        append(&mut bytes, |out| codec::encode_op(&header, &record, out))?;
        encoded.push(bytes);
        behind.push(op);
        if computes_f32(&record) {
            needs |= requires::NEEDS_F32;
        }
    }
    section.extend(encoded.into_iter().rev().flatten());
    Ok((section, needs))
}

/// Position of a step in the file.
fn op_index(plan: &Plan, step: usize) -> u16 {
    let position = plan.order.iter().position(|&s| s == step);
    position.and_then(|p| u16::try_from(p).ok()).unwrap_or(u16::MAX)
}

pub(crate) fn append(section: &mut Vec<u8>, encode: impl FnOnce(&mut [u8]) -> Option<usize>) -> Result<()> {
    let mut buffer = [0; OP_MAX];
    let length = encode(&mut buffer).ok_or(Error::Format {
        what: "the length of an encoded record",
        value: OP_MAX as u64 + 1,
        limit: OP_MAX as u64,
    })?;
    section.extend(&buffer[..length]);
    Ok(())
}

fn describe(graph: &Graph, v: ValueId, offset: u32) -> Result<IoRepr> {
    let value = graph.value(v);
    let error = |reason: String| Error::Io { name: value.name.clone(), reason };
    let mut shape = [1; 6];
    if value.shape.len() > shape.len() {
        return Err(error(format!("has {} axes, but the format holds up to 6", value.shape.len())));
    }
    for (to, &extent) in shape.iter_mut().zip(&value.shape) {
        let limit = u16::MAX;
        *to = u16::try_from(extent)
            .map_err(|_| error(format!("has an extent of {extent}, but the format holds up to {limit}")))?;
    }
    let (scale, zero_point) = numbers(value);
    let dtype = match value.dtype {
        offshoot_ir::DType::F32 => record::DType::F32,
        offshoot_ir::DType::I8 => record::DType::I8,
        offshoot_ir::DType::I16 => record::DType::I16,
        offshoot_ir::DType::I32 => record::DType::I32,
        offshoot_ir::DType::I64 => return Err(error("is int64, which the device does not support".into())),
    };
    Ok(IoRepr {
        offset,
        dtype,
        scale,
        zero_point,
        rank: value.shape.len() as u8,
        shape,
        outside: IoRepr::outside_of(value.channels_first_outside, graph.declared.get(&value.name).copied()),
    })
}

pub(crate) fn numbers(value: &Value) -> (f32, i8) {
    match &value.quant {
        Some(q) if value.dtype == offshoot_ir::DType::I8 && q.scale.len() == 1 => {
            (q.scale[0], q.zero_point[0].clamp(-128, 127) as i8)
        }
        Some(q) if value.dtype == offshoot_ir::DType::I16 && q.scale.len() == 1 => (q.scale[0], 0),
        _ => (0.0, 0),
    }
}

/// The record with absolute addresses: its operands start at `a` and `b`, its output at `dst`.
fn relocated(record: &Record, a: u32, b: u32, dst: u32) -> Record {
    let mut record = *record;
    macro_rules! shift {
        ($r:ident, $($field:ident += $by:ident),*) => {{ $($r.$field += $by;)* }};
    }
    match &mut record {
        Record::Conv2d(r) => shift!(r, src += a, dst += dst),
        Record::Depthwise(r) => shift!(r, src += a, dst += dst),
        Record::ConvWeightOnly(r) => shift!(r, src += a, dst += dst),
        Record::ConvTranspose(r) => shift!(r, src += a, dst += dst),
        Record::ConvTiled(r) => shift!(r, src += a, dst += dst),
        Record::DepthwisePlanar(r) => shift!(r, src += a, dst += dst),
        Record::ConvWinograd(r) => shift!(r, src += a, dst += dst),
        Record::FullyConnectedHuffman(r) => shift!(r, src += a, dst += dst),
        Record::ConvPacked(r) => shift!(r, src += a, dst += dst),
        Record::ConvRowMajor(r) => shift!(r, src += a, dst += dst),
        Record::ConvSingleMultiply(r) => shift!(r, src += a, dst += dst),
        Record::DepthwiseSingleMultiply(r) => shift!(r, src += a, dst += dst),
        Record::FusedRows(r) => shift!(r, src += a, dst += dst),
        Record::ConvWeightShared(r) => shift!(r, src += a, dst += dst),
        Record::DepthwiseWeightShared(r) => shift!(r, src += a, dst += dst),
        Record::FullyConnectedSparse(r) => shift!(r, src += a, dst += dst),
        Record::ConvSparse(r) => shift!(r, src += a, dst += dst),
        Record::FullyConnected(r) => shift!(r, src += a, dst += dst),
        Record::MatMul(r) => shift!(r, a += a, b += b, dst += dst),
        Record::Pool(r) => shift!(r, src += a, dst += dst),
        Record::Binary(r) => {
            shift!(r, a += a, dst += dst);
            if let Operand::Arena(offset) = &mut r.b {
                *offset += b;
            }
        }
        Record::BinaryMath(r) => {
            shift!(r, a += a, dst += dst);
            if let Operand::Arena(offset) = &mut r.b {
                *offset += b;
            }
        }
        Record::Unary(r) => shift!(r, src += a, dst += dst),
        Record::Elementary(r) => shift!(r, src += a, dst += dst),
        Record::Lut(r) => shift!(r, src += a, dst += dst),
        Record::PRelu(r) => shift!(r, src += a, dst += dst),
        Record::Softmax(r) => shift!(r, src += a, dst += dst),
        Record::LayerNorm(r) => shift!(r, src += a, dst += dst),
        Record::Copy(r) => shift!(r, src += a, dst += dst),
        Record::History(r) => shift!(r, src += a, dst += dst),
        Record::Fill(r) => shift!(r, dst += dst),
        Record::Pad(r) => shift!(r, src += a, dst += dst),
        Record::Resize(r) => shift!(r, src += a, dst += dst),
        Record::Reduce(r) => shift!(r, src += a, dst += dst),
        Record::ArgMax(r) => shift!(r, src += a, dst += dst),
        Record::Gather(r) => {
            shift!(r, dst += dst);
            for (operand, by) in [(&mut r.src, a), (&mut r.rows.index, b)] {
                if let Operand::Arena(offset) = operand {
                    *offset += by;
                }
            }
        }
        Record::Scatter(r) => {
            shift!(r, src += a, dst += dst);
            if let Operand::Arena(offset) = &mut r.rows.index {
                *offset += b;
            }
        }
        Record::TopK(r) => shift!(r, src += a, dst += dst),
        Record::Branch(r) => shift!(r, src += a),
        Record::Cast(r) => shift!(r, src += a, dst += dst),
        Record::GridSample(r) => shift!(r, src += a, grid += b, dst += dst),
        Record::Spectrum(r) => shift!(r, src += a, dst += dst),
        Record::FullyConnectedBanded(r) => shift!(r, src += a, dst += dst),
        Record::MicroFrontend(r) => shift!(r, src += a, dst += dst),
        Record::Quantize(r) => shift!(r, src += a, dst += dst),
        Record::Dequantize(r) => shift!(r, src += a, dst += dst),
        Record::Requantize(r) => shift!(r, src += a, dst += dst),
        Record::Constant(r) => shift!(r, dst += dst),
        Record::ConvInt16(r) => shift!(r, src += a, dst += dst),
        Record::PoolInt16(r) => shift!(r, src += a, dst += dst),
        Record::SoftmaxInt16(r) => shift!(r, src += a, dst += dst),
        Record::SigmoidInt16(r) => shift!(r, src += a, dst += dst),
        Record::LutInt16(r) => shift!(r, src += a, dst += dst),
        Record::RequantizeInt16(r) => shift!(r, src += a, dst += dst),
        Record::QuantizeInt16(r) => shift!(r, src += a, dst += dst),
        Record::DequantizeInt16(r) => shift!(r, src += a, dst += dst),
        Record::ReduceInt16(r) => shift!(r, src += a, dst += dst),
        Record::BinaryInt16(r) => {
            shift!(r, a += a, dst += dst);
            if let Operand::Arena(offset) = &mut r.b {
                *offset += b;
            }
        }
        Record::Recurrent(r) | Record::RecurrentSparse(record::RecurrentSparse { layer: r, .. }) => {
            shift!(r, src += a, dst += dst);
            r.initial = r.initial.map(|at| at + b);
        }
    }
    record
}

/// The fields of a record that point to blobs. Only for records with a single form; others get their blobs from it.
pub(crate) fn blobs_mut(record: &mut Record) -> [Option<&mut u32>; 2] {
    let one = match record {
        Record::ConvTranspose(r) => &mut r.blob,
        Record::Binary(r) => {
            let scaled = matches!(r.kind, BinaryKind::Add | BinaryKind::Sub | BinaryKind::Mul);
            let second = match &mut r.b {
                Operand::Blob(blob) => Some(blob),
                Operand::Arena(_) => None,
            };
            let rescale = match &mut r.arith {
                BinaryArith::I8 { blob, .. } if scaled => Some(blob),
                _ => None,
            };
            return [second, rescale];
        }
        Record::BinaryMath(r) => match &mut r.b {
            Operand::Blob(blob) => blob,
            Operand::Arena(_) => return [None, None],
        },
        Record::Gather(r) => {
            return [&mut r.src, &mut r.rows.index].map(|operand| match operand {
                Operand::Blob(blob) => Some(blob),
                Operand::Arena(_) => None,
            });
        }
        Record::Scatter(r) => match &mut r.rows.index {
            Operand::Blob(blob) => blob,
            Operand::Arena(_) => return [None, None],
        },
        Record::Lut(r) => &mut r.blob,
        Record::ConvInt16(r) => &mut r.blob,
        Record::SoftmaxInt16(r) => &mut r.blob,
        Record::SigmoidInt16(r) => &mut r.blob,
        Record::LutInt16(r) => &mut r.blob,
        Record::BinaryInt16(r) => match &mut r.b {
            Operand::Blob(blob) => blob,
            Operand::Arena(_) => return [None, None],
        },
        Record::PRelu(r) => &mut r.blob,
        Record::LayerNorm(r) => &mut r.blob,
        Record::Resize(r) => &mut r.blob,
        Record::Constant(r) => &mut r.blob,
        Record::FullyConnectedBanded(r) => &mut r.blob,
        Record::MicroFrontend(r) => &mut r.blob,
        Record::Spectrum(r) => return [r.window.as_mut(), None],
        Record::Recurrent(r) | Record::RecurrentSparse(record::RecurrentSparse { layer: r, .. }) => {
            &mut r.blob
        }
        _ => return [None, None],
    };
    [Some(one), None]
}

/// Sets the fields that depend on the places of buffers: the workspace, and the direction of an operator that
/// overwrites its input.
fn settle(record: &mut Record, op: &Operator, scratch: u32) {
    // Workspaces are stored in words of 4 bytes, which is `TENSOR_ALIGNMENT`.
    match record {
        Record::ConvTiled(r) => {
            r.scratch = scratch / 4;
            r.traversal = traversal(r, op);
        }
        Record::ConvPacked(r) => {
            r.scratch = scratch / 4;
            r.traversal = traversal(&r.conv(), op);
        }
        Record::ConvRowMajor(r) => {
            r.scratch = scratch / 4;
            r.traversal = traversal(&r.conv(), op);
        }
        Record::ConvWeightShared(r) => {
            r.scratch = scratch / 4;
            r.traversal = traversal(&r.conv(), op);
        }
        Record::ConvSingleMultiply(r) => {
            r.scratch = scratch / 4;
            r.traversal = traversal(&r.conv(), op);
        }
        Record::DepthwisePlanar(r) => r.scratch = scratch / 4,
        Record::DepthwiseWeightShared(r) => r.scratch = scratch / 4,
        Record::DepthwiseSingleMultiply(r) => r.scratch = scratch / 4,
        Record::FusedRows(r) => r.scratch = scratch / 4,
        Record::ConvWinograd(r) => r.scratch = scratch / 4,
        Record::ConvWeightOnly(r) => r.scratch = scratch / 4,
        Record::FullyConnectedHuffman(r) => r.scratch = scratch / 4,
        Record::Recurrent(r) => r.scratch = scratch / 4,
        Record::RecurrentSparse(r) => r.layer.scratch = scratch / 4,
        Record::ConvSparse(r) => r.scratch = scratch / 4,
        Record::Spectrum(r) => r.scratch = scratch / 4,
        Record::MicroFrontend(r) => r.scratch = scratch / 4,
        _ => {}
    }
}

/// The direction in which a convolution traverses its output.
fn traversal(r: &ConvTiled, op: &Operator) -> Traversal {
    let RecordInPlace::Shifted { below, .. } = op.overlap else {
        return r.traversal;
    };
    // Without overlap either direction works; forwards is the default.
    let (src, dst) = (u64::from(r.src), u64::from(r.dst));
    let written = operators::output(&Record::ConvTiled(*r)).map_or(0, |span| span.len as u64);
    let input = u64::from(r.n) * u64::from(r.h) * u64::from(r.w) * u64::from(r.c);
    let apart = src + input <= dst || dst + written <= src;
    if apart || src >= dst + below { Traversal::Forwards } else { Traversal::Backwards }
}

/// Whether the operator needs the float32 kernels.
fn computes_f32(record: &Record) -> bool {
    let arith = |a: &Arith| matches!(a, Arith::F32 { .. });
    match record {
        Record::Conv2d(r) => arith(&r.arith),
        Record::Depthwise(r) => arith(&r.arith),
        Record::ConvTranspose(r) => arith(&r.arith),
        Record::FullyConnected(r) => arith(&r.arith),
        Record::MatMul(r) => r.arith == MatMulArith::F32,
        Record::Pool(r) => matches!(r.arith, PoolArith::F32 { .. }),
        Record::Binary(r) => matches!(r.arith, BinaryArith::F32 { .. }),
        Record::Unary(_) | Record::Elementary(_) | Record::BinaryMath(_) | Record::LayerNorm(_) => true,
        Record::PRelu(r) => r.arith == record::PReluArith::F32,
        Record::Softmax(r) => r.arith == record::SoftmaxArith::F32,
        Record::Resize(r) => r.bilinear && r.dtype == record::DType::F32,
        Record::Reduce(r) => r.arith == record::ReduceArith::F32,
        Record::Recurrent(r) => r.arith == record::RecurrentArith::F32,
        Record::ArgMax(r) => r.dtype == record::DType::F32,
        Record::TopK(r) => r.dtype == record::DType::F32,
        Record::Scatter(r) => r.dtype == record::DType::F32 && r.kind != record::ScatterKind::Set,
        Record::Cast(_) | Record::GridSample(_) | Record::ConvWeightOnly(_) => true,
        Record::Spectrum(_) | Record::FullyConnectedBanded(_) | Record::MicroFrontend(_) => true,
        _ => false,
    }
}
