//! Records over some rows of their output, and their input's. Strips of [`FusedRows`](crate::fused_rows) and
//! [parts](crate::parts) of a long operator are such records: checked by the operator's rules, run by its kernels.

use crate::dispatch;
use crate::operator::area;
use crate::row_major::ConvRowMajorPlaces as _;
use crate::tiled::ConvTiledPlaces as _;
use core::ops::Range;
use offshoot_base::{Memory, Rule, Span, product, require};
use offshoot_format::record::{Record, Window, WindowRepr};

/// Restricts a window over `h` input rows to the output rows `from .. to`. Returns the input rows that these read, and
/// the window with the padding that remains for them.
fn part(window: WindowRepr, h: u16, from: u32, to: u32) -> (Range<u32>, WindowRepr) {
    let mut window = Window::from(window);
    let (stride, top) = (u32::from(window.stride[0]), u32::from(window.pad[0]));
    let reach = u32::from(window.dilation[0]) * (u32::from(window.kernel[0]).max(1) - 1) + 1;
    // In rows of the padded input.
    let begin = from.saturating_mul(stride);
    let end = to.saturating_sub(1).saturating_mul(stride).saturating_add(reach);
    let bottom = top + u32::from(h);
    let inside = begin.clamp(top, bottom)..end.clamp(top, bottom);
    window.pad[0] = (inside.start.min(end).max(begin) - begin) as u16;
    window.pad[2] = (end - inside.end.max(begin).min(end)) as u16;
    (inside.start - top..inside.end - top, window.into())
}

/// Addresses of a piece of work.
#[derive(Clone, Copy)]
pub(crate) struct Places {
    pub(crate) src: u32,
    pub(crate) dst: u32,
    pub(crate) scratch: u32,
}

/// How a member reads its input.
#[derive(Clone, Copy)]
pub(crate) enum Reads {
    /// Windows over an image: images, height, width.
    Window(WindowRepr, [u16; 3]),
    /// This many pixels or elements, each independent of the others.
    Pixels(u32),
}

/// Whether records with row-major weights are built.
const ROW_MAJOR: bool = cfg!(feature = "op-conv-row-major");

/// Calls `$do` on records with windows, bound to `$r`.
macro_rules! windowed {
    ($record:expr, $r:ident => $do:expr, else => $else:expr) => {
        match $record {
            Record::Conv2d($r) => $do,
            Record::Depthwise($r) => $do,
            Record::ConvTiled($r) => $do,
            Record::ConvPacked($r) => $do,
            Record::ConvRowMajor($r) if ROW_MAJOR => $do,
            Record::ConvSingleMultiply($r) => $do,
            Record::DepthwisePlanar($r) => $do,
            Record::DepthwiseSingleMultiply($r) => $do,
            Record::Pool($r) => $do,
            _ => $else,
        }
    };
}

/// The same for records over one row of pixels, including 1×1 convolutions.
macro_rules! row {
    ($record:expr, $r:ident => $do:expr, else => $else:expr) => {
        match $record {
            Record::ConvTiled($r) if $r.h == 1 && is_flat(&$r.window) => $do,
            Record::ConvPacked($r) if $r.h == 1 && is_flat(&$r.window) => $do,
            Record::ConvRowMajor($r) if ROW_MAJOR && $r.h == 1 && is_flat(&$r.window) => $do,
            Record::ConvSingleMultiply($r) if $r.h == 1 && is_flat(&$r.window) => $do,
            _ => $else,
        }
    };
}

/// How a member reads its input.
pub(crate) fn reads(record: &Record) -> Result<Reads, Rule> {
    match record {
        Record::FullyConnected(r) => return Ok(Reads::Pixels(r.rows)),
        Record::Lut(r) => return Ok(Reads::Pixels(r.len)),
        Record::Requantize(r) => return Ok(Reads::Pixels(r.len)),
        _ => {}
    }
    row!(record, r => Ok(Reads::Pixels(r.w.into())), else =>
        windowed!(record, r => Ok(Reads::Window(r.window, [r.n, r.h, r.w])), else => Err(Rule::Format)))
}

/// Sets the number of pixels or elements of a record.
fn set_pixels(record: &mut Record, count: u32) -> Result<(), Rule> {
    match record {
        Record::FullyConnected(r) => r.rows = count,
        Record::Lut(r) => r.len = count,
        Record::Requantize(r) => r.len = count,
        other => {
            let count = u16::try_from(count).map_err(|_| Rule::Shape)?;
            row!(other, r => r.w = count, else => return Err(Rule::Format));
        }
    }
    Ok(())
}

/// Sets the input height and the window of a record.
fn set_rows(record: &mut Record, h: u32, window: WindowRepr) -> Result<(), Rule> {
    let h = u16::try_from(h).map_err(|_| Rule::Shape)?;
    windowed!(record, r => (r.h, r.window) = (h, window), else => return Err(Rule::Format));
    Ok(())
}

/// Whether a window covers a single pixel.
fn is_flat(window: &WindowRepr) -> bool {
    let window = Window::from(*window);
    window.kernel == [1, 1] && window.stride == [1, 1] && window.pad == [0; 4]
}

/// Binds a record with rows to `$r`.
macro_rules! any_rows {
    ($record:expr, $r:ident => $do:expr, else => $else:expr) => {
        match $record {
            Record::FullyConnected($r) => $do,
            Record::Lut($r) => $do,
            Record::Requantize($r) => $do,
            other => windowed!(other, $r => $do, else => $else),
        }
    };
}

/// Address of the input of a record with rows.
pub(crate) fn source(record: &Record) -> Option<u32> {
    any_rows!(record, r => Some(r.src), else => None)
}

/// Moves input and output of a record.
pub(crate) fn relocated(record: &mut Record, src: u32, dst: u32) -> Result<(), Rule> {
    any_rows!(record, r => (r.src, r.dst) = (src, dst), else => return Err(Rule::Format));
    Ok(())
}

/// Sets the addresses of a record, including the scratch if it has one.
pub(crate) fn place(record: &mut Record, at: Places) -> Result<(), Rule> {
    relocated(record, at.src, at.dst)?;
    let words = at.scratch / 4;
    match record {
        Record::ConvTiled(r) => r.scratch = words,
        Record::ConvPacked(r) => r.scratch = words,
        Record::ConvRowMajor(r) if ROW_MAJOR => r.scratch = words,
        Record::ConvSingleMultiply(r) => r.scratch = words,
        Record::DepthwisePlanar(r) => r.scratch = words,
        Record::DepthwiseSingleMultiply(r) => r.scratch = words,
        _ => {}
    }
    Ok(())
}

/// Clears the scratch of a record whose parts have less of it than the whole, as a run of the whole does.
pub(crate) fn clear_scratch(record: &Record, memory: &mut Memory<'_>) -> Result<(), Rule> {
    let words = match record {
        Record::DepthwisePlanar(r) => r.scratch,
        Record::DepthwiseSingleMultiply(r) => r.scratch,
        _ => return Ok(()),
    };
    let bytes = dispatch::scratch(record, memory.blobs())?;
    memory.clear(Span::new(words.checked_mul(4).ok_or(Rule::ArenaBounds)?, bytes.into(), 1)?)
}

/// Limits the rows of a depthwise convolution's bands to the rows of its padded input.
fn fit_bands(record: &mut Record) {
    let (rows, h, window) = match record {
        Record::DepthwisePlanar(r) => (&mut r.rows, r.h, r.window),
        Record::DepthwiseSingleMultiply(r) => (&mut r.rows, r.h, r.window),
        _ => return,
    };
    let [top, _, bottom, _] = Window::from(window).pad;
    *rows = (*rows).min(h.saturating_add(top).saturating_add(bottom));
}

/// The record for some rows of its output, and the first row of the input that these read. `all` are the rows of the
/// whole input. The addresses stay those of the whole.
///
/// # Errors
/// The record has no rows, or the rows read only padding: no record has an input without rows.
pub(crate) fn restricted(record: &Record, all: u32, rows: Range<u32>) -> Result<(Record, u32), Rule> {
    let mut piece = *record;
    let count = rows.end - rows.start;
    let begin = match reads(record)? {
        Reads::Window(window, [_, h, _]) => {
            let (input, window) = part(window, h, rows.start, rows.end);
            require(!input.is_empty(), Rule::Shape)?;
            set_rows(&mut piece, input.end - input.start, window)?;
            input.start
        }
        Reads::Pixels(pixels) => {
            set_pixels(&mut piece, pixels / all.max(1) * count)?;
            rows.start
        }
    };
    fit_bands(&mut piece);
    Ok((piece, begin))
}

/// Checks that a piece keeps the member's traversal. A strip may leave a single pixel for a member that works in pairs,
/// and the order of its weights would not fit the kernel for a single pixel.
pub(crate) fn keeps_walk(piece: &Record) -> Result<(), Rule> {
    let conv = match piece {
        Record::ConvTiled(r) => *r,
        Record::ConvPacked(r) => r.conv(),
        Record::ConvRowMajor(r) if ROW_MAJOR => {
            return require(r.layout()?.0.vector == r.traversal.is_vector(), Rule::Format);
        }
        _ => return Ok(()),
    };
    require(conv.layout()?.0.vector == conv.traversal.is_vector(), Rule::Format)
}

/// Bytes of a member's input and output.
pub(crate) fn extents(record: &Record) -> Result<[u32; 2], Rule> {
    let bytes = |span: Span| span.len as u32;
    let pixels = |n: u16, h: u16, w: u16, c: u16, size: usize| {
        let count = product([n, h, w, c])?;
        Span::new(0, count, size).map(bytes)
    };
    let input = match record {
        Record::Conv2d(r) => pixels(r.n, r.h, r.w, r.c, r.arith.dtype().size())?,
        Record::Depthwise(r) => pixels(r.n, r.h, r.w, r.c, r.arith.dtype().size())?,
        Record::Pool(r) => pixels(r.n, r.h, r.w, r.c, r.arith.dtype().size())?,
        Record::ConvTiled(r) => pixels(r.n, r.h, r.w, r.c, 1)?,
        Record::ConvPacked(r) => pixels(r.n, r.h, r.w, r.c, 1)?,
        Record::ConvRowMajor(r) if ROW_MAJOR => pixels(r.n, r.h, r.w, r.c, 1)?,
        Record::ConvSingleMultiply(r) => pixels(r.n, r.h, r.w, r.c, 1)?,
        Record::DepthwisePlanar(r) => pixels(r.n, r.h, r.w, r.c, 1)?,
        Record::DepthwiseSingleMultiply(r) => pixels(r.n, r.h, r.w, r.c, 1)?,
        Record::FullyConnected(r) => {
            let count = product([r.rows, r.in_c])?;
            bytes(Span::new(0, count, r.arith.dtype().size())?)
        }
        Record::Lut(r) => r.len,
        Record::Requantize(r) => r.len,
        _ => return Err(Rule::Format),
    };
    let mut moved = *record;
    place(&mut moved, Places { src: 0, dst: 0, scratch: 0 })?;
    Ok([input, bytes(dispatch::output(&moved)?)])
}

/// What the parts of an operator are measured in: multiply-accumulates, or elements that are touched where that is more.
pub fn work(record: &Record) -> u64 {
    let elements =
        dispatch::output(record).map_or(0, |span| span.len / dispatch::output_dtype(record).size()) as u64;
    let touched = match record {
        Record::Pool(r) => elements * area(r.window),
        _ => elements,
    };
    dispatch::macs(record).max(touched)
}
