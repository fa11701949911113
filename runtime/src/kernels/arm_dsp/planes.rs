//! Gradients of depthwise layers: four neighbouring channels are the bytes of a word.

use super::rows::{add_even, add_odd, halves};
use crate::learn::integer::gradient::Tensors;
use core::arch::asm;
use core::ops::Range;

/// Pixels whose masks stand on the stack; fewer than 128, so that counts fit a byte and sums sixteen bits.
const MOST: usize = 64;

/// 0xff for each byte of `h` that lies between the bounds, both included.
#[inline(always)]
fn mask(h: u32, low: u32, high: u32) -> u32 {
    let y;
    // SAFETY: instructions on registers.
    unsafe {
        asm!(
            "ssub8 {t}, {h}, {low}",
            "sel {y}, {ones}, {none}",
            "ssub8 {t}, {high}, {h}",
            "sel {y}, {y}, {none}",
            h = in(reg) h, low = in(reg) low, high = in(reg) high, ones = in(reg) u32::MAX, none = in(reg) 0,
            t = out(reg) _, y = out(reg) y,
            options(pure, nomem, nostack));
    }
    y
}

/// One more for each byte of `counts` whose mask is set.
#[inline(always)]
fn count(counts: u32, mask: u32) -> u32 {
    let y;
    // SAFETY: an instruction on registers.
    unsafe {
        asm!("usub8 {y}, {counts}, {mask}", counts = in(reg) counts, mask = in(reg) mask, y = lateout(reg) y,
            options(pure, nomem, nostack));
    }
    y
}

/// Four bytes from `at` on.
#[inline(always)]
fn word(tensor: &[i8], at: usize) -> u32 {
    match tensor.get(at..).and_then(|t| t.first_chunk::<4>()) {
        Some(&[a, b, c, d]) => u32::from_le_bytes([a as u8, b as u8, c as u8, d as u8]),
        None => 0,
    }
}

/// Positions of an output range whose window has kernel position `k` inside the input: how many are cut off at the
/// front, and where the last ends.
fn inside(range: &Range<usize>, stride: usize, offset: isize, extent: usize) -> Range<usize> {
    let at = |p: usize| ((p * stride) as isize).wrapping_add(offset) as usize;
    let (mut from, mut to) = (range.start, range.end);
    while from < to && at(from) >= extent {
        from += 1;
    }
    while to > from && at(to - 1) >= extent {
        to -= 1;
    }
    from..to
}

/// See [`crate::learn::integer::gradient::add_planes`]: the layer has a multiplier of 1.
pub(crate) fn add_planes(
    tensors: &Tensors<'_>,
    channel: usize,
    (rows, columns): &(Range<usize>, Range<usize>),
    errors: [i32; 4],
    sums: &mut [i32],
    totals: &mut [i32; 4],
) -> bool {
    let (low, high) = tensors.bounds;
    let width = columns.len();
    if width == 0 || width > MOST || low == i8::MAX || high == i8::MIN {
        return false;
    }
    let bytes = |b: i8| u32::from(b as u8) * 0x0101_0101;
    let bounds = (bytes(low + 1), bytes(high - 1));
    let height = (MOST / width).max(1);
    let mut first = rows.start;
    while first < rows.end {
        let part = first..(first + height).min(rows.end);
        add_part(tensors, channel, &part, columns, bounds, errors, sums, totals);
        first = part.end;
    }
    true
}

#[allow(clippy::too_many_arguments)]
fn add_part(
    tensors: &Tensors<'_>,
    channel: usize,
    rows: &Range<usize>,
    columns: &Range<usize>,
    bounds: (u32, u32),
    errors: [i32; 4],
    sums: &mut [i32],
    totals: &mut [i32; 4],
) {
    let g = tensors.geometry;
    let width = columns.len();
    let mut masks = [0u32; MOST];
    let mut counts = 0;
    for (y, masks) in rows.clone().zip(masks.chunks_exact_mut(width)) {
        let mut at = (y * g.output[1] + columns.start) * g.out_c + channel;
        for m in masks {
            *m = mask(word(tensors.h, at), bounds.0, bounds.1);
            counts = count(counts, *m);
            at += g.out_c;
        }
    }
    if counts == 0 {
        return;
    }
    for ((total, error), n) in totals.iter_mut().zip(errors).zip(counts.to_le_bytes()) {
        *total = total.wrapping_add(error.wrapping_mul(n.into()));
    }
    let taps = g.taps();
    let [k_h, k_w] = g.window.kernel.map(usize::from);
    let [stride_h, stride_w] = g.window.stride.map(usize::from);
    let [dilation_h, dilation_w] = g.window.dilation.map(usize::from);
    let offset = |axis: usize, k: usize| k as isize - g.window.pad[axis] as isize;
    let step = stride_w * g.c;
    for ky in 0..k_h {
        let row_offset = offset(0, ky * dilation_h);
        let ys = inside(rows, stride_h, row_offset, g.input[0]);
        for kx in 0..k_w {
            let column_offset = offset(1, kx * dilation_w);
            let xs = inside(columns, stride_w, column_offset, g.input[1]);
            if ys.is_empty() || xs.is_empty() {
                continue;
            }
            let all = ys.len() == rows.len() && xs.len() == width;
            let column = ((xs.start * stride_w) as isize + column_offset) as usize;
            let (mut even, mut odd, mut own) = (0, 0, 0);
            for y in ys.clone() {
                let row = ((y * stride_h) as isize + row_offset) as usize;
                let mut at = (row * g.input[1] + column) * g.c + channel;
                let masks = &masks[(y - rows.start) * width + (xs.start - columns.start)..][..xs.len()];
                for &m in masks {
                    let x = word(tensors.x, at) & m;
                    even = add_even(even, x);
                    odd = add_odd(odd, x);
                    own = count(own, m);
                    at += step;
                }
            }
            let counts = if all { counts } else { own };
            let ((a, c), (b, d)) = (halves(even), halves(odd));
            let tap = ky * k_w + kx;
            for (lane, sum) in [a, b, c, d].into_iter().enumerate() {
                let n = i32::from(counts.to_le_bytes()[lane]);
                let place = &mut sums[lane * taps + tap];
                *place = place.wrapping_add(errors[lane].wrapping_mul(sum - tensors.zero * n));
            }
        }
    }
}
