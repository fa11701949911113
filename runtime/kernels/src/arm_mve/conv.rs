//! [`ConvRowMajor`](offshoot_format::record::ConvRowMajor): gathers the inputs of three pixels, then computes their
//! outputs.

use super::gather::{Gather, copy};
use super::requantise::is_positive;
use super::tile::{self, Tile};
use super::vector::{self, Vector};
use crate::geometry::Tiled;
use crate::requant::Requant;
use crate::tiles::Operands;
use core::ptr;
use offshoot_base::{Rule, Span, require};
use offshoot_format::record::{ConvTiled, Traversal};
use offshoot_format::row_major::PIXELS;

/// Parameters of the last, incomplete block of channels.
struct Last {
    bias: [i32; 4],
    multiplier: [i32; 4],
    shift: [i8; 4],
}

impl Last {
    /// Zeros beyond the last channel.
    fn of(q: &Requant<'_>, first: usize) -> Self {
        let mut last = Self { bias: [0; 4], multiplier: [0; 4], shift: [-1; 4] };
        for (i, &bias) in q.bias.iter().enumerate().skip(first) {
            let at = i - first;
            last.bias[at] = bias;
            (last.multiplier[at], last.shift[at]) = q.scale(i);
        }
        last
    }
}

/// See [`crate::conv_row_major`].
///
/// # Errors
/// [`Rule::ArenaBounds`] for spans beyond the arena; [`Rule::BlobBounds`] for slices that are too short.
#[inline(never)]
pub(crate) fn conv_row_major(
    r: &ConvTiled,
    g: &Tiled,
    q: &Requant<'_>,
    weights: &[i8],
    operands: &mut Operands<'_>,
    lanes: Option<Span>,
) -> Result<(), Rule> {
    let channels = usize::from(r.out_c);
    let scales = q.multiplier.len();
    let fits = g.k > 0
        && weights.len() >= channels.next_multiple_of(4) * g.k
        && q.bias.len() == channels
        && q.shift.len() == scales
        && (scales == channels || lanes.is_none() && scales == 1);
    require(fits, Rule::BlobBounds)?;
    let input = usize::from(r.n) * usize::from(r.h) * usize::from(r.w) * usize::from(r.c);
    let (src, dst) = (operands.src, operands.dst);
    require(src.len >= input && dst.len >= g.pixels * channels, Rule::ArenaBounds)?;
    let apart = !src.overlaps(dst);
    match lanes {
        Some(lanes) => {
            require(lanes.len >= PIXELS * g.k, Rule::ArenaBounds)?;
            let arena = operands.region(&[lanes])?.as_mut_ptr().cast::<i8>();
            // SAFETY: all spans lie in the arena.
            let (src, dst, lanes) =
                unsafe { (arena.add(src.start).cast_const(), arena.add(dst.start), arena.add(lanes.start)) };
            threes(r, g, q, weights, (src, dst, lanes), apart);
        }
        None => {
            require(input >= g.k && g.pixels == 1, Rule::ArenaBounds)?;
            let arena = operands.region(&[])?.as_mut_ptr().cast::<i8>();
            // SAFETY: both spans lie in the arena.
            let (src, dst) = unsafe { (arena.add(src.start).cast_const(), arena.add(dst.start)) };
            one(g, q, weights, src, dst);
        }
    }
    Ok(())
}

/// All output pixels. `apart`: whether input and output share no byte. The pointers are those of input, output and lanes, and have been checked.
#[inline(always)]
fn threes(
    r: &ConvTiled,
    g: &Tiled,
    q: &Requant<'_>,
    weights: &[i8],
    (src, dst, lanes): (*const i8, *mut i8, *mut i8),
    apart: bool,
) {
    let (k, channels) = (g.k, q.bias.len());
    let run = if is_positive(q) { tile::positive } else { tile::signed };
    let (whole, rest) = (channels / 4, channels % 4);
    let at = |base: *const i8| [0, 1, 2].map(|i| base.wrapping_add(i * k));
    let tile = Tile {
        x: at(lanes),
        bias: q.bias.as_ptr(),
        multiplier: q.multiplier.as_ptr(),
        shift: q.shift.as_ptr(),
        out: [dst; 3],
        zero: q.out_zp,
        blocks: whole as u32,
        min: q.min,
        max: q.max,
        k: k as u32,
        weights: weights.as_ptr(),
        threes: 1,
        x_step: (3 * k) as u32,
        out_skip: (3 * channels - 4 * whole) as u32,
    };
    let last = Last::of(q, 4 * whole);
    let mut gather = Gather::new(r, g, lanes);
    let flat = g.window.kernel == [1, 1] && g.window.stride == [1, 1] && g.window.pad == [0; 4];
    // Inputs that lie together need not be gathered, unless outputs overwrite them.
    let direct = flat && apart;
    let count = g.pixels.div_ceil(PIXELS);
    let mut i = 0;
    if direct && rest == 0 {
        i = g.pixels / PIXELS;
        if i > 0 {
            let outputs = [0, 1, 2].map(|i| dst.wrapping_add(i * channels));
            let all = Tile { x: at(src), out: outputs, threes: i as u32, ..tile };
            // SAFETY: the inputs of these pixels lie together. The rest is as below.
            unsafe { run(&all) };
        }
    }
    let backwards = r.traversal == Traversal::Backwards && !direct;
    let mut three = tile;
    while i < count {
        let first = PIXELS * if backwards { count - 1 - i } else { i };
        i += 1;
        let here = (g.pixels - first).min(PIXELS);
        if direct {
            three.x = at(src.wrapping_add(first * k));
        } else if flat {
            // SAFETY: `here` pixels of `k` bytes, which lie together.
            unsafe { copy(src.add(first * k), lanes, here * k) };
        } else {
            // SAFETY: the pixels exist, and their lanes lie in the scratch.
            unsafe { gather.pixels(first, here, src) };
        }
        let out = dst.wrapping_add(first * channels);
        three.out = [out, out.wrapping_add(channels), out.wrapping_add(2 * channels)];
        if here < PIXELS {
            // The last pixel, again: it gets the same outputs.
            for i in here..PIXELS {
                (three.x[i], three.out[i]) = (three.x[here - 1], three.out[here - 1]);
            }
        }
        if whole > 0 {
            // SAFETY: rows of all whole blocks, their parameters and outputs exist.
            unsafe { run(&three) };
        }
        if rest > 0 {
            // SAFETY: the pixels exist.
            unsafe { rest_of(&three, &last, weights, (whole, rest), run) };
        }
        if here < PIXELS {
            three.x = tile.x;
        }
    }
}

/// The last, incomplete block of channels of three pixels.
///
/// # Safety
/// `three` is right for the whole blocks.
#[inline(never)]
unsafe fn rest_of(
    three: &Tile,
    last: &Last,
    weights: &[i8],
    (whole, rest): (usize, usize),
    run: unsafe extern "C" fn(&Tile),
) {
    let mut outputs = [[0i8; 4]; 3];
    let part = Tile {
        bias: last.bias.as_ptr(),
        multiplier: last.multiplier.as_ptr(),
        shift: last.shift.as_ptr(),
        out: outputs.each_mut().map(|o| o.as_mut_ptr()),
        blocks: 1,
        weights: weights[4 * whole * three.k as usize..].as_ptr(),
        ..*three
    };
    // SAFETY: the rows of the last block exist; outputs are on the stack.
    unsafe { run(&part) };
    for (from, to) in outputs.iter().zip(three.out) {
        // SAFETY: the last `rest` channels of the pixel.
        unsafe { ptr::copy_nonoverlapping(from.as_ptr(), to.add(4 * whole), rest) };
    }
}

/// The only output pixel. The pointers are those of input and output, and have been checked.
#[inline(always)]
fn one(g: &Tiled, q: &Requant<'_>, weights: &[i8], src: *const i8, dst: *mut i8) {
    let (k, channels) = (g.k, q.bias.len());
    let run = if is_positive(q) { vector::positive } else { vector::signed };
    let (whole, rest) = (channels / 4, channels % 4);
    let last = Last::of(q, 4 * whole);
    let (multiplier, shift) = q.scale(0);
    let (multipliers, shifts) = ([multiplier; 4], [shift; 4]);
    let each = q.multiplier.len() == channels;
    let vector = Vector {
        bias: q.bias.as_ptr(),
        multiplier: if each { q.multiplier.as_ptr() } else { multipliers.as_ptr() },
        shift: if each { q.shift.as_ptr() } else { shifts.as_ptr() },
        out: dst,
        steps: if each { [16, 4] } else { [0, 0] },
        zero: q.out_zp,
        blocks: whole as u32,
        x: src,
        min: q.min,
        max: q.max,
        k: k as u32,
        weights: weights.as_ptr(),
    };
    if whole > 0 {
        // SAFETY: rows of all whole blocks, their parameters and outputs exist.
        unsafe { run(&vector) };
    }
    if rest > 0 {
        let mut outputs = [0i8; 4];
        let part = Vector {
            bias: last.bias.as_ptr(),
            multiplier: last.multiplier.as_ptr(),
            shift: last.shift.as_ptr(),
            out: outputs.as_mut_ptr(),
            blocks: 1,
            weights: weights[4 * whole * k..].as_ptr(),
            ..vector
        };
        // SAFETY: the rows of the last block exist; the rest is on the stack, but for `rest` outputs.
        unsafe {
            run(&part);
            ptr::copy_nonoverlapping(outputs.as_ptr(), dst.add(4 * whole), rest);
        }
    }
}
