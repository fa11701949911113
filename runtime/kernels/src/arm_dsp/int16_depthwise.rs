//! Depthwise convolutions with int16 activations: two neighbouring channels at a time.

use core::arch::naked_asm;

use super::int16::{Place, Shape, finish};
use crate::portable::RequantInt16;

/// Channels whose sums are on the stack; even.
const CHANNELS: usize = 32;
/// Products whose sum fits int32: each is at most 2^22 in magnitude.
const NARROW: usize = 511;

/// Whether [`pixel`] computes this.
pub(super) fn takes(shape: &Shape) -> bool {
    shape.taps() <= NARROW
}

/// Computes the outputs of a pixel.
pub(super) fn pixel(shape: &Shape, q: &RequantInt16<'_>, weights: &[i8], place: &Place<'_>, out: &mut [i16]) {
    let mut sums = [0i32; CHANNELS];
    for first in (0..out.len()).step_by(CHANNELS) {
        let count = (out.len() - first).min(CHANNELS);
        let sums = sums.get_mut(..count).unwrap_or_default();
        let (pairs, odd) = sums.split_at_mut(count / 2 * 2);
        add_pairs(shape, weights, place, first, pairs);
        if let [sum] = odd {
            *sum = single(shape, weights, place, first + pairs.len());
        }
        finish(q, first, 1, sums.as_chunks::<1>().0, out);
    }
}

/// The sum of one channel.
fn single(shape: &Shape, weights: &[i8], place: &Place<'_>, channel: usize) -> i32 {
    let [ky0, ky1, kx0, kx1] = place.ends;
    let filter = weights.get(channel * shape.taps()..).unwrap_or_default();
    let (mut sum, mut row) = (0i32, place.origin + channel);
    for ky in ky0..ky1 {
        let mut at = row;
        for weight in filter.get(ky * shape.kernel[1] + kx0..ky * shape.kernel[1] + kx1).unwrap_or_default() {
            let x = place.image.get(at).copied().unwrap_or(0);
            sum = sum.wrapping_add(i32::from(x) * i32::from(*weight));
            at += shape.strides[1];
        }
        row += shape.strides[0];
    }
    sum
}

/// The sums of pairs of channels from `first` on.
fn add_pairs(shape: &Shape, weights: &[i8], place: &Place<'_>, first: usize, sums: &mut [i32]) {
    let [ky0, ky1, kx0, kx1] = place.ends;
    let (rows, columns) = (ky1 - ky0, kx1 - kx0);
    sums.fill(0);
    if rows == 0 || columns == 0 || sums.is_empty() {
        return;
    }
    let (width, taps) = (shape.kernel[1], shape.taps());
    // The last channel's last tap.
    let x = place.origin + first;
    let x_end = x + (rows - 1) * shape.strides[0] + (columns - 1) * shape.strides[1] + sums.len();
    let w = first * taps + ky0 * width + kx0;
    let w_end = w + (sums.len() - 1) * taps + (rows - 1) * width + columns;
    if x_end > place.image.len() || w_end > weights.len() || !sums.len().is_multiple_of(2) {
        return;
    }
    let ends = sums.as_mut_ptr_range();
    let mut pairs = Pairs {
        x: place.image.as_ptr().wrapping_add(x),
        weights: weights.as_ptr().wrapping_add(w),
        taps,
        sums: ends.start,
        last: ends.end,
        row: 2 * shape.strides[0],
        column: 2 * shape.strides[1],
        skip: width - columns,
        rows,
        columns,
    };
    // SAFETY: the pointers are those of slices, and what is read ends inside them; there is a pair of channels, a row and a column.
    unsafe { if columns == 3 { run_three(&mut pairs) } else { run(&mut pairs) } }
}

/// Arguments of [`run`], which advances `x`, `weights` and `sums`.
#[repr(C)]
struct Pairs {
    /// First input of the first channel.
    x: *const i16,
    /// First weight of the first channel.
    weights: *const i8,
    /// Weights of a channel.
    taps: usize,
    /// Sums, which are overwritten.
    sums: *mut i32,
    last: *mut i32,
    /// Bytes between the inputs of two rows, and of two columns.
    row: usize,
    column: usize,
    /// Weights at the end of a row that are left out.
    skip: usize,
    rows: usize,
    columns: usize,
}

macro_rules! kernel {
    ($name:ident, $row:expr, $doc:literal) => {
        #[doc = $doc]
        ///
        /// # Safety
        /// The pointers are valid for what they say; sums are aligned to 4; there are at least two sums, one row and one column.
        #[unsafe(naked)]
        unsafe extern "C" fn $name(pairs: *mut Pairs) {
            naked_asm!(
                extension!(),
                // r0 inputs of a row, r1 and r2 weights of both channels, r3 bytes of a column, r4 and r5 sums, r6 inputs, r7 and r8
                // weights, r9 rows left, r10 bytes of a row, r11 weights left out, r12 and lr for `$row`.
                "push {{r0, r4-r11, lr}}",
                "2:",
                "ldr lr, [sp]",
                "ldr r0, [lr]",
                "ldrd r1, r2, [lr, #4]",
                "add r4, r0, #4",
                "str r4, [lr]",
                "add r2, r1",
                "sub r4, r2, r1",
                "add r4, r2",
                "str r4, [lr, #4]",
                "ldrd r10, r3, [lr, #20]",
                "ldrd r11, r9, [lr, #28]",
                "mov r4, #0",
                "mov r5, #0",
                "3:",
                $row,
                "add r1, r11",
                "add r2, r11",
                "add r0, r10",
                "subs r9, #1",
                "bne 3b",
                "ldr lr, [sp]",
                "ldrd r6, r7, [lr, #12]",
                "stm r6!, {{r4, r5}}",
                "str r6, [lr, #12]",
                "cmp r6, r7",
                "bne 2b",
                "pop {{r0, r4-r11, pc}}",
            )
        }
    };
}

kernel!(
    run,
    concat!(
        "ldr r12, [sp]\n",
        "ldr r12, [r12, #36]\n",
        "mov lr, r0\n",
        "4:\n",
        "ldr r6, [lr]\n",
        "add lr, r3\n",
        "ldrsb r7, [r1], #1\n",
        "ldrsb r8, [r2], #1\n",
        "smlabb r4, r6, r7, r4\n",
        "smlatb r5, r6, r8, r5\n",
        "subs r12, #1\n",
        "bne 4b"
    ),
    "Sums of two channels at a time: 8 instructions for two products."
);
kernel!(
    run_three,
    concat!(
        "ldr r6, [r0]\n",
        "ldrsb r7, [r1], #1\n",
        "ldrsb r8, [r2], #1\n",
        "ldr r12, [r0, r3]\n",
        "smlabb r4, r6, r7, r4\n",
        "smlatb r5, r6, r8, r5\n",
        "ldrsb r7, [r1], #1\n",
        "ldrsb r8, [r2], #1\n",
        "ldr lr, [r0, r3, lsl #1]\n",
        "smlabb r4, r12, r7, r4\n",
        "smlatb r5, r12, r8, r5\n",
        "ldrsb r7, [r1], #1\n",
        "ldrsb r8, [r2], #1\n",
        "smlabb r4, lr, r7, r4\n",
        "smlatb r5, lr, r8, r5"
    ),
    "[`run`] for three columns: 20 instructions for six products."
);
