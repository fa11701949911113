//! Parts of a long operator, so that a run can stop between them: strips of its output rows, each a record of its own
//! that the operator's kernels run. The bits are those of the whole.
//!
//! Convolutions, pools, fully connected layers of several rows, tables and requantisations divide into rows; fused row
//! tiles into their strips. Everything else is one part: operators over whole planes (Winograd, depthwise in place),
//! sparse and recurrent layers, movement.

use crate::dispatch;
use crate::fused_rows::Plan;
pub use crate::rows::work;
use crate::rows::{Reads, clear_scratch, extents, keeps_walk, reads, relocated, restricted, source};
use core::ops::Range;
use offshoot_base::{Memory, Rule};
use offshoot_format::record::{Record, Traversal};
use offshoot_format::row_major::PIXELS;
use offshoot_kernels::geometry::window_output;

/// How a run of one record divides.
#[derive(Debug)]
pub struct Parts<'m> {
    count: u32,
    by: By<'m>,
}

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is no heap to put a plan on, and one lives at a time")]
enum By<'m> {
    /// One part.
    Whole,
    /// Strips of fused row tiles.
    Strips(Plan<'m>),
    /// Rows of the output.
    Rows(Rows),
}

/// Rows of a record, and where they lie.
#[derive(Clone, Copy, Debug)]
struct Rows {
    /// Rows of input and output; pixels where each is independent of the others.
    input: u32,
    output: u32,
    /// Bytes per row.
    input_bytes: u32,
    output_bytes: u32,
    /// Addresses of the whole.
    src: u32,
    dst: u32,
    /// Whether the last rows come first, because the output lies above an input that it overwrites.
    backwards: bool,
    /// Parts begin at multiples of so many rows: those of whole groups of pixels that a kernel computes together. In-place
    /// offsets hold for these groups, and the kernel for a single pixel wants its weights in another order.
    unit: u32,
}

impl<'m> Parts<'m> {
    /// Divides a checked record so that no part has more than `most_work` [work](work), where its rows allow that.
    /// `blobs` is the file's blob section.
    pub fn of(record: &Record, blobs: &'m [u8], most_work: u32) -> Self {
        let whole = Self { count: 1, by: By::Whole };
        if let Record::FusedRows(r) = record {
            if !cfg!(feature = "op-fused-rows") {
                return whole;
            }
            let plan = Plan::of(r, blobs).ok();
            return plan.map_or(whole, |plan| Self { count: plan.strips(), by: By::Strips(plan) });
        }
        let wanted = work(record).div_ceil(most_work.max(1).into());
        if wanted <= 1 {
            return whole;
        }
        let Some(rows) = Rows::of(record) else { return whole };
        let mut count = u32::try_from(wanted).unwrap_or(u32::MAX).min(rows.output / rows.unit);
        // Where the padding is as high as a part, fewer parts reach the input.
        while count > 1 {
            let divided = Self { count, by: By::Rows(rows) };
            // The first and the last part have the paddings; all between them are alike.
            let keeps = |part| divided.strip(record, part).and_then(|strip| keeps_walk(&strip)).is_ok();
            if keeps(0) && keeps(count - 1) {
                return divided;
            }
            count /= 2;
        }
        whole
    }

    /// Number of parts, at least 1.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// The most work of a part.
    pub fn most_work(&self, record: &Record) -> u64 {
        match &self.by {
            By::Whole => work(record),
            By::Rows(rows) => {
                let longest = (0..self.count).map(|part| rows.of_part(part, self.count).len()).max();
                work(record) * longest.unwrap_or(0) as u64 / u64::from(rows.output)
            }
            By::Strips(plan) => {
                (0..plan.strips()).map(|strip| plan.work(strip..strip + 1)).max().unwrap_or(0)
            }
        }
    }

    /// The work of all parts.
    pub fn whole_work(&self, record: &Record) -> u64 {
        match &self.by {
            By::Strips(plan) => plan.work(0..plan.strips()),
            By::Whole | By::Rows(_) => work(record),
        }
    }

    /// Runs part `part`. All parts before it have run, and nothing else has written to the arena since.
    ///
    /// # Errors
    /// None for a checked record and a part below [`Self::count`].
    pub fn run(&self, record: &Record, part: u32, memory: &mut Memory<'_>) -> Result<(), Rule> {
        match &self.by {
            By::Whole => dispatch::run(record, memory),
            By::Strips(plan) => plan.run(part..part + 1, memory),
            By::Rows(_) => {
                dispatch::run(&self.strip(record, part)?, memory)?;
                if part + 1 == self.count { clear_scratch(record, memory) } else { Ok(()) }
            }
        }
    }

    /// The record of a part.
    fn strip(&self, record: &Record, part: u32) -> Result<Record, Rule> {
        let By::Rows(rows) = &self.by else { return Err(Rule::Format) };
        let part = if rows.backwards { self.count.checked_sub(part + 1).ok_or(Rule::Shape)? } else { part };
        rows.strip(record, rows.of_part(part, self.count))
    }
}

impl Rows {
    /// The rows of a record, if it can run row by row.
    fn of(record: &Record) -> Option<Self> {
        let [input_bytes, output_bytes] = extents(record).ok()?;
        let (input, output, width) = match reads(record).ok()? {
            Reads::Pixels(pixels) => (pixels, pixels, 1),
            Reads::Window(window, [1, h, w]) => {
                let (out_h, out_w) = window_output(&window, h, w).ok()?;
                (u32::from(h), out_h, out_w)
            }
            Reads::Window(..) => return None,
        };
        if input == 0
            || output == 0
            || !input_bytes.is_multiple_of(input)
            || !output_bytes.is_multiple_of(output)
        {
            return None;
        }
        let (src, dst) = (source(record)?, dispatch::output(record).ok()?.start as u32);
        let overlap = src < dst.saturating_add(output_bytes) && dst < src.saturating_add(input_bytes);
        let (traversal, group) = match record {
            Record::ConvTiled(r) => (Some(r.traversal), 2),
            Record::ConvPacked(r) => (Some(r.traversal), 2),
            Record::ConvSingleMultiply(r) => (Some(r.traversal), 2),
            Record::ConvRowMajor(r) => (Some(r.traversal), PIXELS as u32),
            _ => (None, 1),
        };
        let backwards = match (record, traversal) {
            _ if !overlap => false,
            (_, Some(Traversal::Forwards)) | (Record::Lut(_) | Record::Requantize(_), _) => false,
            (_, Some(Traversal::Backwards)) => true,
            // A depthwise convolution in place gathers a whole plane before it writes.
            _ => return None,
        };
        Some(Self {
            input,
            output,
            input_bytes: input_bytes / input,
            output_bytes: output_bytes / output,
            src,
            dst,
            backwards,
            unit: if width.is_multiple_of(group) { 1 } else { group },
        })
    }

    /// Rows of a part of `count`.
    fn of_part(&self, part: u32, count: u32) -> Range<u32> {
        let units = u64::from(self.output / self.unit);
        let first = |part: u32| match part == count {
            true => self.output,
            false => (u64::from(part) * units / u64::from(count)) as u32 * self.unit,
        };
        first(part)..first(part + 1)
    }

    /// The record for some rows of the output.
    fn strip(&self, record: &Record, rows: Range<u32>) -> Result<Record, Rule> {
        let from = rows.start;
        let (mut strip, begin) = restricted(record, self.input, rows)?;
        let at = |base: u32, row: u32, bytes: u32| {
            row.checked_mul(bytes).and_then(|offset| base.checked_add(offset)).ok_or(Rule::ArenaBounds)
        };
        let src = at(self.src, begin, self.input_bytes)?;
        relocated(&mut strip, src, at(self.dst, from, self.output_bytes)?)?;
        Ok(strip)
    }
}
