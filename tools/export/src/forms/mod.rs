//! The forms of a convolution: ways to store and compute it, all with the same output.
//!
//! A form is a value ([`ConvForm`]) that knows its cost on a core with a given workspace ([`Offer`]), and emits its
//! operators. [`crate::choose`] takes the best. Fully connected layers count as 1×1 convolutions.

pub(crate) mod apart;
pub(crate) mod channel_planar;
mod exact_line;
pub(crate) mod huffman;
pub(crate) mod odd;
pub(crate) mod packed;
pub(crate) mod parameters;
pub(crate) mod plain;
pub(crate) mod requant;
pub(crate) mod row_major;
pub(crate) mod single_multiply;
pub(crate) mod sparse;
pub(crate) mod tiled;
pub(crate) mod weight_only;
pub(crate) mod weight_shared;
pub(crate) mod wholes;
pub(crate) mod winograd;

use std::rc::Rc;

use offshoot::format::codec::Record;
use offshoot::format::record::{self, Traversal};
use offshoot::operators::{self, InPlace};

use crate::cores::Core;
pub(crate) use crate::layer::Layer;
use crate::lowered::{Lowered, Operator, Tensor};
use parameters::{Lowering, to_u32};
use wholes::{Role, Wholes};

/// Memory that an operator may use to run faster, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Workspace {
    /// Bytes of unpacked weight tiles that it may hold at once.
    pub(crate) tiles: usize,
    /// Bytes of gathered inputs of a strip, which is the pixels that are computed together.
    pub(crate) strip: usize,
    /// Most pairs of pixels in a strip that takes more than `strip` because the operator's tensors are small.
    pub(crate) pairs: usize,
    /// Bytes of input and output of the node with the largest ones. The arena holds that much at some time anyway, so
    /// an operator with smaller tensors may use the difference. 0 to forbid that.
    pub(crate) widest: usize,
    /// Bytes of a channel's rows that are gathered at a time.
    pub(crate) band: usize,
    /// Bytes that the arena has anyway. An operator may take what its tensors leave of them for bands and strips, up to
    /// [`ROOMY_BAND`] and [`ROOMY_STRIP`]. 0 to forbid that.
    pub(crate) room: usize,
    /// Whether the core's kernels for depthwise layers gather pairs of rows for several channels
    /// ([`offshoot::kernels::geometry::RowPairs`]).
    pub(crate) pairs_rows: bool,
    /// Whether a strip may copy the weights that it reads several times.
    pub(crate) copies_weights: bool,
}

/// Bytes of a band and of a strip that an operator takes if the arena has room for them; more hardly saves instructions.
pub(crate) const ROOMY_BAND: usize = 1024;
pub(crate) const ROOMY_STRIP: usize = 512;

impl Workspace {
    /// Bytes that a strip of an operator from `x` to `y` may take.
    fn strip_beside(&self, x: &Tensor, y: &Tensor) -> usize {
        let beside = self.widest.saturating_sub(x.len() + y.len());
        let own = self.own_strip(x, y);
        own + if self.strip > 0 { beside } else { 0 }
    }

    /// The same without the bytes that the node with the largest tensors leaves.
    fn own_strip(&self, x: &Tensor, y: &Tensor) -> usize {
        self.strip.max(self.room.saturating_sub(x.len() + y.len()).min(ROOMY_STRIP))
    }

    /// Bytes of a band of an operator from `x` to `y`, which may lie over each other.
    fn band_beside(&self, x: &Tensor, y: &Tensor) -> usize {
        self.band.max(self.room.saturating_sub(x.len().max(y.len())).min(ROOMY_BAND))
    }
}

/// Cost of a form.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Offer {
    /// Bytes of weights as stored. Biases and multipliers are not counted, since they hardly differ between forms.
    pub(crate) bytes: u64,
    /// Estimated instructions of a run.
    pub(crate) instructions: u64,
    /// Instructions that its strips save besides. They count between workspaces only: the estimates of the other tiled forms
    /// do not know strips.
    pub(crate) saved_by_strips: u64,
    /// Bytes of workspace.
    pub(crate) scratch: u64,
    /// Whether the output may lie over the input.
    pub(crate) in_place: bool,
}

/// A way to store and compute one convolution.
pub(crate) trait ConvForm {
    /// Its cost on a core with this workspace.
    fn offer(&self, core: Core, workspace: &Workspace) -> Lowering<Offer>;

    /// Number of output channels that a plain int8 kernel computes.
    fn plain_channels(&self) -> usize {
        0
    }

    /// Appends its operators, which read `x` and write `y`.
    fn emit(&self, workspace: &Workspace, out: &mut Build<'_>, x: &Tensor, y: &Tensor) -> Lowering;
}

impl Layer {
    /// The tiled record without blob and addresses.
    fn tiled_record(&self) -> Lowering<record::ConvTiled> {
        let [n, h, w, c] = self.input;
        Ok(record::ConvTiled {
            src: 0,
            dst: 0,
            scratch: 0,
            n,
            h,
            w,
            c,
            out_c: parameters::to_u16(self.channels(), "the output channels")?,
            window: self.window.into(),
            in_zp: self.x.zp,
            out_zp: self.y.zp,
            traversal: Traversal::Forwards,
            clamp: self.clamp(),
            blob: 0,
        })
    }

    /// Whether this record may run in-place.
    fn overlaps(&self, record: &Record) -> bool {
        !self.learns && operators::in_place(record, &[]) != InPlace::Apart
    }
}

/// Bytes of workspace of a record.
fn scratch_of(record: &Record) -> Lowering<u32> {
    operators::scratch(record, &[]).map_err(|_| "the window does not fit the input".into())
}

/// The lowered graph that forms append their operators to.
pub(crate) struct Build<'b> {
    pub(crate) lowered: &'b mut Lowered,
    /// Name of the node.
    pub(crate) name: &'b str,
    /// Whether to fill blobs; memory planning does not need them.
    pub(crate) with_blobs: bool,
    pub(crate) role: Role,
    /// Weights that further networks may share.
    pub(crate) wholes: &'b mut Wholes,
}

impl Build<'_> {
    /// Adds a blob and returns its offset; `account` are its bytes of weights and of biases.
    pub(crate) fn blob(&mut self, make: impl FnOnce() -> Vec<u8>, account: [usize; 2]) -> u32 {
        if self.with_blobs { self.lowered.add_blob(make(), account) } else { 0 }
    }

    /// Appends an operator of a layer, with the workspace that its record needs.
    pub(crate) fn layer(
        &mut self,
        layer: &Layer,
        record: Record,
        [x, y]: [&Tensor; 2],
        macs: u64,
        weights: u64,
    ) -> Lowering {
        let bytes = scratch_of(&record)?;
        let scratch = (bytes > 0).then(|| self.allocate(bytes));
        let overlap = if layer.learns { InPlace::Apart } else { operators::in_place(&record, &[]) };
        let op = self.emit(record, [Some(x), None], y);
        (op.macs, op.weights, op.scratch, op.overlap) = (macs, weights, scratch, overlap);
        Ok(())
    }

    /// Appends an operator and returns it, for further fields.
    pub(crate) fn emit(&mut self, record: Record, reads: [Option<&Tensor>; 2], y: &Tensor) -> &mut Operator {
        let operators = &mut self.lowered.operators;
        operators.push(Operator::new(self.name, record, reads, y, &[]));
        let last = operators.len() - 1;
        &mut operators[last]
    }

    /// A temporary tensor with the element type, scale and zero point of `like`.
    pub(crate) fn temp(&mut self, shape: Vec<usize>, like: &Tensor) -> Lowering<Tensor> {
        let bytes = shape.iter().product::<usize>() * like.dtype.size();
        let buffer = self.allocate(to_u32(bytes, "bytes of a tensor")?);
        Ok(Tensor { buffer, shape, ..like.clone() })
    }

    fn allocate(&mut self, bytes: u32) -> usize {
        self.lowered.buffers.push(bytes);
        self.lowered.buffers.len() - 1
    }
}

/// A layer that several forms share.
pub(crate) type Shared = Rc<Layer>;
