//! [`Model`]: a `.off` file that has been validated whole, once.
//!
//! [`Model::open`] is the gate: whatever bytes it is given, it returns a model or an [`Error`]. After it
//! returned `Ok`, nothing that is done with the model panics, reads out of bounds or fails, and a run ends after
//! at most [`Model::work`] steps. Operators are decoded again whenever they are walked, from where the file
//! lies; nothing of it is copied to RAM.

pub mod learn;
#[cfg(feature = "nested")]
mod nested;

use crate::trace::OpInfo;
use learn::Learning;
use offshoot_base::Limits;
use offshoot_base::{Error, Rule, Span, product};
use offshoot_format::codec::{self, GraphHead, built};
use offshoot_format::header::{HEADER_LEN, Header, HeaderView};
use offshoot_format::record::{DType, IoRepr, OpHeader, Record, Tag};
use offshoot_format::{ALIGNMENT, requires};
use offshoot_operators as ops;

pub use offshoot_operators::MAX_WORK;

/// Bits of [`requires`] that this build of the runtime has.
pub const SUPPORTED: u16 = (if cfg!(feature = "learn") { requires::LEARNS } else { 0 })
    | if cfg!(feature = "nested") { requires::NESTED } else { 0 }
    | if cfg!(feature = "f32") { requires::NEEDS_F32 } else { 0 };

/// A validated file.
///
/// ```
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
    /// Learning records, checked; decoded whenever they are asked for.
    learn: Option<&'m [u8]>,
    #[cfg(feature = "nested")]
    nested: nested::Nested<'m>,
}

impl<'m> Model<'m> {
    /// Validates a file: container, checksum, input and output descriptions, and every rule of every operator.
    ///
    /// # Errors
    /// The first thing that is wrong.
    // Its frame must not become a part of the caller's, where it would lie below every run.
    #[inline(never)]
    pub fn open(bytes: &'m [u8]) -> Result<Self, Error> {
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
        // Without the feature such a file has been refused: nothing of learning is linked.
        if cfg!(feature = "learn") && header.requires & requires::LEARNS != 0 {
            learn::check(&model, rest)?;
            model.learn = Some(rest);
        } else if !rest.is_empty() {
            return Err(Error::Length);
        }
        Ok(model)
    }

    /// Bytes of arena that a run of this network needs; the first's is that of the largest.
    pub fn arena_bytes(&self) -> u32 {
        self.header.arena_bytes
    }

    /// Bytes that no memory plan of this graph goes below, as its compiler proved.
    pub fn arena_lower_bound(&self) -> u32 {
        self.header.arena_lower_bound
    }

    /// Hash of the graph that the file was compiled from.
    pub fn source_hash(&self) -> u32 {
        self.header.source_hash
    }

    /// Bytes of the whole file.
    pub fn file_len(&self) -> u32 {
        self.header.file_len
    }

    /// Upper bound of the steps of one run of whichever network: multiply-accumulates of the operators that have them (padding
    /// counted too), elements touched of the others. At most [`MAX_WORK`].
    pub fn work(&self) -> u64 {
        self.work
    }

    /// Whether runs depend on those before: recurrent layers keep their state ([`crate::Engine::restart`]).
    pub fn keeps_state(&self) -> bool {
        let keeps = |record: Record| record.recurrent().is_some_and(|r| r.kept.is_some());
        let built = cfg!(any(feature = "op-recurrent", feature = "op-recurrent-sparse"));
        built && self.ops().any(|(_, _, record)| keeps(record))
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

    /// What of the model learns, if anything does.
    pub fn learning(&self) -> Option<Learning<'m>> {
        let records = self.learn.filter(|_| cfg!(feature = "learn") && self.network_index() == 0)?;
        // Decoded once already.
        let (head, rest) = codec::decode_learn_head(records)?;
        Some(Learning::new(self, head, rest))
    }

    /// Bytes of arena that learning needs, inference included; `None` if nothing learns.
    pub fn train_arena_bytes(&self) -> Option<u32> {
        Some(self.learning()?.head.arena_bytes)
    }

    /// Whether going over to this network has to make states begin anew.
    #[cfg(feature = "nested")]
    pub(crate) fn shares_states(&self) -> bool {
        self.nested.stateful()
    }

    /// Which network of its file this is; 0 is the first.
    pub fn network_index(&self) -> usize {
        #[cfg(feature = "nested")]
        return self.nested.index();
        #[cfg(not(feature = "nested"))]
        0
    }

    /// Number of networks in the file: one, and those that share its weights.
    pub fn network_count(&self) -> usize {
        #[cfg(feature = "nested")]
        return self.nested.count();
        #[cfg(not(feature = "nested"))]
        1
    }

    /// Network `index` of the file. It reads its weights where they lie: nothing is copied or checked again.
    ///
    /// # Errors
    /// [`Error::NoSuchNetwork`].
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

    /// The operators in the order they run.
    pub fn ops(&self) -> Ops<'m> {
        Ops { rest: self.ops, next: 0, count: self.head.ops }
    }
}

/// Walks the operators of a [`Model`].
#[derive(Clone, Debug)]
pub struct Ops<'m> {
    rest: &'m [u8],
    next: u16,
    count: u16,
}

impl Ops<'_> {
    /// The next operator, or why there is none.
    pub(crate) fn step(&mut self) -> Option<Result<(OpInfo, OpHeader, Record), Error>> {
        if self.next == self.count {
            return None;
        }
        let op = self.next;
        self.next += 1;
        let undecodable = Error::Record { op };
        let mut read = || {
            let (tag, header, rest) = codec::decode_op_header(self.rest).ok_or(undecodable)?;
            let tag = Tag::from_u8(tag).filter(|&t| built(t)).ok_or(Error::UnknownOperator { op })?;
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
        // Every operator has been decoded once by `open`.
        self.step()?.ok()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = usize::from(self.count - self.next);
        (left, Some(left))
    }
}

/// Graph and blob section. The padding between them must be zero: one file, one form.
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

/// Checks inputs and outputs; gives the bytes after them.
fn check_ios<'m>(ios: &'m [u8], head: &GraphHead, header: &Header) -> Result<&'m [u8], Error> {
    let mut rest = ios;
    for i in 0..u16::from(head.inputs) + u16::from(head.outputs) {
        // Beyond 255 the number is held: it still says where to look.
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

/// Checks all operators; gives the work they do together and what stands behind them.
fn check_ops<'m>(ops: &'m [u8], count: u16, limits: &Limits<'_>) -> Result<(u64, &'m [u8]), Error> {
    let mut walk = Ops { rest: ops, next: 0, count };
    let mut total = 0u64;
    // By reference: a record that is moved would have its place in the frame twice.
    while let Some(step) = &walk.step() {
        let (info, header, record) = step.as_ref().map_err(|&error| error)?;
        let invalid = |rule| Error::Invalid { op: info.index, rule };
        if !header.scale.is_finite() || header.scale < 0.0 {
            return Err(invalid(Rule::Quantisation));
        }
        let work = ops::check(record, limits).map_err(invalid)?;
        total = total.saturating_add(work);
        if total > MAX_WORK {
            return Err(invalid(Rule::Shape));
        }
    }
    Ok((total, walk.rest))
}

/// Where an input or output lies; `None` if its description is not possible.
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
    };
    scale_fits.then(|| Span::new(io.offset, elements, io.dtype.size()).ok()).flatten()
}
