//! From IR nodes to device operators with buffers in place of addresses.
//!
//! Each family has a file: it takes its operands as [`Tensor`]s and emits records. A node whose output is int8
//! but that has no int8 kernel (or whose operands are mixed) runs in float32 between a Dequantize and a
//! Quantize, and that is reported. Reshapes cost nothing: their output is another name for the same buffer.

mod binary;
mod blocked;
mod coded;
mod context;
mod layout;
mod linear;
pub mod nested;
mod normalise;
mod packed;
mod recurrent;
mod reduce;
mod resize;
mod sparse;
mod straight;
mod unary;
mod winograd;

use std::collections::HashMap;

use offshoot::format::codec::Record;
use offshoot::format::record;
use offshoot::graph::cost::Lag;
use offshoot_ir::{Activation, DType, Graph, Node, Op, ValueId, quant_math};

pub use sparse::{SparseReport, sparse_forms};

use crate::blobs::Blobs;
use crate::error::{Error, Unsupported};
use crate::learning::PartName;
use crate::{CompileOptions, Prefer};
use nested::{Role, Wholes};

/// Index of a buffer in [`Lowered::buffers`].
pub type Buffer = usize;

/// Why one node cannot be lowered.
pub(crate) type Reason = String;
pub(crate) type Lowering<T = ()> = Result<T, Reason>;

/// A tensor in the arena.
#[derive(Clone, Debug)]
pub(crate) struct Tensor {
    pub(crate) buffer: Buffer,
    pub(crate) shape: Vec<usize>,
    pub(crate) dtype: record::DType,
    /// Scale and zero point of int8, else (0, 0).
    pub(crate) scale: f32,
    pub(crate) zp: i8,
}

impl Tensor {
    pub(crate) fn len(&self) -> usize {
        self.shape.iter().product()
    }

    pub(crate) fn is_i8(&self) -> bool {
        self.dtype == record::DType::I8
    }

    pub(crate) fn same_numbers(&self, other: &Self) -> bool {
        self.dtype == other.dtype && self.scale == other.scale && self.zp == other.zp
    }
}

/// A device operator; addresses in the record are relative to the buffers.
#[derive(Clone, Debug)]
pub struct Operator {
    /// Name of the node it came from.
    pub name: String,
    /// The record.
    pub record: Record,
    /// Buffers behind `src` / `a`, and behind `b`.
    pub reads: [Option<Buffer>; 2],
    /// Buffer behind `dst`.
    pub write: Buffer,
    /// Buffers read that the output may overwrite in place.
    pub in_place: Vec<Buffer>,
    /// How far the output may lie over the first buffer read, beyond that.
    pub overlap: Lag,
    /// Memory it needs while it runs.
    pub scratch: Option<Buffer>,
    /// Memory that it keeps from one run to the next.
    pub kept: Option<Buffer>,
    /// Buffers that are kept until it has run, for what learns behind it.
    pub keeps: Vec<Buffer>,
    /// IR value that it completes.
    pub origin: Option<ValueId>,
    /// Scale of an int8 output, else 0.
    pub scale: f32,
    /// Zero point of an int8 output, else 0.
    pub zero_point: i8,
    /// Multiply-accumulates.
    pub macs: u64,
    /// Number of weights.
    pub weights: u64,
    /// What sparse storage makes of them, or would.
    pub sparse: Option<SparseReport>,
    /// Encoded members and their kinds, of a stage.
    pub members: Option<(Vec<u8>, Vec<&'static str>)>,
}

/// A node that runs in float32 although its output is int8.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Fallback {
    /// ONNX name of the node.
    pub node: String,
    /// IR name of the operator.
    pub operator: String,
    /// Why there is no int8 form.
    pub reason: String,
}

/// The lowered graph.
#[derive(Clone, Debug, Default)]
pub struct Lowered {
    /// Bytes of each buffer.
    pub buffers: Vec<u32>,
    /// Operators in graph order.
    pub operators: Vec<Operator>,
    /// Constants.
    pub blobs: Blobs,
    /// Buffers of the graph's inputs.
    pub inputs: Vec<Buffer>,
    /// Buffers of the graph's outputs.
    pub outputs: Vec<Buffer>,
    /// Nodes that run in float32.
    pub fallbacks: Vec<Fallback>,
    /// Bytes of weights in the blobs, each blob counted once.
    pub weights_bytes: u64,
    /// Bytes of biases, likewise.
    pub bias_bytes: u64,
}

/// Memory that an operator may have for its speed, bytes.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// Expanded weights that it may hold at once.
    pub panel: usize,
    /// Gathered inputs of pixels that are computed together.
    pub strip: usize,
    /// Pairs of pixels up to which they may take more, for speed, beside tensors that are small.
    pub pairs: usize,
}

/// Lowers a graph after the lossless passes. The graph must be valid.
pub fn lower(graph: &Graph, options: &CompileOptions, room: Room) -> crate::Result<Lowered> {
    Ok(lower_with(graph, options, room, Role::Alone, Sharing::default())?.0)
}

/// Bytes of input and output of the node with most of them, as int8.
fn widest(graph: &Graph) -> usize {
    let variable = |v: &ValueId| graph.value(*v).data.is_none();
    let bytes = |node: &Node| {
        let inputs = node.inputs.iter().filter(|v| variable(v)).map(|v| graph.value(*v).len());
        inputs.fold(graph.value(node.output).len(), usize::saturating_add)
    };
    graph.nodes.iter().map(bytes).max().unwrap_or(0)
}

/// What networks of one file share: their blobs, and which weights lie where in them.
#[derive(Clone, Debug, Default)]
pub struct Sharing {
    /// The blob section so far.
    pub blobs: Blobs,
    /// Weights of the first network.
    pub wholes: Wholes,
}

/// As [`lower`], of one of several networks of a file; gives what the next shares, but for the blobs, which are the lowered
/// network's.
pub fn lower_with(
    graph: &Graph,
    options: &CompileOptions,
    room: Room,
    role: Role,
    sharing: Sharing,
) -> crate::Result<(Lowered, Wholes)> {
    let mut context = Context {
        graph,
        role,
        wholes: sharing.wholes,
        out: Lowered { blobs: sharing.blobs, ..Lowered::default() },
        places: HashMap::new(),
        node: None,
        arrange: options.arrange,
        learns: false,
        prefer: options.prefer,
        room,
        widest: widest(graph),
        stateful: options.stateful,
        sparse: None,
    };
    for &v in &graph.inputs {
        let buffer = context.place(v).map_err(|reason| io_error(graph, v, reason))?;
        context.out.inputs.push(buffer);
    }
    let mut unsupported = Vec::new();
    let linear = |n: &&Node| matches!(n.op, Op::Conv2d { .. } | Op::FullyConnected { .. });
    let last = graph.nodes.iter().rfind(linear);
    for node in &graph.nodes {
        let is_last = Some(&node.name) == last.map(|n| &n.name);
        let learns = options.learning.as_ref().is_some_and(|plan| plan.wants(&node.name, is_last));
        context.learns = learns;
        // Adaptors work on weights in their plain order.
        let adapted =
            learns && options.learning.as_ref().is_some_and(|p| p.part_of(&node.name) == PartName::LowRank);
        context.arrange = options.arrange && !adapted;
        if let Err(reason) = context.node(node) {
            let operator = node.op.name().to_string();
            unsupported.push(Unsupported { node: node.name.clone(), operator, reason });
        }
    }
    if !unsupported.is_empty() {
        return Err(Error::Unsupported(unsupported));
    }
    for &v in &graph.outputs {
        let buffer = context.output_buffer(v).map_err(|reason| io_error(graph, v, reason))?;
        context.out.outputs.push(buffer);
    }
    Ok((context.out, context.wholes))
}

fn io_error(graph: &Graph, v: ValueId, reason: String) -> Error {
    Error::Io { name: graph.value(v).name.clone(), reason }
}

/// What the families work on.
pub(crate) struct Context<'g> {
    pub(crate) graph: &'g Graph,
    role: Role,
    wholes: Wholes,
    pub(crate) out: Lowered,
    places: HashMap<ValueId, Buffer>,
    /// Name of the node being lowered.
    node: Option<&'g Node>,
    /// Weights may be arranged for the fast kernels.
    pub(crate) arrange: bool,
    /// The node learns: its weights lie one by one in an order that steps can follow, and its input stays whole while
    /// its output is computed.
    pub(crate) learns: bool,
    pub(crate) prefer: Prefer,
    pub(crate) room: Room,
    /// Bytes of the tensors of the node with the largest ones.
    pub(crate) widest: usize,
    /// Recurrent layers keep their state from one run to the next.
    pub(crate) stateful: bool,
    /// What was found about the weights of the operator that is emitted next.
    pub(crate) sparse: Option<SparseReport>,
}

impl<'g> Context<'g> {
    fn node(&mut self, node: &'g Node) -> Lowering {
        self.node = Some(node);
        self.sparse = None;
        let first = self.out.operators.len();
        let result = self.lower_node(node);
        // The last operator that writes the whole output completes the value.
        if let Some(&buffer) = self.places.get(&node.output) {
            let len = self.out.buffers[buffer];
            let last = self.out.operators[first..].iter_mut().next_back();
            if let Some(op) = last.filter(|op| {
                op.write == buffer && written_bytes(&op.record).is_none_or(|n| n == u64::from(len))
            }) {
                op.origin = Some(node.output);
            }
        }
        result
    }

    fn lower_node(&mut self, node: &'g Node) -> Lowering {
        let y = node.output;
        match &node.op {
            Op::Reshape => return layout::reshape(self, node.inputs[0], y),
            Op::Transpose { perm } => return layout::transpose(self, node.inputs[0], y, perm),
            Op::Concat { axis } => return layout::concat(self, &node.inputs, y, *axis),
            Op::Slice { start, step } => return layout::slice(self, node.inputs[0], y, start, step),
            Op::Expand => return layout::expand(self, node.inputs[0], y),
            Op::Pad { before, after, mode, value } => {
                return layout::pad(self, node.inputs[0], y, before, after, *mode, *value);
            }
            Op::BatchNorm { .. } => {
                return Err("batch normalisation must be folded by the lossless passes first".into());
            }
            _ => {}
        }
        // A constant first operand stays out of the arena: the operator runs with its operands exchanged.
        let constant = |v: ValueId| self.graph.value(v).data.is_some();
        let swapped =
            matches!(node.op, Op::Binary { .. }) && constant(node.inputs[0]) && !constant(node.inputs[1]);
        let x = self.tensor(node.inputs[usize::from(swapped)])?;
        let y = self.output(y)?;
        match &node.op {
            Op::Quantize => return self.quantize(&x, &y),
            Op::Dequantize => return self.dequantize(&x, &y),
            Op::Requantize => return self.requantize(&x, &y, None),
            Op::ArgMax { axis, select_last } => return reduce::argmax(self, &x, &y, *axis, *select_last),
            _ => {}
        }
        match self.int8_obstacle(node, &x, &y) {
            None => self.compute(node, &x, &y, swapped),
            Some(reason) => {
                let (node_name, operator) = (node.name.clone(), node.op.name().to_string());
                self.out.fallbacks.push(Fallback { node: node_name, operator, reason });
                let x = self.as_f32(&x)?;
                if y.dtype == record::DType::F32 {
                    return self.compute(node, &x, &y, swapped);
                }
                let real = self.temp(&y.shape, record::DType::F32, 0.0, 0)?;
                self.compute(node, &x, &real, swapped)?;
                self.quantize(&real, &y)
            }
        }
    }

    /// Why a node cannot run on the number format of its operands; `None` if it can.
    fn int8_obstacle(&self, node: &Node, x: &Tensor, y: &Tensor) -> Option<Reason> {
        if !x.is_i8() && !y.is_i8() {
            let others = node.inputs.iter().any(|&v| {
                let v = self.graph.value(v);
                v.data.is_none() && v.dtype == DType::I8
            });
            return others.then(|| "operands of mixed number formats".into());
        }
        if !x.is_i8() || !y.is_i8() {
            return Some("operands of mixed number formats".into());
        }
        let values = || node.inputs.iter().map(|&v| self.graph.value(v));
        match &node.op {
            Op::LayerNorm { .. } => Some("layer normalisation has no int8 kernel".into()),
            Op::Binary { kind: record::BinaryKind::Div, .. } => Some("division has no int8 kernel".into()),
            Op::MatMul { .. } | Op::Binary { .. } | Op::PRelu => {
                values().any(|v| v.dtype != DType::I8).then(|| "an operand is not int8".into())
            }
            Op::Conv2d { .. } | Op::ConvTranspose2d { .. } | Op::FullyConnected { .. } => {
                linear::int8_obstacle(self.graph, node)
            }
            Op::Recurrent { .. } => recurrent::int8_obstacle(self.graph, node),
            _ => None,
        }
    }

    fn compute(&mut self, node: &Node, x: &Tensor, y: &Tensor, swapped: bool) -> Lowering {
        let inputs = &node.inputs;
        match &node.op {
            Op::Conv2d { window, groups, activation } => {
                linear::conv2d(self, x, y, &inputs[1..], *window, *groups, *activation)
            }
            Op::ConvTranspose2d { window, groups, activation } => {
                linear::conv_transpose(self, x, y, &inputs[1..], *window, *groups, *activation)
            }
            Op::FullyConnected { activation } => {
                linear::fully_connected(self, x, y, &inputs[1..], *activation)
            }
            Op::MatMul { transpose_b } => linear::matmul(self, x, inputs[1], y, *transpose_b),
            Op::Pool { kind, window, activation } => reduce::pool(self, x, y, *kind, *window, *activation),
            Op::Binary { kind, activation } => {
                binary::binary(self, x, inputs[usize::from(!swapped)], swapped, y, *kind, *activation)
            }
            Op::Unary(kind) => unary::unary(self, x, y, *kind),
            Op::PRelu => unary::prelu(self, x, y, inputs[1]),
            Op::Softmax { axis } => normalise::softmax(self, x, y, *axis),
            Op::LayerNorm { epsilon } => normalise::layer_norm(self, x, y, inputs[1], inputs[2], *epsilon),
            Op::Recurrent { kind, returns, reverse } => {
                recurrent::recurrent(self, x, y, node, (*kind, *returns, *reverse))
            }
            Op::Resize(rule) => resize::resize(self, x, y, rule),
            Op::Reduce { kind, axes } => reduce::reduce(self, x, y, *kind, axes),
            other => Err(format!("{} is not lowered here", other.name())),
        }
    }
}

/// Bytes an operator writes, of the kinds that may write a part of their buffer.
fn written_bytes(record: &Record) -> Option<u64> {
    match record {
        Record::Copy(r) => {
            let count: u64 = r.axes.as_slice().iter().map(|a| u64::from(a.extent)).product();
            Some(count * u64::from(r.size))
        }
        _ => None,
    }
}

/// Bounds of a fused activation, as records hold them: float32.
pub(crate) fn clamp_f32(activation: Activation) -> Option<(f32, f32)> {
    let bounds = activation.bounds();
    (bounds != (f32::NEG_INFINITY, f32::INFINITY)).then_some(bounds)
}

/// Bounds of a fused activation, as records hold them: int8 with the numbers of `y`.
pub(crate) fn clamp_i8(activation: Activation, y: &Tensor) -> Option<(i8, i8)> {
    quant_math::activation_range(activation.bounds(), y.scale, i32::from(y.zp))
}

pub(crate) fn to_u16(value: usize, what: &str) -> Lowering<u16> {
    u16::try_from(value).map_err(|_| format!("{what} is {value}, the device takes up to {}", u16::MAX))
}

pub(crate) fn to_u32(value: usize, what: &str) -> Lowering<u32> {
    u32::try_from(value).map_err(|_| format!("{what} is {value}, the device takes up to {}", u32::MAX))
}

/// The four extents of an NHWC tensor.
pub(crate) fn nhwc(t: &Tensor) -> Lowering<[u16; 4]> {
    let [n, h, w, c] = t.shape[..] else {
        return Err(format!("expects four axes (batch, height, width, channels), found {:?}", t.shape));
    };
    Ok([
        to_u16(n, "the batch")?,
        to_u16(h, "the height")?,
        to_u16(w, "the width")?,
        to_u16(c, "the channel count")?,
    ])
}
