//! Lowers IR nodes to a [`Draft`]: device operators with buffers instead of addresses, and the forms of convolutions.
//!
//! Each family of operators has a file that takes operands as [`Tensor`]s and emits records. A node with int8 output
//! but no int8 kernel, or with operands of mixed formats, runs in float32 between a Dequantize and a Quantize and is
//! reported as a [`Fallback`]. Reshapes cost nothing: their output is another name for the same buffer.

mod binary;
mod branch;
mod context;
mod conv;
mod functions;
mod indexed;
mod int16;
mod int16_tables;
mod layout;
mod linear;
mod normalise;
mod recurrent;
mod reduce;
mod resize;
mod spectral;
mod tables;
mod unary;

use std::collections::HashMap;

use offshoot::format::branch::MOST_NESTED;
use offshoot::format::codec::Record;
use offshoot::format::record;
use offshoot::operators;
use offshoot_ir::{DType, Graph, Node, Op, ValueId};

use crate::branches::{Event, schedule};
use crate::cores::Core;
use crate::draft::{Draft, Sharing, Step};
use crate::error::{Error, Unsupported};
use crate::forms::parameters::{Lowering, Reason};
use crate::forms::wholes::Role;
use crate::learning::PartName;
use crate::lowered::{Buffer, Fallback, Operator, SparseReport, Tensor};
use crate::options::{CompileOptions, Prefer};

/// Lowers a graph after the lossless passes. It is the only network of a file or one of several, as `role` says. The
/// graph must be valid.
pub(crate) fn lower(
    graph: &Graph,
    options: &CompileOptions,
    role: Role,
    sharing: Sharing,
) -> crate::Result<Draft> {
    let mut context = Context {
        graph,
        role,
        out: Draft { sharing, role, widest: widest(graph), ..Draft::default() },
        places: HashMap::new(),
        functions: functions::Functions::of(graph),
        node: None,
        arrange: options.arrange,
        learns: false,
        prefer: options.prefer,
        core: options.core,
        stateful: options.stateful,
        sparse: None,
        branches: Vec::new(),
    };
    for &v in &graph.inputs {
        let buffer = context.place(v).map_err(|reason| io_error(graph, v, reason))?;
        context.out.inputs.push(buffer);
    }
    let mut unsupported = Vec::new();
    let linear = |n: &&Node| matches!(n.op, Op::Conv2d { .. } | Op::FullyConnected { .. });
    let last = graph.nodes.iter().rfind(linear);
    for event in schedule(graph, options.stateful) {
        let Event::Node(at) = event else {
            if let Err((node, reason)) = branch::lower(&mut context, &event) {
                let operator = node.op.name().to_string();
                unsupported.push(Unsupported { node: node.name.clone(), operator, reason });
            }
            continue;
        };
        if context.functions.is_unread(at) {
            continue;
        }
        let node = &graph.nodes[at];
        let is_last = Some(&node.name) == last.map(|n| &n.name);
        let learns = options.learning.as_ref().is_some_and(|plan| plan.wants(&node.name, is_last));
        context.learns = learns;
        // Low-rank adaptors need weights in their plain order.
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
    Ok(context.out)
}

/// Most bytes of inputs and output of any node, as int8.
fn widest(graph: &Graph) -> usize {
    let variable = |v: &ValueId| graph.value(*v).data.is_none();
    let bytes = |node: &Node| {
        let inputs = node.inputs.iter().filter(|v| variable(v)).map(|v| graph.value(*v).len());
        inputs.fold(graph.value(node.output).len(), usize::saturating_add)
    };
    graph.nodes.iter().map(bytes).max().unwrap_or(0)
}

fn io_error(graph: &Graph, v: ValueId, reason: String) -> Error {
    Error::Io { name: graph.value(v).name.clone(), reason }
}

/// State of lowering, shared by all families of operators.
pub(crate) struct Context<'g> {
    pub(crate) graph: &'g Graph,
    role: Role,
    pub(crate) out: Draft,
    places: HashMap<ValueId, Buffer>,
    /// Functions that tables compute.
    functions: functions::Functions,
    /// The node being lowered.
    node: Option<&'g Node>,
    /// Whether weights may be arranged for the fast kernels.
    pub(crate) arrange: bool,
    /// Whether the node learns. Train steps then need its weights in an order that they can follow, and its output must
    /// not overwrite its input.
    pub(crate) learns: bool,
    pub(crate) prefer: Prefer,
    pub(crate) core: Core,
    /// Whether recurrent layers keep their state between runs.
    pub(crate) stateful: bool,
    /// Cost of sparse storage for the operator that is emitted next.
    pub(crate) sparse: Option<SparseReport>,
    /// The branches that are lowered, outermost first.
    pub(crate) branches: Vec<offshoot_plan::Branch>,
}

impl<'g> Context<'g> {
    fn node(&mut self, node: &'g Node) -> Lowering {
        self.node = Some(node);
        self.sparse = None;
        let first = self.out.steps.len();
        let result = self.lower_node(node);
        if result.is_ok() && self.out.steps.len() > first && self.moves_float32(node) {
            let reason = "it moves float32: what it reads or writes has no scale";
            self.fall_back(node, reason.into());
        }
        // The last operator that writes the whole output completes the value.
        if let Some(&buffer) = self.places.get(&node.output) {
            let len = self.out.buffers[buffer];
            let moves = |op: &Operator| {
                matches!(op.record, Record::Copy(_) | Record::Fill(_) | Record::Pad(_) | Record::History(_))
            };
            let whole = |op: &Operator| written_bytes(&op.record).is_none_or(|n| n == u64::from(len));
            match self.out.steps[first..].last_mut() {
                // The runtime sees copied int16 as bytes.
                Some(Step::Operator(op))
                    if moves(op) && self.graph.value(node.output).dtype == DType::I16 => {}
                Some(Step::Operator(op)) if op.write == buffer && whole(op) => op.origin = Some(node.output),
                Some(Step::Conv(conv)) if conv.y.buffer == buffer => conv.origin = Some(node.output),
                _ => {}
            }
        }
        result
    }

    fn lower_node(&mut self, node: &'g Node) -> Lowering {
        let y = node.output;
        if let Some((x, table)) = self.functions.get(y) {
            return functions::look_up(self, x, y, &table);
        }
        match &node.op {
            Op::Reshape => return layout::reshape(self, node.inputs[0], y),
            Op::Transpose { perm } => return layout::transpose(self, node.inputs[0], y, perm),
            Op::Concat { axis } => return layout::concat(self, &node.inputs, y, *axis),
            Op::Slice { start, step } => return layout::slice(self, node.inputs[0], y, start, step),
            Op::Expand => return layout::expand(self, node.inputs[0], y),
            Op::History { fill, .. } => return layout::history(self, node.inputs[0], y, *fill),
            Op::Pad { before, after, mode, value } => {
                return layout::pad(self, node.inputs[0], y, before, after, *mode, *value);
            }
            Op::Gather(indexing) => return indexed::gather(self, &node.inputs, y, *indexing),
            Op::Scatter { indexing, kind } => {
                return indexed::scatter(self, &node.inputs, y, *indexing, *kind);
            }
            Op::Switch => return Err(format!("more than {MOST_NESTED} switches within each other")),
            Op::BatchNorm { .. } => {
                return Err("batch normalisation must be folded by the lossless passes first".into());
            }
            _ => {}
        }
        // Operands are swapped if the first is constant, so that the constant stays out of the arena.
        let constant = |v: ValueId| self.graph.value(v).data.is_some();
        let swapped =
            matches!(node.op, Op::Binary { .. }) && constant(node.inputs[0]) && !constant(node.inputs[1]);
        let x = self.tensor(node.inputs[usize::from(swapped)])?;
        let y = self.output(y)?;
        match &node.op {
            Op::Quantize => return self.quantize(&x, &y),
            Op::Dequantize => return self.dequantize(&x, &y),
            Op::Requantize => return self.requantize(&x, &y, None),
            Op::ArgMax { .. } | Op::TopK { .. } if x.is_i16() => {
                let real = self.as_f32(&x)?;
                return self.indices(node, &real, &y);
            }
            Op::ArgMax { .. } | Op::TopK { .. } => return self.indices(node, &x, &y),
            Op::Cast => return indexed::cast(self, &x, &y),
            _ => {}
        }
        if self.reads_or_writes_int16(node) {
            return match int16::obstacle(self.graph, node, &x, &y) {
                None => int16::lower(self, node, &x, &y, swapped),
                Some(reason) => self.in_float(node, &x, &y, swapped, reason),
            };
        }
        match self.int8_obstacle(node, &x, &y) {
            None => {
                if let Some(reason) = self.unquantised(node, &x, &y) {
                    self.fall_back(node, reason);
                }
                self.compute(node, &x, &y, swapped)
            }
            Some(reason) => self.in_float(node, &x, &y, swapped, reason),
        }
    }

    /// Computes a node in float32, and says why.
    fn in_float(&mut self, node: &Node, x: &Tensor, y: &Tensor, swapped: bool, reason: Reason) -> Lowering {
        self.fall_back(node, reason);
        let x = self.as_f32(x)?;
        if y.dtype == record::DType::F32 {
            return self.compute(node, &x, y, swapped);
        }
        let real = self.temp(&y.shape, record::DType::F32, 0.0, 0)?;
        self.compute(node, &x, &real, swapped)?;
        self.quantize(&real, y)
    }

    /// Whether a node has an int16 operand.
    fn reads_or_writes_int16(&self, node: &Node) -> bool {
        node.inputs.iter().chain([&node.output]).any(|&v| self.graph.value(v).dtype == DType::I16)
    }

    /// A node whose output are indices.
    fn indices(&mut self, node: &Node, x: &Tensor, y: &Tensor) -> Lowering {
        match &node.op {
            Op::ArgMax { axis, select_last } => reduce::argmax(self, x, y, *axis, *select_last),
            Op::TopK { axis, k, largest } => indexed::top_k(self, x, y, *axis, *k, *largest),
            other => Err(format!("{} has no indices", other.name())),
        }
    }

    fn fall_back(&mut self, node: &Node, reason: Reason) {
        self.out.fallbacks.push(Fallback::of(self.graph, node, reason, self.core));
    }

    /// Whether a node of a file that came quantised moves float32 numbers into a tensor of another size.
    fn moves_float32(&self, node: &Node) -> bool {
        let moves = matches!(
            node.op,
            Op::Pad { .. }
                | Op::Concat { .. }
                | Op::Slice { .. }
                | Op::Expand
                | Op::Gather(_)
                | Op::Scatter { .. }
        );
        let float =
            |id: ValueId| self.graph.value(id).dtype == DType::F32 && self.graph.value(id).data.is_none();
        let variable = node.inputs.iter().any(|&id| float(id));
        moves && self.graph.quantised && float(node.output) && variable && self.is_integer()
    }

    /// Whether the network has integer tensors.
    fn is_integer(&self) -> bool {
        self.graph.nodes.iter().any(|n| matches!(n.op, Op::Dequantize | Op::Requantize))
    }

    /// Why a node of an int8 network has float operands; `None` for one that computes in int8, and in a float network.
    fn unquantised(&self, node: &Node, x: &Tensor, y: &Tensor) -> Option<Reason> {
        let float = x.dtype == record::DType::F32 && y.dtype == record::DType::F32;
        if !float || !self.is_integer() {
            return None;
        }
        let linear =
            matches!(node.op, Op::Conv2d { .. } | Op::ConvTranspose2d { .. } | Op::FullyConnected { .. });
        let quantised_after =
            self.graph.consumers(node.output).iter().any(|&c| matches!(self.graph.nodes[c].op, Op::Quantize));
        let ways = self.graph.quantised;
        Some(match linear {
            false if matches!(node.op, Op::LayerNorm { .. } | Op::GridSample { .. }) => {
                format!("{} has no int8 kernel", node.op.name())
            }
            true if !quantised_after => {
                "its output has no scale: a QuantizeLinear behind it gives one, or `compile --calib X.npy`, unless --keep-float names it".into()
            }
            false if !quantised_after && !ways => "its input or output has no scale".into(),
            _ if !ways => "it has no int8 form between these scales".into(),
            _ => "its input or output has no scale: `compile --calib X.npy` gives those that are missing, unless --keep-float names an operator".into(),
        })
    }

    /// Why a node cannot run in int8; `None` if it can, or if it is float32.
    fn int8_obstacle(&self, node: &Node, x: &Tensor, y: &Tensor) -> Option<Reason> {
        if !x.is_i8() && !y.is_i8() {
            let others = node.inputs.iter().any(|&v| {
                let v = self.graph.value(v);
                v.data.is_none() && v.dtype == DType::I8
            });
            return others.then(|| "its operands have mixed number formats".into());
        }
        if !x.is_i8() || !y.is_i8() {
            return Some("its operands have mixed number formats".into());
        }
        let values = || node.inputs.iter().map(|&v| self.graph.value(v));
        match &node.op {
            Op::LayerNorm { .. } => Some("layer normalisation has no int8 kernel".into()),
            Op::GridSample { .. } => Some("sampling on a grid has no int8 kernel".into()),
            Op::Spectrum { .. } | Op::MicroFrontend(_) => {
                Some("the Fourier transform has no int8 kernel".into())
            }
            Op::Binary { kind, .. } if kind.is_float_only() => {
                Some(format!("{} has no int8 kernel", kind.name()))
            }
            Op::MatMul { .. } | Op::Binary { .. } | Op::PRelu if values().any(|v| v.dtype != DType::I8) => {
                Some("an operand is not int8".into())
            }
            Op::MatMul { .. } => linear::matmul_obstacle(self.graph, node, x, y),
            Op::Binary { kind, .. } => binary::int8_obstacle(self.graph, node, x, y, *kind),
            Op::Reduce { kind, axes } => reduce::int8_obstacle(x, y, *kind, axes),
            Op::Conv2d { .. } | Op::ConvTranspose2d { .. } | Op::FullyConnected { .. } => {
                conv::int8_obstacle(self.graph, node, x, y)
            }
            Op::Recurrent { .. } => recurrent::int8_obstacle(self.graph, node),
            Op::Resize(rule) => resize::int8_obstacle(x, y, rule),
            _ => None,
        }
    }

    fn compute(&mut self, node: &Node, x: &Tensor, y: &Tensor, swapped: bool) -> Lowering {
        let inputs = &node.inputs;
        match &node.op {
            Op::Conv2d { window, groups, activation } => {
                conv::conv2d(self, x, y, &inputs[1..], *window, *groups, *activation)
            }
            Op::ConvTranspose2d { window, groups, activation } => {
                linear::conv_transpose(self, x, y, &inputs[1..], *window, *groups, *activation)
            }
            Op::FullyConnected { activation } => match spectral::bands(self, x, &inputs[1..])? {
                Some(bands) => spectral::banded(self, x, y, &bands, *activation),
                None => conv::fully_connected(self, x, y, &inputs[1..], *activation),
            },
            Op::MatMul { transpose_b } => linear::matmul(self, x, inputs[1], y, *transpose_b),
            Op::Pool { kind, window, activation } => reduce::pool(self, x, y, *kind, *window, *activation),
            Op::Binary { kind, activation } => {
                binary::binary(self, x, inputs[usize::from(!swapped)], swapped, y, *kind, *activation)
            }
            Op::Unary(kind) => unary::unary(self, x, y, *kind),
            Op::Lookup(lookup) => unary::lookup(self, x, y, &lookup.table),
            Op::PRelu => unary::prelu(self, x, y, inputs[1]),
            Op::Softmax { axis } => normalise::softmax(self, x, y, *axis),
            Op::LayerNorm { epsilon } => normalise::layer_norm(self, x, y, inputs[1], inputs[2], *epsilon),
            Op::Recurrent { kind, returns, reverse } => {
                recurrent::recurrent(self, x, y, node, (*kind, *returns, *reverse))
            }
            Op::Resize(rule) => resize::resize(self, x, y, rule),
            Op::GridSample { kind, outside, align_corners } => {
                indexed::grid_sample(self, x, inputs[1], y, (*kind, *outside, *align_corners))
            }
            Op::MicroFrontend(settings) => spectral::micro_frontend(self, x, y, settings),
            Op::Spectrum { frame, hop, size, part } => {
                spectral::spectrum(self, x, y, inputs.get(1).copied(), ([*frame, *hop, *size], *part))
            }
            Op::Reduce { kind, axes } => reduce::reduce(self, x, y, *kind, axes),
            other => Err(format!("{} is not lowered here", other.name())),
        }
    }
}

/// Bytes that an operator writes, if it is of a kind that may write only part of its buffer.
fn written_bytes(record: &Record) -> Option<u64> {
    match record {
        Record::Copy(r) => {
            let count: u64 = r.axes.as_slice().iter().map(|a| u64::from(a.extent)).product();
            Some(count * u64::from(r.size))
        }
        // As seen by an observer: what the rows reach.
        Record::Scatter(_) => operators::output(record).ok().map(|span| span.len as u64),
        _ => None,
    }
}
