//! A graph lowered up to the forms of its convolutions.
//!
//! Which form is best depends on the workspace that it gets, and how much workspace there is on the memory plan of the whole. So
//! lowering ends in a [`Draft`], made once; [`Draft::settle`] makes operators of it for a given workspace, as often as plans are tried.

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

/// What the forms are chosen by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Criteria {
    pub(crate) prefer: Prefer,
    pub(crate) core: Core,
}

/// A lowered graph whose convolutions have all their forms.
#[derive(Default)]
pub(crate) struct Draft {
    pub(crate) buffers: Vec<u32>,
    /// Constants of operators, in order, and how many bytes of each are weights and biases. A record has the index of one.
    pub(crate) blobs: Vec<(Vec<u8>, [usize; 2])>,
    pub(crate) steps: Vec<Step>,
    pub(crate) inputs: Vec<Buffer>,
    pub(crate) outputs: Vec<Buffer>,
    pub(crate) fallbacks: Vec<Fallback>,
    pub(crate) plain: Vec<PlainKernel>,
    /// Bytes of the tensors of the node with the largest ones.
    pub(crate) widest: usize,
    /// What networks of the file before this one have put there.
    pub(crate) sharing: Sharing,
    pub(crate) role: Role,
}

/// What networks of one file share: their blobs, and which weights lie where in them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sharing {
    /// The blob section so far.
    pub(crate) blobs: Blobs,
    /// Weights of the first network.
    pub(crate) wholes: Wholes,
}

/// One operator, or a convolution that becomes some.
pub(crate) enum Step {
    Operator(Operator),
    Conv(Conv),
}

/// A convolution and its forms.
pub(crate) struct Conv {
    /// Name of the node, and the IR's of its operator.
    pub(crate) name: String,
    pub(crate) operator: String,
    pub(crate) x: Tensor,
    pub(crate) y: Tensor,
    /// IR value that it completes.
    pub(crate) origin: Option<ValueId>,
    /// Buffers and blobs that were there before it.
    pub(crate) before: [usize; 2],
    /// The one that the others must beat is the first.
    pub(crate) forms: Vec<Box<dyn ConvForm>>,
    /// Which of the forms are sparse, and how they are called.
    pub(crate) sparse: Vec<(usize, &'static str)>,
    /// Share of weights that are not zero.
    pub(crate) density: f64,
    /// Why the fast kernels do not take it, or some channels.
    pub(crate) obstacle: Option<String>,
}

impl Draft {
    /// The operators with so much workspace, and the weights that further networks may share. Without blobs (`with_blobs`)
    /// they do for a plan of the memory.
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
    /// Takes over so many of the draft's buffers and blobs.
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
        build.lowered.instructions_estimated += offers[chosen].instructions;
        let form = &conv.forms[chosen];
        form.emit(workspace, &mut build, &x, &y)?;
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
    /// What was found about sparse storage, whether it was chosen or not.
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
