//! [`ConvSingleMultiply`]: gathers the inputs of a strip of pairs, then computes its outputs.

use super::window::Windows;
use super::{gather, pair, strip};
use crate::geometry::{Tiled, block_words};
use crate::tiles::Operands;
use offshoot_base::Rule;
use offshoot_base::Span;
use offshoot_format::record::{ConvSingleMultiply, Traversal};

/// See [`crate::conv_single_multiply`].
#[inline(never)]
pub(crate) fn conv_single_multiply(
    r: &ConvSingleMultiply,
    g: &Tiled,
    words: &[i32],
    operands: &mut Operands<'_>,
    (lanes, weight_tile): (Span, Option<Span>),
) -> Result<(), Rule> {
    let (input, output) = (operands.src, operands.dst);
    let arena = operands.region(&[lanes, weight_tile.unwrap_or(lanes)])?;
    let readable = arena.len() - input.start;
    let arena = arena.as_mut_ptr();
    // SAFETY: `region` has checked that all spans lie in the arena.
    let place = |span: Span| unsafe { arena.add(span.start) };
    let conv = r.conv();
    let lanes = place(lanes).cast::<i16>();
    let mut windows = Windows::new(&conv, g, place(input).cast(), readable, lanes);
    let computer = Computer {
        words,
        inputs: g.k,
        out_c: usize::from(r.out_c),
        wide: r.wide && cfg!(feature = "single-multiply-wide"),
        words_of_block: block_words(r, g),
        weight_tile: weight_tile.map_or(core::ptr::null_mut(), |weight_tile| place(weight_tile).cast()),
        dst: place(output).cast(),
        pixels: g.pixels,
    };
    // A checked record has a strip of at least one pair.
    let (pairs, most) = (g.pairs(), usize::from(r.strip).max(1));
    let strips = pairs.div_ceil(most);
    for i in 0..strips {
        let first = most * if r.traversal == Traversal::Backwards { strips - 1 - i } else { i };
        let count = most.min(pairs - first);
        let mut done = 0;
        while done < count {
            // SAFETY: the lanes of this pair.
            windows.lanes = unsafe { lanes.add(2 * g.k * done) };
            done += gather_some(&windows, g, 2 * (first + done), count - done);
        }
        // SAFETY: the lanes of these pairs have been filled.
        unsafe { computer.strip(lanes, first, count) };
    }
    Ok(())
}

/// Gathers between one and `most` pairs, beginning at that of `pixel`; returns how many.
#[inline(never)]
fn gather_some(windows: &Windows<'_>, g: &Tiled, pixel: usize, most: usize) -> usize {
    let (run, rows) = if windows.plain {
        windows.plain_run(pixel, most)
    } else {
        let site = windows.site(pixel);
        let whole = if pixel + 1 < g.pixels { windows.run(&site, false).min(most) } else { 0 };
        (whole, windows.rows(&site))
    };
    if run > 0 {
        let mut pairs = gather::Pairs { rows, pairs: run, step: windows.pair_step() };
        if run > 1 && pairs.rows.rows == 1 {
            // Windows of one row each are gathered as the rows of a single window, which has less overhead.
            (pairs.rows.rows, pairs.pairs) = (run, 1);
            pairs.rows.gap = pairs.step.wrapping_sub(g.padded);
        }
        // SAFETY: the windows lie in the input, and the lanes have room for them.
        unsafe { gather::strip(&pairs) };
        return run;
    }
    windows.gather([windows.site(pixel), windows.site((pixel + 1).min(g.pixels - 1))]);
    1
}

/// Words after the weights of a block: biases of two channels and multipliers; with wide weights, multipliers only.
const BEHIND: usize = 6;
const WIDE_BEHIND: usize = 4;

/// Computes the outputs of strips.
struct Computer<'r> {
    words: &'r [i32],
    /// Inputs per output.
    inputs: usize,
    out_c: usize,
    wide: bool,
    words_of_block: usize,
    weight_tile: *mut i32,
    dst: *mut i8,
    pixels: usize,
}

impl Computer<'_> {
    /// Computes the outputs of `count` pairs, beginning at pair `first`.
    ///
    /// # Safety
    /// Their lanes are filled.
    unsafe fn strip(&self, lanes: *const i16, first: usize, count: usize) {
        // SAFETY: positions of the pixels' outputs, and of lanes.
        unsafe {
            let out = |pixel: usize| self.dst.add(pixel * self.out_c);
            // A last pixel without a partner takes both places of its pair.
            let odd = 2 * (first + count) > self.pixels;
            let whole = count - usize::from(odd);
            if whole > 0 {
                self.pairs(lanes, [out(2 * first), out(2 * first + 1)], whole);
            }
            if odd {
                let last = out(self.pixels - 1);
                self.pairs(lanes.add(2 * self.inputs * whole), [last; 2], 1);
            }
        }
    }

    /// # Safety
    /// As for [`Self::strip`]; `out` are the outputs of the first of `count` pairs.
    #[inline(never)]
    unsafe fn pairs(&self, lanes: *const i16, out: [*mut i8; 2], count: usize) {
        let (all, tail) = (self.out_c / 4, self.out_c % 4);
        let words = self.words_of_block;
        // Words after the weights of a block.
        let (behind, entry) = if self.wide && cfg!(feature = "single-multiply-wide") {
            (WIDE_BEHIND, strip::wide_entry(self.inputs / 4))
        } else {
            (BEHIND, pair::entry(self.inputs / 4))
        };
        let kernel =
            if self.wide && cfg!(feature = "single-multiply-wide") { strip::run_wide } else { strip::run };
        // SAFETY: lanes of `count` pairs; blocks of `words`, as many as the record says.
        unsafe {
            let length = 2 * self.inputs;
            let mut job = strip::Strip {
                block: self.words.as_ptr(),
                end: self.words.as_ptr().add(words - behind),
                entry,
                lanes,
                lanes_end: lanes.add(length * count),
                out,
                pitch: 2 * self.out_c,
                blocks: all,
                bytes: 4 * words,
                weight_tile: if count > 1 { self.weight_tile } else { core::ptr::null_mut() },
            };
            if all > 0 {
                kernel(&job);
            }
            if tail == 0 {
                return;
            }
            // The last block has fewer than four channels.
            job.block = job.block.add(all * words);
            job.end = job.end.add(all * words);
            (job.blocks, job.weight_tile) = (1, core::ptr::null_mut());
            let mut block = [[0i8; 4]; 2];
            for i in 0..count {
                job.lanes = lanes.add(length * i);
                job.lanes_end = job.lanes.add(length);
                job.out = [block[0].as_mut_ptr(), block[1].as_mut_ptr()];
                kernel(&job);
                for (out, block) in out.iter().zip(&block) {
                    let to = out.add(2 * self.out_c * i + self.out_c - tail);
                    core::ptr::copy_nonoverlapping(block.as_ptr(), to, tail);
                }
            }
        }
    }
}
