//! [`Model`]: a validated `.off` file.
//!
//! [`Model::open`] validates the whole file once: any bytes give a model or an [`Error`]. After it returned `Ok`, no
//! operation on the model panics, reads out of bounds or fails, and a run ends after at most [`Model::work`] steps.
//! Operators are decoded from the file each time they are visited; nothing is copied to RAM.

#[cfg(feature = "op-branch")]
mod branches;
pub mod learn;
#[cfg(feature = "nested")]
mod nested;

use crate::trace::OpInfo;
use learn::Learning;
use offshoot_base::{Error, Limits, Rule, Span, product};
use offshoot_format::codec::{self, GraphHead, built_tag};
use offshoot_format::header::{HEADER_LEN, Header, HeaderView};
use offshoot_format::record::{DType, IoRepr, OpHeader, Record};
use offshoot_format::{ALIGNMENT, requires};
use offshoot_operators as ops;

pub use offshoot_operators::MAX_WORK;

/// Bits of [`requires`] that this build of the runtime supports.
pub const SUPPORTED: u16 = (if cfg!(feature = "learn") { requires::LEARNS } else { 0 })
    | if cfg!(feature = "nested") { requires::NESTED } else { 0 }
    | if cfg!(feature = "f32") { requires::NEEDS_F32 } else { 0 };

/// A validated file.
///
#[cfg_attr(not(feature = "signed"), doc = "```")]
#[cfg_attr(feature = "signed", doc = "```ignore")]
/// # offshoot::include_model!(Vibration, concat!(env!("CARGO_MANIFEST_DIR"), "/examples/data/vibration.off"));
/// # let bytes = Vibration::bytes();
/// let model = offshoot::Model::open(bytes)?; // bytes: aligned to 16
/// println!("{} operators, an arena of {} bytes", model.op_count(), model.arena_bytes());
/// for i in 0..model.input_count() {
///     println!("input {i}: {:?}", model.input(i));
/// }
/// # Ok::<(), offshoot::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Model<'m> {
    header: Header,
    head: GraphHead,
    /// Input and output descriptions, then operators.
    ios: &'m [u8],
    ops: &'m [u8],
    blobs: &'m [u8],
    work: u64,
    /// Learning records, already checked; decoded on each access.
    learn: Option<&'m [u8]>,
    #[cfg(feature = "nested")]
    nested: nested::Nested<'m>,
}

impl<'m> Model<'m> {
    /// Validates a file: container, checksum, input and output descriptions, and every rule of every operator. `bytes`
    /// must begin at a multiple of 16 and is used in place for the life of the model.
    ///
    /// # Errors
    /// The first thing that is wrong: [`Error::Alignment`], [`Error::Checksum`], [`Error::Requires`] …
    ///
    /// With the feature `signed` the argument is a `sign::Verified`: a file that nobody has verified cannot be given.
    // Not inlined: otherwise its frame would be part of the caller's and stay on the stack below every run.
    #[inline(never)]
    pub fn open(
        #[cfg(not(feature = "signed"))] bytes: &'m [u8],
        #[cfg(feature = "signed")] verified: offshoot_sign::Verified<'m>,
    ) -> Result<Self, Error> {
        #[cfg(feature = "signed")]
        let bytes = verified.network();
        let view = HeaderView::new_checked(bytes)?;
        let header = view.parse()?;
        if usize::try_from(header.file_len) != Ok(bytes.len()) {
            return Err(Error::Length);
        }
        if !bytes.as_ptr().addr().is_multiple_of(ALIGNMENT) {
            return Err(Error::Alignment);
        }
        if view.compute_crc32() != header.crc32 {
            return Err(Error::Checksum);
        }
        let lacking = header.requires & !SUPPORTED;
        if lacking != 0 {
            return Err(Error::Requires(lacking));
        }
        let (graph, blobs) = sections(bytes, &header).ok_or(Error::Length)?;
        let (head, ios) = codec::decode_head(graph).ok_or(Error::Length)?;
        let ops = check_ios(ios, &head, &header)?;
        let mut model = Self {
            header,
            head,
            ios,
            ops,
            blobs,
            work: 0,
            learn: None,
            #[cfg(feature = "nested")]
            nested: nested::Nested::none(bytes),
        };
        let (work, rest) = check_ops(ops, head.ops, &Limits { arena_bytes: header.arena_bytes, blobs })?;
        model.work = work;
        #[cfg(feature = "nested")]
        let rest = nested::check(&mut model, rest)?;
        // Without the feature such a file has already been refused, and no learning code is linked.
        if cfg!(feature = "learn") && header.requires & requires::LEARNS != 0 {
            learn::check(&model, rest)?;
            model.learn = Some(rest);
        } else if !rest.is_empty() {
            return Err(Error::Length);
        }
        Ok(model)
    }

    /// Bytes of arena that a run of this network needs. The value of network 0 covers every network of the file.
    pub fn arena_bytes(&self) -> u32 {
        self.header.arena_bytes
    }

    /// Proved lower bound: no memory plan of this operator order needs fewer bytes.
    pub fn arena_lower_bound(&self) -> u32 {
        self.header.arena_lower_bound
    }

    /// Hash of the graph that this network was compiled from.
    pub fn source_hash(&self) -> u32 {
        self.header.source_hash
    }

    /// Bytes of the whole file.
    pub fn file_len(&self) -> u32 {
        self.header.file_len
    }

    /// Upper bound on the steps of one run, over all networks of the file. It counts multiply-accumulates (padding
    /// included) of operators that have them, and touched elements of the others. At most [`MAX_WORK`].
    pub fn work(&self) -> u64 {
        self.work
    }

    /// Whether a run depends on earlier runs: operators that keep their state ([`crate::Engine::restart`] clears
    /// it).
    pub fn keeps_state(&self) -> bool {
        let built =
            cfg!(any(feature = "op-recurrent", feature = "op-recurrent-sparse", feature = "op-history"));
        built && self.ops().any(|(_, _, record)| record.kept().is_some())
    }

    /// Number of operators.
    pub fn op_count(&self) -> u16 {
        self.head.ops
    }

    /// Number of inputs.
    pub fn input_count(&self) -> usize {
        usize::from(self.head.inputs)
    }

    /// Number of outputs.
    pub fn output_count(&self) -> usize {
        usize::from(self.head.outputs)
    }

    /// Description of input `i`.
    pub fn input(&self, i: usize) -> Option<IoRepr> {
        if i < self.input_count() { self.io(i) } else { None }
    }

    /// Description of output `i`.
    pub fn output(&self, i: usize) -> Option<IoRepr> {
        if i < self.output_count() { self.io(self.input_count() + i) } else { None }
    }

    fn io(&self, i: usize) -> Option<IoRepr> {
        let mut rest = self.ios;
        for _ in 0..i {
            rest = codec::decode_io(rest)?.1;
        }
        Some(codec::decode_io(rest)?.0)
    }

    /// The learning records, if any part of the model learns. Only network 0 learns.
    pub fn learning(&self) -> Option<Learning<'m>> {
        let records = self.learn.filter(|_| cfg!(feature = "learn") && self.network_index() == 0)?;
        // `open` has decoded it once.
        let (head, rest) = codec::decode_learn_head(records)?;
        Some(Learning::new(self, head, rest))
    }

    /// Bytes of arena that learning needs, inference included; `None` if nothing learns.
    pub fn train_arena_bytes(&self) -> Option<u32> {
        Some(self.learning()?.head.arena_bytes)
    }

    /// Whether switching to this network must reset the states: a network of the file keeps some.
    #[cfg(feature = "nested")]
    pub(crate) fn shares_states(&self) -> bool {
        self.nested.stateful()
    }

    /// Index of this network in its file; 0 is the first.
    pub fn network_index(&self) -> usize {
        #[cfg(feature = "nested")]
        return self.nested.index();
        #[cfg(not(feature = "nested"))]
        0
    }

    /// Number of networks in the file: the first, and the sub-networks that share its weights.
    pub fn network_count(&self) -> usize {
        #[cfg(feature = "nested")]
        return self.nested.count();
        #[cfg(not(feature = "nested"))]
        1
    }

    /// Network `index` of the file. It reads the shared weights in place: nothing is copied or checked again.
    ///
    /// # Errors
    /// [`Error::NoSuchNetwork`] if the file has no network `index`.
    pub fn network(&self, index: usize) -> Result<Self, Error> {
        if index == self.network_index() {
            return Ok(*self);
        }
        #[cfg(feature = "nested")]
        if index < self.network_count() {
            return nested::network(self, index);
        }
        Err(Error::NoSuchNetwork { networks: self.network_count() as u16 })
    }

    /// The blob section: weights, tables, constants.
    pub fn blobs(&self) -> &'m [u8] {
        self.blobs
    }

    /// The operators in execution order.
    pub fn ops(&self) -> Ops<'m> {
        Ops { rest: self.ops, next: 0, count: self.head.ops }
    }
}

/// Iterates over the operators of a [`Model`].
#[derive(Clone, Debug)]
pub struct Ops<'m> {
    rest: &'m [u8],
    next: u16,
    count: u16,
}

impl Ops<'_> {
    /// After `record`, which [`Self::step`] gave last: passes over the operators of a branch that the index in the arena does not
    /// choose.
    ///
    /// # Errors
    /// None for a model that was opened.
    #[cfg(feature = "op-branch")]
    #[inline(always)]
    pub fn pass_over(&mut self, record: &Record, arena: &[u8]) -> Result<(), Rule> {
        if let Some(branch) = ops::passed_over(record, arena)? {
            // `open` has checked that its operators are so many and so long.
            self.rest = self.rest.get(branch.bytes as usize..).ok_or(Rule::Table)?;
            self.next = self.next.checked_add(branch.ops).filter(|&n| n <= self.count).ok_or(Rule::Table)?;
        }
        Ok(())
    }

    /// Decodes the next operator; `None` at the end, an error if it cannot be decoded.
    pub(crate) fn step(&mut self) -> Option<Result<(OpInfo, OpHeader, Record), Error>> {
        if self.next == self.count {
            return None;
        }
        let op = self.next;
        self.next += 1;
        let undecodable = Error::Record { op };
        let mut read = || {
            let (tag, header, rest) = codec::decode_op_header(self.rest).ok_or(undecodable)?;
            let tag = built_tag(tag).ok_or(Error::UnknownOperator { op })?;
            let (record, rest) = Record::decode(tag, rest).ok_or(undecodable)?;
            self.rest = rest;
            Ok((OpInfo { index: op, tag, origin: header.origin }, header, record))
        };
        Some(read())
    }
}

impl Iterator for Ops<'_> {
    type Item = (OpInfo, OpHeader, Record);

    fn next(&mut self) -> Option<Self::Item> {
        // `open` has decoded every operator once.
        self.step()?.ok()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = usize::from(self.count - self.next);
        (left, Some(left))
    }
}

/// Splits the file into graph and blob section. Padding between them must be zero, so that a file has a single form.
fn sections<'m>(bytes: &'m [u8], header: &Header) -> Option<(&'m [u8], &'m [u8])> {
    let body = bytes.get(HEADER_LEN..)?;
    let graph_len = usize::try_from(header.graph_len).ok()?;
    let (graph, _) = body.split_at_checked(graph_len)?;
    let blob_start = usize::try_from(header.blob_start()).ok()?;
    let padding = bytes.get(HEADER_LEN.checked_add(graph_len)?..blob_start)?;
    if padding.iter().any(|&b| b != 0) {
        return None;
    }
    Some((graph, bytes.get(blob_start..)?))
}

/// Checks inputs and outputs; returns the bytes after them.
// With one caller its frame costs nothing there, and the call costs flash.
#[cfg_attr(not(feature = "nested"), inline(always))]
fn check_ios<'m>(ios: &'m [u8], head: &GraphHead, header: &Header) -> Result<&'m [u8], Error> {
    let mut rest = ios;
    for i in 0..u16::from(head.inputs) + u16::from(head.outputs) {
        // Saturates at 255: it still tells where to look.
        let error = Error::Io(u8::try_from(i).unwrap_or(u8::MAX));
        let (io, after) = codec::decode_io(rest).ok_or(error)?;
        let span = io_span(&io).ok_or(error)?;
        if span.end() as u64 > u64::from(header.arena_bytes) {
            return Err(error);
        }
        rest = after;
    }
    Ok(rest)
}

/// Checks all operators; returns their total work and the bytes after them.
// With one caller its frame costs nothing there, and the call costs flash.
#[cfg_attr(not(feature = "nested"), inline(always))]
fn check_ops<'m>(ops: &'m [u8], count: u16, limits: &Limits<'_>) -> Result<(u64, &'m [u8]), Error> {
    let mut records = Ops { rest: ops, next: 0, count };
    let mut total = 0u64;
    #[cfg(feature = "op-branch")]
    let mut branches = branches::Open::new();
    // By reference: moving the record would give it a second slot in the stack frame.
    while let Some(step) = &records.step() {
        let (info, header, record) = step.as_ref().map_err(|&error| error)?;
        let invalid = |rule| Error::Invalid { op: info.index, rule };
        if !header.scale.is_finite() || header.scale < 0.0 {
            return Err(invalid(Rule::Quantisation));
        }
        let work = ops::check(record, limits).map_err(invalid)?;
        #[cfg(feature = "op-branch")]
        branches.check(record, &records).map_err(invalid)?;
        total = total.saturating_add(work);
        if total > MAX_WORK {
            return Err(invalid(Rule::Shape));
        }
    }
    Ok((total, records.rest))
}

/// Arena span of an input or output; `None` if its description is invalid.
pub(crate) fn io_span(io: &IoRepr) -> Option<Span> {
    let rank = usize::from(io.rank);
    let axes = io.shape.get(..rank)?;
    if io.shape.get(rank..)?.iter().any(|&d| d != 1) {
        return None;
    }
    let elements = product(axes.iter().map(|&d| u32::from(d))).ok()?;
    let scale_fits = match io.dtype {
        DType::I8 => io.scale.is_finite() && io.scale >= 0.0,
        DType::F32 | DType::I32 => io.scale == 0.0 && io.zero_point == 0,
        #[cfg(feature = "int16")]
        DType::I16 => io.scale.is_finite() && io.scale > 0.0 && io.zero_point == 0,
    };
    scale_fits.then(|| Span::new(io.offset, elements, io.dtype.size()).ok()).flatten()
}
