//! Weight-shared sub-networks: further networks of a file, which share the weights of the first.
//!
//! Rules: there are 1 to 255 of them. Each has the layout of the first (inputs, outputs, operators, nothing after the
//! last operator), needs no larger arena than the header's, and does work within [`super::MAX_WORK`].

use super::{Model, check_ios, check_ops, sections};
use offshoot_base::{Error, Limits};
use offshoot_format::codec;
use offshoot_format::header::{Header, HeaderView};
use offshoot_format::nested::NestedHead;
use offshoot_format::requires;

/// Position of a network among those of its file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Nested<'m> {
    file: &'m [u8],
    /// Records of all networks except the first.
    others: &'m [u8],
    count: u8,
    index: u8,
    /// Whether any network of the file keeps a state from run to run.
    stateful: bool,
}

impl<'m> Nested<'m> {
    /// State of a file with a single network.
    pub(super) fn none(file: &'m [u8]) -> Self {
        Self { file, others: &[], count: 0, index: 0, stateful: false }
    }

    pub(super) fn index(&self) -> usize {
        self.index.into()
    }

    /// Whether any network of the file keeps a state from run to run.
    pub(super) fn stateful(&self) -> bool {
        self.stateful
    }

    pub(super) fn count(&self) -> usize {
        1 + usize::from(self.count)
    }
}

/// Splits off one network: its head, its records, and the bytes after it.
fn split(bytes: &[u8]) -> Option<(NestedHead, &[u8], &[u8])> {
    let (head, rest) = codec::decode_nested_head(bytes)?;
    let (records, rest) = rest.split_at_checked(usize::try_from(head.len).ok()?)?;
    Some((head, records, rest))
}

/// Checks the networks after the first, if the file has any; returns the bytes after them.
pub(super) fn check<'m>(model: &mut Model<'m>, bytes: &'m [u8]) -> Result<&'m [u8], Error> {
    if model.header.requires & requires::NESTED == 0 {
        return Ok(bytes);
    }
    let (&count, all) = bytes.split_first().filter(|&(&count, _)| count > 0).ok_or(Error::Length)?;
    let mut rest = all;
    let mut most = model.work;
    let mut stateful = model.keeps_state();
    for index in 1..=count {
        let (head, records, after) = split(rest).ok_or(Error::Length)?;
        if head.arena_bytes > model.header.arena_bytes {
            return Err(Error::Length);
        }
        let network = open(model, nested(&model.header, &head), records, index)?;
        let limits = Limits { arena_bytes: head.arena_bytes, blobs: model.blobs };
        let (work, behind) = check_ops(network.ops, network.head.ops, &limits)?;
        if !behind.is_empty() {
            return Err(Error::Length);
        }
        most = most.max(work);
        stateful |= network.keeps_state();
        rest = after;
    }
    model.work = most;
    model.nested.stateful = stateful;
    model.nested.count = count;
    model.nested.others = all.get(..all.len() - rest.len()).ok_or(Error::Length)?;
    Ok(rest)
}

/// The file's header with the values of one of its networks.
fn nested(header: &Header, head: &NestedHead) -> Header {
    let NestedHead { arena_bytes, arena_lower_bound, source_hash, .. } = *head;
    Header { arena_bytes, arena_lower_bound, source_hash, ..*header }
}

/// Network `index` from its records; does not check its operators.
fn open<'m>(model: &Model<'m>, header: Header, records: &'m [u8], index: u8) -> Result<Model<'m>, Error> {
    let (head, ios) = codec::decode_head(records).ok_or(Error::Length)?;
    let ops = check_ios(ios, &head, &header)?;
    let mut network = Model { header, head, ios, ops, ..*model };
    network.nested.index = index;
    Ok(network)
}

/// Network `index` of the file of `model`; `index` must be valid.
pub(super) fn network<'m>(model: &Model<'m>, index: usize) -> Result<Model<'m>, Error> {
    let file = HeaderView::new_checked(model.nested.file)?.parse()?;
    if index == 0 {
        let (records, _) = sections(model.nested.file, &file).ok_or(Error::Length)?;
        return open(model, file, records, 0);
    }
    let mut rest = model.nested.others;
    for _ in 1..index {
        rest = split(rest).ok_or(Error::Length)?.2;
    }
    let (head, records, _) = split(rest).ok_or(Error::Length)?;
    open(model, nested(&file, &head), records, u8::try_from(index).map_err(|_| Error::Length)?)
}
