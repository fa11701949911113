//! A lowered graph that still has all forms of its convolutions.
//!
//! The best form depends on its workspace, and the workspace depends on the memory plan of the whole network. So a
//! graph is lowered once, to a [`Draft`]; [`Draft::settle`] then makes its operators for each workspace that is tried.

use offshoot_ir::ValueId;

use crate::blobs::Blobs;
use crate::choose::{choose, price};
use crate::cores::Core;
use crate::error::{Error, Result, Unsupported};
use crate::forms::wholes::{Role, Wholes};
use crate::forms::{Build, ConvForm, Offer, Workspace};
use crate::lowered::{Buffer, Fallback, Lowered, Operator, PlainKernel, SparseReport, Tensor};
use crate::options::Prefer;
use crate::write;

/// Criteria for the choice of forms.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Criteria {
    pub(crate) prefer: Prefer,
    pub(crate) core: Core,
}

/// A lowered graph with all forms of its convolutions.
#[derive(Default)]
pub(crate) struct Draft {
    pub(crate) buffers: Vec<u32>,
    /// Constants of operators, in order, with the number of bytes that are weights and biases. Records hold indices.
    pub(crate) blobs: Vec<(Vec<u8>, [usize; 2])>,
    pub(crate) steps: Vec<Step>,
    pub(crate) inputs: Vec<Buffer>,
    pub(crate) outputs: Vec<Buffer>,
    pub(crate) fallbacks: Vec<Fallback>,
    pub(crate) plain: Vec<PlainKernel>,
    /// Bytes of input and output of the node with the largest ones.
    pub(crate) widest: usize,
    /// Blobs and weights of the networks before this one in the file.
    pub(crate) sharing: Sharing,
    pub(crate) role: Role,
}

/// What the networks of a file share: blobs, and the places of weights in them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sharing {
    /// The blob section so far.
    pub(crate) blobs: Blobs,
    /// Weights of the first network.
    pub(crate) wholes: Wholes,
}

/// One operator, or a convolution that becomes one or more operators.
pub(crate) enum Step {
    Operator(Operator),
    Conv(Conv),
}

/// A convolution and its forms.
pub(crate) struct Conv {
    /// Name of the node, and IR name of its operator.
    pub(crate) name: String,
    pub(crate) operator: String,
    pub(crate) x: Tensor,
    pub(crate) y: Tensor,
    /// IR value that it completes.
    pub(crate) origin: Option<ValueId>,
    /// The branches that it lies in, outermost first.
    pub(crate) branches: Vec<offshoot_plan::Branch>,
    /// Number of buffers and blobs before it.
    pub(crate) before: [usize; 2],
    /// The first one is the reference that the others must beat.
    pub(crate) forms: Vec<Box<dyn ConvForm>>,
    /// Indices and names of the sparse forms.
    pub(crate) sparse: Vec<(usize, &'static str)>,
    /// Share of non-zero weights.
    pub(crate) density: f64,
    /// Why the fast kernels cannot compute it, or some of its channels.
    pub(crate) obstacle: Option<String>,
}

impl Draft {
    /// The operators for a workspace, and the weights that further networks may share. Without blobs (`with_blobs`),
    /// the operators are good for memory planning only.
    pub(crate) fn settle(
        &self,
        criteria: Criteria,
        workspace: &Workspace,
        with_blobs: bool,
    ) -> Result<(Lowered, Wholes)> {
        let mut settling = Settling {
            draft: self,
            lowered: Lowered {
                fallbacks: self.fallbacks.clone(),
                plain: self.plain.clone(),
                ..Lowered::default()
            },
            wholes: self.sharing.wholes.clone(),
            with_blobs,
            buffers: Vec::new(),
            blobs: Vec::new(),
        };
        if with_blobs {
            settling.lowered.blobs = self.sharing.blobs.clone();
            settling.lowered.blobs.reserve(self.blob_bytes(criteria.core, workspace));
        }
        for step in &self.steps {
            match step {
                Step::Operator(op) => settling.operator(op),
                Step::Conv(conv) => settling.conv(conv, criteria, workspace).map_err(|reason| {
                    let (node, operator) = (conv.name.clone(), conv.operator.clone());
                    Error::Unsupported(vec![Unsupported { node, operator, reason }])
                })?,
            }
        }
        settling.reach([self.buffers.len(), self.blobs.len()]);
        let all = |buffers: &[Buffer]| buffers.iter().map(|&b| settling.buffers[b]).collect();
        (settling.lowered.inputs, settling.lowered.outputs) = (all(&self.inputs), all(&self.outputs));
        Ok((settling.lowered, settling.wholes))
    }

    /// About as many bytes as the blobs take, in their reference forms. A section that grows as it is filled leaves holes of half
    /// its size.
    fn blob_bytes(&self, core: Core, workspace: &Workspace) -> usize {
        let of_step = |step: &Step| match step {
            Step::Conv(conv) => {
                let offer = conv.forms.first().map(|form| form.offer(core, workspace));
                offer.and_then(std::result::Result::ok).map_or(0, |offer| offer.bytes as usize)
            }
            Step::Operator(_) => 0,
        };
        let steps: usize = self.steps.iter().map(of_step).sum();
        steps + self.blobs.iter().map(|(blob, _)| blob.len()).sum::<usize>()
    }
}

struct Settling<'d> {
    draft: &'d Draft,
    lowered: Lowered,
    wholes: Wholes,
    with_blobs: bool,
    /// Buffers of the lowered graph for those of the draft.
    buffers: Vec<Buffer>,
    /// Offsets of the draft's blobs.
    blobs: Vec<u32>,
}

impl Settling<'_> {
    /// Takes over the draft's buffers and blobs up to these counts.
    fn reach(&mut self, [buffers, blobs]: [usize; 2]) {
        for &bytes in &self.draft.buffers[self.buffers.len().min(buffers)..buffers] {
            self.buffers.push(self.lowered.buffers.len());
            self.lowered.buffers.push(bytes);
        }
        for (blob, account) in &self.draft.blobs[self.blobs.len().min(blobs)..blobs] {
            let offset = if self.with_blobs { self.lowered.add_blob(blob.clone(), *account) } else { 0 };
            self.blobs.push(offset);
        }
    }

    fn operator(&mut self, op: &Operator) {
        let buffers = op.reads.iter().flatten().chain([&op.write]).chain(&op.in_place);
        let buffers = buffers.chain(&op.scratch).chain(&op.kept).max().map_or(0, |b| b + 1);
        let mut record = op.record;
        let blobs = write::blobs_mut(&mut record).into_iter().flatten().map(|b| *b as usize + 1).max();
        self.reach([buffers, blobs.unwrap_or(0)]);
        write::blobs_mut(&mut record).into_iter().flatten().for_each(|b| *b = self.blobs[*b as usize]);
        self.lowered.operators.push(Operator { record, ..op.renumbered(&self.buffers) });
    }

    fn conv(
        &mut self,
        conv: &Conv,
        criteria: Criteria,
        workspace: &Workspace,
    ) -> std::result::Result<(), String> {
        self.reach(conv.before);
        let offers: Vec<Offer> = (conv.forms.iter())
            .map(|form| form.offer(criteria.core, workspace))
            .collect::<std::result::Result<_, _>>()?;
        let chosen = choose(criteria.prefer, &offers[0], &offers).unwrap_or(0);
        let place = |t: &Tensor| Tensor { buffer: self.buffers[t.buffer], ..t.clone() };
        let (x, y) = (place(&conv.x), place(&conv.y));
        let first = self.lowered.operators.len();
        let mut build = Build {
            lowered: &mut self.lowered,
            name: &conv.name,
            with_blobs: self.with_blobs,
            role: self.draft.role,
            wholes: &mut self.wholes,
        };
        let offer = &offers[chosen];
        build.lowered.instructions_estimated += offer.instructions.saturating_sub(offer.saved_by_strips);
        let form = &conv.forms[chosen];
        form.emit(workspace, &mut build, &x, &y)?;
        self.lowered.operators[first..].iter_mut().for_each(|op| op.branches.clone_from(&conv.branches));
        if let Some(op) = self.lowered.operators[first..].last_mut() {
            op.origin = conv.origin;
            op.sparse = conv.sparse_report(criteria.prefer, &offers, chosen);
        }
        let plain = form.plain_channels();
        if let Some(reason) = conv.obstacle.as_ref().filter(|_| plain > 0) {
            let channels = [plain, y.channels(1)];
            let (node, reason) = (conv.name.clone(), reason.clone());
            self.lowered.plain.push(PlainKernel { node, channels, reason });
        }
        Ok(())
    }
}

impl Conv {
    /// Cost of sparse storage, whether it was chosen or not.
    fn sparse_report(&self, prefer: Prefer, offers: &[Offer], chosen: usize) -> Option<SparseReport> {
        let by_price = |a: &&(usize, &str), b: &&(usize, &str)| {
            price(prefer, &offers[a.0]).total_cmp(&price(prefer, &offers[b.0]))
        };
        let taken = self.sparse.iter().find(|(i, _)| *i == chosen);
        let (shown, form) = *taken.or_else(|| self.sparse.iter().min_by(by_price))?;
        let is_sparse = |i: &usize| self.sparse.iter().any(|(at, _)| at == i);
        let dense: Vec<Offer> = (0..offers.len()).filter(|i| !is_sparse(i)).map(|i| offers[i]).collect();
        let dense = choose(prefer, &offers[0], &dense).map_or(offers[0], |i| dense[i]);
        Some(SparseReport {
            form,
            chosen: taken.is_some(),
            density: self.density,
            weights_bytes: offers[shown].bytes,
            dense_weights_bytes: dense.bytes,
            instructions_estimated: offers[shown].instructions,
            dense_instructions_estimated: dense.instructions,
        })
    }
}
