//! int8 pools: sixteen channels at a time for a maximum, eight for an average.

use crate::pooling;
use core::arch::naked_asm;
use offshoot_format::record::{Pool, PoolArith, PoolKind};

/// Windows of neighbouring output pixels of a row.
#[repr(C)]
struct Windows {
    /// First input of the first window.
    src: *const i8,
    dst: *mut i8,
    /// Rows and columns of a window, at least one each.
    taps: [usize; 2],
    /// Bytes from the end of a row of a window to the next row, and from a column to the next.
    steps: [usize; 2],
    /// Bytes from a window to the next.
    stride: usize,
    /// Output pixels, at least one.
    count: usize,
    /// Channels, at least one.
    channels: usize,
    /// Bounds of the output.
    low: i32,
    high: i32,
    /// Sum of the zero points in the padding, half of the divisor, and 2^32 by the divisor, rounded up.
    start: i32,
    half: i32,
    reciprocal: u32,
}

/// Maximum of each window.
///
/// # Safety
/// The pointers are valid for all windows and outputs.
#[unsafe(naked)]
unsafe extern "C" fn maximum(windows: &Windows) {
    naked_asm!(
        extension!(),
        "push {{r4-r12, lr}}",
        "ldrd r10, r11, [r0, #36]",
        "vdup.8 q2, r10",
        "vdup.8 q3, r11",
        "ldm r0, {{r1-r9}}",
        "2:",
        "mov r10, r9",
        "mov r11, r1",
        "3:",
        "vctp.8 r10",
        "vmov.i8 q0, #0x80",
        "mov r12, r11",
        "mov r0, r3",
        "4:",
        "dls lr, r4",
        "5:",
        "vpst",
        "vldrbt.u8 q1, [r12]",
        "vmax.s8 q0, q0, q1",
        "add r12, r6",
        "le lr, 5b",
        "add r12, r5",
        "subs r0, #1",
        "bne 4b",
        "vmax.s8 q0, q0, q2",
        "vmin.s8 q0, q0, q3",
        "vpst",
        "vstrbt.8 q0, [r2]",
        "add r11, #16",
        "add r2, #16",
        "subs r10, #16",
        "bgt 3b",
        "add r2, r10",
        "add r1, r7",
        "subs r8, #1",
        "bne 2b",
        "pop {{r4-r12, pc}}",
    )
}

/// The quotients of the sums in `$v`, rounded to nearest, ties away from zero.
macro_rules! divide {
    ($v:literal) => {
        concat!(
            "vshr.s32 q7, ",
            $v,
            ", #31\n",
            "vabs.s32 ",
            $v,
            ", ",
            $v,
            "\n",
            "vadd.i32 ",
            $v,
            ", ",
            $v,
            ", lr\n",
            "vmulh.u32 ",
            $v,
            ", ",
            $v,
            ", q4\n",
            "veor ",
            $v,
            ", ",
            $v,
            ", q7\n",
            "vsub.i32 ",
            $v,
            ", ",
            $v,
            ", q7\n",
        )
    };
}

/// Average of each window of at most 255 positions and at least two. The sums fit in 16 bits, and dividing by
/// multiplication is exact for them: the reciprocal is too large by less than 2^-24 of its value.
///
/// # Safety
/// The pointers are valid for all windows and outputs.
#[unsafe(naked)]
unsafe extern "C" fn average(windows: &Windows) {
    naked_asm!(
        extension!(),
        "push {{r4-r12, lr}}",
        "vpush {{d8-d15}}",
        // start, half.
        "sub sp, #8",
        "ldrd r10, r11, [r0, #44]",
        "strd r10, r11, [sp]",
        "ldr r10, [r0, #52]",
        "vdup.32 q4, r10",
        "ldrd r10, r11, [r0, #36]",
        "vdup.16 q2, r10",
        "vdup.16 q3, r11",
        "ldm r0, {{r1-r9}}",
        "2:",
        "mov r10, r9",
        "mov r11, r1",
        "3:",
        "vctp.16 r10",
        "ldr lr, [sp]",
        "vdup.16 q0, lr",
        "mov r0, r3",
        // A widening load needs one of the lower registers.
        "push {{r6}}",
        "mov r12, r6",
        "mov r6, r11",
        "4:",
        "dls lr, r4",
        "5:",
        "vpst",
        "vldrbt.s16 q1, [r6]",
        "vadd.i16 q0, q0, q1",
        "add r6, r12",
        "le lr, 5b",
        "add r6, r5",
        "subs r0, #1",
        "bne 4b",
        "pop {{r6}}",
        "ldr lr, [sp, #4]",
        "vmovlb.s16 q5, q0",
        "vmovlt.s16 q6, q0",
        divide!("q5"),
        divide!("q6"),
        "vmovnb.i32 q0, q5",
        "vmovnt.i32 q0, q6",
        "vmax.s16 q0, q0, q2",
        "vmin.s16 q0, q0, q3",
        "vpst",
        "vstrbt.16 q0, [r2]",
        "add r11, #8",
        "add r2, #8",
        "subs r10, #8",
        "bgt 3b",
        "add r2, r10",
        "add r1, r7",
        "subs r8, #1",
        "bne 2b",
        "add sp, #8",
        "vpop {{d8-d15}}",
        "pop {{r4-r12, pc}}",
    )
}

/// Like [`crate::portable::pool_i8`]; returns `false` for windows of more than 255 positions.
#[inline(never)]
pub(crate) fn pool_i8(r: &Pool, src: &[i8], dst: &mut [i8]) -> bool {
    let PoolArith::I8 { zp, clamp } = r.arith else {
        return false;
    };
    let (low, high) = clamp.unwrap_or((i8::MIN, i8::MAX));
    pooling::visit(r, [src.len(), dst.len()], |run| {
        let windows = Windows {
            src: src[run.src..].as_ptr(),
            dst: dst[run.dst..].as_mut_ptr(),
            taps: run.taps,
            steps: [run.steps[0].wrapping_sub(run.taps[1] * run.steps[1]), run.steps[1]],
            stride: run.stride,
            count: run.count,
            channels: r.c.into(),
            low: low.into(),
            high: high.into(),
            start: run.padded as i32 * i32::from(zp),
            half: (run.divisor / 2) as i32,
            // 0 is not reached: the average of one position is its value.
            reciprocal: (u32::MAX / run.divisor.max(2) as u32) + 1,
        };
        let kernel = if r.kind == PoolKind::Max || run.divisor == 1 { maximum } else { average };
        // SAFETY: every window covers elements of the input alone, and the output has all pixels.
        unsafe { kernel(&windows) };
    })
}
