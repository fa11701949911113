//! Convolutions with int16 activations, four pixels at a time: a row of weights is widened once for all of them.

use core::arch::naked_asm;

use super::int16::{Place, Shape, finish};
use crate::portable::RequantInt16;

/// Pixels that are computed together.
pub(super) const PIXELS: usize = 4;
/// Inputs of a pixel that are multiplied at once.
const CHUNK: usize = 128;
/// Inputs of a group of all pixels.
const GROUP: usize = 4 * PIXELS;
/// Rows of weights whose sums are on the stack, if the sums fit int32.
const NARROW_ROWS: usize = 32;
/// Rows of weights whose sums are on the stack as int64.
const WIDE_ROWS: usize = 16;
/// Products whose sum fits int32: each is at most 2^22 in magnitude.
const NARROW: usize = 511;

/// Inputs of four pixels. Groups of four inputs, in the order 0 2 1 3, of one pixel after the other.
#[repr(align(4))]
struct Lanes([i16; CHUNK * PIXELS]);

/// What the pixels share.
struct Work {
    lanes: Lanes,
    /// Inputs of one pixel in the order of its weights.
    line: [i16; CHUNK],
    narrow: [i32; NARROW_ROWS * PIXELS],
}

/// Computes the outputs of pixels from the first on, four at a time; the last may be fewer.
#[inline(never)]
pub(super) fn pixels(shape: &Shape, q: &RequantInt16<'_>, weights: &[i8], src: &[i16], dst: &mut [i16]) {
    let mut work =
        Work { lanes: Lanes([0; CHUNK * PIXELS]), line: [0; CHUNK], narrow: [0; NARROW_ROWS * PIXELS] };
    for (i, dst) in dst.chunks_mut(PIXELS * shape.out_c).enumerate() {
        let count = dst.len() / shape.out_c;
        let at = |pixel: usize| shape.place(src, i * PIXELS + pixel.min(count.saturating_sub(1)));
        let places: [Place<'_>; PIXELS] = core::array::from_fn(at);
        quad(shape, q, weights, places.get(..count).unwrap_or_default(), &mut work, dst);
    }
}

/// Computes the outputs of up to four pixels, which are `out_c` apart in `dst`.
fn quad(
    shape: &Shape,
    q: &RequantInt16<'_>,
    weights: &[i8],
    places: &[Place<'_>],
    work: &mut Work,
    dst: &mut [i16],
) {
    let filter = shape.filter;
    if filter > NARROW {
        return wide(shape, q, weights, places, work, dst);
    }
    for first in (0..shape.out_c).step_by(NARROW_ROWS) {
        let rows = (shape.out_c - first).min(NARROW_ROWS);
        work.narrow.get_mut(..rows * PIXELS).unwrap_or_default().fill(0);
        for from in (0..filter).step_by(CHUNK) {
            let len = (filter - from).min(CHUNK);
            // With one chunk, the inputs are those of the rows before.
            if first == 0 || filter > CHUNK {
                gather(work, shape, places, from, len);
            }
            let sums = work.narrow.get_mut(..rows * PIXELS).unwrap_or_default();
            add_products(&work.lanes, len, weights, first * filter + from, filter, sums);
        }
        let sums = work.narrow.as_chunks::<PIXELS>().0.get(..rows).unwrap_or_default();
        finish(q, first, shape.out_c, sums, dst);
    }
}

/// [`quad`] with int64 sums.
fn wide(
    shape: &Shape,
    q: &RequantInt16<'_>,
    weights: &[i8],
    places: &[Place<'_>],
    work: &mut Work,
    dst: &mut [i16],
) {
    let filter = shape.filter;
    for first in (0..shape.out_c).step_by(WIDE_ROWS) {
        let rows = (shape.out_c - first).min(WIDE_ROWS);
        let mut sums = [[0i64; PIXELS]; WIDE_ROWS];
        for from in (0..filter).step_by(CHUNK) {
            let len = (filter - from).min(CHUNK);
            gather(work, shape, places, from, len);
            let parts = work.narrow.get_mut(..rows * PIXELS).unwrap_or_default();
            parts.fill(0);
            add_products(&work.lanes, len, weights, first * filter + from, filter, parts);
            for (sums, parts) in sums.iter_mut().zip(parts.as_chunks::<PIXELS>().0) {
                sums.iter_mut().zip(parts).for_each(|(sum, part)| *sum += i64::from(*part));
            }
        }
        for (row, sums) in sums.iter().take(rows).enumerate() {
            let of = q.channel(first + row);
            let outputs = dst.get_mut(first + row..).unwrap_or_default().iter_mut().step_by(shape.out_c);
            outputs.zip(sums).for_each(|(out, sum)| *out = of.output(*sum));
        }
    }
}

/// Places inputs `from` to `from + len` of each pixel's window; zeros in the padding, and behind the last one.
fn gather(work: &mut Work, shape: &Shape, places: &[Place<'_>], from: usize, len: usize) {
    let Work { lanes, line, .. } = work;
    let inside = |place: &Place<'_>| shape.is_inside(place);
    if shape.c.is_multiple_of(4) {
        // Runs begin and end with a group.
        if places.len() < PIXELS || !places.iter().all(inside) {
            lanes.0.get_mut(..len * PIXELS).unwrap_or_default().fill(0);
        }
        for (pixel, place) in places.iter().enumerate() {
            shape.runs(place, from, len, |at, run| put(lanes, pixel, at, run));
        }
        return;
    }
    for (pixel, place) in places.iter().enumerate() {
        let line = line.get_mut(..len.next_multiple_of(4)).unwrap_or_default();
        if inside(place) {
            line.get_mut(len..).unwrap_or_default().fill(0);
        } else {
            line.fill(0);
        }
        shape.runs(place, from, len, |at, run| {
            if let Some(to) = line.get_mut(at..).and_then(|to| to.get_mut(..run.len())) {
                to.copy_from_slice(run);
            }
        });
        put(lanes, pixel, 0, line);
    }
}

/// Places whole groups of inputs of a pixel from position `at` on.
#[inline]
fn put(lanes: &mut Lanes, pixel: usize, at: usize, run: &[i16]) {
    if at + run.len() > CHUNK || pixel >= PIXELS || !at.is_multiple_of(4) {
        return;
    }
    let groups = run.as_chunks::<4>().0;
    let mut to = lanes.0.as_mut_ptr().wrapping_add(at / 4 * GROUP + 4 * pixel).cast::<u32>();
    for group in groups {
        let from = group.as_ptr().cast::<u32>();
        // SAFETY: four halves of the run, which may lie at any of them; two words of the lanes, which are aligned, and whose groups
        // end within `CHUNK` inputs.
        unsafe {
            let (low, high) = (from.read_unaligned(), from.add(1).read_unaligned());
            to.write(low & 0xffff | high << 16);
            to.add(1).write(low >> 16 | high & 0xffff_0000);
        }
        to = to.wrapping_add(GROUP / 2);
    }
}

/// Adds the products of `len` inputs of all pixels with rows of weights, which begin at `at` and lie `stride` apart, to the rows'
/// sums: four for each row.
fn add_products(lanes: &Lanes, len: usize, weights: &[i8], at: usize, stride: usize, sums: &mut [i32]) {
    let groups = len.div_ceil(4);
    let rows = sums.len() / PIXELS;
    // Rows whose last group lies within the weights.
    let readable = match weights.len().checked_sub(at + 4 * groups) {
        Some(room) => (room / stride.max(1) + 1).min(rows),
        None => 0,
    };
    let (most, last) = sums.split_at_mut(readable * PIXELS);
    multiply(lanes, groups, weights.get(at..).unwrap_or_default(), stride, most);
    for (row, sums) in last.chunks_exact_mut(PIXELS).enumerate() {
        let mut copy = [0i8; CHUNK];
        let from = at + (readable + row) * stride;
        let of_row = weights.get(from..).and_then(|w| w.get(..len)).unwrap_or_default();
        if let Some(to) = copy.get_mut(..of_row.len()) {
            to.copy_from_slice(of_row);
        }
        multiply(lanes, groups, &copy, stride, sums);
    }
}

/// Adds the products of groups of inputs with rows of weights, unless the groups of a row would end behind the weights.
fn multiply(lanes: &Lanes, groups: usize, weights: &[i8], stride: usize, sums: &mut [i32]) {
    let rows = sums.len() / PIXELS;
    let last = rows.saturating_sub(1) * stride + 4 * groups;
    let used = lanes.0.get(..groups * GROUP).unwrap_or_default();
    if used.is_empty() || rows == 0 || sums.len() != rows * PIXELS || last > weights.len() {
        return;
    }
    let (x, ends) = (used.as_ptr_range(), sums.as_mut_ptr_range());
    let mut quad = Quad {
        x: x.start.cast(),
        end: x.end.cast(),
        weights: weights.as_ptr(),
        stride,
        sums: ends.start,
        last: ends.end,
    };
    // SAFETY: the pointers are those of slices; there is a group, and a row, whose groups end inside the weights.
    unsafe { run(&mut quad) };
}

/// Arguments of [`run`], which advances `weights` and `sums`.
#[repr(C)]
struct Quad {
    /// Inputs, as in [`Lanes`].
    x: *const u32,
    /// End of the inputs; there is at least one group.
    end: *const u32,
    /// First row.
    weights: *const i8,
    /// Bytes from one row to the next.
    stride: usize,
    /// Four sums per row, which are added to.
    sums: *mut i32,
    /// End of the sums; there is at least one row.
    last: *mut i32,
}

/// Adds the products of rows of weights with the inputs of four pixels to their sums: 28 instructions for 32 products.
///
/// # Safety
/// The pointers are valid for what they say; rows are readable for whole groups; inputs and sums are aligned to 4.
#[unsafe(naked)]
unsafe extern "C" fn run(quad: *mut Quad) {
    naked_asm!(
        extension!(),
        // r0 inputs, r1 weights, r2 end of the inputs, r4 to r7 sums, r8 and r9 weights, r10 to lr inputs.
        ".macro offshoot_quad_group",
        "ldr r8, [r1], #4",
        "ldm r0!, {{r10, r11, r12, lr}}",
        "sxtb16 r9, r8, ror #8",
        "sxtb16 r8, r8",
        "smlad r4, r10, r8, r4",
        "smlad r5, r12, r8, r5",
        "smlad r4, r11, r9, r4",
        "smlad r5, lr, r9, r5",
        "ldm r0!, {{r10, r11, r12, lr}}",
        "smlad r6, r10, r8, r6",
        "smlad r7, r12, r8, r7",
        "smlad r6, r11, r9, r6",
        "smlad r7, lr, r9, r7",
        ".endm",
        "push {{r0, r4-r11, lr}}",
        "2:",
        "ldr lr, [sp]",
        "ldrd r0, r2, [lr]",
        "ldrd r1, r3, [lr, #8]",
        "ldr r12, [lr, #16]",
        "add r3, r1",
        "str r3, [lr, #8]",
        "ldm r12, {{r4, r5, r6, r7}}",
        // Two groups per iteration; with an odd number, the first iteration starts at its second group.
        "sub r3, r2, r0",
        "lsls r3, r3, #26",
        "bmi 4f",
        "3:",
        "offshoot_quad_group",
        "4:",
        "offshoot_quad_group",
        "cmp r0, r2",
        "bne 3b",
        "ldr lr, [sp]",
        "ldrd r12, r3, [lr, #16]",
        "stm r12!, {{r4, r5, r6, r7}}",
        "str r12, [lr, #16]",
        "cmp r12, r3",
        "bne 2b",
        "pop {{r0, r4-r11, pc}}",
        ".purgem offshoot_quad_group",
    )
}
