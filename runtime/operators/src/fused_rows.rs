//! [`FusedRows`]: a chain of operators that run together, one strip of rows at a time. Each piece of work is a record
//! of its own: the member's record with fewer rows. It is checked by that operator's rules and run by its kernels.
//!
//! Rules: 2 to 8 members of the kinds listed at the record; strips of at least one row; sizes that divide into rows;
//! every piece follows the rules of its kind, within the input, the buffers and the output of the fused rows.

use crate::dispatch::{self, check, run};
use crate::operator::{InPlace, Operator};
use crate::rows::{Places, Reads, extents, keeps_walk, place, reads, restricted, work as work_of};
use core::ops::Range;
use offshoot_base::{Limits, Memory, Rule, Span, blob, require};
use offshoot_format::codec::built_tag;
use offshoot_format::fused_rows::MOST_MEMBERS;
use offshoot_format::record::{DType, FusedRows, Record, Tag, Window, WindowRepr};
use offshoot_kernels::geometry::window_output;

/// Work added for each piece besides its own, which bounds the number of pieces in a file.
const PIECE: u64 = 1024;

/// Rows of a member's output, and the window that reads its input.
#[derive(Clone, Copy, Debug)]
struct Rows {
    /// Rows of the output, and bytes per row.
    count: u32,
    bytes: u32,
    /// Rows of the window, its stride, and the padding above the input. 1, 1, 0 for row-by-row members.
    kernel: u32,
    stride: u32,
    top: u32,
}

impl Rows {
    /// End of the rows that the first `end` output rows need, in an input of `count` rows.
    fn needed_end(&self, end: u32, count: u32) -> u32 {
        let last = end.saturating_sub(1).saturating_mul(self.stride).saturating_add(self.kernel);
        if end == 0 { 0 } else { last.saturating_sub(self.top).min(count) }
    }

    /// First row that the output rows from `from` on need, in an input of `count` rows.
    fn needed_begin(&self, from: u32, count: u32) -> u32 {
        from.saturating_mul(self.stride).saturating_sub(self.top).min(count)
    }
}

const NO_ROWS: Rows = Rows { count: 0, bytes: 0, kernel: 1, stride: 1, top: 0 };

/// A [`FusedRows`] with its members decoded.
#[derive(Debug)]
pub(crate) struct Plan<'m> {
    record: FusedRows,
    /// Encoded members.
    members: &'m [u8],
    rows: [Rows; MOST_MEMBERS],
    /// Rows of the input, and bytes per row.
    input: (u32, u32),
    /// Bytes of the buffer of each member but the last.
    buffers: [u32; MOST_MEMBERS],
}

/// Rows of a window over `h` rows. Bytes per row are filled in later.
fn window_rows(window: WindowRepr, h: u16, width: u16) -> Result<Rows, Rule> {
    let (out_h, _) = window_output(&window, h, width)?;
    let window = Window::from(window);
    let reach = u32::from(window.dilation[0]) * (u32::from(window.kernel[0]) - 1) + 1;
    Ok(Rows {
        count: out_h,
        bytes: 0,
        kernel: reach,
        stride: window.stride[0].into(),
        top: window.pad[0].into(),
    })
}

impl<'m> Plan<'m> {
    /// Decodes the members and computes their rows and buffers.
    ///
    /// # Errors
    /// The rule that the record breaks.
    pub(crate) fn of(r: &FusedRows, blobs: &'m [u8]) -> Result<Self, Rule> {
        let count = usize::from(r.members);
        require((2..=MOST_MEMBERS).contains(&count) && r.step > 0 && r.rows > 0, Rule::Format)?;
        let members: &[u8] = blob(blobs, r.blob, r.len.into())?;
        let mut plan = Self {
            record: *r,
            members,
            rows: [NO_ROWS; MOST_MEMBERS],
            input: (r.rows.into(), 0),
            buffers: [0; MOST_MEMBERS],
        };
        let mut rest = members;
        let (mut rows, mut bytes) = (u32::from(r.rows), None);
        for i in 0..count {
            let (record, after) = member(rest)?;
            rest = after;
            let [input, output] = extents(&record)?;
            require(dispatch::output_dtype(&record) == DType::I8, Rule::Format)?;
            let own = match reads(&record)? {
                Reads::Window(window, [n, h, w]) => {
                    require(n == 1 && u32::from(h) == rows, Rule::Shape)?;
                    window_rows(window, h, w)?
                }
                Reads::Pixels(count) => {
                    require(count.is_multiple_of(rows), Rule::Shape)?;
                    Rows { count: rows, ..NO_ROWS }
                }
            };
            require(input.is_multiple_of(rows) && output.is_multiple_of(own.count), Rule::Shape)?;
            let row = input / rows;
            require(bytes.is_none_or(|bytes| bytes == row), Rule::Shape)?;
            if i == 0 {
                plan.input.1 = row;
            }
            (rows, bytes) = (own.count, Some(output / own.count));
            plan.rows[i] = Rows { bytes: output / own.count, ..own };
        }
        require(rest.is_empty(), Rule::Format)?;
        let last = plan.last();
        require(last.count.checked_mul(last.bytes) == Some(r.bytes), Rule::Shape)?;
        plan.size()?;
        Ok(plan)
    }

    fn count(&self) -> usize {
        usize::from(self.record.members)
    }

    /// Number of strips.
    pub(crate) fn strips(&self) -> u32 {
        self.last().count.div_ceil(self.record.step.into())
    }

    fn last(&self) -> Rows {
        self.rows[self.count() - 1]
    }

    /// For each member, the rows of its output that are computed by the end of the strip. `None`: before the first
    /// strip.
    fn ends(&self, strip: Option<u32>) -> [u32; MOST_MEMBERS] {
        let mut ends = [0; MOST_MEMBERS];
        let count = self.count();
        let Some(strip) = strip else { return ends };
        let step = u32::from(self.record.step);
        ends[count - 1] = (strip + 1).saturating_mul(step).min(self.last().count);
        for i in (0..count - 1).rev() {
            ends[i] = self.rows[i + 1].needed_end(ends[i + 1], self.rows[i].count);
        }
        ends
    }

    /// Rows that the buffer of member `i` (not the last) holds in a strip that starts with rows `before` computed and
    /// ends with rows `ends`.
    fn held(&self, i: usize, before: &[u32; MOST_MEMBERS], ends: &[u32; MOST_MEMBERS]) -> Range<u32> {
        let begin = self.rows[i + 1].needed_begin(before[i + 1], self.rows[i].count);
        begin.min(ends[i])..ends[i]
    }

    /// Computes the sizes of the buffers.
    fn size(&mut self) -> Result<(), Rule> {
        let mut before = self.ends(None);
        for strip in 0..self.strips() {
            let ends = self.ends(Some(strip));
            for i in 0..self.count() - 1 {
                let held = self.held(i, &before, &ends);
                let bytes = (held.end - held.start).checked_mul(self.rows[i].bytes);
                let bytes = bytes.and_then(|b| b.checked_next_multiple_of(4)).ok_or(Rule::ArenaBounds)?;
                self.buffers[i] = self.buffers[i].max(bytes);
            }
            before = ends;
        }
        Ok(())
    }

    /// Address of the buffer of member `i`, or for the last `i`, of the members' own scratch behind all buffers.
    fn buffer(&self, i: usize) -> Result<u32, Rule> {
        let begin = self.record.scratch.checked_mul(4).ok_or(Rule::ArenaBounds)?;
        let sum = |at: u32, bytes: &u32| at.checked_add(*bytes);
        self.buffers[..i].iter().try_fold(begin, sum).ok_or(Rule::ArenaBounds)
    }

    /// Visits the pieces of work of some strips in order. Before a piece, `keep` moves rows to the front of a buffer: it
    /// gets the buffer's span, and the offset and number of the bytes to move. Then `work` gets the piece.
    #[inline(always)]
    pub(crate) fn visit<T>(
        &self,
        strips: Range<u32>,
        context: &mut T,
        mut keep: impl FnMut(&mut T, Span, usize, usize) -> Result<(), Rule>,
        mut work: impl FnMut(&mut T, &Record) -> Result<(), Rule>,
    ) -> Result<(), Rule> {
        let count = self.count();
        let own = self.buffer(count - 1)?;
        let (mut before, mut held) = (self.ends(strips.start.checked_sub(1)), [0u32; MOST_MEMBERS]);
        if strips.start > 0 {
            let earlier = self.ends(strips.start.checked_sub(2));
            (0..count - 1).for_each(|i| held[i] = self.held(i, &earlier, &before).start);
        }
        for strip in strips {
            let ends = self.ends(Some(strip));
            let mut rest = self.members;
            // First row of the member's input that is held.
            let mut first = 0;
            for i in 0..count {
                let (record, after) = member(rest)?;
                rest = after;
                let last = i + 1 == count;
                let rows = &self.rows[i];
                let kept = if last { 0..ends[i] } else { self.held(i, &before, &ends) };
                let mut dst = if last { self.record.dst } else { self.buffer(i)? };
                if !last && before[i] > kept.start && kept.start > held[i] {
                    let at = |rows: u32| (rows * self.rows[i].bytes) as usize;
                    let span = Span::new(dst, self.buffers[i].into(), 1)?;
                    keep(context, span, at(kept.start - held[i]), at(before[i] - kept.start))?;
                }
                let (from, to) = (before[i].max(kept.start), ends[i]);
                if from < to {
                    let offset = (from - kept.start).checked_mul(rows.bytes).ok_or(Rule::ArenaBounds)?;
                    dst = dst.checked_add(offset).ok_or(Rule::ArenaBounds)?;
                    let piece =
                        self.piece(i, &record, from..to, first, Places { src: 0, dst, scratch: own })?;
                    work(context, &piece)?;
                }
                held[i] = kept.start;
                first = kept.start;
            }
            before = ends;
        }
        Ok(())
    }

    /// Runs some strips. The strips before them have run, and nothing else has written to the buffers since.
    ///
    /// # Errors
    /// None for a checked record.
    pub(crate) fn run(&self, strips: Range<u32>, memory: &mut Memory<'_>) -> Result<(), Rule> {
        let own = self.buffer(self.count() - 1)? as usize;
        memory.sharing(own, |memory| {
            self.visit(
                strips,
                memory,
                |memory, span, from, len| {
                    let bytes = memory.write::<u8>(span)?;
                    let end = from.checked_add(len).filter(|&end| end <= bytes.len());
                    bytes.copy_within(from..end.ok_or(Rule::ArenaBounds)?, 0);
                    Ok(())
                },
                |memory, piece| run(piece, memory),
            )
        })
    }

    /// The record of member `i` for some rows of its output. `first` is the first row of its input that is held.
    fn piece(
        &self,
        i: usize,
        record: &Record,
        rows: Range<u32>,
        first: u32,
        mut at: Places,
    ) -> Result<Record, Rule> {
        let (all, bytes) = match i.checked_sub(1) {
            None => self.input,
            Some(before) => (self.rows[before].count, self.rows[before].bytes),
        };
        let (mut piece, begin) = restricted(record, all, rows)?;
        let base = if i == 0 { self.record.src } else { self.buffer(i - 1)? };
        let offset = begin.checked_sub(first).and_then(|rows| rows.checked_mul(bytes)).ok_or(Rule::Shape)?;
        at.src = base.checked_add(offset).ok_or(Rule::ArenaBounds)?;
        place(&mut piece, at)?;
        Ok(piece)
    }

    /// Bytes of scratch, and the in-place offset: how far the output must start before the input.
    ///
    /// # Errors
    /// A piece breaks a rule of its kind, although the whole member keeps it.
    pub(crate) fn needs(&self) -> Result<(u32, u64), Rule> {
        let mut own = 0;
        self.visit(
            0..self.strips(),
            &mut own,
            |_, _, _, _| Ok(()),
            |own: &mut u32, piece| {
                *own = (*own).max(dispatch::scratch(piece, &[])?);
                keeps_walk(piece)
            },
        )?;
        let bytes =
            (self.buffer(self.count() - 1)? - self.buffer(0)?).checked_add(own).ok_or(Rule::ArenaBounds)?;
        let (mut below, first) = (0u64, &self.rows[0]);
        for strip in 0..self.strips() {
            let ends = self.ends(Some(strip));
            let written = u64::from(ends[self.count() - 1]) * u64::from(self.last().bytes);
            let needed = first.needed_begin(ends[0], self.input.0);
            if strip + 1 < self.strips() {
                below = below.max(written.saturating_sub(u64::from(needed) * u64::from(self.input.1)));
            }
        }
        Ok((bytes, below))
    }

    /// The work of some strips, in the unit of [`crate::rows::work`]; 0 for a record that is not checked.
    pub(crate) fn work(&self, strips: Range<u32>) -> u64 {
        let mut work = 0;
        let all = self.visit(
            strips,
            &mut work,
            |_, _, _, _| Ok(()),
            |work: &mut u64, piece| {
                *work += work_of(piece);
                Ok(())
            },
        );
        all.map_or(0, |()| work)
    }

    /// The members as stored in the file.
    pub(crate) fn records(&self) -> impl Iterator<Item = Record> + use<'m> {
        let mut rest = self.members;
        core::iter::from_fn(move || {
            let (record, after) = member(rest).ok()?;
            rest = after;
            Some(record)
        })
    }
}

/// Decodes the record at the front of `bytes`. Returns it and the bytes after it.
fn member(bytes: &[u8]) -> Result<(Record, &[u8]), Rule> {
    let (&tag, rest) = bytes.split_first().ok_or(Rule::Format)?;
    let tag = built_tag(tag).filter(|&tag| tag != Tag::FusedRows).ok_or(Rule::Format)?;
    Record::decode(tag, rest).ok_or(Rule::Format)
}

impl Operator for FusedRows {
    // Not inlined: the stack frame of a plan must not add to that of every operator.
    #[inline(never)]
    fn check(&self, limits: &Limits<'_>) -> Result<u64, Rule> {
        let plan = Plan::of(self, limits.blobs)?;
        let mut work = 0u64;
        plan.visit(
            0..plan.strips(),
            &mut work,
            |work, span, from, len| {
                *work = work.saturating_add(len as u64);
                require(from.checked_add(len).is_some_and(|end| end <= span.len), Rule::ArenaBounds)?;
                limits.arena(&[span])
            },
            |work, piece| {
                *work = work.saturating_add(PIECE).saturating_add(check(piece, limits)?);
                require(*work <= crate::operator::MAX_WORK, Rule::Shape)
            },
        )?;
        Ok(work)
    }

    fn output(&self) -> Result<Span, Rule> {
        Span::new(self.dst, self.bytes.into(), 1)
    }

    #[inline(never)]
    fn run(&self, memory: &mut Memory<'_>) -> Result<(), Rule> {
        let plan = Plan::of(self, memory.blobs())?;
        plan.run(0..plan.strips(), memory)
    }

    fn output_dtype(&self) -> DType {
        DType::I8
    }

    // Its members lie in the blob section, which these two are not given: [`crate::members`] lists them for sums.
    fn macs(&self) -> u64 {
        0
    }

    fn weights(&self) -> u64 {
        0
    }

    fn scratch(&self, blobs: &[u8]) -> Result<u32, Rule> {
        Ok(Plan::of(self, blobs)?.needs()?.0)
    }

    fn in_place(&self, blobs: &[u8]) -> InPlace {
        let needs = Plan::of(self, blobs).and_then(|plan| plan.needs());
        needs.map_or(InPlace::Apart, |(_, below)| InPlace::Shifted { below, above: u64::MAX })
    }
}
