//! [`DepthwisePlanar`] along one axis: images of one row or column, windows of up to sixteen taps, stride 1.
//!
//! A channel's inputs are gathered side by side, so that a window is one vector and an output one dot product.

use super::requantise::saturates_at_zero_point;
use crate::geometry::Planar;
use crate::requant::Requant;
use crate::tiles::Operands;
use core::arch::naked_asm;
use offshoot_base::{Rule, Span};
use offshoot_format::record::DepthwisePlanar;

/// Bytes that a vector may read behind the last window.
const BEHIND: usize = 16;

/// Arguments of the kernels, which advance the pointers.
#[repr(C)]
struct Line {
    src: *const i8,
    out: *mut i8,
    weights: *const i8,
    bias: *const i32,
    multiplier: *const i32,
    shift: *const i8,
    /// Channels, at least one.
    channels: u32,
    /// Where a channel's inputs go.
    to: *mut i8,
    /// Inputs of a channel, at least one.
    len: usize,
    /// Bytes from an input to the one eight further on.
    src_step: usize,
    /// Taps, one to sixteen.
    taps: usize,
    /// Bytes from a weight to the one eight further on.
    weight_step: usize,
    /// Fours of outputs.
    vectors: usize,
    /// Predicate of a last, incomplete four, or 0.
    tail: u32,
    /// Zero point of the output.
    zero: i32,
    /// Bounds of the output.
    min: i32,
    max: i32,
    /// Bytes from four outputs to the next four.
    column: usize,
    /// Places of eight inputs, eight weights and four outputs.
    src_offsets: [u16; 8],
    weight_offsets: [u16; 8],
    out_offsets: [u32; 4],
    /// Padding before the inputs, where the first window begins.
    first: *const i8,
}

/// Outputs in q2 of four windows from r1 on.
macro_rules! four {
    ($rounding:ident) => {
        concat!(
            "vldrb.u8 q0, [r1], #1\n",
            "vmladav.s8 r2, q0, q4\n",
            "vldrb.u8 q0, [r1], #1\n",
            "vmladav.s8 r4, q0, q4\n",
            "vldrb.u8 q0, [r1], #1\n",
            "vmladav.s8 r6, q0, q4\n",
            "vldrb.u8 q0, [r1], #1\n",
            "vmladav.s8 r8, q0, q4\n",
            "vmov q2[2], q2[0], r2, r6\n",
            "vmov q2[3], q2[1], r4, r8\n",
            finish!($rounding),
        )
    };
}

/// Outputs from sums in q2, with the bias in r3, multiplier in r5, shift in r7, zero point in r9.
macro_rules! finish {
    (positive) => {
        concat!(
            "vadd.i32 q2, q2, r3\n",
            "vqrdmulh.s32 q2, q2, r5\n",
            "vrshl.s32 q2, r7\n",
            "vadd.i32 q2, q2, r9\n",
            "vqmovnb.s32 q2, q2\n",
            "vqmovnb.s16 q2, q2",
        )
    };
    (signed) => {
        concat!(
            "vadd.i32 q2, q2, r3\n",
            "vqrdmulh.s32 q2, q2, r5\n",
            "vshr.s32 q3, q2, #31\n",
            "vqadd.s32 q2, q2, q3\n",
            "vrshl.s32 q2, r7\n",
            "vadd.i32 q2, q2, r9\n",
            "vmax.s32 q2, q2, q6\n",
            "vmin.s32 q2, q2, q7",
        )
    };
}

macro_rules! kernel {
    ($name:ident, $doc:literal) => {
        #[doc = $doc]
        ///
        /// # Safety
        /// All pointers of `line` are valid for its channels, inputs, taps and outputs; the line has [`BEHIND`] bytes more.
        #[unsafe(naked)]
        unsafe extern "C" fn $name(line: &mut Line) {
            naked_asm!(
                extension!(),
                "push {{r4-r12, lr}}",
                "vpush {{d8-d15}}",
                // Weights, zeros behind the last.
                "sub sp, #16",
                "mov r1, #0",
                "vdup.32 q0, r1",
                "vstrw.32 q0, [sp]",
                "vldrw.u32 q5, [r0, #104]",
                "ldrd r1, r2, [r0, #60]",
                "vdup.32 q6, r1",
                "vdup.32 q7, r2",
                "2:",
                "vldrh.u16 q1, [r0, #72]",
                "ldr r1, [r0]",
                "ldrd r2, r3, [r0, #28]",
                "ldr r4, [r0, #36]",
                "dlstp.16 lr, r3",
                "3:",
                "vldrb.u16 q0, [r1, q1]",
                "vstrb.16 q0, [r2], #8",
                "add r1, r4",
                "letp lr, 3b",
                "vldrh.u16 q1, [r0, #88]",
                "ldr r1, [r0, #8]",
                "mov r2, sp",
                "ldrd r3, r4, [r0, #40]",
                "dlstp.16 lr, r3",
                "4:",
                "vldrb.u16 q0, [r1, q1]",
                "vstrb.16 q0, [r2], #8",
                "add r1, r4",
                "letp lr, 4b",
                "vldrb.u8 q4, [sp]",
                "ldm r0, {{r1, r2, r3, r4, r5, r6}}",
                "mov r11, r2",
                "add r1, #1",
                "add r2, #1",
                "add r3, #1",
                "ldr r12, [r4], #4",
                "ldr r8, [r5], #4",
                "ldrsb r7, [r6], #1",
                "stm r0, {{r1, r2, r3, r4, r5, r6}}",
                "mov r3, r12",
                "mov r5, r8",
                "ldr r9, [r0, #56]",
                "ldr r10, [r0, #68]",
                "ldr r1, [r0, #120]",
                "ldrd r2, r4, [r0, #48]",
                "vmsr p0, r4",
                "wls lr, r2, 6f",
                "5:",
                four!($name),
                "vstrb.32 q2, [r11, q5]",
                "add r11, r10",
                "le lr, 5b",
                "6:",
                "vmrs r2, p0",
                "cbz r2, 7f",
                four!($name),
                "vpst",
                "vstrbt.32 q2, [r11, q5]",
                "7:",
                "ldr r2, [r0, #24]",
                "subs r2, #1",
                "str r2, [r0, #24]",
                "bne 2b",
                "add sp, #16",
                "vpop {{d8-d15}}",
                "pop {{r4-r12, pc}}",
            )
        }
    };
}

kernel!(positive, "Outputs whose zero point is -128 and that saturate.");
kernel!(signed, "Any outputs.");

/// See [`crate::depthwise_planar`]; returns `false` and computes nothing for other windows, or with too little scratch.
///
/// # Errors
/// [`Rule::ArenaBounds`] for spans beyond the arena.
#[inline(never)]
pub(super) fn depthwise(
    r: &DepthwisePlanar,
    g: &Planar,
    q: &Requant<'_>,
    weights: &[i8],
    operands: &mut Operands<'_>,
    planes: Span,
) -> Result<bool, Rule> {
    let (c, pitch) = (usize::from(r.c), g.weight_pitch);
    let [k_h, k_w] = g.window.kernel.map(usize::from);
    let [top, left, bottom, right] = g.window.pad.map(usize::from);
    let (h, w) = (usize::from(r.h), usize::from(r.w));
    let (len, taps, before, after, outputs) = match (w, k_w, left + right, h, k_h, top + bottom) {
        (1, 1, 0, ..) => (h, k_h, top, bottom, g.out_h),
        (_, _, _, 1, 1, 0) => (w, k_w, left, right, g.out_w),
        _ => return Ok(false),
    };
    let line = before + len + after + BEHIND;
    let fits = (1..=16).contains(&taps)
        && g.window.stride == [1, 1]
        && planes.len >= line
        && 7 * c.max(pitch) <= usize::from(u16::MAX);
    if !fits {
        return Ok(false);
    }
    let (src, dst, n) = (operands.src, operands.dst, usize::from(r.n));
    if src.len < n * len * c || dst.len < n * outputs * c {
        return Err(Rule::ArenaBounds);
    }
    let arena = operands.region(&[planes])?;
    let first = planes.start;
    arena[first..first + line].fill(r.in_zp as u8);
    let arena = arena.as_mut_ptr().cast::<i8>();
    let run = if saturates_at_zero_point(q.out_zp, q.min, q.max) { positive } else { signed };
    for image in 0..n {
        let mut line = Line {
            src: arena.wrapping_add(src.start + image * len * c),
            out: arena.wrapping_add(dst.start + image * outputs * c),
            weights: weights.as_ptr(),
            bias: q.bias.as_ptr(),
            multiplier: q.multiplier.as_ptr(),
            shift: q.shift.as_ptr(),
            channels: c as u32,
            to: arena.wrapping_add(first + before),
            len,
            src_step: 8 * c,
            taps,
            weight_step: 8 * pitch,
            vectors: outputs / 4,
            tail: (1 << (4 * (outputs % 4))) - 1,
            zero: q.out_zp,
            min: q.min,
            max: q.max,
            column: 4 * c,
            src_offsets: core::array::from_fn(|i| (i * c) as u16),
            weight_offsets: core::array::from_fn(|i| (i * pitch) as u16),
            out_offsets: core::array::from_fn(|i| (i * c) as u32),
            first: arena.wrapping_add(first),
        };
        // SAFETY: input, output and scratch lie in the arena and have these sizes; the caller has checked the parameters.
        unsafe { run(&mut line) };
    }
    Ok(true)
}
