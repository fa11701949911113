//! The result of lowering: device operators with buffers instead of addresses.

use offshoot::format::codec::Record;
use offshoot::format::record;
use offshoot::operators::InPlace;
use offshoot_ir::ValueId;
use offshoot_plan::Branch;
use serde::Serialize;

use crate::blobs::Blobs;

/// Index of a buffer in [`Lowered::buffers`].
pub type Buffer = usize;

/// A tensor in the arena.
#[derive(Clone, Debug)]
pub(crate) struct Tensor {
    pub(crate) buffer: Buffer,
    pub(crate) shape: Vec<usize>,
    pub(crate) dtype: record::DType,
    /// Scale and zero point of int8 and int16, else (0, 0).
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

    pub(crate) fn is_i16(&self) -> bool {
        self.dtype == record::DType::I16
    }

    pub(crate) fn same_numbers(&self, other: &Self) -> bool {
        self.dtype == other.dtype && self.scale == other.scale && self.zp == other.zp
    }

    /// The shape with another number of channels.
    pub(crate) fn with_channels(&self, channels: usize) -> Vec<usize> {
        let mut shape = self.shape.clone();
        if let Some(last) = shape.last_mut() {
            *last = channels;
        }
        shape
    }

    /// Extent of the last axis; `empty` for a scalar.
    pub(crate) fn channels(&self, empty: usize) -> usize {
        *self.shape.last().unwrap_or(&empty)
    }
}

/// A device operator; addresses in the record are relative to the buffers.
#[derive(Clone, Debug)]
pub struct Operator {
    /// Name of the node it was lowered from.
    pub name: String,
    /// The record.
    pub record: Record,
    /// Buffers of the record's `src` or `a`, and of its `b`.
    pub reads: [Option<Buffer>; 2],
    /// Buffer of the record's `dst`.
    pub write: Buffer,
    /// Buffers read that the output may overwrite in-place.
    pub in_place: Vec<Buffer>,
    /// In-place offset of the output over the first buffer read.
    pub overlap: InPlace,
    /// Workspace.
    pub scratch: Option<Buffer>,
    /// Memory that it keeps between runs.
    pub kept: Option<Buffer>,
    /// Buffers that must stay live until it has run, because learning reads them.
    pub keeps: Vec<Buffer>,
    /// IR value that it completes.
    pub origin: Option<ValueId>,
    /// Scale of an int8 or int16 output, else 0.
    pub scale: f32,
    /// Zero point of an int8 output, else 0.
    pub zero_point: i8,
    /// Multiply-accumulates.
    pub macs: u64,
    /// Number of weights.
    pub weights: u64,
    /// Cost of sparse storage, if many weights are zero, whether it was chosen or not.
    pub sparse: Option<SparseReport>,
    /// The branches that it lies in, outermost first.
    pub branches: Vec<Branch>,
    /// Whether it is the record that begins the last of them.
    pub begins: bool,
    /// Encoded members and their kinds, for fused row tiles.
    pub members: Option<(Vec<u8>, Vec<&'static str>)>,
}

impl Operator {
    /// An operator without weights, workspace or origin.
    pub(crate) fn new(
        name: &str,
        record: Record,
        reads: [Option<&Tensor>; 2],
        y: &Tensor,
        in_place: &[&Tensor],
    ) -> Self {
        Self {
            name: name.to_owned(),
            record,
            reads: reads.map(|t| t.map(|t| t.buffer)),
            write: y.buffer,
            in_place: in_place.iter().map(|t| t.buffer).collect(),
            overlap: InPlace::Apart,
            scratch: None,
            kept: None,
            keeps: Vec::new(),
            origin: None,
            scale: y.scale,
            zero_point: y.zp,
            macs: 0,
            weights: 0,
            sparse: None,
            branches: Vec::new(),
            begins: false,
            members: None,
        }
    }

    /// The branches that must be chosen for it to run.
    pub fn runs_in(&self) -> &[Branch] {
        match self.branches.split_last() {
            Some((_, around)) if self.begins => around,
            _ => &self.branches,
        }
    }

    /// The same operator with its buffers renumbered.
    pub(crate) fn renumbered(&self, of: &[Buffer]) -> Self {
        let all = |buffers: &[Buffer]| buffers.iter().map(|&b| of[b]).collect();
        Self {
            reads: self.reads.map(|b| b.map(|b| of[b])),
            write: of[self.write],
            in_place: all(&self.in_place),
            scratch: self.scratch.map(|b| of[b]),
            kept: self.kept.map(|b| of[b]),
            keeps: all(&self.keeps),
            ..self.clone()
        }
    }
}

/// A node of a quantised network that runs in float32.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fallback {
    /// ONNX name of the node.
    pub node: String,
    /// IR name of the operator.
    pub operator: String,
    /// Why there is no int8 form.
    pub reason: String,
    /// Estimated instructions of a run, conversions included.
    pub instructions: u64,
    /// Estimated instructions of the same operator between int8 tensors; none if there is no kernel for that.
    pub int8_instructions: Option<u64>,
}

/// An int8 operator, or some of its channels, on a plain kernel, which is slower than the tiled ones.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PlainKernel {
    /// ONNX name of the node.
    pub node: String,
    /// Number of output channels on the plain kernel, and number of all output channels.
    pub channels: [usize; 2],
    /// Why the tiled kernels cannot compute them.
    pub reason: String,
}

/// Cost of a layer in sparse and in dense storage.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct SparseReport {
    /// The best sparse form: `bytes`, `nibbles` or `blocks` ([`offshoot::format::sparse::Form`]). For a recurrent
    /// layer, the forms of the input weights and of the state weights, each of which may be `dense`
    /// ([`crate::sparse_forms`]).
    pub form: &'static str,
    /// Whether the layer is stored in this form.
    pub chosen: bool,
    /// Share of non-zero weights.
    pub density: f64,
    /// Bytes of weights, counts and steps.
    pub weights_bytes: u64,
    /// Bytes of weights in dense storage.
    pub dense_weights_bytes: u64,
    /// Estimated instructions of a run.
    pub instructions_estimated: u64,
    /// Estimated instructions of a run in dense storage.
    pub dense_instructions_estimated: u64,
}

impl SparseReport {
    /// The report as a sentence.
    pub fn sentence(&self) -> String {
        let verb = if self.chosen { "sparse" } else { "kept dense: sparse" };
        let ratio = |a: u64, b: u64| 100.0 * a as f64 / b.max(1) as f64;
        format!(
            "{:.1} % of the weights are non-zero; {verb} ({}) {} of {} bytes ({:.0} %), about {} of {} \
             instructions ({:.0} %)",
            100.0 * self.density,
            self.form,
            self.weights_bytes,
            self.dense_weights_bytes,
            ratio(self.weights_bytes, self.dense_weights_bytes),
            self.instructions_estimated,
            self.dense_instructions_estimated,
            ratio(self.instructions_estimated, self.dense_instructions_estimated),
        )
    }
}

/// The lowered graph.
#[derive(Clone, Debug, Default)]
pub struct Lowered {
    /// Bytes of each buffer.
    pub buffers: Vec<u32>,
    /// Operators in graph order.
    pub operators: Vec<Operator>,
    /// Blob section.
    pub blobs: Blobs,
    /// Buffers of the graph's inputs.
    pub inputs: Vec<Buffer>,
    /// Buffers of the graph's outputs.
    pub outputs: Vec<Buffer>,
    /// Nodes that run in float32.
    pub fallbacks: Vec<Fallback>,
    /// int8 operators on plain kernels.
    pub plain: Vec<PlainKernel>,
    /// Estimated instructions of its convolutions in a run.
    pub instructions_estimated: u64,
    /// Bytes of weights in the blobs, each blob counted once.
    pub weights_bytes: u64,
    /// Bytes of biases in the blobs, each blob counted once.
    pub bias_bytes: u64,
}

impl Lowered {
    /// Adds a blob and returns its offset; `account` are its bytes of weights and of biases.
    pub(crate) fn add_blob(&mut self, blob: Vec<u8>, account: [usize; 2]) -> u32 {
        let (offset, new) = self.blobs.add(blob);
        if new {
            self.weights_bytes += account[0] as u64;
            self.bias_bytes += account[1] as u64;
        }
        offset
    }
}
