//! Graph, values, nodes, operators.
//!
//! A graph is a list of nodes in topological order over a table of values. A value is a tensor: a graph input, a
//! constant (`data` is set), or the output of exactly one node. Number formats belong to values: a quantised graph is
//! the same graph with `dtype` I8 and `quant` set on its values.

use std::collections::BTreeMap;
use std::sync::Arc;

use offshoot::format::record::{
    Declared, GridKind, GridOutside, PadMode, PoolKind, RecurrentKind, ReduceKind, Returns, ScatterKind,
    SpectrumPart, Window,
};
use serde::{Deserialize, Serialize};

use crate::functions::{BinaryKind, UnaryKind};
use crate::indexed::Indexing;
use crate::lookup::Lookup;
use crate::micro_frontend::MicroFrontend;

/// Index of a [`Value`] in [`Graph::values`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ValueId(pub u32);

/// Index of a [`Node`] in [`Graph::nodes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NodeId(pub u32);

/// Element type. `I64` occurs only in constants: biases between int16 tensors, and shapes that the importer has not folded yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum DType {
    F32,
    I8,
    I16,
    I32,
    I64,
}

/// Contents of a constant, row-major.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum Data {
    F32(Vec<f32>),
    I8(Vec<i8>),
    I16(Vec<i16>),
    I32(Vec<i32>),
    I64(Vec<i64>),
}

/// Affine quantisation: `real = scale * (q - zero_point)`, following TFLite's specification.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Quant {
    /// One scale, or one for each index along `axis`. Positive and finite.
    pub scale: Vec<f32>,
    /// As many zero points as scales; 0 for weights.
    pub zero_point: Vec<i32>,
    /// Axis along which the scales run; `None` for one scale for the whole tensor.
    pub axis: Option<usize>,
}

impl Quant {
    /// One scale and zero point for the whole tensor.
    pub fn per_tensor(scale: f32, zero_point: i32) -> Self {
        Self { scale: vec![scale], zero_point: vec![zero_point], axis: None }
    }
}

/// A tensor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Value {
    /// ONNX name of the tensor (or of the one it was derived from); unique in the graph.
    pub name: String,
    /// Extents; a scalar is `[]`. A symbolic batch has extent 1.
    pub shape: Vec<usize>,
    /// Element type.
    pub dtype: DType,
    /// Set on I8 and I16 values, and on I32 and I64 biases (scale = input scale × weight scale, zero point 0). I16 has
    /// one scale, and zero point 0.
    pub quant: Option<Quant>,
    /// Set on constants.
    pub data: Option<Arc<Data>>,
    /// Whether this is a graph input or output whose ONNX tensor is channels-first while this value is channels-last
    /// (ONNX shape = this shape with the last axis moved to 1). Set by `passes::io_layout`.
    pub channels_first_outside: bool,
}

impl Value {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether it has no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Fused activation: bounds on the real value of the output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum Activation {
    /// No activation.
    #[default]
    None,
    /// `max(x, 0)`.
    Relu,
    /// `min(max(x, min), max)`; Relu6 is (0, 6).
    Clip {
        /// Lower bound, may be -inf.
        min: f32,
        /// Upper bound, may be +inf.
        max: f32,
    },
}

impl Activation {
    /// Lower and upper bound.
    pub fn bounds(self) -> (f32, f32) {
        match self {
            Self::None => (f32::NEG_INFINITY, f32::INFINITY),
            Self::Relu => (0.0, f32::INFINITY),
            Self::Clip { min, max } => (min, max),
        }
    }
}

/// How `Resize` maps output coordinates to input coordinates: the attributes of ONNX Resize, with scales resolved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ResizeRule {
    /// Bilinear if set, otherwise nearest.
    pub bilinear: bool,
    /// `half_pixel`, `asymmetric`, `align_corners`, `pytorch_half_pixel`, `half_pixel_symmetric`.
    pub coordinate: String,
    /// `round_prefer_floor`, `round_prefer_ceil`, `floor`, `ceil`.
    pub nearest: String,
    /// Ratio of output extent to input extent for height and width, as given by ONNX.
    pub scale: [f32; 2],
    /// Whether int8 bilinear takes source positions in steps of 1/1024, from a scale that is rounded to such a step, as
    /// TFLite's kernels do.
    #[serde(default)]
    pub rounded_steps: bool,
}

/// Operators. Inputs are listed in order; `b?` is optional (a shorter list if absent).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Op {
    /// x NHWC, w OHWI (I = C / groups), b? [O] → NHWC. Depthwise is groups = C.
    Conv2d {
        /// Kernel, stride, dilation, padding.
        window: Window,
        /// Groups.
        groups: usize,
        /// Fused activation.
        activation: Activation,
    },
    /// x NHWC, w OHWI (I = C / groups), b? [O] → NHWC with the extents of the output value.
    ConvTranspose2d {
        /// Kernel, stride, dilation, padding (only top and left are used).
        window: Window,
        /// Groups.
        groups: usize,
        /// Fused activation.
        activation: Activation,
    },
    /// x […, I], w [O, I] constant, b? [O] → […, O].
    FullyConnected {
        /// Fused activation.
        activation: Activation,
    },
    /// a [batch…, m, k], b [batch…, k, n] (or [batch…, n, k] if `transpose_b`) → [batch…, m, n]. Batch axes equal.
    MatMul {
        /// Whether b's last two axes are swapped.
        transpose_b: bool,
    },
    /// x NHWC → NHWC.
    Pool {
        /// Average or maximum.
        kind: PoolKind,
        /// Kernel, stride, dilation, padding. Windows must touch the input.
        window: Window,
        /// Fused activation.
        activation: Activation,
    },
    /// a, b → NumPy broadcast of both.
    Binary {
        /// Operation.
        kind: BinaryKind,
        /// Fused activation.
        activation: Activation,
    },
    /// x → same shape. Relu and Clip are `UnaryKind::Clip`.
    Unary(UnaryKind),
    /// x I8 → I8 of the same shape: a function of one element as a table, between the grids of both values.
    Lookup(Lookup),
    /// x […, C], slope [C] → same shape.
    PRelu,
    /// x [N, T, I], w [G·H, I], r [G·H, H], b [B·H], initial state? [N or 1, S·H] → [N, T, H] or, without the
    /// sequence, [N, H]. [`RecurrentKind`] gives the numbers of gates G, biases B and states S, and their order.
    Recurrent {
        /// The kind of layer.
        kind: RecurrentKind,
        /// Which states are returned: those of all steps, the last one, or the last one followed by the memory ([N,
        /// 2H], LSTM).
        returns: Returns,
        /// Whether it runs from the last step to the first.
        reverse: bool,
    },
    /// x → same shape.
    Softmax {
        /// Axis, 0-based.
        axis: usize,
    },
    /// x […, C], gamma, beta, mean, variance [C] → same shape.
    BatchNorm {
        /// Added to the variance.
        epsilon: f32,
    },
    /// x […, D], gamma [D], beta [D] → same shape; normalises over the last axis.
    LayerNorm {
        /// Added to the variance.
        epsilon: f32,
    },
    /// x → the output value's shape, elements in the same order. Covers Flatten, Squeeze, Unsqueeze.
    Reshape,
    /// x → axes permuted: output axis i is input axis perm[i].
    Transpose {
        /// Permutation.
        perm: Vec<usize>,
    },
    /// x… → concatenated along the axis.
    Concat {
        /// Axis.
        axis: usize,
    },
    /// x → output\[i\] = x\[start + i·step\] on every axis; extents from the output value. A Split is several of
    /// these.
    Slice {
        /// First index, one per axis.
        start: Vec<usize>,
        /// Step, not 0, one per axis.
        step: Vec<isize>,
    },
    /// x → padded.
    Pad {
        /// Elements before, one per axis.
        before: Vec<usize>,
        /// Elements after, one per axis.
        after: Vec<usize>,
        /// `None` for constant padding.
        mode: Option<PadMode>,
        /// Value of constant padding (real value).
        value: f32,
    },
    /// x NHWC → NHWC with the extents of the output value.
    Resize(ResizeRule),
    /// x → the last `state` steps along `axis` of the runs before, then x. Axes before it have extent 1. Before the first
    /// run these steps hold `fill`; so they do in every run of a graph by itself.
    History {
        /// Axis of the steps.
        axis: usize,
        /// Steps that are kept, at least 1.
        state: usize,
        /// Real value before the first run.
        fill: f32,
    },
    /// x → broadcast to the output value's shape.
    Expand,
    /// x → reduced; the output value's shape tells whether the axes are kept.
    Reduce {
        /// Mean, sum, maximum, minimum.
        kind: ReduceKind,
        /// Axes, ascending.
        axes: Vec<usize>,
    },
    /// x → I32; the output value's shape tells whether the axis is kept.
    ArgMax {
        /// Axis.
        axis: usize,
        /// Whether the last of equal elements is selected, instead of the first.
        select_last: bool,
    },
    /// x, index I32 → the rows of x that indices choose. An index below 0 counts from the end; one outside is clamped.
    Gather(Indexing),
    /// x, index I32, updates → x with rows that are replaced by those of updates, or joined with them, one after the
    /// other. A row with an index outside is left out.
    Scatter {
        /// Which rows.
        indexing: Indexing,
        /// How an update joins what is there.
        kind: ScatterKind,
    },
    /// x → I32: indices of the best elements, best first; of equal ones the lower index first.
    TopK {
        /// Axis.
        axis: usize,
        /// Number of elements.
        k: usize,
        /// The largest, else the smallest.
        largest: bool,
    },
    /// x…, index I32 of one element → the x that the index chooses. A run on the device computes only what the chosen one needs. An
    /// index below 0 counts from the end; one outside is clamped.
    Switch,
    /// I32 → F32, or F32 → I32 without the fraction; the output value gives the type.
    Cast,
    /// x NHWC, grid [N, H, W, 2] of x and y from -1 to 1 → NHWC with the grid's extents.
    GridSample {
        /// Interpolation.
        kind: GridKind,
        /// What lies outside the image.
        outside: GridOutside,
        /// Whether -1 and 1 are the centres of the outermost pixels.
        align_corners: bool,
    },
    /// x [N, samples], window [frame] (optional) → [N, frames, size / 2 + 1], and 2 more for [`SpectrumPart::Complex`]: the Fourier
    /// transform of frames that begin every `hop` samples, with zeros behind each up to `size` elements.
    Spectrum {
        /// Samples of a frame, at most `size`.
        frame: usize,
        /// Samples from a frame to the next.
        hop: usize,
        /// Elements of a transform: a power of two, 32 to 4096.
        size: usize,
        /// What is kept of each value.
        part: SpectrumPart,
    },
    /// x [1, samples], -1 to 1 → [1, frames, channels]: features of a sound in integers, from 0 to 65535.
    MicroFrontend(MicroFrontend),
    /// F32 → I8 or I16 by the output value's `quant`, rounding half away from zero.
    Quantize,
    /// I8 or I16 → F32 by the input value's `quant`.
    Dequantize,
    /// I8 or I16 → I8 or I16 with another `quant`.
    Requantize,
}

impl Op {
    /// Lower-case name for reports.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Conv2d { .. } => "conv2d",
            Self::ConvTranspose2d { .. } => "conv_transpose2d",
            Self::FullyConnected { .. } => "fully_connected",
            Self::MatMul { .. } => "matmul",
            Self::Pool { .. } => "pool",
            Self::Binary { kind, .. } => kind.name(),
            Self::Unary(_) => "unary",
            Self::Lookup(_) => "lookup",
            Self::PRelu => "prelu",
            Self::Recurrent { .. } => "recurrent",
            Self::Softmax { .. } => "softmax",
            Self::BatchNorm { .. } => "batch_norm",
            Self::LayerNorm { .. } => "layer_norm",
            Self::Reshape => "reshape",
            Self::Transpose { .. } => "transpose",
            Self::Concat { .. } => "concat",
            Self::Slice { .. } => "slice",
            Self::Pad { .. } => "pad",
            Self::Resize(_) => "resize",
            Self::History { .. } => "history",
            Self::Expand => "expand",
            Self::Reduce { .. } => "reduce",
            Self::ArgMax { .. } => "argmax",
            Self::Gather(_) => "gather",
            Self::Scatter { .. } => "scatter",
            Self::TopK { .. } => "top_k",
            Self::Switch => "switch",
            Self::Cast => "cast",
            Self::GridSample { .. } => "grid_sample",
            Self::Spectrum { .. } => "spectrum",
            Self::MicroFrontend(_) => "micro_frontend",
            Self::Quantize => "quantize",
            Self::Dequantize => "dequantize",
            Self::Requantize => "requantize",
        }
    }

    /// The fused activation, for operators that have one.
    pub fn activation(&self) -> Option<Activation> {
        match self {
            Self::Conv2d { activation, .. }
            | Self::ConvTranspose2d { activation, .. }
            | Self::FullyConnected { activation }
            | Self::Pool { activation, .. }
            | Self::Binary { activation, .. } => Some(*activation),
            _ => None,
        }
    }

    /// Whether a run goes on from what the run before it left. Recurrent layers do only in a stateful network.
    pub fn keeps_state(&self) -> bool {
        matches!(self, Self::History { .. })
            || matches!(self, Self::MicroFrontend(settings) if settings.keeps)
    }

    /// Mutable access to [`Op::activation`].
    pub fn activation_mut(&mut self) -> Option<&mut Activation> {
        match self {
            Self::Conv2d { activation, .. }
            | Self::ConvTranspose2d { activation, .. }
            | Self::FullyConnected { activation }
            | Self::Pool { activation, .. }
            | Self::Binary { activation, .. } => Some(activation),
            _ => None,
        }
    }
}

/// One operator in the graph.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// Name of the ONNX node it was derived from (the first of several), for messages.
    pub name: String,
    /// What it computes.
    pub op: Op,
    /// Values read, in the order given by [`Op`].
    pub inputs: Vec<ValueId>,
    /// Value written.
    pub output: ValueId,
}

/// A network.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Graph {
    /// Name of the model.
    pub name: String,
    /// All tensors.
    pub values: Vec<Value>,
    /// All operators, each after those whose outputs it reads.
    pub nodes: Vec<Node>,
    /// Graph inputs.
    pub inputs: Vec<ValueId>,
    /// Graph outputs.
    pub outputs: Vec<ValueId>,
    /// ONNX types of graph inputs, by name, where the value has another.
    #[serde(default)]
    pub declared: BTreeMap<String, Declared>,
    /// Whether the file that it was read from is quantised, even if float32 computes all of it.
    #[serde(default)]
    pub quantised: bool,
}

impl Graph {
    /// The value with this id.
    pub fn value(&self, id: ValueId) -> &Value {
        &self.values[id.0 as usize]
    }

    /// Mutable access to the value with this id.
    pub fn value_mut(&mut self, id: ValueId) -> &mut Value {
        &mut self.values[id.0 as usize]
    }

    /// Appends a value.
    pub fn add_value(&mut self, value: Value) -> ValueId {
        self.values.push(value);
        ValueId(self.values.len() as u32 - 1)
    }

    /// Appends a constant.
    pub fn add_constant(&mut self, name: impl Into<String>, shape: Vec<usize>, data: Data) -> ValueId {
        let dtype = match data {
            Data::F32(_) => DType::F32,
            Data::I8(_) => DType::I8,
            Data::I16(_) => DType::I16,
            Data::I32(_) => DType::I32,
            Data::I64(_) => DType::I64,
        };
        self.add_value(Value {
            name: name.into(),
            shape,
            dtype,
            quant: None,
            data: Some(Arc::new(data)),
            channels_first_outside: false,
        })
    }

    /// Index of the node that writes `id`, if any.
    pub fn producer(&self, id: ValueId) -> Option<usize> {
        self.nodes.iter().position(|n| n.output == id)
    }

    /// Indices of the nodes that read `id`.
    pub fn consumers(&self, id: ValueId) -> Vec<usize> {
        (0..self.nodes.len()).filter(|&i| self.nodes[i].inputs.contains(&id)).collect()
    }
}
